"""A folder of weights for another machine, filled without a network by a stand-in for downloads."""

import json

import pytest

import clip
from clip import fetching, openclip
from tests.clip.test_hub import site

__all__ = ["site"]


def test_what_is_fetched_is_found_by_its_name(site, tmp_path, empty_home):
    files, _ = site
    repository = "timm/ViT-B-16-SigLIP2"
    files[repository, "open_clip_model.safetensors"] = b"w"
    files["timm/ViT-B-16-SigLIP2", "tokenizer.json"] = b"{}"
    files["a/b", openclip.CONFIG] = json.dumps({"model_cfg": {"text_cfg": {}}}).encode()
    files["a/b", "open_clip_pytorch_model.bin"] = b"v"
    folder = tmp_path / "to"
    lines = list(fetching.fetch(["ViT-B-16-SigLIP2:webli", "hf-hub:a/b"], folder))
    assert len(lines) == 3 and lines[-1].endswith(f"MODEL.BACKBONE.WEIGHTS {folder}")
    one = folder / "ViT-B-16-SigLIP2--webli"
    assert {path.name for path in one.iterdir()} == {"open_clip_model.safetensors", openclip.CONFIG, "tokenizer.json"}
    assert openclip.described(one).model["embed_dim"] == 768
    assert clip.weights.find("ViT-B-16-SigLIP2:webli", folder) == one / "open_clip_model.safetensors"
    assert clip.weights.find("hf-hub:a/b", folder) == folder / "a--b" / "open_clip_pytorch_model.bin"


def test_openais_file_goes_to_the_folder_or_its_mirror_does(site, tmp_path, empty_home, monkeypatch):
    def download(source, target):
        target.write_bytes(b"w")

    monkeypatch.setattr(clip.weights, "download", download)
    assert "RN50.pt (0 MiB)" in next(fetching.fetch(["RN50"], tmp_path / "one"))

    def unreachable(source, target):
        raise ConnectionError("no route")

    monkeypatch.setattr(clip.weights, "download", unreachable)
    site[0]["timm/resnet50_clip.openai", "open_clip_model.safetensors"] = b"w"
    list(fetching.fetch(["RN50"], tmp_path / "two"))
    assert clip.weights.find("RN50", tmp_path / "two").parent.name == "timm--resnet50_clip.openai"
    assert "RN50.pt" in next(fetching.fetch(["RN50"], tmp_path / "one"))  # it is there


@pytest.mark.parametrize("name", ["demo"])
def test_what_is_here_is_not_fetched(name, tmp_path):
    with pytest.raises(clip.BackboneError, match="is on this machine already"):
        list(fetching.fetch([name], tmp_path))


def test_the_config_of_a_text_tower_of_transformers_comes_along(site, tmp_path):
    files, _ = site
    text = {"hf_model_name": "a/bert", "hf_tokenizer_name": "a/bert"}
    files["a/b", openclip.CONFIG] = json.dumps({"model_cfg": {"text_cfg": text}}).encode()
    files["a/b", "open_clip_model.safetensors"] = b"v"
    files["a/bert", "config.json"] = b'{"model_type": "bert"}'
    files["a/bert", "vocab.txt"] = b"w"
    list(fetching.fetch(["hf-hub:a/b"], tmp_path))
    assert clip.wrapped.config_folder("a/bert", tmp_path / "a--b") == tmp_path / "a--b" / "text"
    assert (tmp_path / "a--b" / "vocab.txt").is_file()
