"""Compare all methods on your own tasks, and say in words which one to take.

It checks the data, trains zero-shot CLIP, probes, CoOp and SoftCPT, cheap methods first, prints a table after each
stage, and writes one page. The same command resumes an interrupted comparison; finished runs are not repeated.
"""

import argparse
import sys
import webbrowser
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from clip.weights import available_models, find
from dassl.data.contents import content_digests
from dassl.data.dataset import find_dataset
from dassl.data.datum import Split
from dassl.data.images import identity
from dassl.data.own.description import multi_tasks
from dassl.data.splits import SPLITS
from dassl.registries import TRAINER_REGISTRY
from dassl.report.checks import notice_lines, notices
from dassl.report.forms import print_form
from dassl.report.mistakes_part import Asked
from dassl.report.page import Part, write_page
from dassl.report.sheets import Options, main_sheets
from dassl.report.study import Suite, suites
from dassl.report.suspects import Examined, suspects_html
from dassl.report.tree import read_tree
from dassl.report.verdict import Judged, judge
from dassl.report.verdict_part import commands, verdict_html
from dassl.results.methods import Method, find_method, read_methods
from dassl.results.tables import shots_heading
from dassl.sweep.executor_config import ExecutorConfig
from dassl.sweep.grid import CONFIGS, Sweep, find_file, suite_name
from dassl.sweep.overview import describe
from dassl.sweep.plan import Run, expand
from dassl.sweep.session import start
from dassl.sweep.status import Entry
from dassl.utils.cli import Parser, exit_code, names, numbers, say
from dassl.utils.errors import UserError
from dassl.utils.files import read_json, write_json
from dassl.utils.logger import setup_logger
from dassl.utils.tools import CHECKOUT
from datasets import check
from datasets._command import read_choice
from scripts.suspects import examine

EMBEDDED = "demo"
DATA_FILE = "data.json"  # in the output folder: what was compared
# The best first; of these the first one whose weights are on this machine is the default.
PREFERRED = ("ViT-L/14", "ViT-B/16", "ViT-B/32", "RN101", "RN50")
SHOTS = (1, 2, 4, 8, 16)
# Methods that take seconds, then those that learn prompts by steps. Rows that configs/methods.yaml lacks are skipped.
CHEAP = ("ZS-CLIP", "ProtoNet", "LP-CLIP", "Tip-Adapter", "GDA", "LP++", "CM-LP", "CLAP")
PROMPTS = ("CoOp-MT", "SoftCPT-NATA", "SoftCPT-NATS", "CoOp-CA")
# Processes that read images take longer to start than few images to read; runs go side by side instead.
_QUICK = {"DATALOADER.NUM_WORKERS": 0}
_TOY = (
    "The backbone is the small one inside this checkout, made for drawings: its figures mean little for real images. "
    "Give --backbone RN50 or better (256 MB are downloaded once)."
)


@dataclass(frozen=True)
class Stage:
    """Runs that are carried out together, before a table is printed."""

    title: str
    sweep: Sweep


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = Parser(prog="scripts/compare.sh", description=__doc__)
    add = parser.add_argument
    add("tasks", metavar="TASKS", help="yaml file with your tasks, or the name of one in configs/datasets/")
    add("--root", default="", metavar="DIR", help="folder that the paths in the yaml file are relative to")
    add("--backbone", default="", metavar="NAME", help="default: the best one whose weights are here, else demo")
    add("--shots", type=numbers, default=SHOTS, metavar="N,N", help="training images per class (default: 1,2,4,8,16)")
    add("--seeds", type=int, default=3, metavar="N", help="number of seeds (default: 3)")
    add("--methods", type=names, default=(), metavar="NAME,NAME", help="only these rows of configs/methods.yaml")
    add("--output-dir", type=Path, default=None, metavar="DIR", help="default: output/compare/TASKS/BACKBONE")
    add("--jobs", type=int, default=0, metavar="N", help="runs at the same time (default: one per GPU, else per core)")
    add("--dry-run", action="store_true", help="list the runs and the estimated time")
    add("--no-open", action="store_true", help="do not open the page in a browser")
    add("options", nargs="*", metavar="KEY VALUE", help="config keys for every run, e.g. OPTIM.MIN_STEPS 800")
    return parser


# -- what to run -----------------------------------------------------------------------------------------------


def chosen_backbone(name: str) -> str:
    """The named backbone, or the best one with weights on this machine."""
    if name:
        return name
    for each in PREFERRED:
        with suppress(Exception):  # a damaged file is no reason to stop: the name was not asked for
            if each in available_models() and find(each) is not None:
                return each
    return EMBEDDED


def whole_split(cfg: CfgNode) -> Split:
    """All images of the tasks, whatever the shots."""
    whole = cfg.clone()
    whole.DATASET.NUM_SHOTS = -1
    return find_dataset(whole).load(whole).split


def describe_data(split: Split, root: Path) -> dict[str, Any]:
    """What tells whether a comparison has the same data: numbers, and a digest of tasks, labels and images."""
    items = [(name, item) for name, items in zip(SPLITS, split.lists, strict=True) for item in items]
    digest = blake2b(repr([asdict(replace(task, places={})) for task in split.tasks]).encode(), digest_size=16)
    for (name, item), content in zip(items, content_digests([item.impath for _, item in items]), strict=True):
        digest.update(f"{name} {identity(item.impath, root)} {item.targets} ".encode() + content)
    return {"root": str(root), "images": len(items), "digest": digest.hexdigest()}


def check_same_data(folder: Path, data: Mapping[str, Any]) -> None:
    """Refuse a folder whose runs are on other data, which their config does not tell.

    Raises:
        UserError: it holds a comparison of other images, labels or tasks.
    """
    path = folder / DATA_FILE
    before = read_json(path) if path.is_file() else data
    if before.get("digest") != data["digest"]:
        raise UserError(
            f"{folder} holds a comparison of other data ({before.get('images')} images of {before.get('root')}; now "
            f"{data['images']} of {data['root']}): images, labels, classes or tasks differ; use another --output-dir, "
            "or delete that folder"
        )


def check_same_config(runs: Sequence[Run]) -> None:
    """Refuse to judge finished runs that were made with other settings.

    Raises:
        UserError: a folder holds such a run.
    """
    for run in runs:
        if run.found() == "other":
            raise UserError(
                f"{run.folder} holds a run with another config ({run.conflicts()[0]}), which a verdict would mix in; "
                "use another --output-dir"
            )


def useful_shots(split: Split, asked: Sequence[int]) -> tuple[int, ...]:
    """The numbers of shots that some class has images for; with a line for those that are dropped.

    Raises:
        UserError: there is no training image.
    """
    counts = Counter(
        (number, each)
        for item in split.train
        for number, label in item.targets
        for each in split.tasks[number].classes_of(label)
    )
    if not counts:
        raise UserError("the tasks have no training image; see docs/your-own-data.md")
    most = max(counts.values())
    kept = [shots for shots in sorted(set(asked)) if shots <= most]
    dropped = [shots for shots in sorted(set(asked)) if shots > most]
    if dropped:
        kept += [most] * (most not in kept and not kept)
        say(f"shots {', '.join(map(str, dropped))} left out: no class has more than {most} training images")
    return tuple(kept)


def chosen_methods(asked: Sequence[str]) -> tuple[list[Method], list[Method]]:
    """The methods that take seconds, and those that take minutes."""
    if asked:
        rows = [find_method(name) for name in asked]
        return [each for each in rows if each.label in CHEAP], [each for each in rows if each.label not in CHEAP]
    known = read_methods()
    return [known[name] for name in CHEAP if name in known], [known[name] for name in PROMPTS]


def able(methods: Sequence[Method], multi: Sequence[str]) -> list[Method]:
    """Those of the usual methods that can learn the multi-label tasks, given by name; with a line for the others."""
    if not multi:
        return list(methods)
    found = [each for each in methods if TRAINER_REGISTRY.get(each.trainer).multi_label]
    left_out = [each.label for each in methods if each not in found]
    if left_out:
        say(f"left out, because task {multi[0]!r} has several labels an image: {', '.join(left_out)}")
    return found


def stages(args: argparse.Namespace, suite: Path, backbone: str, shots: Sequence[int], folder: Path) -> Iterator[Stage]:
    """The stages in order: what is cheap or says most comes first.

    Args:
        suite: the yaml file.
    """
    cheap, prompts = chosen_methods(args.methods)
    if not args.methods:
        multi = multi_tasks(read_choice(str(suite), args.root))
        cheap, prompts = able(cheap, multi), able(prompts, multi)
    base = Sweep(
        name=suite_name(str(suite)),
        suites=(str(suite),),
        methods=(),
        shots=tuple(shots),
        seeds=tuple(range(1, args.seeds + 1)),
        config="own",
        options={"MODEL.BACKBONE.NAME": backbone, **_QUICK},
        output=str(folder),
    )
    most, fewer = (shots[-1],), tuple(shots[:-1])
    learning = tuple(each for each in cheap if each.learns)
    if cheap:
        yield Stage("methods that take seconds", replace(base, methods=tuple(cheap), shots=most))
    if learning and fewer:
        yield Stage("methods that take seconds, with fewer images", replace(base, methods=learning, shots=fewer))
    if prompts:
        yield Stage(f"prompts with {shots_heading(most[0])}", replace(base, methods=tuple(prompts), shots=most))
    if any(each.label == "SoftCPT-NATA" for each in prompts):
        alone = replace(find_method("SoftCPT-NATA"), per_task=True)
        yield Stage("SoftCPT on each task alone", replace(base, methods=(alone,), shots=most))
    if prompts and fewer:
        yield Stage("prompts with fewer images", replace(base, methods=tuple(prompts), shots=fewer))


def _pairs(args: argparse.Namespace) -> list[str]:
    root = ["DATASET.ROOT", str(Path(args.root).expanduser().absolute())] if args.root else []
    return [*root, *args.options]


# -- what comes out --------------------------------------------------------------------------------------------


def write_report(
    folder: Path, remarks: Sequence[str], examined: Sequence[Examined], *, root: str
) -> tuple[Path, Judged]:
    """Write the page about all finished runs; returns its path and the verdict."""
    tree = read_tree(folder)
    found = suites(tree)
    if not found:
        raise UserError(f"no run in {folder} is finished, so there is no verdict; the lines above say why")
    judged = judge(found[0])
    notes = notices(tree, found)
    first = [Part("verdict", "Which method to take", verdict_html(judged, remarks=remarks))]
    asked = Asked((), Path(root) if root else None)
    if examined:
        first.append(Part("suspects", "Images that may be mislabelled", suspects_html(examined, asked.root)))
    page = folder / "page.html"
    write_page(page, tree, found, notes, Options(), asked=asked, first=first)
    return page, judged


def _examined(args: argparse.Namespace, suite: Path, backbone: str, folder: Path) -> list[Examined]:
    """The cross-validation of all labels; empty, with a line, if the probe cannot be built."""
    probe = replace(find_method("LP-CLIP"), label="")
    options = {"MODEL.BACKBONE.NAME": backbone, **_QUICK}
    sweep = Sweep(
        suite_name(str(suite)), (str(suite),), (probe,), (-1,), (1,), config="own", options=options, output=str(folder)
    )
    (run,) = expand(sweep, pairs=_pairs(args))
    try:
        return examine(run.config())
    except UserError as error:
        say(f"labels were not examined: {error}")
        return []


def _print_table(folder: Path, title: str) -> None:
    tree = read_tree(folder)
    found: Sequence[Suite] = suites(tree)
    sheets = [sheet for suite in found for sheet in main_sheets(suite, Options())]
    if sheets:
        print(f"\n-- {title}\n\n{print_form(sheets, 'text')}", end="", flush=True)


def _print_verdict(judged: Judged, page: Path, remarks: Sequence[str], notes: Sequence[str]) -> None:
    print("\n-- which method to take\n")
    for line in remarks:
        print(f"NOTE: {line}")
    verdicts = [each for each in (judged.overall, *judged.tasks) if each is not None]
    for each in verdicts:
        print(f"{each.task or 'all tasks'}:")
        for sentence in each.sentences:
            print(f"  {sentence}")
    for line in [*judged.left_out, *notes]:
        print(line)
    if lines := commands(judged):
        print("\nuse it:", *lines, sep="\n  ")
    print(f"\npage: {page}")


# -- carrying it out -------------------------------------------------------------------------------------------


def _checked(args: argparse.Namespace, suite: Path) -> None:
    """Check the data as `python -m datasets.check` does.

    Raises:
        UserError: the tasks cannot be read.
    """
    code = check.main([str(suite), *(["--root", args.root] if args.root else [])])
    if code > 1:
        raise UserError(f"{suite} cannot be compared before the lines above are settled")
    if code:
        say("the check found something (see above); the comparison goes on, and its tables repeat what affects figures")


def _carry_out(args: argparse.Namespace) -> list[Entry]:
    setup_logger(None)
    if args.seeds < 1:
        raise UserError(f"--seeds {args.seeds}: give the number of seeds, 1 or more")
    if args.shots and min(args.shots) < 1:
        raise UserError(f"--shots {min(args.shots)}: give numbers of training images per class, 1 or more")
    suite = find_file(args.tasks, CONFIGS / "datasets", "task").absolute()
    chosen_methods(args.methods)  # a wrong name is told before the data are checked
    backbone = chosen_backbone(args.backbone)
    if not args.backbone:
        say(f"backbone: {backbone} (choose another one with --backbone)")
    remarks = list(_remarks(backbone, args.seeds))
    if not args.dry_run:
        _checked(args, suite)
    cfg = read_choice(str(suite), args.root)
    split = whole_split(cfg)
    shots = useful_shots(split, args.shots)
    folder = (args.output_dir or CHECKOUT / "output" / "compare" / suite.stem / backbone.replace("/", "-")).absolute()
    data = describe_data(split, Path(cfg.DATASET.ROOT).expanduser().absolute())
    check_same_data(folder, data)
    planned = [
        (stage, expand(stage.sweep, pairs=_pairs(args))) for stage in stages(args, suite, backbone, shots, folder)
    ]
    if args.dry_run:
        _show_plan(planned, args)
        return []
    check_same_config([run for _, runs in planned for run in runs])
    write_json(folder / DATA_FILE, data)
    failed = [entry for stage, runs in planned for entry in _stage(stage, runs, folder, args)]
    examined = _examined(args, suite, backbone, folder)
    page, judged = write_report(folder, [*remarks, *_failures(failed)], examined, root=args.root)
    tree = read_tree(folder)
    _print_verdict(
        judged, page, remarks, [*(each.sentence for each in examined), *notice_lines(notices(tree, suites(tree)))]
    )
    if not args.no_open and sys.stdout.isatty():
        webbrowser.open(page.as_uri())
    return failed


def _remarks(backbone: str, seeds: int) -> Iterator[str]:
    if backbone == EMBEDDED:
        yield _TOY
    if seeds == 1:
        yield "With one seed the draw of the training images is not part of the standard errors; give --seeds 3."


def _failures(failed: Sequence[Entry]) -> Iterator[str]:
    for entry in failed:
        yield f"Failed and not part of any figure: {entry.run.title}: {entry.error}"


def _show_plan(planned: Sequence[tuple[Stage, list[Run]]], args: argparse.Namespace) -> None:
    for stage, runs in planned:
        found = [run.found() for run in runs]
        print(
            f"-- {stage.title}\n{describe(runs, found, jobs=max(1, args.jobs or ExecutorConfig().local()[0]))}", end=""
        )


def _stage(stage: Stage, runs: Sequence[Run], folder: Path, args: argparse.Namespace) -> list[Entry]:
    """Carry out what is left of a stage, then print the table of all runs so far."""
    found = [run.found() for run in runs]
    failed: list[Entry] = []
    if any(state != "done" for state in found):
        failed = start(stage.sweep.name, folder, runs, found, executor=ExecutorConfig(jobs=args.jobs))
        for entry in failed:
            say(f"failed: {entry.run.title}: {entry.error}")
        _print_table(folder, stage.title)
    return failed


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison; returns 0, 1 if runs failed, 2 after a mistake, or 130 if interrupted."""
    failed: list[Entry] = []
    code = exit_code(
        lambda: failed.extend(_carry_out(build_parser().parse_intermixed_args(argv))),
        interrupted="interrupted; the same command resumes with the runs that are left",
    )
    return code or int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
