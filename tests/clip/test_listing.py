"""The table of all backbones."""

import pytest

import clip
from clip.listing import architectures, is_tree, table
from clip.names import all_names
from tests.clip.architectures import CONFIGS, TREE


def test_the_table_has_every_name(empty_home):
    lines = list(table())
    assert [line.split()[0] for line in lines[1:-1]] == list(all_names())
    [siglip] = [line for line in lines if line.startswith("ViT-B-16-SigLIP2:webli ")]
    assert siglip.split()[1:] == ["768", "64", "224", "plain", "no"]
    [openai] = [line for line in lines if line.startswith("ViT-L/14 ")]
    assert openai.split()[1:] == ["768", "77", "224", "tree", "no"]


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
