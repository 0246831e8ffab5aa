"""The text that --dry-run prints."""

from collections.abc import Iterator, Sequence

from dassl.results.tables import Table
from dassl.sweep.estimates import Estimate, Estimates, duration
from dassl.sweep.grid import suite_name
from dassl.sweep.plan import Found, Run, shots_text


def describe(runs: Sequence[Run], found: Sequence[Found], *, jobs: int) -> str:
    """A table of the runs, their states and the estimated time."""
    estimates = Estimates.of(runs, found)
    rows = list(_rows(runs, found, estimates))
    table = Table(["run", "shots", "seed", "task", "state", "estimate"], rows).render("text")
    left = [run for run, state in zip(runs, found, strict=True) if state in ("begun", "new")]
    states = {state: found.count(state) for state in ("done", "begun", "new", "other")}
    counts = f"{len(runs)} runs: {', '.join(f'{n} {state}' for state, n in states.items() if n or state != 'other')}"
    counts += "; the folders of those counted as other hold finished runs of another config" * bool(states["other"])
    published = "".join(f"{line}\n" for line in _published(runs))
    return f"{table}\n{published}{_starts(runs)}{counts}\n{_time_needed(estimates, left, jobs)}\n"


def _published(runs: Sequence[Run]) -> Iterator[str]:
    """Keys that the methods' authors set by shots or data set; one line for runs with the same values."""
    tasks: dict[tuple[str, str], dict[str, None]] = {}
    for run in runs:
        keys = ", ".join(f"{key} {value}" for key, value in run.published().items())
        where = f"{run.method.label}, {shots_text(run.shots)}, {suite_name(run.suite)}"
        if keys:
            tasks.setdefault((where, keys), {})["" if run.task is None else str(run.task)] = None
    for (where, keys), names in tasks.items():
        some = f" task{'s' * (len(names) > 1)} {', '.join(names)}" if any(names) else ""
        yield f"published settings of {where}{some}: {keys}"


def _starts(runs: Sequence[Run]) -> str:
    """A line for each method that starts from runs of another one."""
    lines = {
        f"{run.method.label} starts from the mean over seed{'s' * (len(run.sources) > 1)} "
        f"{', '.join(str(each.seed) for each in run.sources)} of {run.method.start.method}, trained on "
        f"{run.method.start.words}, and waits for these runs\n"
        for run in runs
        if run.sources and run.method.start
    }
    return "".join(sorted(lines))


def _rows(runs: Sequence[Run], found: Sequence[Found], estimates: Estimates) -> Iterator[list[str]]:
    states = {run.folder: state for run, state in zip(runs, found, strict=True)}
    for run, state in zip(runs, found, strict=True):
        estimate = "" if state in ("done", "other") else _estimate_text(estimates.one(run))
        shots = shots_text(run.shots).split()[0] if run.method.learns else "-"
        name = f"{run.label} on {suite_name(run.suite)}"
        waits = state in ("begun", "new") and any(states[each.folder] != "done" for each in run.sources)
        yield [name, shots, str(run.seed), run.tasks, f"{state}, waits" if waits else state, estimate]


def _estimate_text(estimate: Estimate | None) -> str:
    return "unknown" if estimate is None else "~" * estimate.scaled + duration(estimate.seconds)


def _time_needed(estimates: Estimates, runs: Sequence[Run], jobs: int) -> str:
    if not runs:
        return "nothing to do"
    seconds, unknown = estimates.work(runs)
    if unknown == len(runs):
        return "time needed: unknown, because no run of these methods is finished"
    known = f"time needed: about {duration(seconds / jobs)} with {jobs} at a time"
    return known + (f", and {unknown} runs of unknown length" if unknown else "")
