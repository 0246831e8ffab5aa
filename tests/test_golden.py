"""The replay of recorded numbers: it passes on them, and fails where one of them is changed."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from tests.folders import golden_folder
from tests.golden.__main__ import main


def test_every_recorded_case_agrees(capsys):
    folder = golden_folder()
    assert main([str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok  ") for line in lines[:-1])
    assert lines[-1] == f"{len(lines) - 1} of {len(lines) - 1} cases agree"


@pytest.mark.parametrize("case", ["softcpt/CATA", "softcpt/NATA", "hard/hard_FT"])
def test_recorded_cases_agree_without_the_prefix_tree(golden_copy, capsys, case):
    assert main([str(golden_copy(case)), "--plain"]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"ok   {case}: ") and last == "1 of 1 cases agree"


def test_a_folder_without_cases_is_no_success(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path} holds no recorded case\n"


def json_part(name, change):
    """Change something in a JSON file."""

    def spoil(folder):
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return spoil


def tensor_part(name, key, amount):
    """Add ``amount`` to the first number of a tensor."""

    def spoil(folder):
        tensors = load_file(folder / name)
        tensors[key].view(-1)[0] += amount
        save_file(tensors, folder / name)

    return spoil


def first(values):
    return values[next(iter(values))]


def drop_line(folder):
    path = next((folder / "parse").glob("*.stdout.txt"))
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))


def lose_tensors(folder):
    (folder / "softcpt/NATA.safetensors").write_bytes(b"")


SOFT, HARD = "softcpt/NATA", "hard/hard_FT"
SPOILS = {
    "gradient": (SOFT, tensor_part("softcpt/NATA.safetensors", "grad.prompt_gen.proj", 1e-3)),
    "logits": (SOFT, tensor_part("softcpt/NATA.safetensors", "logits", 1e-3)),
    "middle": (SOFT, tensor_part("softcpt/NATA.safetensors", "mid.task_features", 1e-3)),
    "training": (SOFT, tensor_part("softcpt/NATA.safetensors", "plain.after.prompt_gen.proj", 1e-5)),
    "released training": (SOFT, tensor_part("softcpt/NATA.safetensors", "trainer_loop.after.prompt_gen.proj", 1e-4)),
    "tokens": (SOFT, tensor_part("softcpt/NATA.safetensors", "tokens.prompt", 1)),
    "loss": (SOFT, json_part("softcpt/NATA.json", lambda c: c.update(loss=c["loss"] + 1e-3))),
    "rate": (SOFT, json_part("softcpt/NATA.json", lambda c: c["plain"]["lr"].__setitem__(2, 0.0019))),
    "steps": (SOFT, json_part("softcpt/NATA.json", lambda c: c["trainer_loop"].update(optimizer_steps_per_batch=2))),
    "missing tensors": (SOFT, lose_tensors),
    "hard": (HARD, tensor_part("hard/hard_FT.safetensors", "mid.text_features", 1e-3)),
    "hard probs": (HARD, tensor_part("hard/hard_FT.safetensors", "probs", 1e-3)),
    "zero-shot prompts": (
        "zeroshot/",
        json_part("zeroshot/zeroshot.json", lambda c: c["cases"][0]["prompts"].reverse()),
    ),
    "metric": (
        "evaluator/",
        json_part("evaluator/evaluator.json", lambda c: c[0]["per_task_metric"].__setitem__(0, 1.5)),
    ),
    "label": ("labels/", json_part("labels/labels.json", lambda c: c["examples"][0]["vector"].reverse())),
    "schedule": ("lr/", json_part("lr/lr.json", lambda c: first(c["schedules"])["lr_first_to_last_epoch"].reverse())),
    "token": ("tokenizer/", tensor_part("tokenizer/tokenizer.safetensors", "tokens", 1)),
    "sample": (
        "sampling/",
        json_part("sampling/softcpt.json", lambda c: first(first(first(c["samples"])))["train"].reverse()),
    ),
    "printed text": ("parse/", drop_line),
}


@pytest.fixture(scope="session")
def golden_copy(tmp_path_factory):
    """Makes a small copy of the recorded cases: of the trainers' cases only the named ones."""
    source = golden_folder()

    def copy(case):
        target = tmp_path_factory.mktemp("golden") / "golden"
        kind = case.split("/")[0]
        for part in {"common", kind}:
            shutil.copytree(source / part, target / part)
        for path in (target / kind).iterdir():
            if not case.endswith("/") and path.name.split(".")[0] != case.split("/")[1]:
                path.unlink()
        return target

    return copy


@pytest.mark.parametrize("spoil", SPOILS)
def test_a_changed_number_is_found(golden_copy, capsys, spoil):
    case, change = SPOILS[spoil]
    folder = golden_copy(case)
    change(folder)
    assert main([str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"FAIL {case}") for line in lines)
    assert lines[-1].endswith("cases agree")
