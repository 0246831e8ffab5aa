"""Model cards, read as the Hub's own package reads them."""

import pytest
import torch
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

import export
from dassl.engine.head import Head
from dassl.inference.card import _shown, base_model, model_card
from dassl.inference.exported import Exported
from dassl.utils.texts import printable


def content(task="pets", classes=("cat", "dog"), backbone="ViT-B/32", open_clip=("ViT-B-32-quickgelu", "openai")):
    """What an exported file of one task holds, as far as its card is concerned."""
    told = {"name": backbone, "digest": "ab12", "open_clip_name": open_clip[0], "open_clip_tag": open_clip[1]}
    about = {
        "tasks": [{"name": task, "classes": list(classes)}],
        "backbone": told,
        "training": {"trainer": "MTCoOp", "dataset": "Demo6"},
        "results": {"split": "val", "tasks": [{"name": task, "metric": 62.5, "metric_name": "mean_acc"}]},
    }
    return Exported(Head("cosine", torch.eye(2)), about)


def test_the_hub_reads_figures_split_and_backbone():
    data = ModelCard(model_card(content(), "apache-2.0")).data
    (found,) = data.eval_results
    told = {key: data.get(key) for key in ("pipeline_tag", "library_name", "license")}
    assert told == {"pipeline_tag": "image-classification", "library_name": "open_clip", "license": "apache-2.0"}
    assert (data.base_model, data.model_name) == ("openai/clip-vit-base-patch32", "MTCoOp on ViT-B/32")
    assert (found.dataset_type, found.dataset_name, found.dataset_split) == ("Demo6", "Demo6: pets", "val")
    assert (found.task_type, found.metric_type, found.metric_name) == (
        "image-classification",
        "accuracy",
        "mean_acc (%)",
    )
    assert found.metric_value == 62.5


def test_what_is_not_known_is_left_out_and_said():
    card = model_card(content(backbone="~/mine.safetensors", open_clip=("", "")))
    data = ModelCard(card).data
    assert data.base_model is None and data.license is None
    assert "No licence was given" in card and "has no known name on the Hub" in card
    full = model_card(content(), "mit")
    assert "No licence was given" not in full and "no known name on the Hub" not in full


@pytest.mark.parametrize(
    ("name", "open_clip", "wanted"),
    [
        ("ViT-B/16", ("ViT-B-16-quickgelu", "openai"), "openai/clip-vit-base-patch16"),
        ("RN50", ("RN50-quickgelu", "openai"), "timm/resnet50_clip.openai"),
        ("RN101", ("RN101-quickgelu", "openai"), "timm/resnet101_clip.openai"),
        ("other", ("ViT-B-32", "laion2b_s34b_b79k"), "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
        ("other", ("ViT-B-32", "unknown"), ""),
        ("demo", ("", ""), ""),
        ("hf-hub:imageomics/bioclip", ("hf-hub:imageomics/bioclip", ""), "imageomics/bioclip"),
        ("ViT-L/14", ("ViT-L-14-quickgelu", "openai"), "openai/clip-vit-large-patch14"),
    ],
)
def test_the_backbones_name_on_the_hub(name, open_clip, wanted):
    assert base_model({"name": name, "open_clip_name": open_clip[0], "open_clip_tag": open_clip[1]}) == wanted


@given(task=st.text(st.characters(exclude_categories=("Cs",)), min_size=1), name=st.text(min_size=1))
def test_whatever_tasks_and_classes_are_called_the_hub_reads_the_card(task, name):
    card = model_card(content(task, (name, "dog")))
    (found,) = ModelCard(card).data.eval_results
    assert found.dataset_config == found.task_name == printable(" ".join(task.split()))
    card.encode()


def test_names_in_a_model_card_are_no_elements_and_no_links():
    assert _shown("<img src=x> [a](http://b)") == r"&lt;img src=x&gt; \[a\]\(http://b\)"


def test_the_licence_is_the_users(lab, capsys):
    lab.run(OPTIM__MAX_EPOCH=1)
    command, hub = [str(lab.folder("run")), "-o"], lab.output / "hub"
    assert export.main([*command, f"{hub}/", "--license", "MIT license"]) == 2
    assert "is not an identifier of the Hub" in capsys.readouterr().err
    assert export.main([*command, f"{hub}.safetensors", "--license", "mit"]) == 2
    assert "is for the model card of a folder" in capsys.readouterr().err
    assert export.main([*command, f"{hub}/", "--license", "mit"]) == 0
    assert ModelCard.load(hub / "README.md").data.license == "mit"
