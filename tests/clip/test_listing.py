"""The table of all backbones."""

import open_clip
import pytest
import torch
from open_clip.model import CLIP, CustomTextCLIP

import clip
from clip.listing import architectures, is_tree, table
from clip.names import all_names, parse
from tests.clip.architectures import CONFIGS, TREE


def test_the_table_has_every_name(empty_home):
    lines = list(table())
    assert [line.split()[0] for line in lines[1:-1]] == list(all_names())
    [siglip] = [line for line in lines if line.startswith("ViT-B-16-SigLIP2:webli ")]
    assert siglip.split()[1:] == ["375", "M", "768", "64", "224", "plain", "no"]
    [openai] = [line for line in lines if line.startswith("ViT-L/14 ")]
    assert openai.split()[1:] == ["428", "M", "768", "77", "224", "tree", "no"]
    sizeless = {parse(line.split()[0]).arch for line in lines[1:-1] if line.split()[1] == "-"}
    assert all("hf_model_name" in open_clip.get_model_config(arch)["text_cfg"] for arch in sizeless)


@pytest.mark.parametrize("arch", ["RN50", "ViT-B-32", "EVA02-B-16"])
def test_sizes_are_those_of_the_networks(arch):
    config = open_clip.get_model_config(arch)
    kind = CustomTextCLIP if config.pop("custom_text", False) else CLIP
    config["vision_cfg"].pop("timm_model_pretrained", None)
    with torch.device("meta"):
        count = sum(each.numel() for each in kind(**config).parameters())
    name = next(name for name in all_names() if name != "demo" and parse(name).arch == arch)
    [line] = [line for line in table(name) if line.startswith(f"{name} ")]
    assert f" {round(count / 1e6)} M " in line


def test_letters_choose_and_weights_are_found(empty_home, model_files, tmp_path):
    (tmp_path / "RN50.safetensors").symlink_to(model_files["rn"])
    header, *rows, _ = table("rn50", tmp_path)
    assert all("rn50" in row.lower() for row in rows)
    assert [row.endswith("yes") for row in rows if row.startswith("RN50 ")] == [True] and "weights here" in header
    with pytest.raises(clip.BackboneError, match=r"no backbone has 'siglib' in its name"):
        list(table("siglib"))
    assert list(architectures("pe-core-b-")) == ["PE-Core-B-16"]


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_tree_is_told_from_the_description(kind):
    assert is_tree(CONFIGS[kind]["text_cfg"]) == (kind in TREE)
