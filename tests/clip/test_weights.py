import hashlib
import http.server
import logging
import pickle
import re
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import clip
from clip import architecture, weights
from clip.reading import read_weights
from clip.weights import Source
from tests.clip.helpers import SIZES, openai_state, random_model, save_torchscript


@pytest.fixture(params=["vit", "rn"])
def state(request):
    return openai_state(random_model(request.param))


def prefixed(state, prefix):
    return {f"{prefix}{key}": value for key, value in state.items()}


def save_nested(state, path):
    torch.save({"epoch": 3, "state_dict": prefixed(state, "module.")}, path)


def save_legacy(state, path):
    torch.save(state, path, _use_new_zipfile_serialization=False)


FORMATS = {
    "plain.pt": torch.save,
    "nested.pth": save_nested,
    "legacy.pt": save_legacy,
    "archive.pt": save_torchscript,
    "table.safetensors": save_file,
    "model_state_dict.pt": lambda state, path: torch.save({"epoch": 3, "model_state_dict": state, "loss": 0.5}, path),
    "model.pt": lambda state, path: torch.save({"model": state, "optimizer": {"state": {}}, "args": [1]}, path),
    "network.pt": lambda state, path: torch.save({"network": prefixed(state, "clip_model.")}, path),
    "deep.pt": lambda state, path: torch.save({"ckpt": {"model": prefixed(state, "module.model.")}}, path),
    "prefix.safetensors": lambda state, path: save_file(prefixed(state, "_orig_mod."), path),
    "misnamed.safetensors": torch.save,
}


def test_all_formats_give_the_same_model(state, tmp_path):
    images = torch.randn(2, 3, 64, 64)
    tokens = clip.tokenize("a cat")
    results = []
    for file, save in FORMATS.items():
        save(state, tmp_path / file)
        backbone, _ = clip.load(str(tmp_path / file))
        size = backbone.image_size
        features = backbone.encode_image(images[:, :, :size, :size])
        results.append((backbone.digest, features, backbone.encode_text(tokens)))
        (tmp_path / file).unlink()
    for digest, image, text in results[1:]:
        assert digest == results[0][0]
        assert torch.equal(image, results[0][1])
        assert torch.equal(text, results[0][2])


def test_weights_are_not_rounded_through_half_precision(tmp_path):
    model = random_model("vit")
    save_file(openai_state(model), tmp_path / "full.safetensors")
    images = torch.randn(2, 3, 32, 32)
    backbone, _ = clip.load(str(tmp_path / "full.safetensors"))
    torch.testing.assert_close(backbone.encode_image(images), model.encode_image(images), rtol=1e-5, atol=1e-5)
    assert torch.equal(backbone.text.positional_embedding, model.positional_embedding)
    assert torch.equal(backbone.visual.proj, model.visual.proj)


def test_half_precision_files_are_read_as_full(state, tmp_path):
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    save_file(half, tmp_path / "half.safetensors")
    save_file({key: value.float() for key, value in half.items()}, tmp_path / "full.safetensors")
    first, second = (clip.load(str(tmp_path / f"{name}.safetensors"))[0] for name in ("half", "full"))
    assert first.digest == second.digest
    assert all(parameter.dtype == torch.float32 for parameter in first.parameters())


def test_digest_sees_every_weight(model_files, backbones):
    state = read_weights(model_files["vit"]).tensors
    assert weights.digest_of(state) == backbones["vit"].digest
    assert weights.digest_of(state, "gelu") != backbones["vit"].digest
    state["logit_scale"] += 1e-3
    assert weights.digest_of(state) != backbones["vit"].digest


class Malice:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def damaged_files(tmp_path):
    good = tmp_path / "good.pt"
    save_torchscript(openai_state(random_model("vit")), good)
    content = {
        "empty": b"",
        "text": b"these are no weights",
        "cut archive": good.read_bytes()[:5000],
        "pickle": pickle.dumps({"state_dict": Malice(tmp_path / "executed")}, protocol=2),
        "list": pickle.dumps([1, 2], protocol=2),
    }
    good.unlink()
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    torch.save({"text_projection": "not a tensor"}, tmp_path / "no tensors")
    return [tmp_path / name for name in [*content, "no tensors"]]


def test_damaged_files_get_one_line_and_run_no_code(tmp_path):
    for path in damaged_files(tmp_path):
        with pytest.raises(clip.BackboneError, match=path.name) as caught:
            clip.load(str(path))
        assert "\n" not in str(caught.value)
        assert not re.search("can still be loaded|weights_only|weights only", str(caught.value), re.IGNORECASE)
    assert not (tmp_path / "executed").exists()


def without(key):
    return lambda state: {k: v for k, v in state.items() if k != key}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("text_projection"), "text_projection missing"),
        (without("transformer.resblocks.1.ln_2.bias"), "transformer.resblocks.1.ln_2.bias missing"),
        (lambda state: state | {"visual.head": torch.zeros(1)}, "visual.head unexpected"),
        (lambda state: state | {"ln_final.bias": torch.zeros(3)}, r"ln_final.bias has the shape \(3,\)"),
        (lambda state: state | {"text_projection": torch.zeros(3)}, "too few dimensions"),
        (lambda state: state | {"ln_final.weight": torch.zeros(32)}, "text width 32 cannot be cut into heads of 64"),
        (lambda state: {"fc.weight": torch.zeros(2, 2)}, "visual.conv1.weight, .* missing; it has fc.weight"),
    ],
)
def test_foreign_state_dicts_are_named(change, message, tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file(change(openai_state(random_model("vit"))), path)
    with pytest.raises(clip.BackboneError, match=message) as caught:
        clip.load(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_vocabulary_must_be_the_tokenizers(tmp_path):
    state = openai_state(random_model("vit"))
    save_file(state | {"token_embedding.weight": torch.zeros(100, 128)}, tmp_path / "small.safetensors")
    with pytest.raises(clip.BackboneError, match="vocabulary of 100 tokens, the tokenizer 49408"):
        clip.load(str(tmp_path / "small.safetensors"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ViT-B/61", "did you mean ViT-B/16 .*RN50, RN101, .*demo, demo-vit, one of open_clip's .*, or the path"),
        ("rn_50", "did you mean RN50"),
        ("squirrel", "unknown backbone 'squirrel'; choose one of RN50"),
        ("/nowhere/weights.pt", "/nowhere/weights.pt .* does not exist"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(clip.BackboneError, match=message):
        clip.load(name)


def test_published_sources_carry_checksums():
    for name in clip.available_models()[:4]:
        source = weights.published_source(name)
        assert source.url.endswith(f"/{name.replace('/', '-')}.pt")
        assert len(bytes.fromhex(source.sha256)) == 32


@pytest.fixture
def small_published(monkeypatch):
    """RN50 and ViT-B/16 have the sizes of the small random models."""
    small = {"RN50": SIZES["rn"], "ViT-B-16": SIZES["vit"]}
    listed = architecture.listed_config
    monkeypatch.setattr(architecture, "listed_config", lambda name: small.get(name) or listed(name))


def refuse(*args, **kwargs):
    raise AssertionError("nothing may be downloaded here")


@pytest.mark.parametrize("place", ["file", "folder", "xdg", "home"])
def test_local_weights_are_used_without_network(place, model_files, empty_home, tmp_path, monkeypatch, small_published):
    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    folders = {"folder": tmp_path / "mine", "xdg": empty_home, "home": tmp_path / ".cache" / "clip"}
    path = model_files["vit"]
    if place in folders:
        folders[place].mkdir(parents=True)
        path = folders[place] / "ViT-B-16.safetensors"
        path.symlink_to(model_files["vit"])
    chosen = {"file": path, "folder": folders["folder"]}.get(place, "")
    assert weights.locate("ViT-B/16", chosen) == path
    assert clip.load("ViT-B/16", weights=chosen)[0].name == "ViT-B/16"


def test_weights_setting_is_checked(tmp_path, model_files):
    with pytest.raises(clip.BackboneError, match=r"MODEL.BACKBONE.WEIGHTS .*nowhere is neither a file nor a folder"):
        clip.load("RN50", weights=tmp_path / "nowhere")
    with pytest.raises(clip.BackboneError, match="has no meaning for the backbone 'demo'"):
        clip.load("demo", weights=model_files["vit"])
    for name in ("demo", str(model_files["vit"])):
        with pytest.raises(clip.BackboneError, match=r"is neither a file nor a folder; correct it, or leave it out"):
            clip.load(name, weights=tmp_path / "nowhere")


@pytest.fixture
def server(model_files, monkeypatch):
    """A web server that gives a published name's file; returns a function to choose the checksum that is expected."""
    payload = model_files["rn"].read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if "gone" in self.path:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload[: len(payload) // 2] if "cut" in self.path else payload)
            return None

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as instance:
        threading.Thread(target=instance.serve_forever, args=(0.01,), daemon=True).start()

        def choose(page="RN50.pt", sha256=None):
            source = Source(f"http://127.0.0.1:{instance.server_port}/{page}", sha256 or hash_of(payload))
            monkeypatch.setattr(weights, "published_source", lambda name: source)
            return source

        yield choose
        instance.shutdown()


def hash_of(payload):
    return hashlib.sha256(payload).hexdigest()


@pytest.mark.parametrize("to_folder", [True, False])
def test_download_once_and_verify(
    server, to_folder, empty_home, tmp_path, backbones, monkeypatch, small_published, caplog
):
    server()
    folder = tmp_path / "mine" if to_folder else empty_home
    if to_folder:
        folder.mkdir()
    backbone, _ = clip.load("RN50", weights=folder if to_folder else "")
    assert backbone.digest == backbones["rn"].digest
    assert [path.name for path in folder.iterdir()] == ["RN50.pt"]
    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    assert clip.load("RN50", weights=folder if to_folder else "")[0].digest == backbone.digest
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_published_name_refuses_other_sizes(model_files):
    for kind, layers in (("vit", "2"), ("rn", r"\(1, 2, 1, 1\)")):
        told = (
            rf"is no RN50: it has image layers {layers} in place of \(3, 4, 6, 3\), .*; name the backbone by the path"
        )
        with pytest.raises(clip.BackboneError, match=told):
            clip.load("RN50", weights=model_files[kind])


def test_a_published_name_says_whose_sizes_a_file_has(model_files, small_published):
    with pytest.raises(clip.BackboneError, match=r"is no RN50: .*; name the backbone ViT-B/16, or give"):
        clip.load("RN50", weights=model_files["vit"])


def test_a_published_name_warns_of_other_bytes(model_files, backbones, small_published, caplog):
    found = hash_of(model_files["rn"].read_bytes())[:12]
    expected = weights.published_source("RN50").sha256[:12]
    backbone, _ = clip.load("RN50", weights=model_files["rn"])
    assert backbone.digest == backbones["rn"].digest
    [said] = caplog.messages
    assert f"RN50 are read from {model_files['rn']}" in said and f"SHA-256 {found} there, {expected} published" in said


@pytest.mark.parametrize("page", [{"sha256": "ab" * 32}, {"page": "cut"}])
def test_checksum_mismatch_keeps_nothing(page, server, empty_home):
    source = server(**page)
    expected = f'expected "{source.sha256}", got "[0-9a-f]{{64}}"\\); it was deleted'
    with pytest.raises(clip.BackboneError, match=expected):
        clip.load("RN50")
    assert list(empty_home.iterdir()) == []


@pytest.mark.parametrize(("page", "reason"), [("gone", "404"), ("closed port", "refused")])
def test_failed_download_says_how_to_get_the_file(page, reason, server, empty_home, monkeypatch):
    source = server(page)
    if page == "closed port":
        source = Source("http://127.0.0.1:9/RN50.pt", source.sha256)
        monkeypatch.setattr(weights, "published_source", lambda name: source)
    with pytest.raises(clip.BackboneError) as caught:
        clip.load("RN50")
    message = str(caught.value)
    for part in ("RN50.pt", str(empty_home), source.url, reason, "MODEL.BACKBONE.WEIGHTS"):
        assert part in message
    assert "\n" not in message
    assert list(empty_home.iterdir()) == []


def test_unwritable_cache_is_named(server, empty_home):
    server()
    empty_home.parent.mkdir()
    empty_home.write_text("a file where the folder should be")
    with pytest.raises(clip.BackboneError, match=r"cannot write .*RN50\.pt"):
        clip.load("RN50")
