"""CLIP in transformers' layout: the same network by other names."""

import json

import pytest
import torch
from safetensors.torch import save_file

import clip
from clip.huggingface import is_transformers, preparation_in, style_in, to_openai
from clip.openclip import Preparation
from tests.clip.helpers import random_model

CONFIG = {
    "model_type": "clip",
    "text_config": {"hidden_size": 128, "num_attention_heads": 2},
    "vision_config": {"hidden_size": 64, "num_attention_heads": 1},
}

SAME = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def transformers_state(state):
    """transformers' names for the tensors of a ViT in OpenAI's layout, written out independently."""
    found = {
        "logit_scale": state["logit_scale"],
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "text_model.embeddings.position_ids": torch.arange(77)[None],
        "vision_model.embeddings.class_embedding": state["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["visual.positional_embedding"],
        "visual_projection.weight": state["visual.proj"].T,
        "text_projection.weight": state["text_projection"].T,
    }
    for kind in ("weight", "bias"):
        found[f"text_model.final_layer_norm.{kind}"] = state[f"ln_final.{kind}"]
        found[f"vision_model.pre_layrnorm.{kind}"] = state[f"visual.ln_pre.{kind}"]
        found[f"vision_model.post_layernorm.{kind}"] = state[f"visual.ln_post.{kind}"]
        for tower, prefix in (("text_model", ""), ("vision_model", "visual.")):
            for layer in range(2):
                theirs, ours = f"{tower}.encoder.layers.{layer}.", f"{prefix}transformer.resblocks.{layer}."
                three = state[f"{ours}attn.in_proj_{kind}"].chunk(3)
                found |= {f"{theirs}self_attn.{which}_proj.{kind}": part for which, part in zip("qkv", three)}  # noqa: B905
                for name, own in SAME.items():
                    found[f"{theirs}{name}.{kind}"] = state[f"{ours}{own}.{kind}"]
    return {key: value.clone().contiguous() for key, value in found.items()}


@pytest.fixture
def folder(tmp_path):
    """A folder as transformers writes it."""
    save_file(transformers_state(random_model("vit").state_dict()), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def test_the_tensors_are_the_same(folder):
    state = random_model("vit").state_dict()
    theirs = transformers_state(state)
    assert is_transformers(theirs) and not is_transformers(state)
    mine = to_openai(theirs, source="here")
    assert mine.keys() == state.keys() and all(torch.equal(mine[key], state[key]) for key in state)


@pytest.mark.parametrize("how", ["folder", "local-dir", "file"])
def test_a_folder_or_its_file_is_the_same_backbone(how, folder, backbones):
    name = {"folder": str(folder), "local-dir": f"local-dir:{folder}", "file": str(folder / "model.safetensors")}[how]
    assert clip.load(name)[0].digest == backbones["vit"].digest


def test_a_bare_file_must_be_told_how_it_computes(folder, backbones):
    (folder / "config.json").unlink()
    name = str(folder / "model.safetensors")
    with pytest.raises(clip.BackboneError, match="does not say how its network computes"):
        clip.load(name)
    options = {"activation": "quickgelu", "head_widths": (64, 64)}
    assert clip.load(name, **options)[0].digest == backbones["vit"].digest


def test_a_gelu_config_is_computed_with_gelu(folder, backbones):
    for part in ("text_config", "vision_config"):
        changed = json.loads((folder / "config.json").read_text())
        changed[part]["hidden_act"] = "gelu"
        (folder / "config.json").write_text(json.dumps(changed))
    assert style_in(folder / "config.json").activation == "gelu"
    assert clip.load(str(folder))[0].digest != backbones["vit"].digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "siglip"}, "describes a 'siglip' of transformers"),
        ({"text_config_dict": {"hidden_act": "gelu"}}, "has the hidden_act gelu, quick_gelu"),
        ({"vision_config": {"hidden_size": 64, "num_attention_heads": 7}}, "cannot cut the width 64 into 7 heads"),
        ({"text_config": {"layer_norm_eps": 1e-6}}, "another layer_norm_eps"),
    ],
)
def test_configs_that_cannot_be_followed(changes, message, folder):
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    with pytest.raises(clip.BackboneError, match=message):
        style_in(folder / "config.json")


@pytest.mark.parametrize("key", ["text_model.encoder.layers.0.self_attn.k_proj.bias", "extra"])
def test_missing_and_strange_tensors_are_named(key):
    state = transformers_state(random_model("vit").state_dict())
    state = {**state, key: torch.zeros(1)} if key == "extra" else {k: v for k, v in state.items() if k != key}
    with pytest.raises(clip.BackboneError, match=key):
        to_openai(state, source="here")


def test_the_preparation_of_images(tmp_path):
    assert preparation_in(tmp_path) == Preparation()
    said = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 2, "do_center_crop": False}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    assert preparation_in(tmp_path) == Preparation((0.5,) * 3, (0.25,) * 3, "bilinear", "squash")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"resample": 0}))
    with pytest.raises(clip.BackboneError, match="has resample 0"):
        preparation_in(tmp_path)
