"""The positional arguments and variables of the experiment scripts, checked before any large import.

The usage line at the top of a script names its arguments; their allowed values are defined here. The rules of runs
(folders, which runs are done, protocols) are those of ``dassl.sweep``.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dassl.utils.errors import UserError
from dassl.utils.tools import CHECKOUT

if TYPE_CHECKING:
    from dassl.results.methods import Method, Start

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_WHOLE = re.compile(r"0|[1-9][0-9]{0,8}")
_NUMBER = re.compile(r"[0-9]+\.?[0-9]*|\.[0-9]+")
# Words that a script sets itself, and what the user gives instead.
_SET_BY_SCRIPT = ("--config-file", "--dataset-config-file", "--trainer", "TRAINER.NAME", "--eval-only", "--model-dir")
_SAID_OTHERWISE = {
    **dict.fromkeys(("--seed", "SEED"), 'seeds are given as SEEDS="1 2 3", not with {}'),
    **dict.fromkeys(("--output-dir", "OUTPUT_DIR"), "the folder of all runs is given as OUTPUT=DIR, not with {}"),
}
_CHOSEN_BY_PROTOCOL = {"base2new": "DATASET.SUBSAMPLE_CLASSES", "newtasks": "DATASET.SUBSAMPLE_TASKS"}
_CLASS_TOKENS = {"False False": "NA", "True False": "CA", "True True": "CS"}  # by CSC and CLASS_CSC
_HARD = {"False False": "shared", "False True": "per_task", "True False": "per_class", "True True": "per_class_of_task"}
_ZERO_SHOT = {"ZeroshotCLIP": "template", "ZeroshotCLIP2": "ensemble"}
_COOP = "TRAINER.MTCOOP."


class ArgumentError(UserError):
    """A mistake in the arguments; it is printed with the usage line."""


@dataclass
class Command:
    """The request that the arguments and variables of a script make.

    Attributes:
        trainer, dataset, cfg: names, the last two without ``.yaml``.
        setting: folder of the runs, without the additions for differences from the paper.
        keys: config keys that follow from the arguments.
        compared: config keys that are added to ``setting`` if they differ from the paper, with their values.
        shots: numbers of shots; (1,) for a method that learns nothing.
        learns: whether the method uses training images.
        protocol: as in a sweep.
        part: number of the part of the protocol that is carried out.
        targets: suites on which protocol transfer evaluates; its runs are carried out at once.
        label: the row of a method of two stages.
        start: what its runs start from.
        stage: the stage that is carried out, "source" or "target".
        per_task: one run for each task.
        tasks: numbers of the tasks; None: all.
        asked: tasks that must exist, by the name of the argument that lists them.
        options: the words after the arguments: flags of train.py, then KEY VALUE pairs.
    """

    trainer: str
    dataset: str
    cfg: str
    setting: str = ""
    keys: dict[str, str] = field(default_factory=dict)
    compared: dict[str, str] = field(default_factory=dict)
    shots: tuple[int, ...] = (1,)
    learns: bool = True
    seeds: tuple[int, ...] = (1,)
    protocol: str = ""
    part: int = 0
    targets: tuple[str, ...] = ()
    label: str = ""
    start: "Start | None" = None
    stage: str = ""
    per_task: bool = False
    tasks: Sequence[int] | None = None
    asked: dict[str, tuple[int, ...]] = field(default_factory=dict)
    options: list[str] = field(default_factory=list)
    tag: str = ""


Words = dict[str, str]
Variables = Mapping[str, str]


def read_command(names: Sequence[str], kind: str, words: Sequence[str], variables: Variables) -> Command:
    """Read the command of a script.

    Args:
        names: the arguments of its usage line.
        kind: its method and, optionally, its protocol, such as "softcpt base2new test".
        variables: the environment.

    Raises:
        ArgumentError: an argument or variable is missing or wrong, or contradicts another.
    """
    if len(words) < len(names):
        raise ArgumentError(f"argument {names[len(words)]} is missing")
    options = list(words[len(names) :])
    _check_options(options)
    given = dict(zip(names, words, strict=False))
    method, *protocol = kind.split()
    trainer = _TRAINERS[method](given, variables)
    _listed("DATASET", given["DATASET"], "configs/datasets")
    _listed("CFG", given["CFG"], f"configs/trainers/{trainer}")
    learns = method != "zeroshot"  # nothing is drawn for it
    seeds = numbers("SEEDS", variables.get("SEEDS", "1 2 3")) if learns else (1,)
    tag = variables.get("TAG", "")
    if tag:
        _plain("TAG", tag)
    for name in names:
        if name in _CHECKS:
            _CHECKS[name](name, given[name])
    command = Command(trainer, given["DATASET"], given["CFG"], learns=learns, seeds=seeds, tag=tag, options=options)
    _METHODS[method](command, given, variables)
    _set_protocol(command, given, protocol)
    _refuse_what_follows(command)
    return command


# -- checks --------------------------------------------------------------------------------------------------------


def _check_options(options: Sequence[str]) -> None:
    if options and not re.match(r"-.|[A-Z]", options[0]):
        raise ArgumentError(
            f"'{options[0]}' is one argument too many; options for train.py are flags or KEY VALUE pairs"
        )
    for option in options:
        word = option.split("=")[0]
        if word in _SET_BY_SCRIPT:
            raise ArgumentError(f"{word} is set by this script; leave it out")
        if word in _SAID_OTHERWISE:
            raise ArgumentError(_SAID_OTHERWISE[word].format(word))


def _listed(name: str, value: str, folder: str) -> None:
    """Check that ``folder`` has the file VALUE.yaml."""
    place = CHECKOUT / folder
    if not place.is_dir():
        raise UserError(f"there is no folder {place}")
    _plain(name, value)
    if not (place / f"{value}.yaml").is_file():
        there = " ".join(sorted(path.stem for path in place.glob("*.yaml")))
        raise ArgumentError(f"{name} '{value}' has no file {folder}/{value}.yaml; there are: {there}")


def _plain(name: str, value: str) -> None:
    """Check that the value may be part of a folder's name."""
    if not _NAME.fullmatch(value):
        raise ArgumentError(f"{name} must be a name of letters, digits and . _ + -, not '{value}'")


def _whole(least: int = 0) -> Callable[[str, str], None]:
    def check(name: str, value: str) -> None:
        if not _WHOLE.fullmatch(value):
            raise ArgumentError(f"{name} must be a whole number, not '{value}'")
        if int(value) < least:
            raise ArgumentError(f"{name} must be at least {least}, not {value}")

    return check


def numbers(name: str, text: str, least: int = 0) -> tuple[int, ...]:
    """Whole numbers separated by spaces; duplicates count once.

    Raises:
        ArgumentError: the text is something else.
    """
    if not text.split():
        raise ArgumentError(f"{name} must be whole numbers separated by spaces, not '{text}'")
    for word in text.split():
        _whole(least)(name, word)
    return tuple(dict.fromkeys(map(int, text.split())))


def _number(name: str, value: str) -> None:
    if not _NUMBER.fullmatch(value):
        raise ArgumentError(f"{name} must be a number, not '{value}'")


def _share(name: str, value: str) -> None:
    if not re.fullmatch(r"0|1|1\.0|0\.[0-9]+", value):
        raise ArgumentError(f"{name} must be a number from 0 to 1, not '{value}'")


def _truth(name: str, value: str) -> None:
    if value not in ("True", "False"):
        raise ArgumentError(f"{name} must be True or False, not '{value}'")


def _one_of(*choices: str) -> Callable[[str, str], None]:
    def check(name: str, value: str) -> None:
        if value not in choices:
            raise ArgumentError(f"{name} must be one of {' '.join(choices)}, not '{value}'")

    return check


_CHECKS: dict[str, Callable[[str, str], None]] = {
    **dict.fromkeys(("SHOTS", "N_CTX"), _whole(1)),
    **dict.fromkeys(("CLASS_N_CTX", "TASK_N_CTX"), _whole()),
    **dict.fromkeys(("CSC", "TSC", "CLASS_CSC", "TASK_CSC"), _truth),
    "PG_TYPE": _one_of("lin", "linmean", "lincls"),
    "PG_RATIO": _number,  # of old commands; never used
    "CLS_SAMPLE_RATE": _share,
    "base|new": lambda _, value: _one_of("base", "new")("CLASSES", value),
}


# -- methods -------------------------------------------------------------------------------------------------------


def _single_trainer(given: Words, _: Variables) -> str:
    _plain("TRAINER", given["TRAINER"])
    folder = CHECKOUT / "configs/trainers"
    if not (folder / given["TRAINER"]).is_dir():
        there = " ".join(sorted(each.name for each in folder.iterdir() if each.is_dir() and _NAME.match(each.name)))
        raise ArgumentError(f"TRAINER '{given['TRAINER']}' has no folder in configs/trainers; there are: {there}")
    return given["TRAINER"]


def _second_stage(given: Words) -> "Method":
    """The row of configs/methods.yaml that starts from the method of the argument METHOD."""
    from dassl.results.methods import read_methods

    rows = {row.start.method: row for row in read_methods().values() if row.start}
    if given["METHOD"] not in rows:
        raise ArgumentError(f"METHOD must be one of {' '.join(rows)}, not '{given['METHOD']}'")
    return rows[given["METHOD"]]


def _two_stage_trainer(given: Words, _: Variables) -> str:
    return _second_stage(given).trainer


def _zeroshot_trainer(_: Words, variables: Variables) -> str:
    trainer = variables.get("METHOD", "") or "ZeroshotCLIP"
    _one_of(*_ZERO_SHOT)("METHOD", trainer)
    return trainer


def _softcpt(command: Command, given: Words, _: Variables) -> None:
    names = ["TASK_N_CTX", "TASK_CSC", "N_CTX", "CSC", "PG_TYPE"]
    names += ["CLASS_N_CTX", "CLASS_CSC"] if given["CSC"] == "True" else []
    names += ["CLS_SAMPLE_RATE"] if "CLS_SAMPLE_RATE" in given else []
    command.keys = {_COOP + name: given[name] for name in names}
    compared = [name for name in ("N_CTX", "TASK_N_CTX", "CLASS_N_CTX", "PG_TYPE") if name in names]
    command.compared = {_COOP + name: given[name] for name in compared}
    command.compared[f"{_COOP}CLS_SAMPLE_RATE"] = given.get("CLS_SAMPLE_RATE", "0")
    command.shots = (int(given["SHOTS"]),)
    switches = f"{given['CSC']} {given['CLASS_CSC']}"
    if switches not in _CLASS_TOKENS:
        raise ArgumentError(
            "CLASS_CSC is True but CSC is False, so there are no class prompts; make both True or both False"
        )
    command.setting = _CLASS_TOKENS[switches] + ("TS" if given["TASK_CSC"] == "True" else "TA")


def _hard(command: Command, given: Words, _: Variables) -> None:
    command.keys = {f"TRAINER.MTCOOPH.{name}": given[name] for name in ("N_CTX", "CSC", "TSC")}
    command.compared = {"TRAINER.MTCOOPH.N_CTX": given["N_CTX"]}
    command.setting = _HARD[f"{given['CSC']} {given['TSC']}"]
    command.shots = (int(given["SHOTS"]),)


def _single(command: Command, given: Words, variables: Variables) -> None:
    """A method whose arguments are all options; one run for each task, or for those in the variable TASKS."""
    command.setting = "default"
    command.shots = (int(given["SHOTS"]),)
    said = variables.get("TASKS", "")
    command.per_task = said != "all"
    if said not in ("", "all"):
        _ask_for(command, "TASKS", numbers("TASKS", said))


def _two_stages(command: Command, given: Words, _: Variables) -> None:
    """A method that learns source tasks together, and then each task of DATASET from there."""
    from dassl.results.methods import Start

    row, source = _second_stage(given), given["SOURCE"]
    if source != "others":
        _listed("SOURCE (or others)", source, "configs/datasets")
    where = {"tasks": "others"} if source == "others" else {"suite": source}
    command.start = Start(given["METHOD"], seeds=command.seeds, **where)
    command.keys = {key: str(value) for key, value in row.options.items()}
    command.label = row.label
    command.setting = row.setting if source == "others" else f"{row.setting}-from={source}"
    command.shots, command.per_task = (int(given["SHOTS"]),), True


def source_of(command: Command) -> "Method":
    """The method of the first stage."""
    from dassl.results.methods import find_method

    assert command.start is not None
    return find_method(command.start.method)


def _zeroshot(command: Command, given: Words, _: Variables) -> None:
    command.setting = _ZERO_SHOT[command.trainer]
    if given["TASK"] != "all":
        _whole()("TASK (or all)", given["TASK"])
        _ask_for(command, "TASK", (int(given["TASK"]),))


def _linear_probe(command: Command, given: Words, variables: Variables) -> None:
    command.setting = "probe"
    command.shots = numbers("SHOTS", variables.get("SHOTS", "") or "1 2 4 8 16", 1)
    if given["LAST_TASK"] != "all":
        _whole()("LAST_TASK (or all)", given["LAST_TASK"])
        _ask_for(command, "LAST_TASK", (int(given["LAST_TASK"]),))
        command.tasks = range(int(given["LAST_TASK"]) + 1)


def _ask_for(command: Command, name: str, tasks: tuple[int, ...]) -> None:
    """Request one run for each of these tasks, which must exist."""
    command.per_task = True
    command.tasks = command.asked[name] = tasks


_TRAINERS: dict[str, Callable[[Words, Variables], str]] = {
    "softcpt": lambda *_: "MTCoOp",
    "hard": lambda *_: "MTCoOpHard",
    "single": _single_trainer,
    "mvlpt": _two_stage_trainer,
    "zeroshot": _zeroshot_trainer,
    "linearprob": lambda *_: "LinearProbe",
}
_METHODS: dict[str, Callable[[Command, Words, Variables], None]] = {
    "softcpt": _softcpt,
    "hard": _hard,
    "single": _single,
    "mvlpt": _two_stages,
    "zeroshot": _zeroshot,
    "linearprob": _linear_probe,
}


# -- protocols -----------------------------------------------------------------------------------------------------


def _set_protocol(command: Command, given: Words, words: Sequence[str]) -> None:
    """Set the protocol from ``words``: none, or a protocol and "train" or "test"; else an argument gives the part."""
    if not words:
        return
    if command.start:
        command.stage = words[0]
        return
    command.protocol, command.part = words[0], int("test" in words or given.get("base|new") == "new")
    if command.protocol == "transfer":
        command.targets = tuple(dict.fromkeys(given["TARGETS"].split(",")))
        for target in command.targets:
            _listed("TARGETS", target, "configs/datasets")
            if target == given.get("DATASET"):
                raise ArgumentError(f"TARGETS has {target}, which is what the method learns; leave it out")
        command.per_task = False
    if command.protocol == "newtasks":
        which = _task_choice(given["TASKS"], command)
        command.protocol = f"newtasks {which}"


def _task_choice(text: str, command: Command) -> str:
    """The training tasks: "base", "new", or such as "task0,task3"."""
    if text in ("base", "new"):
        return text
    words = [word.removeprefix("task") for word in text.split(",")]
    if not all(re.fullmatch(r"[0-9]+", word) for word in words):
        raise ArgumentError(f"TASKS must be base, new, or numbers such as 0,3, not '{text}'")
    tasks = sorted({int(word) for word in words})
    for task in tasks:
        _whole()("TASKS", str(task))
    command.asked["TASKS"] = tuple(tasks)
    return ",".join(f"task{task}" for task in tasks)


def _refuse_what_follows(command: Command) -> None:
    """Refuse options that set the same as an argument."""
    own = {"DATASET.NUM_SHOTS", *command.keys, _CHOSEN_BY_PROTOCOL.get(command.protocol.split(" ")[0], "")}
    own |= {"DATASET.SUBSAMPLE_TASKS"} if command.per_task else set()
    for word in command.options:
        if word in own:
            raise ArgumentError(f"{word} follows from the arguments of this script; leave it out")
