"""Pre-training pairs, and the script that trains the demo backbone, from end to end on a toy size."""

import json
import random
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from safetensors import safe_open
from safetensors.torch import load_file

import clip
from clip.weights import DEMO, DEMO_FILES
from datasets import demo6
from datasets._render.pretrain import caption, scene
from datasets._render.suite import MEMBERS, classnames
from scripts import train_demo_backbone as script

CHECKOUT = Path(__file__).resolve().parents[2]


def test_a_scene_depends_on_seed_and_number_alone() -> None:
    first, shown = scene(1, 4)
    scene(1, 5)
    again, shown_again = scene(1, 4)
    assert np.array_equal(first, again)
    assert shown == shown_again
    assert not np.array_equal(first, scene(2, 4)[0])
    assert first.shape == (64, 64, 3)


def test_captions_are_diverse_and_fit() -> None:
    words, encode = random.Random(0), SimpleTokenizer().encode
    texts = [caption(scene(1, k)[1], words) for k in range(20) for _ in range(10)]
    lengths = [len(encode(text)) for text in texts]
    assert len(set(texts)) > 150
    assert min(lengths) <= 3
    assert 20 < max(lengths) < 75


def test_no_caption_is_a_prompt_of_the_suite() -> None:
    words = random.Random(0)
    prompts = {getattr(demo6, m).template.format(name).rstrip(".") for m in MEMBERS for name in classnames(m)}
    texts = {caption(shown, words).rstrip(".") for shown in (scene(1, k)[1] for k in range(60)) for _ in range(30)}
    assert not prompts & texts


def test_the_quick_tokenizer_agrees_with_clip() -> None:
    words = random.Random(3)
    texts = [caption(scene(1, k)[1], words) for k in range(40)]
    tokens = script.CaptionTokenizer()(texts)
    assert torch.equal(tokens, clip.tokenize(texts)[:, : tokens.shape[1]])


def test_training_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "zero_shot", partial(script.zero_shot, per_class=1))
    monkeypatch.setattr(script, "calibrated_scale", partial(script.calibrated_scale, per_class=1))
    output, report = tmp_path / "toy.safetensors", tmp_path / "toy.json"
    flags = ["--pairs", "24", "--epochs", "1", "--batch", "8", "--warmup", "2", "--workers", "1"]
    script.main([*flags, "--output", str(output), "--report", str(report)])

    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy.json", "toy.safetensors"]
    assert set(json.loads(report.read_text())["zero_shot"]) == set(MEMBERS)
    with safe_open(output, "pt") as file:
        assert file.metadata()["pairs"] == "24"
        assert file.get_tensor("input_resolution").item() == 64
    backbone, _ = clip.load(str(output))
    assert backbone.encode_image(torch.zeros(1, 3, 64, 64)).shape == (1, script.EMBED_DIM)


@pytest.mark.parametrize("path", DEMO_FILES.values(), ids=list(DEMO_FILES))
def test_the_shipped_weights(path: Path) -> None:
    """Small enough for the repository, the architecture of the script, and better than chance on the tasks."""
    assert path.stat().st_size <= 12e6
    result = script.zero_shot(path, per_class=8)
    above = [result[name] - 100 / len(classnames(name)) for name in MEMBERS]
    assert np.mean(above) > 10
    assert max(result.values()) < 97, "room for tuning"


def test_both_demo_backbones_have_one_text_tower() -> None:
    resnet, vit = (load_file(path) for path in DEMO_FILES.values())
    texts = [name for name in resnet if not name.startswith("visual.") and name not in script.SCALARS]
    assert all(torch.equal(resnet[name], vit[name]) for name in texts if name != "logit_scale")
    assert {name for name in vit if not name.startswith("visual.")} == {*texts, *script.SCALARS}


def test_beside_a_locked_text_tower_only_the_image_tower_learns() -> None:
    model = script.build_model("vit")
    script.lock_text(model)
    stored = {name: value.float() for name, value in load_file(DEMO_FILES[DEMO]).items() if name not in script.SCALARS}
    texts = {name: value for name, value in model.state_dict().items() if "visual" not in name and name != "attn_mask"}
    assert texts.keys() == {name for name in stored if "visual" not in name}
    assert all(torch.equal(value, stored[name]) for name, value in texts.items())
    learned = {name.partition(".")[0] for name, value in model.named_parameters() if value.requires_grad}
    assert learned == {"visual", "logit_scale"}
    assert model.visual(torch.zeros(1, 3, 64, 64)).shape == (1, script.EMBED_DIM)
