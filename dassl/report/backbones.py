"""Tables of backbones x methods, for runs that differ in the frozen network: one table for each number of shots.

Runs with different backbones are in different suites, each with its own heading (:mod:`dassl.report.suitekeys`). Here
the suites of one data set stand below each other, provided that they were tested on the same images.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dassl.report.figures import Figure, figure, ranked
from dassl.report.settings import changing_values, tell_apart
from dassl.report.sheets import OVERALL, Options, Sheet, legend, mean_of, mixture_note, shots_key, spread
from dassl.report.study import Grid, Suite, paper_order
from dassl.report.suitekeys import SuiteKey
from dassl.results.tables import ANY_SHOTS, Table, shots_heading

_SHOWN = 8  # characters of a digest
_IMAGES, _WEIGHTS = "test images ", "weights "  # in the headings of suites that were parted (dassl/report/suitekeys.py)


@dataclass(frozen=True)
class _Study:
    """The suites of one data set over several backbones.

    Attributes:
        title: without a backbone.
        grids: by name of the backbone.
        whole: a grid with the tasks and the seeds of all.
    """

    title: str
    grids: dict[str, Grid]
    whole: Grid


def backbone_sheets(found: Sequence[Suite], options: Options) -> Iterator[Sheet]:
    """Backbones x methods with the mean over all tasks; then each task, if requested."""
    for study in _studies(found):
        shots = sorted({k for grid in study.grids.values() for k in grid.shots} - {ANY_SHOTS}, key=lambda k: (k < 0, k))
        for each in shots or [ANY_SHOTS]:
            for task in (None, *(study.whole.tasks if options.per_task else ())):
                yield _sheet(study, each, task, options)


def _studies(found: Sequence[Suite]) -> Iterator[_Study]:
    """The data sets, each with its backbones in the order of their first runs."""
    alike: dict[SuiteKey, list[Suite]] = {}
    for suite in (each for each in found if each.plain is not None):
        apart = tuple(text for text in suite.key.apart if not text.startswith((_WEIGHTS, _IMAGES)))
        alike.setdefault(replace(suite.key, backbone="", apart=apart), []).append(suite)
    for key, suites in alike.items():
        title = ", ".join(part for part in key.title.split(", ") if part)
        known = {_images(suite) for suite in suites} - {""}
        if len(known) < 2:  # if only one digest is known, it counts for all
            yield _study(title, suites)
            continue
        for images in dict.fromkeys(_images(suite) for suite in suites):
            same = [suite for suite in suites if _images(suite) == images]
            yield _study(f"{title}, {_IMAGES}{images[:_SHOWN] or 'unknown'}", same)


def _study(title: str, suites: Sequence[Suite]) -> _Study:
    grids: dict[str, Grid] = {}
    for suite in suites:
        weights = (text for text in suite.key.apart if text.startswith(_WEIGHTS))
        if suite.plain is not None:
            grids[", ".join((suite.key.backbone, *weights))] = suite.plain
    return _Study(title, grids, _whole(list(grids.values())))


def _images(suite: Suite) -> str:
    """The digest of the images that the suite's runs were tested on; "" if it is not known."""
    known = {each.result.test_digest for each in suite.records if each.result.split == "test"} - {""}
    return min(known, default="")


def _whole(grids: Sequence[Grid]) -> Grid:
    """A grid without cells: the rows, seeds and tasks of all."""
    rows = sorted({row for grid in grids for row in grid.rows}, key=paper_order)
    tasks = list(dict.fromkeys(task for grid in grids for task in grid.tasks))
    flat = {row for row in rows if all(row in grid.flat for grid in grids if row in grid.rows)}
    seeds = sorted({seed for grid in grids for seed in grid.seeds})
    mixed = {place: each for grid in grids for place, each in grid.mixed.items()}
    return Grid(rows, flat, [], seeds, tasks, mixed=mixed)


def _sheet(study: _Study, shots: int, task: str | None, options: Options) -> Sheet:
    whole = study.whole
    columns = [
        ranked([_figure(study, grid, row, shots, task, options) for grid in study.grids.values()]) for row in whole.rows
    ]
    rows = [[name, *cells] for name, *cells in zip(study.grids, *columns, strict=True)]
    table = Table(["backbone", *whole.rows], rows)
    what = f"task {task}" if task else mean_of(whole)
    title = f"{study.title}, {shots_heading(shots)}: backbones, {what} in %, {spread(whole, options)}"
    keys = {"suite": study.title, "shots": shots_key(shots), "task": task or OVERALL}
    notes = [*legend(table), *mixture_note(whole), *_other_images(study, shots), *_other_settings(study, shots)]
    return Sheet(title, keys, table, notes=notes)


def _figure(study: _Study, grid: Grid, row: str, shots: int, task: str | None, options: Options) -> Figure | None:
    if row not in grid.rows:
        return None
    values, gap = grid.values(row, shots, task)
    lacking = len(study.whole.tasks) - len(grid.tasks)
    if lacking and not task and not gap:
        gap = f"{len(grid.tasks)}/{len(study.whole.tasks)} tasks"
    return figure(values, study.whole.wanted(row), interval=options.interval, gap=gap)


def _other_images(study: _Study, shots: int) -> Iterator[str]:
    """Rows and seeds whose training images differ between the backbones."""
    for row in study.whole.rows if shots > 0 else ():
        seen: dict[tuple[int, str], dict[str, str]] = {}
        for name, grid in study.grids.items():
            for seed, each in grid.cell(row, shots).items():
                for record in (record for record in each.records if record.learns and record.result.subset_digest):
                    seen.setdefault((seed, record.task_choice), {}).setdefault(record.result.subset_digest, name)
        for (seed, _), names in seen.items():
            if len(names) > 1:
                yield f"NOT COMPARABLE: {row}, seed {seed}: {' and '.join(names.values())} learned from other images"


def _other_settings(study: _Study, shots: int) -> Iterator[str]:
    """Keys of a method that differ between the backbones."""
    for row in study.whole.rows:
        settings = {name: found for name, grid in study.grids.items() if (found := _setting(grid, row, shots))}
        texts = [whole for _, whole in tell_apart(list(settings.values()))]
        if any(texts):
            told = "; ".join(f"{text or 'the usual'} ({name})" for name, text in zip(settings, texts, strict=True))
            yield f"{row} differs between the backbones: {told}"


def _setting(grid: Grid, row: str, shots: int) -> Mapping[str, str]:
    """The settings of a row that are not about its backbone; {} without runs."""
    records = [record for each in grid.cell(row, shots).values() for record in each.records]
    if not records:
        return {}
    found = {"precision": records[0].result.backbone.precision, **changing_values(records[0])}
    return {key: value for key, value in found.items() if not key.startswith("MODEL.BACKBONE.")}
