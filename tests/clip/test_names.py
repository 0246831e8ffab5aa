"""What names of backbones stand for."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import clip
from clip.names import Kind, all_names, architecture_named, nearest_names, open_clip_name, parse
from clip.openclip import listed, tagged


def test_all_nine_names_of_openai_and_their_spelling_by_open_clip():
    assert len(clip.available_models()) == 11
    for name in clip.available_models()[:9]:
        named = parse(name)
        assert named.kind is Kind.OPENAI and named.repository.startswith("timm/") and "openai" in named.repository
    for name in ("ViT-B-32:openai", "ViT-B-32-quickgelu:openai", "ViT-B/32:openai"):
        assert parse(name).arch == "ViT-B-32" and parse(name).kind is Kind.OPENAI


@pytest.mark.parametrize("name", all_names()[len(clip.available_models()) :])
def test_every_name_of_open_clip_has_a_place_on_the_hub(name):
    named = parse(name)
    assert named.kind is Kind.TAG and f"{named.arch}:{named.tag}" == name
    assert named.repository.count("/") == 1 and named.files and all(named.files)


@pytest.mark.parametrize(
    ("name", "kind", "repository", "first"),
    [
        ("ViT-B-16:datacomp_xl_s13b_b90k", Kind.TAG, "", ""),
        ("ViT-B-16:DataComp-XL-s13b-b90k", Kind.TAG, "", ""),  # open_clip folds case and dashes
        ("MobileCLIP-B:datacompdr", Kind.TAG, "", ""),
        ("hf-hub:imageomics/bioclip", Kind.HUB, "imageomics/bioclip", "open_clip_model.safetensors"),
        ("EVA02-B-16", Kind.TAG, "timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k", "open_clip_model.safetensors"),
    ],
)
def test_other_names(name, kind, repository, first):
    named = parse(name)
    assert named.kind is kind
    assert not repository or (named.repository, named.files[0]) == (repository, first)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ViT-B-16:datacomp_xl_s13b_b90", "no weights 'datacomp_xl_s13b_b90' of ViT-B-16; did you mean .*b90k"),
        ("ViT-B-16", "'ViT-B-16' is an architecture without weights; choose ViT-B-16:openai, "),
        ("ViT-M-16-alt", "without weights; choose the path of a file, with MODEL.BACKBONE.ARCH ViT-M-16-alt"),
        ("ViT-B-16-SigLIP2-webli", "did you mean ViT-B-16-SigLIP2:webli"),
        ("PE-Core-B-61:meta", "did you mean PE-Core-B-16:meta"),
        ("hf-hub:bioclip", "names no repository of the Hub; give hf-hub:OWNER/NAME"),
        ("hf-hub:../..", "names no repository"),
        ("local-dir:/nowhere", "the folder /nowhere .* does not exist"),
    ],
)  # fmt: skip
def test_wrong_names_get_one_line_with_the_nearest(name, message):
    with pytest.raises(clip.BackboneError, match=message) as caught:
        parse(name)
    assert "\n" not in str(caught.value)


def test_an_architecture_is_enough_for_a_file():
    assert parse("ViT-B-16", with_file=True).tag == ""


def test_folders(tmp_path):
    with pytest.raises(clip.BackboneError, match=r"has no open_clip_config.json or config.json"):
        parse(f"local-dir:{tmp_path}")
    (tmp_path / "config.json").write_text(json.dumps({}))
    assert parse(f"local-dir:{tmp_path}").kind is parse(str(tmp_path)).kind is Kind.FOLDER


def test_architectures():
    assert architecture_named("ViT-B/16") == "ViT-B-16"
    with pytest.raises(clip.BackboneError, match=r"MODEL.BACKBONE.ARCH is 'ViT-B-61', .*did you mean .*ViT-B-16"):
        architecture_named("ViT-B-61")


def test_names_by_which_open_clip_makes_the_network():
    assert open_clip_name("RN50") == ("RN50-quickgelu", "openai")
    assert open_clip_name("EVA02-B-16:merged2b_s8b_b131k") == ("EVA02-B-16", "merged2b_s8b_b131k")
    assert open_clip_name("ViT-B-16:dfn2b") == ("ViT-B-16-quickgelu", "dfn2b")
    assert open_clip_name("ViT-L-14:dfn2b_s39b") == ("ViT-L-14", "dfn2b_s39b")
    assert open_clip_name("hf-hub:imageomics/bioclip") == ("hf-hub:imageomics/bioclip", "")
    assert open_clip_name("demo") == open_clip_name("/nowhere.pt") == ("", "")


def test_the_network_that_open_clip_makes_of_an_exported_name_computes_as_ours():
    for name in all_names():
        named, (arch, tag) = parse(name), open_clip_name(name)
        if named.kind is Kind.TAG:
            assert listed(arch).quick is tagged(named.arch, named.tag).quick and tag == named.tag


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "has no name"),
        ("local-dir:", "has no name"),
        ("x" * 5000, "unknown backbone"),
        ("~nobody-has-this-name/w", "unknown backbone"),
        ("https://huggingface.co/a/bb/", "did you mean hf-hub:a/bb?"),
        ("imageomics/bioclip", "did you mean hf-hub:imageomics/bioclip"),
        ("ViT-B/61", "did you mean ViT-B/16"),
    ],
)
def test_odd_names_are_one_line(name, told):
    with pytest.raises(clip.BackboneError) as caught:
        parse(name)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_tags_are_folded():
    assert parse("ViT-B-16:OpenAI").kind is Kind.OPENAI
    assert parse("ViT-B-16:DFN2B").tag == parse("ViT-B-16:dfn2b").tag == "dfn2b"


@given(st.text(max_size=30))
def test_any_text_is_a_name_or_one_line(text):
    try:
        parse(text)
    except clip.BackboneError as error:
        assert len(str(error).splitlines()) == 1 or "\n" in text
    assert len(nearest_names(text)) <= 3
