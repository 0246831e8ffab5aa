"""The command line of predict.py."""

import csv
import io
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import export
import predict
from tests.dassl.inference.test_classifier import photos

assert photos, "a fixture"


@pytest.fixture
def run(lab):
    """A finished run of two tasks."""
    lab.run(OPTIM__MAX_EPOCH=1)
    return str(lab.folder("run"))


def output(capsys, *arguments):
    """Exit status, standard output and standard error."""
    code = predict.main([*arguments, "--workers", "0"])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_json_lines_have_an_object_for_each_image_and_task(run, photos, capsys):
    code, out, err = output(capsys, run, str(photos), "--format", "jsonl", "--top-k", "2")
    lines = [json.loads(line) for line in out.splitlines()]
    assert (code, err, len(lines)) == (0, "", 6)
    assert [line["image"] for line in lines[::2]] == [str(photos / name) for name in ("a.png", "b.png", "deeper/c.png")]
    assert [line["task"] for line in lines[:2]] == ["pet_kind", "tool"]
    for line in lines:
        assert set(line) == {"image", "task", "classes"}
        assert [set(each) for each in line["classes"]] == [{"name", "probability"}] * 2
        assert line["classes"][0]["probability"] >= line["classes"][1]["probability"] > 0


def test_csv_and_table(run, photos, capsys):
    _, out, _ = output(capsys, run, str(photos), "--format", "csv", "--task", "tool", "--top-k", "9")
    rows = list(csv.reader(io.StringIO(out)))
    assert rows[0][:5] == ["image", "task", "answer", "class_1", "probability_1"]
    assert len(rows) == 4
    assert all(row[1:3] == ["tool", row[3]] and len(row) == len(rows[0]) for row in rows[1:])
    _, table, _ = output(capsys, run, str(photos / "a.png"))
    assert table.splitlines()[0] == str(photos / "a.png")
    assert table.splitlines()[1].startswith("  pet_kind: ")


def test_below_the_threshold_the_answer_is_unsure(run, photos, capsys):
    arguments = (run, str(photos / "a.png"), "--threshold", "1")
    assert "pet_kind: unsure: " in output(capsys, *arguments)[1]
    (first, _) = map(json.loads, output(capsys, *arguments, "--format", "jsonl")[1].splitlines())
    assert first["answer"] == "unsure"
    sure = output(capsys, run, str(photos / "a.png"), "--threshold", "0.01", "--format", "jsonl")[1]
    assert json.loads(sure.splitlines()[0])["answer"] != "unsure"


def test_a_list_of_paths_comes_from_standard_input(run, photos, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{photos / 'b.png'}\n\n{photos / 'a.png'}\n"))
    _, out, _ = output(capsys, run, "-", "--task", "0", "--format", "jsonl")
    assert [json.loads(line)["image"] for line in out.splitlines()] == [str(photos / "b.png"), str(photos / "a.png")]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_files_that_cannot_be_read_are_named_and_skipped(run, photos, capsys, workers):
    (photos / "broken.png").write_bytes(b"no picture")
    shutil.copy(photos / "a.png", photos / "picture without an ending")
    places = [str(photos), str(photos / "picture without an ending"), str(photos / "missing.png")]
    code = predict.main([run, *places, "--format", "jsonl", "--workers", workers, "--batch-size", "2"])
    captured = capsys.readouterr()
    assert (code, len(captured.out.splitlines())) == (1, 8)
    assert captured.err.count("skipped: cannot read image") == 2
    assert "broken.png" in captured.err
    assert "missing.png" in captured.err


def test_the_file_appears_whole_or_not_at_all(run, photos, capsys, tmp_path):
    out = tmp_path / "answers.jsonl"
    assert output(capsys, run, str(photos), "--format", "jsonl", "--out", str(out))[:2] == (0, "")
    assert len(out.read_text().splitlines()) == 6
    assert output(capsys, run, str(photos), "--task", "none", "--out", str(tmp_path / "other"))[0] == 2
    assert not (tmp_path / "other").exists()


def test_answers_replace_neither_an_image_nor_a_file_of_the_run(run, photos, capsys):
    for place in (photos / "a.png", photos / "new.JPG", Path(run) / "results.json"):
        before = place.read_bytes() if place.exists() else None
        code, out, err = output(capsys, run, str(photos), "--out", str(place))
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "name another file" in err
        assert (place.read_bytes() if place.exists() else None) == before


def test_a_path_longer_than_any_file_has_is_one_unread_image(run, photos, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{'x' * 5000}\n{photos / 'a.png'}\n"))
    code, out, err = output(capsys, run, "-", "--task", "0", "--format", "jsonl")
    assert (code, len(out.splitlines()), err.count("skipped: ")) == (1, 1, 1)


def test_other_classes(run, photos, capsys):
    code, out, _ = output(
        capsys, run, str(photos / "a.png"), "--task", "tool", "--classes", "saw, axe", "--format", "jsonl"
    )
    assert code == 0
    assert {each["name"] for each in json.loads(out)["classes"]} == {"saw", "axe"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--task", "tol"), "did you mean tool?"),
        (("--classes", "a,b"), "--classes lists the classes of one task; name the task with --task"),
        (("--task", "0", "--classes", "a,a"), "the class 'a' is in the list twice"),
        (("--threshold", "2"), "expected a number from 0 to 1"),
        (("--top-k", "0"), "expected a whole number from 1 to 1,000,000"),
        (("--format", "xml"), "invalid choice: 'xml'"),
    ],
)
def test_a_mistake_is_one_line(run, photos, capsys, arguments, message):
    code, out, err = output(capsys, run, str(photos), *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert message in err


def unfinished(run, exported, scratch):
    folder = shutil.copytree(run, scratch / "unfinished")
    (folder / "results.json").unlink()
    return [folder], "holds no finished run"


def of_another_backbone(run, exported, scratch):
    folder = shutil.copytree(run, scratch / "other")
    content = json.loads((folder / "results.json").read_text())
    del content["blake2b"]
    content["backbone"]["digest"] = "0" * 64
    (folder / "results.json").write_text(json.dumps(content))
    return [folder], "was trained with other weights"


def without_a_module(run, exported, scratch):
    folder = shutil.copytree(run, scratch / "module")
    shutil.rmtree(folder / "prompt_gen")
    return [folder], "prompt_gen lacks model.pth.tar-1"


def cut(run, exported, scratch):
    path = scratch / "cut.safetensors"
    path.write_bytes(exported.read_bytes()[:-50])
    return [path], "is no exported classifier, or is damaged"


def foreign(run, exported, scratch):
    save_file({"a": torch.zeros(2)}, scratch / "foreign.safetensors", {"format": "pt", "schema": "other/1"})
    return [scratch / "foreign.safetensors"], "its schema is 'other/1'"


def header_of_gigabytes(run, exported, scratch):
    path = scratch / "header.safetensors"
    path.write_bytes((8 << 30).to_bytes(8, "little") + b"{}")
    return [path], "header of 8,589,934,592 bytes"


BAD = [unfinished, of_another_backbone, without_a_module, cut, foreign, header_of_gigabytes]
FLAGS = {
    ("--weights", "/no.pt"): "the weights file /no.pt of the backbone '/no.pt' does not exist",
    ("--task", "tol"): "did you mean tool?",
    ("--task", "tool", "--classes", "a,,b"): "is empty or has an empty name",
    ("--task", "tool", "--classes", ""): "is empty or has an empty name",
    ("--task", "tool", "--classes", "a, a"): "the class 'a' is in the list twice",
}


def test_what_cannot_answer_is_one_line_and_nothing_is_written(lab, run, photos, tmp_path, capsys):
    exported = lab.output / "tuned.safetensors"
    assert export.main([run, "-o", str(exported)]) == 0
    (tmp_path / "scratch").mkdir()
    cases = [make(run, exported, tmp_path / "scratch") for make in BAD]
    cases += [([run, *flags], message) for flags, message in FLAGS.items()]
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    for arguments, message in cases:
        command = [str(arguments[0]), str(photos), "--out", str(tmp_path / "answers.jsonl"), *arguments[1:]]
        code, out, err = output(capsys, *command)
        assert (code, out, err.count("\n")) == (2, "", 1), arguments
        assert err.startswith("error: ") and message in err
        assert sorted(tmp_path.rglob("*")) == before, arguments


def test_a_folder_without_images_is_one_line(run, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    code, _, err = output(capsys, run, str(tmp_path / "empty"))
    assert (code, err.count("\n")) == (2, 1)
    assert "has no images in it or below it" in err
    code, _, err = output(capsys, str(tmp_path), str(tmp_path / "x.png"))
    assert (code, err.count("\n")) == (2, 1)
    assert "holds no finished run" in err
