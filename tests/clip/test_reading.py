"""What a file in place of weights is, and that reading it runs none of it."""

import pickle
import re
import warnings
import zipfile

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from torch import nn

import clip
from clip.archive import read_torchscript
from clip.reading import read_weights
from tests.clip.helpers import SIZES, Hostile, openai_state, random_model, save_script, save_torchscript

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 353976522\n" % (b"ab" * 32)


def jit_state(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.load(str(path)).state_dict()


@pytest.mark.parametrize("how", ["script", "trace", "layout"])
def test_archives_give_the_tensors_that_torch_gives(how, tmp_path):
    model, path = random_model("vit").eval(), tmp_path / "archive.pt"
    model.input_resolution = nn.Buffer(torch.tensor(32))
    if how == "layout":
        half = {key: value.half() if value.is_floating_point() else value for key, value in openai_state(model).items()}
        save_torchscript(half, path)
    elif how == "script":
        save_script(model.half(), path)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            inputs = (torch.zeros(1, 3, 32, 32), torch.zeros(1, 77, dtype=torch.long))
            torch.jit.trace(model, inputs).half().save(str(path))
    mine, theirs = read_torchscript(path), jit_state(path)
    assert mine.keys() == theirs.keys() and "visual.transformer.resblocks.1.attn.in_proj_weight" in mine
    assert all(torch.equal(mine[key], theirs[key]) and mine[key].dtype == theirs[key].dtype for key in theirs)
    assert {value.dtype for value in mine.values()} == {torch.float16, torch.int64}


def test_a_tensor_that_is_neither_parameter_nor_buffer_is_no_weight(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.own, self.loose = nn.Parameter(torch.ones(2)), torch.zeros(2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.own + self.loose

    path = save_script(Net(), tmp_path / "net.pt")
    assert list(read_torchscript(path)) == list(jit_state(path)) == ["own"]


def test_a_hostile_archive_is_not_run(tmp_path):
    mark = tmp_path / "written"
    path = save_script(Hostile(str(mark)), tmp_path / "hostile.pt")
    for name, options in ((str(path), {}), ("RN50", {"weights": path})):
        with pytest.raises(clip.BackboneError, match=r"hostile\.pt") as caught:
            clip.load(name, **options)
        assert "\n" not in str(caught.value)
    assert not mark.exists()
    jit_state(path)  # the file is what it is said to be
    assert mark.exists()


def test_classes_of_an_archives_pickle_are_never_called(tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "written"), "w")

    good, bad = tmp_path / "good.pt", tmp_path / "bad.pt"
    save_torchscript({"weight": torch.ones(2)}, good)
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(bad, "w") as target:
        for name in source.namelist():
            data = pickle.dumps({"a": Evil()}, protocol=2) if name.endswith("/data.pkl") else source.read(name)
            target.writestr(name, data)
    with pytest.raises(clip.BackboneError, match=r"bad\.pt"):
        clip.load(str(bad))
    assert not (tmp_path / "written").exists()


KINDS = {
    "pointer": (LFS, "is a Git LFS pointer of 1[0-9]{2} bytes .* of 353,976,522 bytes; .*git lfs pull"),
    "page": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", r"is a web page \(49 bytes\)"),
    "xml page": (b'<?xml version="1.0"?>\n<html xmlns="x"></html>', "is a web page"),
    "text": (b"404: Not Found", r"is a text that begins with '404: Not Found' \(14 bytes\)"),
    "wide text": ("Zugriff verweigert: ä".encode("utf-16"), "is a text that begins with 'Zugriff"),
    "json": (b'{"error": "gated"}', "is a text"),
    "empty": (b"", r"is empty \(0 bytes\)"),
    "zeros": (bytes(9000), "begins with 4,096 zero bytes"),
    "keras": (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
    "gguf": (b"GGUF\x03\x00", "GGUF"),
    "array": (b"\x93NUMPY\x01\x00", "NumPy"),
    "gzip": (b"\x1f\x8b\x08\x00\x00", "gzip"),
    "onnx": (b"\x08\x07\x12\x07pytorch\x1a\x03", "ONNX"),
    "picture": (b"\x89PNG\r\n\x1a\n\x00", "PNG"),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_is_no_weights_is_named(name, tmp_path):
    content, message = KINDS[name]
    path = tmp_path / "ViT-B-32.pt"
    path.write_bytes(content)
    for backbone, options in ((str(path), {}), ("ViT-B/32", {"weights": path})):
        with pytest.raises(clip.BackboneError, match=message) as caught:
            clip.load(backbone, **options)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_zip_files_without_tensors_and_folders_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "release.zip", "w") as file:
        file.writestr("ViT-B-32.pt", b"..")
    with pytest.raises(clip.BackboneError, match=r"is a zip archive without tensors, of ViT-B-32\.pt,"):
        clip.load(str(tmp_path / "release.zip"))
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(clip.BackboneError, match=r"is a folder; give .* weights file in it \(model.safetensors\)"):
        clip.load(str(tmp_path))


@pytest.mark.parametrize("kind", ["archive", "zip", "table"])
def test_a_cut_file_says_its_size(kind, tmp_path):
    state, path = openai_state(random_model("vit")), tmp_path / "part.pt"
    {"archive": save_torchscript, "zip": torch.save, "table": save_file}[kind](state, path)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(clip.BackboneError, match=r"part.pt \(100,000 bytes\) cannot be read"):
        clip.load(str(path))


def test_tables_that_cannot_be_told_apart_are_named(tmp_path):
    state, path = openai_state(random_model("vit")), tmp_path / "tuned.pt"
    torch.save({"model": state, "ema": state}, path)
    with pytest.raises(clip.BackboneError, match=r"holds several state dicts \(model, ema\)"):
        clip.load(str(path))
    torch.save({"epoch": 3, "weights": [1], "args": {"lr": 0.1}}, path)
    with pytest.raises(clip.BackboneError, match=r"holds no state dict .* with the keys epoch, weights, args"):
        clip.load(str(path))
    torch.save({"head": {"fc.weight": torch.ones(2)}}, path)
    with pytest.raises(clip.BackboneError, match=r"missing; it has fc\.weight"):
        clip.load(str(path))


def test_other_tables_beside_the_model_do_not_matter(tmp_path):
    state, path = openai_state(random_model("vit")), tmp_path / "tuned.pt"
    torch.save({"state_dict": state, "statistics": {"mean": torch.ones(3)}, "optimizer": {"state": {0: {}}}}, path)
    assert read_weights(path).by_openai


@settings(max_examples=60, deadline=None)
@given(
    content=st.binary(max_size=300), prefix=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", LFS, b"<html>", b"\x08"])
)
def test_any_bytes_get_one_line(tmp_path_factory, content, prefix):
    path = tmp_path_factory.getbasetemp() / "any.pt"
    path.write_bytes(prefix + content)
    with pytest.raises(clip.BackboneError) as caught:
        clip.load(str(path))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


# ---- what tensors do not tell


def other_network(head=64, quick=False, seed=0, width=320, layers=2, patch=14):
    torch.manual_seed(seed)
    vision = {"layers": layers, "width": width, "head_width": head, "patch_size": patch, "image_size": 56}
    model = open_clip.model.CLIP(64, vision, {"width": 64, "heads": 1, "layers": 2}, quick_gelu=quick).eval()
    for parameter in model.visual.parameters():
        parameter.data.mul_(4 if parameter.dim() > 1 else 1)
    return model


@pytest.mark.parametrize(("head", "quick"), [(64, True), (64, False), (80, False), (40, True)])
def test_another_network_is_computed_as_it_is_said_to_be(head, quick, tmp_path, caplog):
    model, path = other_network(head, quick), tmp_path / "own.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    with pytest.raises(clip.BackboneError) as caught:
        clip.load(str(path))
    for word in (str(path), "MODEL.BACKBONE.ACTIVATION", "quickgelu", "gelu", "MODEL.BACKBONE.HEAD_WIDTHS"):
        assert word in str(caught.value)
    said = {"activation": "quickgelu" if quick else "gelu", "head_widths": (head, 64)}
    for key in said:
        with pytest.raises(clip.BackboneError, match="does not say how its network computes"):
            clip.load(str(path), **{key: said[key]})
    backbone, _ = clip.load(str(path), **said)
    images, tokens = torch.randn(4, 3, 56, 56), clip.tokenize(["a cat", "a photo of a dog"])
    torch.testing.assert_close(backbone.encode_image(images), model.encode_image(images), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(backbone.encode_text(tokens), model.encode_text(tokens), rtol=1e-4, atol=1e-4)
    layout, contexts = clip.prompt_layout(["cat"], n_ctx=2), torch.randn(1, 2, 64, requires_grad=True)
    backbone.text(layout, contexts).sum().backward()
    assert contexts.grad.isfinite().all()
    assert not any("OpenAI's code" in message for message in caplog.messages)


def test_how_a_network_computes_is_part_of_its_digest(tmp_path):
    path = tmp_path / "own.safetensors"
    save_file({key: value.contiguous() for key, value in other_network().state_dict().items()}, path)
    kinds = [("quickgelu", (64, 64)), ("gelu", (64, 64)), ("gelu", (80, 64)), ("gelu", (64, 32))]
    digests = [clip.load(str(path), activation=name, head_widths=widths)[0].digest for name, widths in kinds]
    assert len(set(digests)) == 4


def test_head_widths_of_listed_architectures_are_known():
    from clip.architecture import Style, choose_style

    for name, widths in (("ViT-H-14", (80, 64)), ("ViT-B-32", (64, 64)), ("RN50x4", (64, 64)), ("ViT-g-14", (88, 64))):
        config = open_clip.get_model_config(name)
        with torch.device("meta"):
            model = open_clip.model.CLIP(**config)
        state = {key: torch.zeros(()).expand(value.shape) for key, value in model.state_dict().items()}
        assert choose_style(state, Style("gelu"), known=None, source=name) == Style("gelu", widths)
        with pytest.raises(
            clip.BackboneError,
            match=r"ACTIVATION to quickgelu .* others\); or set MODEL.BACKBONE.ARCH .*",
        ):
            choose_style(state, Style(), known=None, source=name)


def test_what_is_said_wrongly_is_named(tmp_path, model_files, caplog):
    for options, message in (
        ({"activation": "relu"}, "MODEL.BACKBONE.ACTIVATION is 'relu'; choose one of quickgelu, gelu"),
        ({"head_widths": (60, 64)}, "the vision width 64 cannot be cut into heads of 60"),
        ({"head_widths": (-1, 64)}, "MODEL.BACKBONE.HEAD_WIDTHS is"),
    ):
        with pytest.raises(clip.BackboneError, match=re.escape(message)):
            clip.load(str(model_files["vit"]), **options)
    with pytest.raises(clip.BackboneError, match="is not true of demo"):
        clip.load("demo", activation="gelu")
    caplog.clear()
    assert clip.load("demo", activation="quickgelu")[0].name == "demo"
    assert caplog.messages == []
    clip.load(str(model_files["vit"]), activation="gelu")
    assert "is known to compute with" in caplog.messages[0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kind", sorted(SIZES))
def test_weights_that_are_not_finite_are_refused(kind, value, tmp_path):
    state, path = openai_state(random_model(kind)), tmp_path / "broken.safetensors"
    state["text_projection"][1, 2] = value
    path.write_bytes(save(state))
    with pytest.raises(clip.BackboneError, match=r"broken.* not finite .* text_projection \(1 of [0-9,]+ values\)"):
        clip.load(str(path))
