"""Networks from descriptions: any architecture, open_clip's own features, and what a description may not say."""

import json

import pytest
import torch
from open_clip.pretrained import get_pretrained_cfg

import clip
from clip import openclip
from clip.backbones import Backbone
from clip.openclip import Description, Preparation, build_network, described, listed, preparation_of, tagged
from clip.precision import choose_precision
from tests.clip.architectures import CONFIGS, network, tokenizer_for


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_architecture_is_built_with_the_weights_it_is_given(kind, precision):
    model, chosen = network(kind), choose_precision(precision, torch.device("cpu"))
    built = build_network(
        Description(kind, CONFIGS[kind]), model.state_dict(), source="here.pt", cast_dtype=chosen.cast_dtype
    )
    assert type(built) is type(model) and not built.training
    backbone = Backbone(built, chosen, name=kind, digest="0", tokenizer=tokenizer_for(kind))
    side = backbone.image_size
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    mine, theirs = backbone.encode_image(images).float(), model.encode_image(images, normalize=False)
    if precision == "fp32":
        assert torch.equal(mine, theirs)
    else:
        assert torch.cosine_similarity(mine, theirs).min() > 0.98
        norms = [module for module in backbone.modules() if type(module).__name__ == "LayerNormFp32"]
        assert norms and {module.weight.dtype for module in norms} == {torch.float32}


def test_weights_of_another_network_are_refused():
    state = dict(network("GELU").state_dict())
    description = Description("EVA02-B-16", CONFIGS["EVA02"])
    with pytest.raises(clip.BackboneError, match=r"w.pt is not a EVA02-B-16 of open_clip: .*visual.trunk.* missing"):
        build_network(description, state, source="w.pt")
    state["text_projection"] = torch.zeros(3, 4)
    with pytest.raises(clip.BackboneError, match=r"text_projection has the shape \(3, 4\), but the architecture"):
        build_network(Description("here", CONFIGS["GELU"]), state, source="w.pt")


def test_names_of_old_text_towers_and_missing_bias_are_translated():
    state = dict(network("EVA02").state_dict())
    old = {key.removeprefix("text."): value for key, value in state.items()}
    built = build_network(Description("here", CONFIGS["EVA02"]), old, source="w.pt")
    assert all(torch.equal(value, state[key]) for key, value in built.state_dict().items())
    siglip = dict(network("SigLIP").state_dict())
    siglip["logit_scale"] = siglip["logit_scale"].reshape(1)
    del siglip["logit_bias"]
    assert build_network(Description("here", CONFIGS["SigLIP"]), siglip, source="w.pt").logit_bias == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_cfg": {"timm_model_name": "no_such_net"}}, "open_clip cannot build here: "),
        (
            {"vision_cfg": {"timm_model_name": "hf-hub:a/b"}},
            "takes its image tower from 'hf-hub:a/b'; only names of timm",
        ),
        ({"text_cfg": {"what": 1}}, "open_clip cannot build here: .*what"),
    ],
)
def test_descriptions_that_make_no_network_get_one_line(changes, message):
    with pytest.raises(clip.BackboneError, match=message) as caught:
        build_network(Description("here", {**CONFIGS["GELU"], **changes}), {}, source="w.pt")
    assert "\n" not in str(caught.value)


def test_a_tag_decides_activation_and_preparation():
    assert tagged("ViT-B-16", "dfn2b").quick and not tagged("ViT-B-16", "datacomp_xl_s13b_b90k").quick
    assert tagged("roberta-ViT-B-32", "laion2b_s12b_b32k").quick  # by its config
    siglip = tagged("ViT-B-16-SigLIP2", "webli").preparation
    assert siglip == Preparation((0.5,) * 3, (0.5,) * 3, "bicubic", "squash")
    assert listed("ViT-B-16-SigLIP2").preparation == siglip
    assert tagged("MobileCLIP2-S0", "dfndr2b").preparation.interpolation == "bilinear"
    with pytest.raises(KeyError):
        listed("ViT-B-17")


def test_every_tag_of_open_clip_is_described():
    tags = openclip.tags()
    assert len(tags) > 150 and ("PE-Core-B-16", "meta") in tags
    for arch, tag in tags:
        description = tagged(arch, tag)
        assert description.preparation.mean == tuple(get_pretrained_cfg(arch, tag)["mean"])


def test_the_text_of_a_description_has_what_changes_features():
    one = Description("a", CONFIGS["SigLIP"])
    assert one.remark() == Description("b", json.loads(json.dumps(CONFIGS["SigLIP"]))).remark()
    assert one.remark() != one.with_quick(True).remark()


def test_a_folder_describes_its_network(tmp_path):
    said = {"mean": 0.5, "std": [0.5] * 3, "interpolation": "random", "resize_mode": "longest", "fill_color": 0}
    (tmp_path / openclip.CONFIG).write_text(json.dumps({"model_cfg": CONFIGS["GELU"], "preprocess_cfg": said}))
    found = described(tmp_path)
    assert found.model == CONFIGS["GELU"] and found.tokenizer == f"local-dir:{tmp_path}"
    assert found.preparation == Preparation((0.5,) * 3, (0.5,) * 3, "bicubic", "longest")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON file"),
        ("[]", "holds no table"),
        ('{"model_cfg": {"vision_cfg": 3}}', "describes no network"),
        ("[" * 99999, "is no JSON file"),
    ],
)
def test_a_broken_description_gets_one_line(text, message, tmp_path):
    (tmp_path / openclip.CONFIG).write_text(text)
    with pytest.raises(clip.BackboneError, match=message) as caught:
        described(tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    with pytest.raises(clip.BackboneError, match=r"cannot be read \(No such file"):
        described(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"mean": [1, 2]}, "wrong values: 2 channels"),
        ({"std": "wide"}, "wrong values"),
        ({"mean": [float("nan"), 0, 0]}, "wrong values: a channel's value is not finite"),
        ({"std": [1, 0, 1]}, r"divides its images by 0.0; a deviation is above 0"),
        ([1], r"describes its images by '\[1\]', which is no table"),
        ({"resize_mode": "crop"}, "resize_mode 'crop'; known are shortest, squash, longest"),
        ({"interpolation": "nearest"}, "interpolation 'nearest'"),
        ({"resize_mode": "longest", "fill_color": 7}, "filled with the colour 7"),
    ],
)
def test_a_preparation_that_is_not_known_is_refused(said, message):
    with pytest.raises(clip.BackboneError, match=message):
        preparation_of(said, source="here")
