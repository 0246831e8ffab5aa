"""Carries out the runs of an experiment script, by the rules of a sweep; each run is one start of train.py.

``common.sh`` starts it as ``launch.py SCRIPT KIND ARGUMENT ...``. A run whose folder holds its result is skipped;
otherwise train.py decides: it starts, resumes, or refuses a folder of another config. The first run that fails ends
the script with its exit code.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from dassl.results.record import RESULTS_FILE
from dassl.utils.cli import exit_code
from dassl.utils.errors import UserError
from dassl.utils.files import write_text
from dassl.utils.tools import CHECKOUT
from scripts.arguments import ArgumentError, Command, read_command, source_of

if TYPE_CHECKING:
    from argparse import Namespace

    from dassl.results.methods import Method
    from dassl.sweep.grid import Sweep
    from dassl.sweep.plan import Run

_HELP = """\

Options are those of train.py: flags such as --backbone RN101, then KEY VALUE pairs.
The first run that fails ends the script with its exit code; the same command resumes there.
Finished runs are skipped. Variables:
"""
Start = Callable[[list[str]], int]


def main(argv: Sequence[str], variables: Mapping[str, str] = os.environ, start: Start | None = None) -> int:
    """Carry out ``SCRIPT KIND ARGUMENT ...``.

    Args:
        variables: the environment.
        start: runs train.py with these words and returns its exit code.

    Returns:
        0; 2 after a mistake, explained in one line; 130 if interrupted; else the exit code of the run that failed.
    """
    script, kind, words = Path(argv[0]), argv[1], list(argv[2:])
    if words[:1] in (["-h"], ["--help"]):
        print(_help(script), end="")
        return 0
    codes: list[int] = []

    def action() -> None:
        try:
            command = read_command(_arguments(script), kind, words, variables)
            codes.append(_carry_out(script.name, command, variables, start or start_train))
        except ArgumentError as error:
            print(f"{script.name}: {error}\n{_usage(script)}", file=sys.stderr)
            codes.append(2)

    return exit_code(action) or codes[0]


def _comment(path: Path) -> list[str]:
    """The comment lines at the top of a script."""
    lines = path.read_text(encoding="utf-8").splitlines()
    lines = lines[1:] if lines[0].startswith("#!") else lines
    return [re.sub("^# ?", "", line) for line in takewhile(lambda line: line.startswith("#"), lines)]


def _usage(script: Path) -> str:
    return next(line for line in _comment(script) if line.startswith("usage: "))


def _arguments(script: Path) -> list[str]:
    """The names of its positional arguments, from its usage line."""
    return _usage(script).removesuffix(" [OPTION ...]").split()[3:]


def _help(script: Path) -> str:
    variables = [line for line in _comment(script.with_name("set_env.sh")) if line.startswith("  ")]
    return "\n".join([*_comment(script), _HELP, *(line.removeprefix(" ") for line in variables), ""])


# -- runs ----------------------------------------------------------------------------------------------------------


def _carry_out(script: str, command: Command, variables: Mapping[str, str], start: Start) -> int:
    """Carry out the runs that are not done; returns the exit code of the run that failed, or 0."""
    from dassl.utils.logger import setup_logger

    setup_logger(None)
    flags, runs = plan(command, variables)
    if command.stage == "target":
        _check_sources(runs)
    asked = [pair for run in runs for pair in _asked(run, command, flags)]
    for _, model in asked:
        if command.part and model and model.result() is None:
            raise UserError(
                f"{model.folder} has no finished run; train it by {script.removesuffix('test.sh')}train.sh with the "
                "same arguments"
            )
    for run, model in asked:
        if _done(run, model):
            print(f"== {run.folder} is done", flush=True)
            continue
        code = _one_run(run, model, flags, start)
        if code:
            print(f"{script}: stopped at {run.folder} (exit code {code})", file=sys.stderr)
            return code
    return 0


def _check_sources(runs: Sequence["Run"]) -> None:
    """Refuse a second stage before the first one is finished (UserError)."""
    for source in (each for run in runs for each in run.sources):
        if source.result() is None:
            raise UserError(
                f"{source.folder} has no finished run; train it by main_mvlpt_source.sh with the same arguments"
            )


def _asked(run: "Run", command: Command, flags: Sequence[str]) -> list[tuple["Run", "Run | None"]]:
    """The requested runs of a protocol, each with the run that it evaluates, if any.

    A requested epoch has a separate folder.
    """
    first = replace(run, evaluations=())
    if command.targets:
        return [(first, None), *((each, first if command.learns else None) for each in run.evaluations)]
    if not run.evaluations or not command.part:
        return [(first, None)]
    second = run.evaluations[0]
    epoch = f"-epoch={flags[flags.index('--load-epoch') + 1]}" if "--load-epoch" in flags else ""
    kind = second.kind.with_name(second.kind.name + epoch)
    second = replace(second, kind=kind, folder=kind / second.folder.relative_to(second.kind))
    return [(second, first if command.learns else None)]


def _done(run: "Run", model: "Run | None") -> bool:
    """Whether the folder holds the run's result and the evaluated run is not newer."""
    if run.found() != "done":
        return False
    return model is None or _written(model.folder) <= _written(run.folder)


def _written(folder: Path) -> float:
    return (folder / RESULTS_FILE).stat().st_mtime


def _one_run(run: "Run", model: "Run | None", flags: Sequence[str], start: Start) -> int:
    """Start train.py; if it leaves a result, store its arguments in ``command.txt``."""
    print(f"== {run.folder}", flush=True)
    result = run.folder / RESULTS_FILE
    if result.is_file() and result.read_bytes().rstrip()[-1:] != b"}":  # cut off, for example by a full disk
        result.unlink()
    words = run.arguments(*([] if model is None else ["--eval-only", "--model-dir", str(model.folder)]), *flags)
    code = start(words)
    if code == 0 and result.is_file():
        write_text(run.folder / "command.txt", "\n".join([*words, ""]))
    return code


def start_train(words: Sequence[str]) -> int:
    """Run train.py; returns its exit code in the form of a shell.

    Ctrl-C also reaches the run, which then ends. A SIGTERM ends the run, then this process.
    """
    caught: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def note(signum: int, _: FrameType | None) -> None:
        caught.append(signum)
        if process and signum == signal.SIGTERM:
            process.terminate()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        process = subprocess.Popen([os.environ.get("PYTHON") or sys.executable, str(CHECKOUT / "train.py"), *words])
        if signal.SIGTERM in caught:  # it came during the start
            process.terminate()
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signal.SIGTERM in caught:
        raise SystemExit(128 + signal.SIGTERM)
    return 128 - code if code < 0 else code or (128 + signal.SIGINT if caught else 0)


# -- which runs ----------------------------------------------------------------------------------------------------


def plan(command: Command, variables: Mapping[str, str]) -> tuple[list[str], list["Run"]]:
    """The flags of all runs, and the runs of a command, which include the second part of a protocol.

    Raises:
        UserError: a wrong option, a missing task or missing data, or a method that the protocol cannot test.
    """
    try:
        import train
        from dassl.sweep.plan import expand
    except ModuleNotFoundError as error:
        raise UserError(
            f"{sys.executable} has no module {error.name}; name another interpreter with PYTHON, or let "
            "scripts/setup.sh make .venv"
        ) from error

    learned = ["--eval-only"] if command.part and command.learns else []
    args = train.parse([*learned, "--root", variables.get("DATA", ""), *command.options])
    pairs = [*train.flag_pairs(args), *args.opts]
    sweep = _sweep(command, args.opts, variables)
    (method,) = sweep.methods
    if command.stage:
        found = [run for run in expand(sweep, pairs=pairs) if bool(run.sources) == (command.stage == "target")]
        found.sort(key=lambda run: (run.task or run.without or 0, command.seeds.index(run.seed)))
        return _flags(args), found
    runs = expand(replace(sweep, methods=(replace(method, per_task=False),)), pairs=pairs)
    if command.asked or command.per_task:
        _check_tasks(command, count_tasks(runs[0]))
    if command.per_task:
        runs = expand(_of_tasks(sweep, command.tasks), pairs=pairs)
    order = (command.shots, command.seeds)
    runs.sort(key=lambda run: (order[0].index(run.shots), run.task or 0, order[1].index(run.seed)))
    return _flags(args), runs


def _flags(args: "Namespace") -> list[str]:
    """Flags of train.py that are not config keys."""
    epoch = [] if args.load_epoch is None else ["--load-epoch", str(args.load_epoch)]
    return [*epoch, *["--no-train"] * args.no_train]


def count_tasks(run: "Run") -> int:
    """Number of tasks in the data of a run.

    Raises:
        UserError: the data are missing.
    """
    from dassl.data.dataset import find_dataset

    cfg = run.config()
    dataset = find_dataset(cfg)
    dataset.check_data(cfg)
    return dataset.count_tasks(cfg)


def _check_tasks(command: Command, count: int) -> None:
    """Check that the requested tasks exist."""
    for name, tasks in command.asked.items():
        for task in tasks:
            if task >= count:
                raise ArgumentError(
                    f"{name}: there is no task{task}; the data set has {count} tasks, task0 to task{count - 1}"
                )


def _sweep(command: Command, opts: Sequence[str], variables: Mapping[str, str]) -> "Sweep":
    """The grid of one method on one suite."""
    from dassl.results.methods import Method
    from dassl.sweep.grid import CONFIGS, Sweep

    output = Path(variables.get("OUTPUT") or CHECKOUT / "output").absolute()
    places = {"DATALOADER.FEATURES_DIR": output / "features", "DATASET.CACHE_DIR": output / "cache"}
    options = {key: str(folder) for key, folder in places.items()}
    suite = CONFIGS / "datasets" / f"{command.dataset}.yaml"
    config = CONFIGS / "trainers" / command.trainer / f"{command.cfg}.yaml"
    method = Method(
        label=command.label,
        trainer=command.trainer,
        config=str(config),
        setting=_setting(command, opts, suite),
        options=command.keys,
        per_task=command.per_task,
        learns=command.learns,
        start=command.start,
    )
    written: tuple[Method, ...] = ()
    if command.start:
        source = source_of(command)
        setting = _setting(replace(command, setting=source.setting, start=None), opts, suite)
        written = (replace(source, config=str(config), setting=setting),)
    return Sweep(
        name=command.dataset,
        suites=(str(suite),),
        methods=(method,),
        shots=command.shots,
        seeds=command.seeds,
        options=options,
        protocol=command.protocol,
        targets=command.targets,
        written=written,
        output=str(output / command.dataset),
    )


def _of_tasks(sweep: "Sweep", tasks: Sequence[int] | None) -> "Sweep":
    """The grid on these tasks; None: all of them."""
    which = "all" if tasks is None else ",".join(f"task{task}" for task in tasks)
    return replace(sweep, options={**sweep.options, "DATASET.SUBSAMPLE_TASKS": which})


def _setting(command: Command, opts: Sequence[str], suite: Path) -> str:
    """The setting's folder: its name, then differences from the paper, other options of the method, and the tag."""
    paper = _as_in_the_paper(command, suite)
    changed = {key: value for key, value in command.compared.items() if value != paper[key]}
    for key, value in zip(opts[::2], opts[1::2], strict=False):
        if key.startswith("TRAINER."):
            changed.pop(key, None)
            if value != paper.get(key):
                changed[key] = re.sub(rb"[^A-Za-z0-9.+]", b"_", value.encode()).decode()
    added = [f"{key.rpartition('.')[2]}={value}" for key, value in changed.items()]
    return "-".join([command.setting, *added, *[command.tag] * bool(command.tag)])


def _as_in_the_paper(command: Command, suite: Path) -> dict[str, str]:
    """The values of the compared keys: those of the paper's row, else the defaults."""
    from dassl.config import all_keys, read_settings
    from dassl.results.methods import read_methods

    def of_row(row: "Method") -> bool:
        return (row.trainer, row.setting) == (command.trainer, command.setting)

    names = [value for _, key, value in read_settings(suite).settings if key == "DATASET.NAME"]
    row = next(filter(of_row, read_methods().values()), None)
    stated = {**row.options, **row.suite_options.get(names[-1] if names else "", {})} if row else {}
    return {key: _text(stated.get(key, all_keys()[key].default)) for key in command.compared}


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
