"""The shipped rows train with the settings that their authors ran."""

from dataclasses import dataclass, field
from typing import Any

import pytest

import train
from dassl.config import get_cfg_default
from dassl.engine.published import apply_published
from dassl.results.methods import read_methods
from dassl.results.record import CONFIG_FILE
from dassl.utils.tools import CHECKOUT


@dataclass(frozen=True)
class Row:
    """What a method's authors ran: epochs by shots, training batch, rate, keys of the method, and where they say so."""

    label: str
    source: str
    epochs: dict[int, int]
    batch: int
    rate: float
    keys: dict[str, Any] = field(default_factory=dict)
    optimiser: str = "sgd"
    suite: str = "oxford_pets"
    backbones: tuple[str, ...] = ("rn50", "rn101", "vit_b32", "vit_b16")  # the authors' own and, marked as such, ours


COMMON = {
    "OPTIM.LR_SCHEDULER": "cosine",
    "OPTIM.WARMUP_EPOCH": 1,
    "OPTIM.WARMUP_TYPE": "constant",
    "OPTIM.WARMUP_CONS_LR": 1e-5,
}
COOP_EPOCHS = {1: 50, 2: 100, 4: 100, 8: 200, 16: 200}
ALWAYS_50, ALWAYS_100 = dict.fromkeys(COOP_EPOCHS, 50), dict.fromkeys(COOP_EPOCHS, 100)
COOP = {"TRAINER.COOP.N_CTX": 16, "TRAINER.COOP.CLASS_TOKEN_POSITION": "end", "TRAINER.COOP.CTX_INIT": ""}
PLOT = {"TRAINER.PLOT.N": 4, "TRAINER.PLOT.N_CTX": 16, "TRAINER.PLOT.CSC": False, "TRAINER.PLOT.GLOBAL_LOGITS": False}
PROGRAD = {"TRAINER.COOP.N_CTX": 16, "TRAINER.COOP.CTX_INIT": "True", "LOSS.T": 1.0}
KGCOOP = {"TRAINER.COOP.N_CTX": 4, "TRAINER.COOP.CTX_INIT": "True", "TRAINER.COOP.W": 8.0}
COCOOP = {"TRAINER.COCOOP.N_CTX": 4, "TRAINER.COCOOP.CTX_INIT": "a photo of a"}
TCP = {
    "TRAINER.TCP.N_CTX": 4,
    "TRAINER.TCP.CTX_INIT": "",
    "TRAINER.TCP.LAYER": 8,
    "TRAINER.TCP.W": 8.0,
    "OPTIM.ADAM_EPS": 1e-3,
}
MAPLE = {"TRAINER.MAPLE.N_CTX": 2, "TRAINER.MAPLE.CTX_INIT": "a photo of a", "TRAINER.MAPLE.DEPTH": 9}
PROMPTSRC = {
    "TRAINER.PROMPTSRC.N_CTX": 4,
    "TRAINER.PROMPTSRC.VISUAL_N_CTX": 4,
    "TRAINER.PROMPTSRC.DEPTH": 9,
    "TRAINER.PROMPTSRC.TEXT_LOSS_WEIGHT": 25.0,
    "TRAINER.PROMPTSRC.IMAGE_LOSS_WEIGHT": 10.0,
}
EARLY = {"TRAINER.PROMPTSRC.GPA_MEAN": 30.0, "TRAINER.PROMPTSRC.GPA_STD": 30.0}
LATE = {"TRAINER.PROMPTSRC.GPA_MEAN": 45.0, "TRAINER.PROMPTSRC.GPA_STD": 5.0}
ALWAYS_5, VIT = dict.fromkeys(COOP_EPOCHS, 5), ("vit_b32", "vit_b16")
TASKRES_EPOCHS = {1: 100, 2: 100, 4: 100, 8: 200, 16: 200}


def taskres(suite: str, *, rate: float = 0.002, scale: float = 0.5) -> Row:
    """A row of TaskRes."""
    keys = {"TRAINER.TaskRes.RESIDUAL_SCALE": scale}
    return Row("TaskRes", "TaskRes train_regular.sh", TASKRES_EPOCHS, 256, rate, keys, "adam", suite)


def promptsrc(suite: str, average: dict[str, float]) -> Row:
    """A row of PromptSRC."""
    keys = {**PROMPTSRC, **average}
    return Row("PromptSRC", "PromptSRC few_shot/*.yaml", ALWAYS_50, 4, 0.0025, keys, suite=suite, backbones=VIT)


ROWS = [
    Row("CoOp-CA", "CoOp COOP.md", COOP_EPOCHS, 32, 0.002, {**COOP, "TRAINER.COOP.CSC": False}),
    Row("CoOp-CS", "CoOp COOP.md", COOP_EPOCHS, 32, 0.002, {**COOP, "TRAINER.COOP.CSC": True}),
    Row("ProGrad", "Prompt-align scripts/prograd.sh", COOP_EPOCHS, 32, 0.002, {**PROGRAD, "LOSS.LAMBDA": 1.0}),
    Row("KgCoOp", "KgCoOp scripts", ALWAYS_100, 128, 0.002, KGCOOP),
    Row("CoCoOp", "CoOp scripts/cocoop", dict.fromkeys(COOP_EPOCHS, 10), 1, 0.002, COCOOP),
    Row("PLOT", "PLOT train.py", COOP_EPOCHS, 128, 0.002, PLOT),
    Row("PLOT", "PLOT train.py", COOP_EPOCHS, 32, 0.002, PLOT, suite="oxford_flowers"),
    Row("PLOT", "PLOT train.py", COOP_EPOCHS, 32, 0.002, PLOT, suite="fgvc_aircraft"),
    Row("PLOT", "PLOT train.py", COOP_EPOCHS, 32, 0.002, PLOT, suite="stanford_cars"),
    Row(
        "PLOT",
        "PLOT train.py, trainers/plot.py",
        ALWAYS_50,
        128,
        0.002,
        {**PLOT, "TRAINER.PLOT.GLOBAL_LOGITS": True},
        suite="imagenet",
    ),
    Row("TCP", "TCP scripts/base2new_train.sh", ALWAYS_50, 32, 0.002, TCP, "adam"),
    Row("MaPLe", "MaPLe vit_b16_c2_ep5_batch4_2ctx.yaml", ALWAYS_5, 4, 0.0035, MAPLE, backbones=VIT),
    promptsrc("oxford_pets", EARLY),
    promptsrc("eurosat", LATE),
    taskres("oxford_pets"),
    taskres("oxford_flowers", scale=1.0),
    taskres("imagenet", rate=2e-4),
    Row("CoOp-MT", "SoftCPT MTCoOpHard/*_ep50.yaml", ALWAYS_50, 32, 0.002, {"TRAINER.MTCOOPH.N_CTX": 16}),
    Row("SoftCPT-NATA", "SoftCPT MTCoOp/*_ep50.yaml", ALWAYS_50, 32, 0.002, {"TRAINER.MTCOOP.N_CTX": 16}),
]


def resolved(label: str, suite: str, shots: int, *pairs: str, backbone: str = "rn50") -> Any:
    """The config of a row as train.py resolves it."""
    method = read_methods()[label]
    options = [str(part) for pair in method.options.items() for part in pair]
    files = [f"configs/datasets/{suite}.yaml"]
    files.append(f"configs/trainers/{method.trainer}/{method.config_stem(backbone, shots)}.yaml")
    flags = ["--trainer", method.trainer, "--dataset-config-file", files[0], "--config-file", files[1]]
    return train.setup_cfg(train.parse([*flags, "DATASET.NUM_SHOTS", str(shots), *options, *pairs]))


def length(cfg: Any) -> tuple[int, int]:
    """Epochs and images of a batch."""
    return cfg.OPTIM.MAX_EPOCH, cfg.DATALOADER.TRAIN_X.BATCH_SIZE


def value(cfg: Any, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.label}-{row.suite}")
def test_every_row_resolves_to_what_its_authors_ran(row):
    for backbone in row.backbones:
        for shots, epochs in row.epochs.items():
            cfg = resolved(row.label, row.suite, shots, backbone=backbone)
            expected = {**row.keys, **COMMON, "OPTIM.MAX_EPOCH": epochs, "OPTIM.LR": row.rate}
            expected |= {"DATALOADER.TRAIN_X.BATCH_SIZE": row.batch, "OPTIM.NAME": row.optimiser}
            assert {key: value(cfg, key) for key in expected} == expected, (backbone, shots, row.source)


@pytest.mark.parametrize("suite", ["oxford_flowers", "dtd", "eurosat", "oxford_pets", "food101"])
@pytest.mark.parametrize("shots", [1, 2, 4, 8, 16])
def test_prograd_leaves_more_of_the_contradiction_on_three_data_sets(suite, shots):
    less = suite in ("oxford_flowers", "dtd", "eurosat") and shots in (8, 16)
    share = resolved("ProGrad", suite, shots).LOSS.LAMBDA
    assert share == (0.8 if less else 1.0)


def test_a_task_of_a_suite_has_the_settings_of_its_data_set():
    for number, name in enumerate(task_names()):
        cfg = resolved("PLOT", "general10", 4, "DATASET.SUBSAMPLE_TASKS", f"task{number}")
        small = name in ("OxfordFlowers", "FGVCAircraft", "StanfordCars")
        assert length(cfg) == (100, 32 if small else 128), name


def task_names() -> list[str]:
    from datasets.general10 import General10

    cfg = get_cfg_default()
    return General10.task_datasets(cfg)


def test_a_joint_run_on_several_data_sets_has_the_settings_by_shots_only():
    cfg = resolved("PLOT", "general10", 4)
    assert length(cfg) == (100, 128)


def test_a_key_that_is_named_keeps_its_value():
    cfg = resolved("PLOT", "oxford_flowers", 1, "OPTIM.MAX_EPOCH", "7")
    assert length(cfg) == (7, 32)
    off = resolved("PLOT", "oxford_flowers", 1, "TRAINER.PUBLISHED_SETTINGS", "")
    assert length(off) == (200, 128)


def test_the_config_of_a_run_gives_the_same_run_again(tmp_path):
    cfg = resolved("PLOT", "oxford_flowers", 1, "OPTIM.MAX_EPOCH", "7")
    (tmp_path / CONFIG_FILE).write_text(cfg.dump())
    again = train.setup_cfg(train.parse(["--config-file", str(tmp_path / CONFIG_FILE)]))
    assert again == cfg
    assert again.TRAINER.PUBLISHED_SETTINGS == "applied"
    assert apply_published(again.clone()) == {}
    kept = [each.split()[0] for each in again.TRAINER.PUBLISHED_KEYS]
    assert kept == ["DATALOADER.TRAIN_X.BATCH_SIZE", "TRAINER.PLOT.GLOBAL_LOGITS"]


@pytest.mark.parametrize("pair, left", [(("OPTIM.LR", "0.1"), 3), (("OPTIM.MAX_EPOCH", "9"), 2), (("SEED", "2"), 3)])
def test_keys_named_for_a_run_used_again_are_no_longer_the_authors_choice(pair, left, tmp_path):
    (tmp_path / CONFIG_FILE).write_text(resolved("PLOT", "oxford_flowers", 1).dump())
    again = train.setup_cfg(train.parse(["--config-file", str(tmp_path / CONFIG_FILE), *pair]))
    assert len(again.TRAINER.PUBLISHED_KEYS) == left
    moved = train.setup_cfg(train.parse(["--config-file", str(tmp_path / CONFIG_FILE), "DATASET.NUM_SHOTS", "16"]))
    assert not moved.TRAINER.PUBLISHED_KEYS


def test_the_demo_stays_short():
    demo = ["--dataset-config-file", "configs/datasets/demo6.yaml", "--config-file", "configs/trainers/PLOT/demo.yaml"]
    cfg = train.setup_cfg(train.parse(["--trainer", "PLOT", *demo, "DATASET.NUM_SHOTS", "16"]))
    assert cfg.OPTIM.MAX_EPOCH == 30


def test_own_tasks_have_the_settings_by_shots_only(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text(
        "DATASET: {NAME: MyTasks, TASKS: [{name: colour, folder: c}, {dataset: OxfordFlowers}]}\n", encoding="utf-8"
    )
    files = ["--dataset-config-file", str(own), "--config-file", "configs/trainers/PLOT/rn50.yaml"]
    for task, batch in (("task0", 128), ("task1", 32), ("all", 128)):
        arguments = ["DATASET.NUM_SHOTS", "2", "DATASET.SUBSAMPLE_TASKS", task]
        cfg = train.setup_cfg(train.parse(["--trainer", "PLOT", *files, *arguments]))
        assert length(cfg) == (100, batch)


def test_files_for_backbones_of_our_own_choice_say_so():
    authors = {
        "CoOp": ("rn50", "rn101", "rn101_ep50", "vit_b16", "vit_b32", "vit_b32_ep50"),
        "ProGrad": ("rn50", "rn50_ep50", "rn50_ep100"),
        "KgCoOp": ("rn50_ep100", "vit_b16_ep100_ctxv1"),
        "PLOT": ("rn50",),
        "TaskRes": ("adam_lr2e-3_B256_ep100", "adam_lr2e-3_B256_ep200"),
        "TCP": ("vit_b16",),
        "MaPLe": ("vit_b16", "vit_b16_transfer"),
        "PromptSRC": ("vit_b16_ep20", "vit_b16_ep50", "vit_b16_transfer"),
        "CoCoOp": ("rn50_c4_ep10_batch1_ctxv1", "vit_b16_c4_ep10_batch1_ctxv1"),
    }
    for trainer, names in authors.items():
        for path in (CHECKOUT / "configs/trainers" / trainer).glob("*.yaml"):
            theirs = path.stem in names or (trainer == "CoOp" and path.stem.startswith(("rn50", "vit_b16")))
            if path.stem not in ("demo", "own"):
                assert ("Our choice" in path.read_text(encoding="utf-8")) != theirs, path
