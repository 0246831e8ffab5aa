"""The paper's tables, made from suites."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dassl.report import paper
from dassl.report.figures import (
    Duration,
    Figure,
    Number,
    average,
    difference,
    durations,
    figure,
    harmonic,
    ranked,
)
from dassl.report.metrics import ACCURACY, Metric, cell_values
from dassl.report.settings import SCHEDULE_KEYS
from dassl.report.study import ALL_BUT, SEEN, UNSEEN, Grid, Protocol, SeedFigure, Suite
from dassl.results.tables import ANY_SHOTS, Cell, Table, shots_heading
from dassl.utils.errors import UserError
from dassl.utils.intervals import STD, Interval

OVERALL = "mean over tasks"


@dataclass(frozen=True)
class Sheet:
    """One table with its title, keys and notes.

    Attributes:
        keys: what distinguishes it from tables of the same kind, such as suite and task; columns in csv.
        data: the table that csv and json use instead; None: the same.
        notes: lines below the table.
        block: rows that belong together, such as the three of a comparison.
    """

    title: str
    keys: dict[str, str]
    table: Table
    data: Table | None = None
    notes: list[str] = field(default_factory=list)
    block: int = 1


@dataclass(frozen=True)
class Options:
    """How figures are shown.

    Attributes:
        interval: the kind of spread after "±".
        per_task: add a table for each task.
        costs: the main table shows parameters and training time.
        memory: it also shows the peak memory.
        metrics: the columns of the tables of figures.
    """

    interval: Interval = STD
    per_task: bool = False
    costs: bool = True
    memory: bool = False
    metrics: tuple[Metric, ...] = (ACCURACY,)


# ---- methods x shots


def main_sheets(suite: Suite, options: Options) -> Iterator[Sheet]:
    """Methods x shots with the mean over the shots, parameters and training time; then each task, if requested."""
    grid = suite.plain
    if grid is None:
        return
    names, costs = _shown_costs(grid, options)
    table = Table(
        ["method", *names, *shot_headings(grid)],
        [
            [row, *costs[row], *cells]
            for row, cells in zip(grid.rows, _ranked_rows(figure_rows(grid, options=options)), strict=True)
        ],
    )
    title = f"{suite.title}: {mean_of(grid)} in %, {spread(grid, options)}"
    costs_note = [*_cost_note(grid), *_source_notes(suite, grid)] if names else []
    notes = [*legend(table), *mixture_note(grid), *costs_note, *_schedule_notes(grid), *_published_notes(grid)]
    yield Sheet(title, {"suite": suite.title, "task": OVERALL}, table, notes=notes)
    for task in grid.tasks if options.per_task else ():
        yield _task_sheet(suite, grid, task, options)


def _shown_costs(grid: Grid, options: Options) -> tuple[list[str], dict[str, list[Cell]]]:
    """The headings of the cost columns, and their cells by row."""
    costs: dict[str, list[Cell]] = {row: [] for row in grid.rows}
    names: list[str] = []
    if options.costs:
        names += ["parameters", "training time"]
        costs = {row: list(cells) for row, cells in cost_columns(grid).items()}
    if options.memory:
        names.append("peak MiB")
        costs = {row: [*cells, peak_memory(grid, row)] for row, cells in costs.items()}
    return names, costs


def peak_memory(grid: Grid, row: str) -> Number | None:
    """The highest memory use in MiB of a method's runs: of the device or, without one, of the process."""
    shots = cost_shots(grid)
    found = [run.result.memory for each in grid.cell(row, shots).values() for run in each.records]
    most = max((memory.get("device_mib") or memory.get("host_mib", 0.0) for memory in found), default=0.0)
    return Number(round(most)) if most else None


def task_sheets(suite: Suite, options: Options) -> Iterator[Sheet]:
    """Methods x tasks with their mean; one table for each number of shots."""
    grid = suite.plain
    if grid is None:
        return
    for shots in grid.shots:
        cells = _task_cells(grid, shots, options)
        means = [cell_figure(grid, row, shots, options=options) for row in grid.rows]
        rows = _ranked_rows([[*each, mean] for each, mean in zip(cells, means, strict=True)])
        table = Table(["method", *grid.tasks, "average"], [[row, *r] for row, r in zip(grid.rows, rows, strict=True)])
        title = f"{suite.title}, {shots_heading(shots)}: each task in %, {spread(grid, options)}"
        yield Sheet(title, {"suite": suite.title, "shots": shots_key(shots)}, table, notes=legend(table))


def _task_cells(grid: Grid, shots: int, options: Options) -> list[list[Figure | None]]:
    return [[cell_figure(grid, row, shots, task=task, options=options) for task in grid.tasks] for row in grid.rows]


def _task_sheet(suite: Suite, grid: Grid, task: str, options: Options) -> Sheet:
    rows = _ranked_rows(figure_rows(grid, task=task, options=options))
    table = Table(["method", *shot_headings(grid)], [[row, *cells] for row, cells in zip(grid.rows, rows, strict=True)])
    title = f"{suite.title}, task {task}: in %, {spread(grid, options)}"
    return Sheet(title, {"suite": suite.title, "task": task}, table, notes=legend(table))


def metric_sheets(suite: Suite, options: Options) -> Iterator[Sheet]:
    """Methods x figures (accuracy, macro F1, ...), a table for each number of shots; then each task, if requested."""
    grid = suite.plain
    if grid is None:
        return
    for shots in grid.shots:
        yield _metric_sheet(suite, grid, shots, None, options)
        for task in grid.tasks if options.per_task else ():
            yield _metric_sheet(suite, grid, shots, task, options)


def _metric_sheet(suite: Suite, grid: Grid, shots: int, task: str | None, options: Options) -> Sheet:
    columns = [
        ranked([_metric_figure(grid, row, shots, metric, task, options) for row in grid.rows], lower=metric.lower)
        for metric in options.metrics
    ]
    headings = [metric.heading for metric in options.metrics]
    table = Table(["method", *headings], [[row, *cells] for row, *cells in zip(grid.rows, *columns, strict=True)])
    percent = ", ".join(metric.heading for metric in options.metrics if metric.unit)
    what = f"task {task}" if task else mean_of(grid)
    title = (
        f"{suite.title}, {shots_heading(shots)}: {what}{f', {percent} in %' * bool(percent)}, {spread(grid, options)}"
    )
    keys = {"suite": suite.title, "shots": shots_key(shots), "task": task or OVERALL}
    lower = [metric.heading for metric in options.metrics if metric.lower]
    notes = [f"{' and '.join(lower)}: the lower, the better"] if lower else []
    return Sheet(title, keys, table, notes=[*legend(table), *notes, *mixture_note(grid)])


def _metric_figure(
    grid: Grid, row: str, shots: int, metric: Metric, task: str | None, options: Options
) -> Figure | None:
    values, gap = cell_values(grid, row, shots, metric, task=task)
    found = figure(values, grid.wanted(row), interval=options.interval, gap=gap)
    return found and replace(found, digits=metric.digits)


def figure_rows(grid: Grid, *, task: str | None = None, options: Options) -> list[list[Figure | None]]:
    """For each method the figures of all numbers of shots and, if there are several, their mean."""
    found = []
    for row in grid.rows:
        cells = [cell_figure(grid, row, shots, task=task, options=options) for shots in grid.shots]
        found.append([*cells, *([_over_shots(grid, row, cells)] if len(averaged(grid)) > 1 else [])])
    return found


def cell_figure(grid: Grid, row: str, shots: int, *, task: str | None = None, options: Options) -> Figure | None:
    """The figure of one cell."""
    values, gap = grid.values(row, shots, task)
    return figure(values, grid.wanted(row), interval=options.interval, gap=gap)


def averaged(grid: Grid) -> list[int]:
    """The numbers of shots in the average, which excludes "all images"."""
    return [shots for shots in grid.shots if shots > 0]


def shot_headings(grid: Grid) -> list[str]:
    """The columns of a grid."""
    return [*map(shots_heading, grid.shots), *(["average"] if len(averaged(grid)) > 1 else [])]


def _over_shots(grid: Grid, row: str, cells: Sequence[Figure | None]) -> Figure | None:
    if row in grid.flat:
        return cells[0]
    wanted = averaged(grid)
    return average([cells[grid.shots.index(shots)] for shots in wanted], wanted=len(wanted))


def cost_columns(grid: Grid) -> dict[str, tuple[Number | None, Duration | None]]:
    """Trainable parameters and training time of each method; the time is a mean over seeds at the most shots."""
    parameters = [parameter_count(grid, row) for row in grid.rows]
    times = durations(train_seconds(grid, row, cost_shots(grid)) for row in grid.rows)
    return {
        row: (Number(count) if count else None, time)
        for row, count, time in zip(grid.rows, parameters, times, strict=True)
    }


def cost_shots(grid: Grid) -> int:
    """The number of shots whose training times are given."""
    return grid.shots[-1]


def train_seconds(grid: Grid, row: str, shots: int) -> float | None:
    """Mean training time in seconds over the seeds of a cell that have all their runs; None if there is none."""
    times = [each.seconds for each in _whole(grid, row, shots) if each.seconds is not None]
    return sum(times) / len(times) if times else None


def parameter_count(grid: Grid, row: str) -> int | None:
    """Trainable parameters of a method, summed over the runs of a seed; None if no seed has all its runs."""
    counts = [each.parameters for shots in grid.shots for each in _whole(grid, row, shots)]
    return max(counts, default=None)


def _whole(grid: Grid, row: str, shots: int) -> list[SeedFigure]:
    return [each for each in grid.cell(row, shots).values() if not each.missing]


# ---- comparison with the published figures


def comparison_sheets(suite: Suite, options: Options) -> Iterator[Sheet]:
    """For each method in the paper: our row, the published one, and the difference."""
    grid, rows = suite.plain, None if suite.key.learned_on else paper.published().get(suite.key.dataset)
    if grid is None or rows is None:
        return
    known = [row for row in grid.rows if row in rows]
    costs, ours = cost_columns(grid), dict(zip(grid.rows, figure_rows(grid, options=options), strict=True))
    theirs = {row: _published_cells(grid, rows[row]) for row in known}
    stacked: list[list[Cell]] = []
    for row in known:
        times = durations([_seconds(costs[row][1]), rows[row].seconds])
        count = rows[row].parameters
        stacked.append([row, "ours", costs[row][0], times[0], *ours[row]])
        stacked.append(["", "published", Number(count) if count else None, times[1], *theirs[row]])
        stacked.append(["", "difference", None, None, *map(difference, ours[row], theirs[row])])
    table = Table(["method", "figures", "parameters", "training time", *shot_headings(grid)], stacked)
    wide = [[row, *_interleaved(ours[row], theirs[row])] for row in known]
    names = [f"{name} {kind}" for name in shot_headings(grid) for kind in ("ours", "published", "difference")]
    yield Sheet(
        f"{suite.title}: {mean_of(grid)} in %, compared with Ding et al. (2024), {spread(grid, options)}",
        {"suite": suite.title},
        table,
        data=Table(["method", *names], wide),
        notes=[*_comparison_notes(suite, grid, known), *_cost_note(grid)],
        block=3,
    )


def check_comparison(found: Sequence[Suite]) -> None:
    """Refuse a comparison that would be empty.

    Raises:
        UserError: no suite has published figures.
    """
    names = list(paper.published())
    if not any(suite.key.dataset in names and suite.plain for suite in found):
        have = ", ".join(dict.fromkeys(suite.key.dataset for suite in found))
        raise UserError(f"--compare paper: no published figures for {have}; the paper has {', '.join(names)}")


def _published_cells(grid: Grid, row: paper.PublishedRow) -> list[Figure | None]:
    cells = [row.figure(shots) for shots in grid.shots]
    return [*cells, *([paper.mean_over(row, averaged(grid))] if len(averaged(grid)) > 1 else [])]


def _interleaved(ours: Sequence[Figure | None], theirs: Sequence[Figure | None]) -> Iterator[Cell]:
    for mine, published in zip(ours, theirs, strict=True):
        yield from (mine, published, difference(mine, published))


def _seconds(time: Duration | None) -> float | None:
    return time.seconds if time else None


def _comparison_notes(suite: Suite, grid: Grid, known: Sequence[str]) -> Iterator[str]:
    yield (
        "published: Ding et al., Neurocomputing 2024, mean and standard deviation (population) over 3 seeds; "
        "se: difference in standard errors of both means"
    )
    if paper.BACKBONE.lower() not in suite.key.backbone.lower().replace("-", ""):
        yield f"the published figures are for {paper.BACKBONE}, ours for {suite.key.backbone}"
    others = [row for row in grid.rows if row not in known]
    if others:
        yield f"not in the paper: {', '.join(others)}"


# ---- base to new, seen to new


@dataclass(frozen=True)
class _Pairing:
    """Two grids of the same methods, and the words for them."""

    first: Grid
    second: Grid
    words: tuple[str, str]
    about: str
    keys: dict[str, str]


def base_to_new_sheets(suite: Suite, options: Options) -> Iterator[Sheet]:
    """Base classes, new classes and their harmonic mean for each method, over all tasks and for each of them."""
    base, new = suite.grids.get(Protocol("base")), suite.grids.get(Protocol("new"))
    some = base or new
    if some is None:
        return
    pairing = _Pairing(base or _like(some), new or _like(some), ("base", "new"), "base to new classes", {})
    tasks = dict.fromkeys([*pairing.first.tasks, *pairing.second.tasks])
    for shots in _pair_shots(pairing):
        yield _pair_sheet(suite, pairing, shots, None, options)
        for task in tasks:
            yield _pair_sheet(suite, pairing, shots, task, options)


def new_task_sheets(suite: Suite, options: Options) -> Iterator[Sheet]:
    """Tasks that a method was trained on, tasks that it never saw, and their harmonic mean; then each task."""
    for pairing in _task_pairings(suite):
        for shots in _pair_shots(pairing):
            yield _pair_sheet(suite, pairing, shots, None, options)
            yield _tasks_sheet(suite, pairing, shots, options)


def _task_pairings(suite: Suite) -> Iterator[_Pairing]:
    """Each choice of tasks for training with each choice for testing that belongs to it."""
    chosen = [(protocol, grid) for protocol, grid in suite.grids.items() if protocol.classes == "all" and protocol.role]
    for first, seen in chosen:
        for second, unseen in chosen:
            learned = {*seen.rows, *unseen.rows} - seen.flat - unseen.flat
            if (
                learned
                and (first.role, second.role) == (SEEN, UNSEEN)
                and _belong(first.tasks, second.tasks, seen, unseen)
            ):
                about = f"trained on {_seen_name(first.tasks)}, evaluated on {_unseen_name(second.tasks)}"
                keys = {"trained on": first.tasks, "evaluated on": second.tasks}
                yield _Pairing(seen, unseen, ("seen tasks", "new tasks"), about, keys)


def _belong(first: str, second: str, seen: Grid, unseen: Grid) -> bool:
    """Whether a test on the tasks ``second`` belongs to training on ``first``."""
    if second in ("base", "new"):
        return {first, second} == {"base", "new"}
    if second.startswith(ALL_BUT):
        return second.removeprefix(ALL_BUT) == first
    return not set(seen.tasks) & set(unseen.tasks)


def _seen_name(tasks: str) -> str:
    return {"base": "the first half of the tasks", "new": "the second half of the tasks"}.get(tasks, tasks)


def _unseen_name(tasks: str) -> str:
    return "all others" if tasks in ("base", "new") or tasks.startswith(ALL_BUT) else tasks


def _like(grid: Grid) -> Grid:
    """An empty grid of the same shape, for a half without runs."""
    return replace(grid, cells={})


def _pair_shots(pairing: _Pairing) -> list[int]:
    both = {*pairing.first.shots, *pairing.second.shots}
    return sorted(both - {ANY_SHOTS}, key=lambda shots: (shots < 0, shots)) or [ANY_SHOTS]


def _pair_rows(pairing: _Pairing) -> list[str]:
    """The methods of both grids, in the order of the first."""
    return list(dict.fromkeys([*pairing.first.rows, *pairing.second.rows]))


def _pair_sheet(suite: Suite, pairing: _Pairing, shots: int, task: str | None, options: Options) -> Sheet:
    names = _pair_rows(pairing)
    rows = _ranked_rows([_triple(pairing, row, shots, task, options) for row in names])
    table = Table(["method", *pairing.words, "H"], [[row, *cells] for row, cells in zip(names, rows, strict=True)])
    what = f"task {task}" if task else OVERALL
    title = f"{suite.title}, {shots_heading(shots)}, {pairing.about}: {what}, in %, {spread(pairing.first, options)}"
    keys = {"suite": suite.title, "shots": shots_key(shots), **pairing.keys, "task": task or OVERALL}
    about = "" if task else ", of the two means over tasks"
    return Sheet(title, keys, table, notes=[f"H: harmonic mean for each seed{about}", *legend(table)])


def _triple(pairing: _Pairing, row: str, shots: int, task: str | None, options: Options) -> list[Figure | None]:
    (base, base_gap), (new, new_gap) = pairing.first.values(row, shots, task), pairing.second.values(row, shots, task)
    flat = row in pairing.first.flat | pairing.second.flat
    wanted = 0 if flat else len({*pairing.first.seeds, *pairing.second.seeds})
    both = {seed: harmonic(base[seed], new[seed]) for seed in base if seed in new}
    gaps = ", ".join(dict.fromkeys(filter(None, (base_gap, new_gap))))
    parts = ((base, base_gap), (new, new_gap), (both, gaps))
    return [figure(values, wanted, interval=options.interval, gap=gap) for values, gap in parts]


def _tasks_sheet(suite: Suite, pairing: _Pairing, shots: int, options: Options) -> Sheet:
    """The new tasks of a pairing, one per column."""
    grid = pairing.second
    cells = _task_cells(grid, shots, options)
    table = Table(
        ["method", *grid.tasks], [[row, *each] for row, each in zip(grid.rows, _ranked_rows(cells), strict=True)]
    )
    title = f"{suite.title}, {shots_heading(shots)}, {pairing.about}: each new task, in %, {spread(grid, options)}"
    keys = {"suite": suite.title, "shots": shots_key(shots), **pairing.keys}
    by_task = zip(grid.tasks, zip(*cells, strict=True), strict=True)
    long = [[task, row, cell] for task, column in by_task for row, cell in zip(grid.rows, column, strict=True)]
    data = Table(["task", "method", pairing.words[1]], long)
    return Sheet(title, keys, table, data=data, notes=legend(table))


# ---- transfer


def transfer_sheets(found: Sequence[Suite], options: Options) -> Iterator[Sheet]:
    """Methods x data sets, a table for each number of shots: the source, each target, and the mean over the targets.

    Evaluations tell the suite that was learned. Those of an older version do not: they count if only one suite of their
    backbone was learned.
    """
    plain = [(suite, suite.plain) for suite in found if suite.plain is not None]
    sources = [(suite, grid) for suite, grid in plain if _trained(suite)]
    for source, grid in sources:
        backbone = source.key.backbone
        alone = sum(suite.key.backbone == backbone for suite, _ in sources) == 1
        targets = [(s.key.label, g) for s, g in plain if s.key.backbone == backbone and _is_target(s, source, alone)]
        if targets:
            for shots in [each for each in grid.shots if each != ANY_SHOTS] or [ANY_SHOTS]:
                yield _transfer_sheet(source, grid, targets, shots, options)


def _is_target(suite: Suite, source: Suite, alone: bool) -> bool:
    told = suite.key.learned_on
    if told is not None:
        return told.digest == source.key.digest
    return alone and suite is not source and not _trained(suite) and any(r.learns for r in suite.records)


def _trained(suite: Suite) -> bool:
    return suite.key.learned_on is None and any(
        record.learns and record.result.mode == "train" for record in suite.records
    )


def _transfer_sheet(
    source: Suite, grid: Grid, targets: Sequence[tuple[str, Grid]], shots: int, options: Options
) -> Sheet:
    rows = list(dict.fromkeys([*grid.rows, *(row for _, each in targets for row in each.rows)]))
    cells = []
    for row in rows:
        own = [cell_figure(each, row, shots, options=options) if row in each.rows else None for _, each in targets]
        first = cell_figure(grid, row, shots, options=options) if row in grid.rows else None
        cells.append([first, *own, _mean_of_targets([each for _, each in targets], row, shots, options)])
    header = ["method", source.key.label, *(name for name, _ in targets), "mean of targets"]
    table = Table(header, [[row, *each] for row, each in zip(rows, _ranked_rows(cells), strict=True)])
    title = f"{source.title}, {shots_heading(shots)}: learned there, tested on others, in %, {spread(grid, options)}"
    keys = {"suite": source.title, "shots": shots_key(shots)}
    return Sheet(title, keys, table, notes=legend(table))


def _mean_of_targets(grids: Sequence[Grid], row: str, shots: int, options: Options) -> Figure | None:
    """The mean over the targets for each seed that has all of them."""
    values = [grid.values(row, shots)[0] for grid in grids]
    seeds = set.intersection(*(set(each) for each in values)) if values else set()
    flat = all(row in grid.flat for grid in grids)
    wanted = 0 if flat else len({seed for grid in grids for seed in grid.seeds})
    means = {seed: sum(each[seed] for each in values) / len(values) for seed in sorted(seeds)}
    return figure(means, wanted, interval=options.interval)


# ---- shared


def _ranked_rows(rows: list[list[Figure | None]]) -> list[list[Figure | None]]:
    columns = [ranked(column) for column in zip(*rows, strict=True)]
    return [list(row) for row in zip(*columns, strict=True)]


def legend(table: Table) -> list[str]:
    """The meaning of the marks that a table has."""
    cells = [cell for row in table.rows for cell in row if isinstance(cell, Figure)]
    notes = ["(k/n): k of n seeds count"] if any(cell.count < cell.wanted for cell in cells) else []
    for things in ("tasks", "shots"):
        if any(f" {things}" in cell.gap for cell in cells):
            notes.append(f"(k/n {things}): the mean of k of n {things}, not compared with the others")
    return notes


def _cost_note(grid: Grid) -> list[str]:
    if cost_shots(grid) == ANY_SHOTS:
        return []
    return [f"training time: mean over seeds at {shots_heading(cost_shots(grid))}, runs of single tasks added up"]


def _source_notes(suite: Suite, grid: Grid) -> Iterator[str]:
    """Rows whose runs start from what others have learned, and what those took where it is known."""
    trained = {record.folder.resolve(): record for record in suite.records if record.learns}
    for row in grid.rows:
        runs = [run for each in grid.cell(row, cost_shots(grid)).values() for run in each.records]
        starts = (str(run.config.get("MODEL.INIT_WEIGHTS") or "").split(",") for run in runs)
        folders = {Path(each.strip()).resolve() for listed in starts for each in listed if each.strip()}
        if folders:
            times = [trained[f].result.seconds.get("train") for f in folders if f in trained]
            known = [time for time in times if time is not None]
            whole = len(known) == len(folders)
            (total,) = durations([sum(known)] if whole else [None])
            took = f", {total.show('text')} in all" if total else ""
            yield f"{row}: not counted is the training of the {len(folders)} runs that it starts from{took}"


def mixture_note(grid: Grid) -> list[str]:
    return ["no mean where runs did not see the same images: see the remarks"] if grid.mixed else []


def _schedule_notes(grid: Grid) -> Iterator[str]:
    """Rows whose schedule depends on the number of shots; everything else is the same within a row."""
    for row in grid.rows:
        configs = {shots: config for shots in grid.shots if (config := _config(grid, row, shots))}
        for key in sorted(SCHEDULE_KEYS):
            values = {shots: config.get(key) for shots, config in configs.items()}
            if row not in grid.flat and len(set(map(str, values.values()))) > 1:
                shown = ", ".join(f"{value} ({shots_heading(shots)})" for shots, value in values.items())
                yield f"{row}: {key.rpartition('.')[2]} {shown}"


def _published_notes(grid: Grid) -> Iterator[str]:
    """Keys that a method's authors set by data set, so that they differ between the tasks of a row."""
    for row in grid.rows:
        values: dict[str, dict[str, None]] = {}
        for record in (each for shots in grid.shots for v in grid.cell(row, shots).values() for each in v.records):
            for key in record.published_keys.keys() - SCHEDULE_KEYS:
                values.setdefault(key, {})[str(record.config.get(key))] = None
        for key, each in sorted(values.items()):
            if len(each) > 1:
                name = key.rpartition(".")[2]
                yield f"{row}: {name} {' or '.join(each)}, as published for data set and shots"


def _config(grid: Grid, row: str, shots: int) -> Mapping[str, object]:
    return next((record.config for each in grid.cell(row, shots).values() for record in each.records), {})


def mean_of(grid: Grid) -> str:
    return f"mean over {len(grid.tasks)} tasks" if len(grid.tasks) != 1 else f"task {grid.tasks[0]}"


def spread(grid: Grid, options: Options) -> str:
    if not grid.seeds:
        return "one run"
    seeds = f"seed{'s' * (len(grid.seeds) > 1)} {', '.join(map(str, grid.seeds))}"
    if len(grid.seeds) == 1:
        return seeds
    return f"mean ± {options.interval.words} over {seeds}"


def shots_key(shots: int) -> str:
    return "all" if shots < 0 else str(shots)


MAKERS: dict[str, Callable[[Suite, Options], Iterable[Sheet]]] = {
    "main": main_sheets,
    "base2new": base_to_new_sheets,
    "new-tasks": new_task_sheets,
    "compare": comparison_sheets,
}
