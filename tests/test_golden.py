"""The replay of recorded numbers: it passes on them, and fails where one of them is changed."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from tests.folders import golden_folder
from tests.golden.__main__ import main
from tests.golden.choices import Choices
from tests.golden.layout import PARTS
from tests.golden.prompts import STATISTICS, Start, after_steps, build, set_start, train_steps
from tests.golden.report import Case


def test_every_recorded_case_agrees(capsys):
    folder = golden_folder()
    assert main([str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    cases = [line for line in lines if line.startswith(("ok  ", "FAIL"))]
    assert all(line.startswith("ok  ") for line in cases)
    *reasons, made, agree = lines[len(cases) :]
    assert all(line.startswith("not compared on purpose: ") for line in reasons)
    count, of, expected, *_ = made.split()
    assert (of, count) == ("of", expected) and int(count) > 900
    assert agree == f"{len(cases)} of {len(cases)} cases agree"


@pytest.mark.parametrize("case", ["softcpt/CATA", "softcpt/NATA", "hard/hard_FT"])
def test_recorded_cases_agree_without_the_prefix_tree(golden_copy, capsys, case):
    assert main([str(golden_copy(case)), "--plain", "--only", case.split("/")[0]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"ok   {case}: ") and lines[-1] == "1 of 1 cases agree"


def test_a_folder_without_cases_is_no_success(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path} holds no recorded case\n"


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        ("labels/", "labels/"),
        ("sampling/splits.json", "sampling/splits.json"),
        ("sampling/coop.json", "sampling/coop.json"),
        ("softcpt/NATA.json", "softcpt/NATA.safetensors"),
        ("zeroshot/zeroshot.json", "zeroshot/zeroshot.json"),
    ],
)
def test_what_is_missing_is_named(golden_copy, capsys, lost, named):
    part = lost.split("/")[0]
    folder = golden_copy(SOFT if part == "softcpt" else f"{part}/")
    path = folder / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert main([str(folder), "--only", "common", part]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert any(line.startswith(f"FAIL {named}: ") for line in failed)


def test_every_part_is_expected(golden_copy, capsys):
    assert main([str(golden_copy("labels/"))]) == 1
    printed = capsys.readouterr().out
    assert all(f"FAIL {part}/: " in printed for part in PARTS if part not in ("common", "labels"))
    assert "recorded but" not in printed and printed.splitlines()[-2].endswith("expected comparisons made")


def test_a_file_that_nothing_reads_is_named(golden_copy, capsys):
    folder = golden_copy("labels/")
    for name in ("labels/more.txt", "further/case.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    assert main([str(folder), "--only", "labels"]) == 1
    printed = capsys.readouterr().out
    for name in ("labels/more.txt", "further/case.json"):
        assert f"FAIL {name}: 0 of 0 comparisons, exact; is a file that no case reads" in printed


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


def add(content, name):
    """Change a summary of the first picture."""
    summary = content["images"][0]["size64"]
    value = summary[name]
    summary[name] = value + 1e3 if isinstance(value, float) else [value[0] + 1e-3, *value[1:]]


def drop_line(folder):
    path = next((folder / "parse").glob("*.stdout.txt"))
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))


def add_tensor(name, key):
    """Record one more tensor."""

    def spoil(folder):
        tensors = load_file(folder / name)
        save_file({**tensors, key: next(iter(tensors.values())).clone()}, folder / name)

    return spoil


def lose_tensors(folder):
    (folder / "softcpt/NATA.safetensors").write_bytes(b"")


SOFT, HARD = "softcpt/NATA", "hard/hard_FT"
SPOILS = {
    "map": (SOFT, json_part("softcpt/NATA.json", lambda c: c.update(map=c["map"] + 0.01))),
    "map of a step": (SOFT, json_part("softcpt/NATA.json", lambda c: c["trainer_loop"]["map"].__setitem__(3, 40.0))),
    "shape": (SOFT, json_part("softcpt/NATA.json", lambda c: c["num_learnable"].update({"prompt_gen.proj": [1, 2]}))),
    "modules": (SOFT, json_part("softcpt/NATA.json", lambda c: c["registered_modules"].pop())),
    "start": (SOFT, json_part("softcpt/NATA.json", lambda c: first(c[STATISTICS]).__setitem__(3, 0.03))),
    "unknown tensor": (SOFT, add_tensor("softcpt/NATA.safetensors", "mid.more")),
    "unknown tensor of no kind": (SOFT, add_tensor("softcpt/NATA.safetensors", "further")),
    "unknown field": (SOFT, json_part("softcpt/NATA.json", lambda c: c["plain"].update(more=1.0))),
    "tensor of no case": ("zeroshot/", add_tensor("zeroshot/zeroshot.safetensors", "nothing.logits")),
    "evaluator scores": ("evaluator/", tensor_part("evaluator/evaluator.safetensors", "three_tasks.scores", 1e-4)),
    "printed result": ("evaluator/", json_part("evaluator/evaluator.json", lambda c: c[2].update(printed="nothing"))),
    "decoded picture": ("transforms/", tensor_part("transforms/transforms.safetensors", "gray_64x80.png.decoded", 1)),
    "picture's sum": ("transforms/", json_part("transforms/transforms.json", lambda c: add(c, "sum_abs"))),
    "picture's corner": ("transforms/", json_part("transforms/transforms.json", lambda c: add(c, "corner_br"))),
    "picture's spread": ("transforms/", json_part("transforms/transforms.json", lambda c: add(c, "std_per_channel"))),
    "token ids": ("tokenizer/", json_part("tokenizer/tokenizer.json", lambda c: c["cases"][0]["ids"].append(1))),
    "last rate": ("lr/", json_part("lr/lr.json", lambda c: first(c["schedules"]).update(lr_after=1e-3))),
    "images of another batch": ("common/", tensor_part("common/batch.safetensors", "images_c.rn", 1.0)),
    "count of tokens": (
        "common/",
        json_part("common/problem.json", lambda c: c["name_token_counts"]["classes"].reverse()),
    ),
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
    assert main([str(folder), "--only", case.split("/")[0]]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"FAIL {case}") for line in lines)
    assert lines[-1].endswith("cases agree")


@pytest.fixture(scope="module")
def sampled_copy(golden_copy):
    """A case with class sub-sampling in the recorded form, with our own numbers in place of the original's."""
    folder = golden_copy("softcpt/CATA")
    path = folder / "softcpt/CATA.json"
    record, values = json.loads(path.read_text()), load_file(path.with_suffix(".safetensors"))
    record["extra_options"] = {"CLS_SAMPLE_RATE": 0.3}
    record["torch_seed_before_first_forward"] = 5
    own = write_sampled(folder, record, values)
    path.write_text(json.dumps(record))
    save_file(own, path.with_suffix(".safetensors"))
    return folder


def write_sampled(folder, record, values):
    """Numbers of a sub-sampled case, computed with the choice of each step from the seed."""
    case = Case("own")
    trainer = build(folder, record, "corrected")
    set_start(trainer, folder, record, values, case)
    choices = Choices(trainer, record, values)
    own = {f"sub.selected_step{step}": choices.drawn[step] for step in range(5)}
    start = Start(trainer, trainer.dm.train_loader_x[0], "MTCoOp", choices.drawn[0])
    choices.use(trainer, "sub", 0)
    record.update(loss=start.value("loss").item(), map=start.value("map"))
    gradients = {key: start.value(key) for key in values if key.startswith("grad.")}
    own |= {"sub.logits": start.value("logits"), "probs": start.value("probs"), **gradients}
    for track, recipe in (("plain", "corrected"), ("trainer_loop", "released")):
        trainer = build(folder, record, recipe)
        set_start(trainer, folder, record, values, case)
        batch = trainer.dm.train_loader_x[0]
        found = train_steps(trainer, batch, choices, track)
        record[track].update({key: value for key, value in found.items() if key in record[track]})
        own |= {f"{track}.after.{key}": value.detach() for key, value in trainer.model.named_parameters()}
        trainer.before_test()
        own[f"{track}.logits_after"] = trainer.model_inference(batch)
        record[track]["loss_after"] = after_steps(trainer, batch, choices, track, 0.0)["loss_after"]
    kept = {key: value for key, value in values.items() if key.startswith(("tokens.", "mid.")) or key == "logits"}
    return {key: value.detach().clone().contiguous() for key, value in {**kept, **own}.items()}


SAMPLED = {
    "nothing": None,
    "a choice": tensor_part("softcpt/CATA.safetensors", "sub.selected_step2", 1),
    "logits": tensor_part("softcpt/CATA.safetensors", "sub.logits", 1e-2),
    "probabilities": tensor_part("softcpt/CATA.safetensors", "probs", 1e-3),
    "map": json_part("softcpt/CATA.json", lambda c: c.update(map=c["map"] + 1)),
    "map of a step": json_part("softcpt/CATA.json", lambda c: c["trainer_loop"]["map"].__setitem__(4, 1.0)),
    "loss behind the steps": json_part("softcpt/CATA.json", lambda c: c["plain"].update(loss_after=9.0)),
}


@pytest.mark.parametrize("spoil", SAMPLED)
def test_a_case_with_sampled_classes_is_read_step_by_step(sampled_copy, tmp_path, capsys, spoil):
    folder = shutil.copytree(sampled_copy, tmp_path / "golden")
    if SAMPLED[spoil]:
        SAMPLED[spoil](folder)
    assert main([str(folder), "--only", "softcpt"]) == (1 if SAMPLED[spoil] else 0), capsys.readouterr().out


def test_all_images_are_a_number_of_shots(golden_copy, capsys):
    """Fewer than one shot is the whole split."""
    folder = golden_copy("sampling/")
    splits = json.loads((folder / "sampling/splits.json").read_text())
    path = folder / "sampling/softcpt.json"
    content = json.loads(path.read_text())
    whole = {part: [name for name, _ in splits["toy_b"][part]] for part in ("train", "val")}
    content["samples"]["1"]["-1"] = {"toy_b": whole}
    parts = ("train", "val", "test")
    items = {part: [[name, [0], [label]] for name, label in splits["toy_b"][part]] for part in parts}
    content["single"]["toy_b.seed1.shots-1.classes=all"] = {**items, "class_names": [splits["toy_b"]["classes"]]}
    path.write_text(json.dumps(content))
    assert main([str(folder), "--only", "sampling"]) == 0
    printed = capsys.readouterr().out
    assert "ok   sampling/samples.seed1.shots-1: 2 of 2" in printed
    assert "ok   sampling/single.toy_b.seed1.shots-1.classes=all: 4 of 4" in printed
