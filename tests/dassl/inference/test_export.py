"""Exported files: what they answer, and what is no exported file."""

import json
import re
import shutil
import struct
import subprocess
import sys
import warnings
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import export
import predict
from clip.architecture import infer_config
from dassl.inference import load_classifier
from dassl.inference.exported import content_digest, read_exported
from dassl.utils.errors import UserError
from dassl.utils.tools import CHECKOUT
from tests.clip.helpers import SIZES, openai_state, random_model
from tests.dassl.inference.test_classifier import ALL, photos, settings

assert photos, "a fixture"
NO_TABLE = {
    "CoCoOp": "computed for each image",
    "PLOT": "optimal transport",
    "CLIPAdapter": "by a network of each task",
    "ProLIP": "the image tower's last projection",
}


@pytest.fixture
def exported(lab):
    """An exported file of a run of two tasks."""
    lab.run(OPTIM__MAX_EPOCH=1)
    path = lab.output / "tuned.safetensors"
    assert export.main([str(lab.folder("run")), "-o", str(path)]) == 0
    return path


@pytest.mark.parametrize("name", ALL)
def test_an_exported_file_answers_as_the_run_does_or_says_why_there_is_none(lab, name, capsys):
    lab.run(**settings(name))
    path, run = lab.output / "tuned.safetensors", lab.folder("run")
    code = export.main([str(run), "-o", str(path)])
    if name in NO_TABLE:
        error = capsys.readouterr().err
        assert (code, error.count("\n"), path.exists()) == (2, 1, False)
        assert NO_TABLE[name] in error
        return
    assert code == 0
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    theirs, mine = (load_classifier(each).probabilities(images) for each in (run, path))
    assert theirs.keys() == mine.keys()
    for task, expected in theirs.items():
        assert torch.allclose(mine[task], expected, atol=1e-5)


def test_metadata_are_texts_and_say_what_it_is(exported):
    with safe_open(exported, "pt") as file:
        told = file.metadata()
    assert (told["format"], told["schema"]) == ("pt", "softcpt-classifier/1")
    assert set(json.loads(told["preprocess_cfg"])) == {
        *("size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color")
    }
    assert json.loads(told["training"])["shots"] == 2


def test_the_command_line_takes_it_and_refuses_other_classes(exported, photos, capsys):
    arguments = [str(exported), str(photos), "--format", "jsonl", "--workers", "0"]
    assert predict.main(arguments) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6
    assert predict.main([*arguments, "--task", "0", "--classes", "a,b"]) == 2
    assert "no text encoder" in capsys.readouterr().err


def test_a_folder_of_the_hub(lab, exported, photos):
    folder = lab.output / "hub"
    assert export.main([str(lab.folder("run")), "-o", f"{folder}/"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        *("README.md", "classifier.safetensors", "config.json", "model.safetensors")
    ]
    assert load_classifier(folder).predict(photos / "a.png") == load_classifier(exported).predict(photos / "a.png")
    assert "pipeline_tag" in (folder / "README.md").read_text()
    assert export.main([str(lab.folder("run")), "-o", f"{folder}/"]) == 2


def test_an_export_replaces_no_file_of_the_run_and_not_the_other_export(lab, capsys):
    lab.run(OPTIM__MAX_EPOCH=1)
    results = lab.folder("run") / "results.json"
    before = results.read_bytes()
    assert export.main([str(lab.folder("run")), "--onnx", str(results)]) == 2
    assert "--onnx " in capsys.readouterr().err
    assert results.read_bytes() == before
    both = str(lab.output / "both.safetensors")
    assert export.main([str(lab.folder("run")), "-o", both, "--onnx", both]) == 2
    assert "-o and --onnx name the same file" in capsys.readouterr().err


def test_another_backbone_and_an_unfinished_run_are_refused(lab, exported, tmp_path, capsys):
    content = load_file(lab.backbone)
    content["visual.conv1.weight"] = content["visual.conv1.weight"] + 1
    save_file(content, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="needs other weights"):
        load_classifier(exported, weights=str(tmp_path / "other.safetensors"))
    assert export.main([str(tmp_path), "-o", str(tmp_path / "x.safetensors")]) == 2
    assert "holds no finished run" in capsys.readouterr().err


@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_one_line(exported, tmp_path, data):
    whole = exported.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda each: each != whole[place]))
    cut = data.draw(st.booleans())
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(whole[:place] if cut else whole[:place] + bytes([value]) + whole[place + 1 :])
    with pytest.raises(UserError) as caught:
        read_exported(damaged)
    assert "\n" not in str(caught.value)


def test_a_header_of_gigabytes_and_foreign_metadata_are_one_line(tmp_path):
    path = tmp_path / "file.safetensors"
    path.write_bytes(struct.pack("<Q", 8 << 30) + b"{}")
    with pytest.raises(UserError, match="header of 8,589,934,592 bytes"):
        read_exported(path)
    save_file({"a": torch.zeros(2)}, path, {"format": "pt"})
    with pytest.raises(UserError, match="its schema is None"):
        read_exported(path)


@pytest.mark.parametrize("tower", ["vit", "rn"])
def test_onnx_is_checked_and_holds_the_chosen_task_for_any_number_of_images(lab, tower, tmp_path, capsys, caplog):
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package)
    onnxruntime = pytest.importorskip("onnxruntime")
    save_file(openai_state(random_model(tower)), tmp_path / "backbone.safetensors")
    side = SIZES[tower]["vision_cfg"]["image_size"]
    lab = replace(lab, backbone=tmp_path / "backbone.safetensors")
    lab.run(OPTIM__MAX_EPOCH=1, INPUT__SIZE=f"{side},{side}")
    capsys.readouterr()
    path = lab.output / "tuned.onnx"
    caplog.clear()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert export.main([str(lab.folder("run")), "--onnx", str(path), "--task", "tool"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1].startswith("largest difference from PyTorch: ") and printed.err == ""
    # Python shows DeprecationWarning to those who write the code that causes it, and to nobody else.
    assert [each for each in told if not issubclass(each.category, DeprecationWarning)] == []
    assert [each for each in caplog.records if each.levelname in ("WARNING", "ERROR")] == []
    assert [each.name for each in lab.output.glob("*tuned*")] == ["tuned.onnx"]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images = torch.randn(4, 3, side, side)
    (found,) = session.run(None, {"images": images.numpy()})
    assert torch.allclose(
        torch.from_numpy(found), load_classifier(lab.folder("run")).probabilities(images)[1], atol=1e-4
    )


def test_without_onnx_the_message_says_what_to_install(lab, exported, monkeypatch, capsys):
    monkeypatch.setattr("dassl.inference.onnx.find_spec", lambda name: None)
    assert export.main([str(lab.folder("run")), "--onnx", str(lab.output / "x.onnx")]) == 2
    assert "requirements-export.txt" in capsys.readouterr().err


# The file's backbone has no open_clip name: create_model is told the tiny network's config and file instead.
PROGRAM = """
import importlib.util, os, open_clip
assert not any(importlib.util.find_spec(name) for name in ("dassl", "trainers", "predict"))
open_clip.add_model_config({config!r})
_create = open_clip.create_model
open_clip.create_model = lambda name, pretrained: _create("tiny-quickgelu", pretrained={weights!r})
for folder in {folders!r}:
    os.chdir(folder)
    exec({lines!r})
    print("--")
"""


def open_clip_files(backbone, folder):
    """Description and weights of the tiny network as open_clip reads them."""
    config, weights = folder / "tiny-quickgelu.json", folder / "weights.safetensors"
    config.write_text(json.dumps(asdict_config(backbone)))
    sizes = ("context_length", "input_resolution", "vocab_size")  # OpenAI's files have them, a state dict has not
    save_file({key: value for key, value in load_file(backbone).items() if key not in sizes}, weights)
    return {"config": str(config), "weights": str(weights)}


def test_the_lines_of_readme_score_every_kind_of_head_without_the_checkout(lab, photos, tmp_path):
    """Class features, linear, with centers, rows of any length, a cache, and temperatures other than 1."""
    (lines,) = re.findall(r"```python\n(import json, open_clip.*?)```", (CHECKOUT / "README.md").read_text(), re.DOTALL)
    classifiers = []
    for kind, trainer in {
        "soft": "MTCoOp",
        "calibrated": "MTCoOp",
        "probe": "LinearProbe",
        "proto": "ProtoNet",
        "gaussians": "GDA",
        "cache": "TipAdapter",
    }.items():
        folder = tmp_path / kind
        folder.mkdir()
        shutil.copy(photos / "a.png", folder / "photo.jpg")
        lab.run(trainer, **settings(trainer))
        path = folder / "tuned.safetensors"
        assert export.main([str(lab.folder(trainer)), "-o", str(path)]) == 0
        if kind in ("calibrated", "probe"):
            rewritten(path, path, lambda about, tensors: about.update(temperature=[3.0, 0.25]))
        classifiers.append(load_classifier(path))
    folders = [str(each.folder.parent) for each in classifiers]
    told = {"folders": folders, "lines": lines, **open_clip_files(lab.backbone, tmp_path)}
    command = [sys.executable, "-I", "-c", PROGRAM.format(**told)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    outputs = done.stdout.strip().removesuffix("--").split("--\n")
    for output, classifier in zip(outputs, classifiers, strict=True):
        expected = classifier.predict(photos / "a.png", top_k=1)
        for line, answer in zip(output.splitlines(), expected, strict=True):
            head, probability = line.rsplit(" ", 1)
            assert head == f"{answer.task} {answer.best.name}"
            assert float(probability) == pytest.approx(answer.best.probability, abs=1e-4)
    first, second = (each.predict(photos / "a.png", 0)[0].best.probability for each in classifiers[:2])
    assert abs(first - second) > 1e-3, "the temperature shows"


def asdict_config(path):
    """open_clip's description of the network in a file."""
    found = infer_config(load_file(path), source=str(path), head_widths=(64, 64))
    towers = {key: asdict(found[key]) for key in ("vision_cfg", "text_cfg")}
    return {"embed_dim": found["embed_dim"], "quick_gelu": True, **towers}


def rewritten(path, target, change):
    """A file with other content and the digest that belongs to it."""
    with safe_open(path, "pt") as file:
        told, tensors = dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    about = {key: json.loads(told[key]) for key in told if told[key][:1] in "[{"}
    change(about, tensors)
    told |= {key: json.dumps(value) for key, value in about.items()}
    save_file(tensors, target, {**told, "digest": content_digest(told, tensors)})
    return target


ODD = {
    "temperature": lambda about, tensors: about.update(temperature=[1e-320] * len(about["temperature"])),
    "huge": lambda about, tensors: tensors["class_features.0"].mul_(1e38),
    "long": lambda about, tensors: tensors["class_features.0"].mul_(7),
    "no matrix": lambda about, tensors: tensors.update({"class_features.0": torch.tensor(1.0)}),
    "width": lambda about, tensors: tensors.update({n: torch.eye(len(t), 7) for n, t in tensors.items()}),
    "backbone": lambda about, tensors: about.update(backbone=[]),
    "digest": lambda about, tensors: about["backbone"].update(digest={}),
    "reading": lambda about, tensors: about.update(reading={}),
    "background": lambda about, tensors: about["reading"].update(background="x"),
    "shortest": lambda about, tensors: about["reading"].update(shortest=-1),
    "max_pixels": lambda about, tensors: about["reading"].update(max_pixels=-1),
    "config": lambda about, tensors: about.update(config=[1]),
    "size": lambda about, tensors: about["preprocess_cfg"].update(size=[7, 7]),
    "input size": lambda about, tensors: about["config"].update({"INPUT.SIZE": [16, 16]}),
    "names": lambda about, tensors: about["tasks"][0].update(classes="ab"),
    "twins": lambda about, tensors: about["tasks"][0].update(name=about["tasks"][1]["name"]),
}


@pytest.mark.parametrize("what", ODD)
def test_odd_content_under_a_right_digest_is_one_line(exported, photos, tmp_path, capsys, what):
    path = rewritten(exported, tmp_path / "odd.safetensors", ODD[what])
    assert predict.main([str(path), str(photos)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and str(path) in line
    rewritten(exported, path, lambda about, tensors: None)
    assert predict.main([str(path), str(photos)]) == 0
