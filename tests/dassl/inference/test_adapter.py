"""Adapter files: the export of a method that tunes the image tower answers as its run does."""

import json

import pytest
import torch
from safetensors import safe_open

import export
import predict
from dassl.inference import load_classifier
from dassl.inference.adapter import is_adapter, read_adapter, write_adapter
from dassl.inference.exported import content_digest
from dassl.utils.errors import UserError
from tests.dassl.inference.test_classifier import photos
from tests.trainers.test_base import SHORT, registered

assert photos and registered, "fixtures"


@pytest.fixture
def adapter(lab):
    """The adapter file of a short run."""
    lab.run(**SHORT, TEST__CALIBRATE=True)
    path = lab.output / "tuned.safetensors"
    assert export.main([str(lab.folder("run")), "-o", str(path)]) == 0
    return path


def images(count=5):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_an_adapter_answers_exactly_as_the_run_does(lab, adapter):
    run, mine = load_classifier(lab.folder("run")), load_classifier(adapter)
    theirs = run.probabilities(images())
    assert theirs.keys() == mine.probabilities(images()).keys()
    for task, expected in mine.probabilities(images()).items():
        assert torch.equal(expected, theirs[task])
    assert mine.tasks == run.tasks and mine.temperatures == run.temperatures != [1.0, 1.0]


def test_an_adapter_takes_other_class_names_as_the_run_does(lab, adapter):
    names = {0: ["red thing", "blue thing"]}
    run, mine = (load_classifier(each).with_classes(names) for each in (lab.folder("run"), adapter))
    for task, expected in run.probabilities(images()).items():
        assert torch.equal(mine.probabilities(images())[task], expected)


def test_it_is_small_and_holds_learned_tensors_only(lab, adapter):
    with safe_open(adapter, "pt") as file:
        told, names = file.metadata(), set(file.keys())
    assert (told["schema"], is_adapter(adapter)) == ("softcpt-adapter/1", True)
    assert names == {f"bright.{key.partition(':')[2]}" for key in lab.learned()}
    assert json.loads(told["tasks"])[0]["template"].count("{}") == 1


def test_predict_reads_it(adapter, photos, capsys):
    assert predict.main([str(adapter), str(photos), "--format", "csv"]) == 0
    assert capsys.readouterr().out


def test_a_folder_and_a_graph_are_refused_in_one_line(lab, adapter, capsys):
    for place in (["-o", str(lab.output / "hub") + "/"], ["--onnx", str(lab.output / "a.onnx")]):
        capsys.readouterr()
        code = export.main([str(lab.folder("run")), *place])
        (line,) = capsys.readouterr().err.splitlines()
        assert code == 2
        assert "FILE.safetensors" in line or "requirements-export" in line
    assert not (lab.output / "hub").exists()


def test_an_adapter_is_no_run_to_export(adapter, capsys):
    assert export.main([str(adapter), "-o", str(adapter.parent / "b.safetensors")]) == 2
    assert "already an exported file" in capsys.readouterr().err


def test_other_weights_are_refused(adapter):
    content = read_adapter(adapter)
    other = adapter.with_name("other.safetensors")
    backbone = {**content.about["backbone"], "digest": "0" * 64}
    write_adapter(other, type(content)(content.learned, {**content.about, "backbone": backbone}))
    with pytest.raises(UserError, match="needs other weights"):
        load_classifier(other)


@pytest.mark.parametrize("change", ["missing", "more", "shape", "nan", "method", "cut", "digest"])
def test_what_is_no_whole_adapter_is_refused_in_one_line(adapter, change):
    content = read_adapter(adapter)
    learned, config = dict(content.learned), dict(content.about["config"])
    first = next(iter(learned))
    if change == "missing":
        del learned[first]
    elif change == "more":
        learned["other.value"] = torch.zeros(1)
    elif change == "shape":
        learned[first] = torch.zeros(1)
    elif change == "nan":
        learned[first] = learned[first] * torch.nan
    elif change == "method":
        config["TRAINER.NAME"] = "CoOp"
    write_adapter(adapter, type(content)(learned, {**content.about, "config": config}))
    if change in ("cut", "digest"):
        data = bytearray(adapter.read_bytes())
        data[-1] ^= 1
        adapter.write_bytes(data[:-40] if change == "cut" else data)
    with pytest.raises(UserError) as caught:
        load_classifier(adapter)
    assert len(str(caught.value).splitlines()) == 1


def test_the_digest_covers_everything(adapter):
    with safe_open(adapter, "pt") as file:
        told = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert told["digest"] == content_digest(told, tensors)
