"""README.md and docs/ agree with the code: their examples run, and what they name is there."""

import importlib.util
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import yaml
from safetensors.torch import save_file

import train
from dassl.config import all_keys, flatten, get_cfg_default, merge_cfg
from dassl.config.__main__ import reference
from dassl.data import DATASET_REGISTRY, DatasetBase, FolderDataset, Task
from dassl.data.splits import read_split
from dassl.engine import TRAINER_REGISTRY
from dassl.engine.reporting import LOGGERS
from dassl.results.methods import make_method
from dassl.results.record import read_results
from dassl.utils.tools import CHECKOUT
from tests.clip.helpers import openai_state, random_model
from tests.dassl.data.toy import write_image
from tests.lab import Lab

DOCS = CHECKOUT / "docs"
PAGES = [*sorted(CHECKOUT.glob("*.md")), *sorted(DOCS.glob("*.md"))]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return [text for kind, text in _BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]


def page_text(name: str) -> str:
    """A page of docs/."""
    return (DOCS / name).read_text(encoding="utf-8")


def train_commands(page: Path, variables: dict[str, str]) -> list[list[str]]:
    """The arguments of each call of train.py in a page's bash blocks, with shell variables filled in."""
    script = "\n".join(blocks(page, "bash")).replace("\\\n", " ")
    lines = [line.split("train.py", 1)[1] for line in script.splitlines() if line.startswith("python train.py")]
    filled = [re.sub(r"\$\{?(\w+)\}?", lambda match: variables[match[1]], line) for line in lines]
    return [shlex.split(line, comments=True) for line in filled]


def variants() -> dict[str, list[str]]:
    """Name -> cells of the table of SoftCPT's variants in method.md."""
    lines = re.findall(r"^\| ([NC][AS]T[AS]) \| ((?:True|False) \|.*) \|$", page_text("method.md"), re.MULTILINE)
    return {name: cells.split(" | ") for name, cells in lines}


def anchors(page: Path) -> set[str]:
    """The places in a page that a link can name."""
    titles = _HEADING.findall(_BLOCK.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.fixture
def examples(tmp_path: Path) -> Iterator[Path]:
    """A folder with the files of docs/extending.md, whose classes are registered while a test runs.

    Somebody may have put the same files where the page says, so those of the page come in place of them.
    """
    folder = tmp_path / "examples"
    registries = (DATASET_REGISTRY, TRAINER_REGISTRY, LOGGERS)
    before = [{name: registry.get(name) for name in registry.names()} for registry in registries]
    for registry in registries:
        registry._entries = {}
    for text in [*blocks(DOCS / "extending.md", "python"), *blocks(DOCS / "extending.md", "yaml")]:
        path = folder / text.split("\n", 1)[0].removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "configs/trainers/_base").symlink_to(CHECKOUT / "configs/trainers/_base")
    for path in sorted(folder.rglob("*.py")):
        spec = importlib.util.spec_from_file_location(f"docs_example_{path.stem}", path)
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    for registry, entries in zip(registries, before, strict=True):
        registry._entries = {**entries, **registry._entries}
    all_keys.cache_clear()
    yield folder
    for registry, entries in zip(registries, before, strict=True):
        registry._entries = entries
    all_keys.cache_clear()


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A data root with the images that docs/extending.md speaks of."""
    root = tmp_path / "data"
    for kind, name in enumerate(("tea_cup", "tea_pot")):
        for number in range(10):
            write_image(root / "shop_items" / "images" / name / f"{number:04}.jpg", seed=10 * kind + number)
    looks = root / "shop_looks"
    parts = {"train": 4, "val": 2, "test": 2}
    content = {
        part: [[f"{part}{number}.png", [number % 2, number % 2], [0, 1]] for number in range(count)]
        for part, count in parts.items()
    }
    content["meta"] = {"taskid2tname": ["colour", "state"], "taskid2cname": [["red", "blue"], ["new", "worn"]]}
    for part, count in parts.items():
        for number in range(count):
            write_image(looks / f"{part}{number}.png", seed=number)
    (looks / "split_dk_ShopLooks.json").write_text(json.dumps(content), encoding="utf-8")
    return root


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    """A small random CLIP."""
    path = tmp_path / "tiny.safetensors"
    save_file(openai_state(random_model("vit")), path)
    return path


def test_examples_of_extending_train(examples: Path, shop: Path, backbone: Path, tmp_path: Path) -> None:
    output = tmp_path / "output" / "run"
    files = ["--dataset-config-file", "configs/datasets/shop.yaml"]
    files += ["--config-file", "configs/trainers/AnchoredCoOp/rn50_ep50.yaml"]
    arguments = [str(examples / word) if word.startswith("configs/") else word for word in files]
    arguments += ["--trainer", "AnchoredCoOp", "--root", str(shop), "--output-dir", str(output), "--seed", "1"]
    small = {
        "MODEL.BACKBONE.NAME": str(backbone),
        "INPUT.SIZE": "32,32",
        "OPTIM.MAX_EPOCH": "1",
        "DATASET.NUM_SHOTS": "2",
        "DATALOADER.NUM_WORKERS": "0",
        "DATALOADER.TRAIN_X.BATCH_SIZE": "4",
    }
    assert train.main([*arguments, *(word for pair in small.items() for word in pair)]) == 0
    result = read_results(output)
    assert [task.name for task in result.tasks] == ["shop_item_kind", "colour", "state"]
    assert [task.total for task in result.tasks] == [6, 2, 2]
    # 2 shots of 2 kinds, and the 2 + 2 images of the looks, whose tasks share them.
    assert result.counts["train"] == 8
    assert result.parameters == 4 * 128
    assert "drift" in (output / "log.txt").read_text()
    assert (shop / "shop_items" / "split_dk_ShopItems.json").is_file()


def test_the_attributes_of_extending_are_those_of_the_class() -> None:
    """The table has every setting of a data set with its default, and the text names those of FolderDataset."""
    table = page_text("extending.md").split("| attribute | meaning | default |", 1)[1].split("\n\n", 1)[0]
    rows = [row.strip("| ").split(" | ") for row in table.splitlines()[2:]]
    documented = {name: value for row in rows for name, value in zip(_quoted(row[0]), _quoted(row[-1]), strict=False)}
    settings = {name for name, kind in DatasetBase.__annotations__.items() if "ClassVar" in str(kind)}
    assert set(documented) == settings
    for name, value in documented.items():
        if value not in ("the class name", "split_dk_<class name>.json"):
            assert value.strip('"') == str(getattr(DatasetBase, name)).replace("'", '"'), name
    for name in FolderDataset.__annotations__:
        assert f"`{name}`" in page_text("extending.md")


def _quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell) or [cell]


def test_the_row_of_extending_names_its_runs(examples: Path) -> None:
    (row,) = [text for text in blocks(DOCS / "extending.md", "") if text.startswith("  CoOp-anchored:")]
    label, fields = next(iter(yaml.safe_load(row).items()))
    method = make_method(label, fields, place="extending.md")
    config = examples / "configs" / "trainers" / method.trainer / f"{method.config_stem('rn50', 4)}.yaml"
    cfg = get_cfg_default()
    merge_cfg(cfg, files=[config])
    values = flatten(cfg)
    assert {key: values[key] for key in method.options} == method.options


def test_the_logger_of_extending_gets_points_and_results(examples: Path, lab: Lab, monkeypatch, capsys) -> None:
    """With a stand-in for the package that is not here."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert lab.main("without", TRAIN__LOGGERS="wandb") == 2
    assert "install it with: pip install wandb" in capsys.readouterr().err
    run = MagicMock()
    wandb = MagicMock(init=MagicMock(return_value=run))
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    result = lab.run(TRAIN__LOGGERS="tensorboard,wandb")
    told = wandb.init.call_args.kwargs
    assert told["name"] == "ToyBoth/MTCoOp N_CTX 2, TASK_N_CTX 2/2shots/seed1"
    assert (told["config"]["shots"], told["config"]["suite"]) == (2, "ToyBoth")
    points = [call.args[0] for call in run.log.call_args_list]
    assert [point["step"] for point in points if "train/loss" in point] == list(range(9))
    assert {"test/metric": result.metric, "step": 2} in points
    assert run.summary.update.call_args.args[0]["metric"] == result.metric
    assert [call[0] for call in run.method_calls[-2:]] == ["summary.update", "finish"]
    assert run.finish.call_count == 1


def test_the_key_of_the_example_is_declared_and_checked(examples: Path, tmp_path: Path) -> None:
    key = "TRAINER.ANCHORED.ANCHOR"
    assert all_keys()[key].default == 10.0
    assert train.main(["--trainer", "AnchoredCoOp", "--output-dir", str(tmp_path / "run"), key, "high"]) == 2
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", blocks(DOCS / "data.md", "json"))
def test_split_files_of_data_md_are_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text(text, encoding="utf-8")
    split = read_split(tmp_path / "split.json", tmp_path, Task("shape", ()))
    assert all(split.lists)


def test_config_md_is_up_to_date() -> None:
    assert (DOCS / "config.md").read_text(encoding="utf-8") == reference(), (
        "run: python -m dassl.config > docs/config.md"
    )


def test_the_way_in_names_what_its_files_define() -> None:
    """Each of the ten files has the functions and classes that the table sends its reader to."""
    rows = re.findall(r"^\| (\d+) \| `([\w./]+)` \| (.*) \|$", page_text("architecture.md"), re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, 11))
    for _, name, text in rows:
        source = (CHECKOUT / name).read_text(encoding="utf-8")
        for word in re.findall(r"`(\w+(?:\.\w+)?)`", text.replace("`results.json`", "")):
            for part in word.split("."):
                assert re.search(rf"(?:def|class) {part}\b|^{part}:", source, re.MULTILINE), f"{name}: {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_exist(page: Path) -> None:
    """A path in backquotes that starts with the name of a room is a file, a folder or a pattern that finds one."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    for name in re.findall(r"`((?:clip|dassl|trainers|datasets|configs|scripts|tests|docs)/[\w./*-]*)`", text):
        assert any(CHECKOUT.glob(name.rstrip("/"))), f"{page.name}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_tests_exist(page: Path) -> None:
    """`FILE::TEST` in backquotes, or `::TEST` of the file that was named last."""
    path = ""
    for name, test in re.findall(r"`(tests/[\w/]+\.py)?::(\w+)`", page.read_text(encoding="utf-8")):
        path = name or path
        assert f"\ndef {test}(" in (CHECKOUT / path).read_text(encoding="utf-8"), f"{page.name}: {path}::{test}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_keys_exist(examples: Path, page: Path) -> None:
    """Every config key or node that a page names is declared, if only by the example trainer."""
    known = all_keys()
    nodes = {key.split(".")[0] for key in known if "." in key}
    words = re.findall(rf"\b(?:{'|'.join(sorted(nodes))})(?:\.[A-Z][A-Za-z0-9_]*)+", page.read_text(encoding="utf-8"))
    unknown = {word for word in words if word not in known and not any(key.startswith(f"{word}.") for key in known)}
    assert not unknown


@pytest.mark.parametrize("page", [p for p in PAGES if "\npython train.py" in p.read_text()], ids=lambda page: page.name)
def test_commands_are_accepted(examples: Path, tmp_path: Path, page: Path) -> None:
    """Each train.py command of a page has known flags, files that exist, and keys with values of the right kind."""
    suite = tmp_path / "suite.yaml"
    suite.write_text("DATASET:\n  NAME: Any\n", encoding="utf-8")
    for words in train_commands(
        page, {"SUITE": str(suite), "SEED": "1", "SHOTS": "16", "DATA": "data", "OUT": "output"}
    ):
        example = [str(examples / word) if (examples / word).is_file() else word for word in words]
        cfg = train.setup_cfg(train.build_parser().parse_args(example))
        assert cfg.TRAINER.NAME in TRAINER_REGISTRY, words


def test_the_variants_of_method_md_are_rows_of_methods_yaml() -> None:
    """The keys and values of each variant are those that scripts and sweeps set, class sub-sampling included."""
    fields = yaml.safe_load((CHECKOUT / "configs" / "methods.yaml").read_text(encoding="utf-8"))["methods"]
    keys = [f"TRAINER.MTCOOP.{key}" for key in ("CSC", "CLASS_CSC", "TASK_CSC", "TASK_N_CTX", "CLASS_N_CTX")]
    rows = variants()
    assert len(rows) == 6
    for name, (*cells, rate) in rows.items():
        row = fields[f"SoftCPT-{name}"]
        shown = {key: cell for key, cell in zip(keys, cells, strict=True) if cell != "-"}
        assert shown == {key: str(value) for key, value in row["options"].items() if key in keys}, name
        sampled = row.get("suite_options", {}).get("General10", {}).get("TRAINER.MTCOOP.CLS_SAMPLE_RATE")
        assert rate == ("0" if sampled is None else f"0, General-10: {sampled}"), name
