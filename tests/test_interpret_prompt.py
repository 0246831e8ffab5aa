"""The command line of interpret_prompt.py."""

import csv
import io
import json

import pytest
import torch

import export
import interpret_prompt


@pytest.fixture
def run(lab):
    """A finished run of two tasks."""
    lab.run(OPTIM__MAX_EPOCH=1)
    return str(lab.folder("run"))


def output(capsys, *arguments):
    """Exit status, standard output and standard error."""
    code = interpret_prompt.main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_three_forms_say_the_same(run, lab, capsys):
    code, out, err = output(capsys, run, "--format", "json", "--top-k", "3")
    told = json.loads(out)
    assert (code, err, told["trainer"]) == (0, "", "MTCoOp")
    assert [each["owner"] for each in told["contexts"]] == ["pet_kind", "tool", ""]
    (learned,) = [tensor for key, tensor in lab.learned().items() if key.endswith(":ctx")]
    norms = [vector["norm"] for vector in told["contexts"][2]["vectors"]]
    assert norms == pytest.approx(learned.norm(dim=1).tolist())
    rows = list(csv.DictReader(io.StringIO(output(capsys, run, "--format", "csv", "--top-k", "3")[1])))
    assert len(rows) == 3 * 6
    words = [word for each in told["contexts"] for vector in each["vectors"] for word in vector["words"]]
    assert [float(row["distance"]) for row in rows] == pytest.approx([word["distance"] for word in words], abs=1e-6)
    assert {row["kind"] for row in rows} <= {"word", "piece", "special"}
    code, table, _ = output(capsys, run, "--top-k", "3")
    lines = table.splitlines()
    assert lines[0] == "class prompts of pet_kind, generated"
    assert told["conclusion"] in lines
    assert told["conclusion"].startswith("The words mean nothing: of 6 vectors none is nearer")
    assert "similarity of the tasks: cosine of generated contexts" in lines
    assert [each["what"] for each in told["similarity"]] == ["task features", "generated contexts"]


def test_one_task(run, capsys):
    told = json.loads(output(capsys, run, "--task", "tool", "--format", "json")[1])
    assert [each["owner"] for each in told["contexts"]] == ["tool", ""]
    assert told["similarity"] == []


def test_the_similarity_alone_and_its_picture(run, capsys, tmp_path):
    places = ["--similarity", "--plot", str(tmp_path / "map.svg"), "--out", str(tmp_path / "pairs.csv")]
    assert output(capsys, run, *places, "--format", "csv") == (0, "", "")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "pairs.csv").read_text())))
    assert [(row["task"], row["other_task"]) for row in rows[:3]] == [
        *(("pet_kind", "pet_kind"), ("pet_kind", "tool"), ("tool", "pet_kind"))
    ]
    assert "pet_kind" in (tmp_path / "map.svg").read_text()


def test_no_data_is_needed(run, lab, capsys, monkeypatch):
    monkeypatch.setattr("dassl.data.manager.build_dataset", None)
    config = lab.folder("run") / "config.yaml"
    config.write_text(config.read_text().replace(str(lab.root), "/nowhere"))
    assert output(capsys, run)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--task", "tol"), "did you mean tool?"),
        (("--top-k", "0"), "expected a whole number from 1 to 100"),
        (("--top-k", "9" * 5000), "expected a whole number from 1 to 100"),
        (("--format", "jsonl"), "invalid choice: 'jsonl'"),
        (("--plot", "map.gif"), "--plot map.gif: figures are .png, .pdf, .svg; name such a file"),
        (("--task", "0", "--similarity"), "--similarity and --plot compare all tasks; leave --task out"),
    ],
)
def test_a_mistake_is_one_line(run, capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = output(capsys, run, *arguments, "--out", "out.txt")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert message in err
    assert not list(tmp_path.glob("out.txt"))


def test_what_has_no_context_is_one_line(lab, run, capsys):
    exported = lab.output / "tuned.safetensors"
    assert export.main([run, "-o", str(exported)]) == 0
    assert export.main([run, "-o", f"{lab.output / 'hub'}/"]) == 0
    capsys.readouterr()
    for place in (exported, lab.output / "hub"):
        code, out, err = output(capsys, str(place))
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "is an exported file, which has no context vectors; give the run folder" in err
    lab.run("zero", trainer="ZeroshotCLIP")
    capsys.readouterr()
    code, _, err = output(capsys, str(lab.folder("zero")))
    assert (code, err.count("\n")) == (2, 1)
    assert "ZeroshotCLIP has no context vectors" in err


def test_nothing_to_compare_is_one_line_only_where_it_was_asked_for(lab, capsys, tmp_path):
    lab.run("hard", trainer="MTCoOpHard", OPTIM__MAX_EPOCH=1)
    place = str(lab.folder("hard"))
    assert output(capsys, place)[0] == 0
    for asked in (("--similarity",), ("--plot", str(tmp_path / "map.png"))):
        code, out, err = output(capsys, place, *asked)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "there is no similarity between tasks to show" in err
    assert not (tmp_path / "map.png").exists()


def test_names_with_hidden_characters_are_shown_as_text(lab, capsys, monkeypatch):
    from dassl.explain import forms
    from dassl.explain.similarity import Similarity

    same = Similarity("task features", ["\x1b[31mred", "=1+1"], torch.ones(2, 2).double())
    content = forms.Interpretation("run", "MTCoOp", None, [same])
    for write in forms.FORMATS.values():
        stream = io.StringIO()
        write(content, stream)
        assert "\x1b" not in stream.getvalue()
    stream = io.StringIO()
    forms.write_csv(content, stream)
    assert "'=1+1" in stream.getvalue()
