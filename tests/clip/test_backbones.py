import json
import logging

import open_clip
import pytest
import torch
from open_clip.model import CLIP
from PIL import Image
from safetensors.torch import load_file

import clip
from clip.architecture import build_model, infer_config
from clip.backbones import Backbone
from clip.names import DEMOS
from clip.precision import Precision
from clip.weights import PUBLISHED
from tests.clip.helpers import SIZES, random_model
from tests.folders import golden_folder

KINDS = sorted(SIZES)


def images_for(backbone, count=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, backbone.image_size, backbone.image_size, generator=generator)


@pytest.mark.parametrize("kind", KINDS)
def test_facts_of_a_backbone(kind, backbones, model_files):
    backbone, size = backbones[kind], SIZES[kind]
    assert backbone.name == str(model_files[kind])
    assert (backbone.precision, backbone.dtype) == ("fp32", torch.float32)
    assert len(bytes.fromhex(backbone.digest)) == 32
    assert backbone.image_size == size["vision_cfg"]["image_size"]
    assert backbone.embed_dim == size["embed_dim"]
    assert backbone.text_width == size["text_cfg"]["width"]
    assert backbone.context_length == 77
    assert backbone.logit_scale == pytest.approx(1 / 0.07, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_images_equal_open_clip(kind, backbones):
    backbone = backbones[kind]
    images = images_for(backbone)
    expected = random_model(kind).encode_image(images)
    torch.testing.assert_close(backbone.encode_image(images), expected, rtol=1e-4, atol=1e-4)


def test_agrees_with_open_clips_own_loader():
    folder = golden_folder("common")
    for kind in KINDS:
        state = load_file(folder / f"clip_tiny_{kind}.safetensors")
        other = open_clip.model.build_model_from_openai_state_dict(dict(state), cast_dtype=None).float()
        backbone, _ = clip.load(str(folder / f"clip_tiny_{kind}.safetensors"))
        images, tokens = images_for(backbone), clip.tokenize(["a cat", "a much longer text about dogs"])
        torch.testing.assert_close(backbone.encode_image(images), other.encode_image(images), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(backbone.encode_text(tokens), other.encode_text(tokens), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_stays_frozen_and_in_evaluation_mode(kind, model_files):
    backbone, _ = clip.load(str(model_files[kind]))
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    torch.nn.Sequential(backbone).train()
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    backbone.encode_image(images_for(backbone) * 5 + 3)
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize("precision", ["bf16", "amp"])
@pytest.mark.parametrize("kind", KINDS)
def test_reduced_precision_on_a_cpu(kind, precision, backbones, model_files):
    backbone, _ = clip.load(str(model_files[kind]), precision=precision)
    assert (backbone.precision, backbone.dtype) == (precision, torch.bfloat16)
    assert backbone.digest == backbones[kind].digest
    assert_near_fp32(backbone, backbones[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_fp16_encoders_compute(kind, backbones):
    # What a CUDA device runs, in the slow half-precision kernels of the CPU.
    model = build_model(random_model(kind).state_dict(), source="random", cast_dtype=torch.float16)
    precision = Precision("fp16", torch.float16, torch.float16, "cpu")
    assert_near_fp32(Backbone(model, precision, name=kind, digest=""), backbones[kind])


def assert_near_fp32(backbone, exact):
    images, layout = images_for(exact), clip.prompt_layout(["cat", "big_dog"], n_ctx=4)
    start = torch.randn(1, 4, exact.text_width, generator=torch.Generator().manual_seed(2)) * 0.02
    contexts, reference = (start.clone().requires_grad_() for _ in range(2))
    features, expected = backbone.text(layout, contexts), exact.text(layout, reference)
    features.float().square().sum().backward()
    expected.square().sum().backward()
    assert contexts.grad.dtype == torch.float32
    pairs = [
        (backbone.encode_image(images), exact.encode_image(images)),
        (features, expected),
        (contexts.grad.flatten(1), reference.grad.flatten(1)),
        (backbone.encode_text(layout.tokens), exact.encode_text(layout.tokens)),
    ]
    for ours, theirs in pairs:
        assert torch.cosine_similarity(ours.float(), theirs, dim=-1).min() > 0.995
    assert pairs[0][0].dtype == pairs[3][0].dtype == features.dtype == backbone.dtype


@pytest.mark.parametrize("kind", KINDS)
def test_norm_layers_keep_full_precision(kind, model_files):
    backbone, _ = clip.load(str(model_files[kind]), precision="bf16")
    dtypes = {name: parameter.dtype for name, parameter in backbone.named_parameters()}
    norms = {"ln_final.weight"} if kind == "vit" else {"ln_final.weight", "bn1.weight"}
    for name, dtype in dtypes.items():
        if any(name.endswith(norm) for norm in norms):
            assert dtype == torch.float32, name
    assert dtypes["text.transformer.resblocks.0.attn.in_proj_weight"] == torch.bfloat16
    assert dtypes["visual.conv1.weight"] == dtypes["text.text_projection"] == torch.bfloat16


def test_precision_ignores_a_callers_autocast(backbones):
    images = images_for(backbones["vit"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = backbones["vit"].encode_image(images)
    assert torch.equal(features, backbones["vit"].encode_image(images))


def test_fp16_falls_back_on_a_cpu_and_says_so_once(model_files, caplog):
    with caplog.at_level(logging.WARNING):
        backbone, _ = clip.load(str(model_files["vit"]), precision="fp16")
    assert (backbone.precision, backbone.dtype) == ("fp32", torch.float32)
    assert [record.message for record in caplog.records] == [
        "precision fp16 is not supported on a CPU: the encoders run in fp32"
    ]


def test_unknown_precision(model_files):
    with pytest.raises(clip.BackboneError, match="'fp8'; choose one of fp32, fp16, bf16, amp"):
        clip.load(str(model_files["vit"]), precision="fp8")


def test_preprocess_crops_and_normalises(model_files):
    _, preprocess = clip.load(str(model_files["vit"]))
    image = Image.new("RGBA", (90, 50), (255, 0, 128, 7))
    tensor = preprocess(image)
    assert tensor.shape == (3, 32, 32)
    colour = (torch.tensor([1.0, 0.0, 128 / 255]) - torch.tensor(clip.IMAGE_MEAN)) / torch.tensor(clip.IMAGE_STD)
    torch.testing.assert_close(tensor, colour.view(3, 1, 1).expand(3, 32, 32))


def test_preprocess_golden_images():
    folder = golden_folder("transforms")
    expected = load_file(folder / "transforms.safetensors")
    for entry in json.loads((folder / "transforms.json").read_text())["images"]:
        key = next(
            key for key in expected if key.endswith(".decoded") and key.removesuffix(".decoded") in entry["file"]
        )
        image = Image.fromarray(expected[key].numpy())
        result = clip.image_transform(64)(image)
        torch.testing.assert_close(result, expected[key.replace(".decoded", ".size64")], rtol=0, atol=1e-5)


def published_state(name, vocab_size=64):
    """Zeros in the shapes of a published model, without memory behind them."""
    config = open_clip.factory.get_model_config(PUBLISHED[name])
    config["text_cfg"]["vocab_size"] = vocab_size
    with torch.device("meta"):
        model = CLIP(**config, quick_gelu=True)
    return config, {key: torch.zeros(()).expand(value.shape) for key, value in model.state_dict().items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_of_published_models_are_inferred(name):
    config, state = published_state(name)
    inferred = infer_config(state, source=name)
    assert inferred["embed_dim"] == config["embed_dim"]
    for side in ("vision_cfg", "text_cfg"):
        for key, value in config[side].items():
            actual = getattr(inferred[side], key)
            assert value is None or (list(actual) if isinstance(actual, tuple) else actual) == value, key
    model = build_model(state, source=name)
    if name.startswith("RN"):
        assert model.visual.attnpool.num_heads == {"RN50x4": 40, "RN50x16": 48, "RN50x64": 64}.get(name, 32)


def test_rn50_computes_at_its_real_size():
    _, state = published_state("RN50")
    generator = torch.Generator().manual_seed(0)
    random = {key: torch.randn(value.shape, generator=generator) * 0.02 for key, value in state.items()}
    model = build_model(
        {key: value.abs() if "running_var" in key else value for key, value in random.items()}, source=""
    )
    backbone = Backbone(model, Precision("fp32", torch.float32, torch.float32, "cpu"), name="RN50", digest="")
    features = backbone.encode_image(images_for(backbone, 1))
    assert backbone.image_size == 224 and backbone.text_width == 512
    assert features.shape == (1, 1024) and torch.isfinite(features).all()


@pytest.mark.parametrize("name", DEMOS)
def test_the_demo_backbones_load(name: str):
    backbone, preprocess = clip.load(name)
    image = preprocess(Image.new("RGB", (80, 70)))
    assert backbone.encode_image(image[None]).shape == backbone.encode_text(clip.tokenize("a cat")).shape
