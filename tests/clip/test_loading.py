"""Which network a name or a file becomes, and what is said about it."""

import hashlib
import json
import logging

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from open_clip.model import CLIP
from safetensors.torch import save_file

import clip
from clip import loading, openclip, weights
from clip.hub import slug
from clip.reading import read_weights
from tests.clip.architectures import CONFIGS, network
from tests.clip.helpers import SIZES, openai_state, random_model

OWN = {"GELU", "EVA02", "CoCa", "PE-Core", "MobileCLIP-S", "layer scale"}


def plain_state():
    return {key: value.clone() for key, value in random_model("vit").state_dict().items()}


@pytest.mark.parametrize("kind", sorted(OWN))
def test_a_folder_in_open_clips_layout(kind, tmp_path):
    model = network(kind)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "open_clip_pytorch_model.bin")
    said = {"model_cfg": CONFIGS[kind], "preprocess_cfg": {"mean": [0.5] * 3, "resize_mode": "squash"}}
    (tmp_path / openclip.CONFIG).write_text(json.dumps(said))
    backbone, transform = clip.load(f"local-dir:{tmp_path}")
    images = torch.randn(2, 3, backbone.image_size, backbone.image_size, generator=torch.Generator().manual_seed(1))
    assert torch.equal(backbone.encode_image(images), model.encode_image(images, normalize=False))
    assert backbone.preparation.resize == "squash" and backbone.image_mean == (0.5,) * 3
    assert "squash" in str(transform) or "Resize" in str(transform)
    again = json.loads(json.dumps(said))
    again["model_cfg"]["quick_gelu"] = not CONFIGS[kind].get("quick_gelu", False)
    (tmp_path / openclip.CONFIG).write_text(json.dumps(again))
    assert clip.load(f"local-dir:{tmp_path}")[0].digest != backbone.digest


@pytest.fixture
def small_arch(monkeypatch):
    """open_clip's ViT-B-16 has the sizes of the small random model, and its tags too."""
    real = openclip.open_clip.get_model_config
    small = {"ViT-B-16": SIZES["vit"], "ViT-B-16-quickgelu": {**SIZES["vit"], "quick_gelu": True}}
    monkeypatch.setattr(
        openclip.open_clip, "get_model_config", lambda name: json.loads(json.dumps(small.get(name))) or real(name)
    )


def test_the_architecture_of_a_file_decides_its_activation(small_arch, tmp_path, caplog):
    path = tmp_path / "w.pt"
    torch.save({"model": {f"module.{key}": value for key, value in plain_state().items()}}, path)
    with pytest.raises(clip.BackboneError, match="does not say how its network computes"):
        clip.load(str(path), head_widths=(64, 64))
    caplog.set_level(logging.INFO)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    for arch, quick in (("ViT-B-16", False), ("ViT-B-16-quickgelu", True)):
        model = CLIP(**SIZES["vit"], quick_gelu=quick).eval()
        model.load_state_dict(plain_state())
        caplog.clear()
        backbone, _ = clip.load(str(path), arch=arch)
        torch.testing.assert_close(backbone.encode_image(images), model.encode_image(images))
        assert f"computes with {'quickgelu' if quick else 'gelu'}, as {arch} does" in caplog.text
    assert clip.load("ViT-B-16", weights=path)[0].digest == clip.load(str(path), arch="ViT-B-16")[0].digest
    other = clip.load(str(path), arch="ViT-B-16", activation="quickgelu")[0]
    assert other.digest == clip.load(str(path), arch="ViT-B-16-quickgelu")[0].digest
    with pytest.raises(clip.BackboneError, match=r"is no ViT-B-32: it has image layers 2 in place of 12"):
        clip.load(str(path), arch="ViT-B-32")
    with pytest.raises(clip.BackboneError, match=r"HEAD_WIDTHS .* is not true of ViT-B-16"):
        clip.load(str(path), arch="ViT-B-16", head_widths=(32, 64))


def test_a_tag_decides_activation_and_preparation(small_arch, tmp_path):
    for tag, quick in (("laion2b_s34b_b88k", False), ("dfn2b", True)):
        folder = tmp_path / slug(f"ViT-B-16:{tag}")
        folder.mkdir()
        save_file(plain_state(), folder / "open_clip_model.safetensors")
        backbone = clip.load(f"ViT-B-16:{tag}", weights=tmp_path)[0]
        arch = "ViT-B-16-quickgelu" if quick else "ViT-B-16"
        by_file = clip.load(str(folder / "open_clip_model.safetensors"), arch=arch)[0]
        assert backbone.digest == by_file.digest and backbone.name == f"ViT-B-16:{tag}"
        assert backbone.preparation == openclip.tagged("ViT-B-16", tag).preparation
    with pytest.raises(clip.BackboneError, match="is not true of ViT-B-16:dfn2b"):
        clip.load("ViT-B-16:dfn2b", weights=tmp_path, activation="gelu")
    with pytest.raises(clip.BackboneError, match="ARCH ViT-B-16 has no meaning for the backbone 'ViT-B-16:dfn2b'"):
        clip.load("ViT-B-16:dfn2b", weights=tmp_path, arch="ViT-B-16")


def test_several_preparations_are_said(small_arch, tmp_path, caplog):
    save_file(plain_state(), tmp_path / "w.safetensors")
    clip.load(str(tmp_path / "w.safetensors"), arch="ViT-B-16")
    several = len(openclip.preparations("ViT-B-16")) > 1
    assert ("does not say how its images were prepared" in caplog.text) == several


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value, tmp_path):
    state = {key: tensor.clone() for key, tensor in network("EVA02").state_dict().items()}
    state["text.ln_final.weight"][3] = value
    save_file(state, tmp_path / "open_clip_model.safetensors")
    (tmp_path / openclip.CONFIG).write_text(json.dumps({"model_cfg": CONFIGS["EVA02"]}))
    with pytest.raises(clip.BackboneError, match=r"not finite .*text.ln_final.weight \(1 of 48 values\)"):
        clip.load(f"local-dir:{tmp_path}")


WRAPPERS = ("state_dict", "model", "model_state_dict", "network")
PREFIXES = ("module.", "model.", "clip_model.", "clip.", "_orig_mod.")


@given(
    st.lists(st.sampled_from(WRAPPERS), max_size=2),
    st.lists(st.sampled_from(PREFIXES), max_size=3),
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_wrapped_and_prefixed_files_are_the_same_weights(tmp_path_factory, wrappers, prefixes, dtype, beside):
    state = {key: value.to(dtype) for key, value in plain_state().items()}
    content = {"".join(prefixes) + key: value for key, value in state.items()}
    beside = beside and "".join(prefixes).replace("_orig_mod.", "") != ""
    if beside:
        content["head.weight"] = torch.ones(2)
    for key in wrappers:
        content = {key: content, "epoch": 3}
    path = tmp_path_factory.mktemp("wrapped") / "w.pt"
    torch.save(content, path)
    read = read_weights(path).tensors
    assert read.keys() == state.keys() and all(torch.equal(read[key], state[key].float()) for key in state)


def test_tensors_beside_the_clip_are_said_and_two_clips_refused(tmp_path, caplog):
    state = plain_state()
    torch.save(
        {**{f"clip.{key}": value for key, value in state.items()}, "head.weight": torch.ones(2)}, tmp_path / "a.pt"
    )
    read_weights(tmp_path / "a.pt")
    assert "1 tensors beside the CLIP in clip. are not read (head.weight)" in caplog.text
    two = {f"{name}.{key}": value for name in ("student", "teacher") for key, value in state.items()}
    torch.save(two, tmp_path / "b.pt")
    with pytest.raises(clip.BackboneError, match=r"holds several CLIPs, below student., teacher.; save the right one"):
        read_weights(tmp_path / "b.pt")


def test_openais_weights_from_the_mirror(tmp_path, monkeypatch, caplog, backbones):
    """The Hub's mirror is used where OpenAI's address cannot be reached; the digest of the tensors is the same."""
    mirror = tmp_path / "open_clip_model.safetensors"
    save_file(plain_state(), mirror)
    monkeypatch.setattr(loading, "check_sizes", lambda *args, **kwargs: None)
    monkeypatch.setattr(weights, "_find_published", lambda *args: None)

    def unreachable(source, target):
        raise ConnectionError("no route")

    monkeypatch.setattr(weights, "download", unreachable)
    monkeypatch.setattr(weights.hub, "fetch", lambda *args, **kwargs: mirror)
    assert clip.load("ViT-B/16")[0].digest == backbones["vit"].digest
    assert "a mirror of OpenAI's tensors in another file format" in caplog.text


def test_openais_files_are_known_by_their_digest(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    path = tmp_path / "clip.safetensors"
    save_file({key: value.clone() for key, value in openai_state(random_model("vit")).items()}, path)
    backbone, _ = clip.load(str(path))
    assert "it has three scalars that only OpenAI's code writes; it is none of OpenAI's published files" in caplog.text
    assert weights.published_name(path) == ""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    known = weights.published_source
    there = {"ViT-B/32": weights.Source("https://here", found)}
    monkeypatch.setattr(weights, "published_source", lambda name: there.get(name) or known(name))
    caplog.clear()
    assert clip.load(str(path))[0].digest == backbone.digest and weights.published_name(path) == "ViT-B/32"
    assert "it is OpenAI's file of ViT-B/32 (SHA-256)" in caplog.text


def test_digests_of_openais_files_are_those_in_their_addresses():
    digests = {name: weights.published_source(name).sha256 for name in weights.PUBLISHED}
    assert len(set(digests.values())) == 9 and all(len(each) == 64 for each in digests.values())
    assert digests["ViT-B/32"].startswith("40d365715913c9da98579312b702a82c18be219c")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.to(torch.int8), "in int8, as quantised files do"),
        (lambda value: value.to(torch.complex64), "in complex64"),
        (lambda value: value.to("meta"), "names and shapes of tensors, but no values"),
        (lambda value: value * 0 + 100, "has a logit_scale of 100, so a factor of e to this power"),
    ],
)
def test_tensors_that_are_no_weights_are_refused(change, message, tmp_path):
    torch.save({key: change(value) for key, value in plain_state().items()}, tmp_path / "w.pt")
    with pytest.raises(clip.BackboneError, match=message):
        clip.load(str(tmp_path / "w.pt"), activation="gelu", head_widths=(64, 64))


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("quick_gelu", True),
        ("text_cfg", {"pool_type": "first"}),
        ("text_cfg", {"act_kwargs": {"approximate": "tanh"}}),
        ("text_cfg", {"heads": 4}),
        ("vision_cfg", {"pool_type": "avg"}),
        ("vision_cfg", {"head_width": 16}),
    ],
)
def test_the_same_tensors_computed_otherwise_have_another_digest(part, change, tmp_path):
    save_file({k: v.contiguous() for k, v in network("GELU").state_dict().items()}, tmp_path / "model.safetensors")
    usual = CONFIGS["GELU"]
    digests = set()
    for config in (usual, {**usual, part: {**usual[part], **change} if isinstance(change, dict) else change}):
        (tmp_path / openclip.CONFIG).write_text(json.dumps({"model_cfg": config}))
        digests.add(clip.load(f"local-dir:{tmp_path}")[0].digest)
    assert len(digests) == 2
