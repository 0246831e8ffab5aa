from benchmarks import methods
from dassl.engine import TRAINER_REGISTRY
from dassl.utils.files import read_json


def test_every_method_that_learns_has_a_row():
    learning = {t.__name__ for t in TRAINER_REGISTRY if t.trainable and t.__module__.startswith("trainers.")}
    assert {row.trainer for row in methods.all_rows().values()} == learning


def test_the_benchmark_measures_and_writes_what_it_prints(tmp_path, monkeypatch, capsys):
    def here(rows, work, rounds):  # in this process: starting a fresh one takes seconds
        return {label: [methods.measure(row, work) for _ in range(rounds)] for label, row in rows.items()}

    monkeypatch.setattr(methods, "take_turns", here)
    labels = ["CoOp-MT", "ProGrad", "TaskRes", "ProtoNet"]
    out = tmp_path / "methods.json"
    sizes = ["--size", "tiny", "--steps", "2", "--rounds", "1", "--batch", "4", "--shots", "2", "--cpu"]
    assert methods.main([*sizes, "--methods", *labels, "--out", str(out)]) == 0
    written, printed = read_json(out), capsys.readouterr().out
    assert list(written["methods"]) == labels
    for label, figures in written["methods"].items():
        (found,) = figures["rounds"]
        assert len(found["step"]) == len(found["step CPU"]) == (1 if label == "ProtoNet" else 2)  # a fit is done once
        assert len(found["test"]) == 2 and min(found["step"] + found["step CPU"] + found["test"]) > 0
        assert label in printed and f"{found['parameters']:,}" in printed
    assert sum(written["tasks"]) == 116
    assert written["size"]["size"] == "tiny" and "torch" in written["machine"]["versions"]


def test_other_sizes_leave_the_recorded_figures_alone(monkeypatch):
    recorded = methods.result_file("methods", cpu=True)
    before = recorded.read_bytes() if recorded.is_file() else None
    found = {"parameters": 1, "step": [1.0], "step CPU": [1.0], "test": [1.0]}
    found |= {"held MiB": 0.0, "step MiB": 0.0, "device": "cpu"}
    monkeypatch.setattr(methods, "take_turns", lambda rows, work, rounds: {label: [found] for label in rows})
    assert methods.main(["--size", "tiny", "--cpu"]) == 0
    assert (recorded.read_bytes() if recorded.is_file() else None) == before
