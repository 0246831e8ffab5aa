"""The page's first section: which method to take, and the commands that use it."""

import shlex
from collections.abc import Sequence
from html import escape

from dassl.report.markup import folded, table_html
from dassl.report.mistakes import Pair
from dassl.report.verdict import Judged, Ranked, Verdict
from dassl.results.tables import Table, shots_heading

_WIDTH, _ROW, _LEFT, _RIGHT = 400, 26, 130, 104  # of the drawing, in its own units


def verdict_html(judged: Judged, *, remarks: Sequence[str] = (), classify: str = "IMAGE ...") -> str:
    """The section as HTML.

    Args:
        remarks: sentences that stand above all others, such as that the backbone is a toy.
        classify: what the shown command classifies.
    """
    notes = "".join(f'<p class="note"><strong>{escape(each)}</strong></p>\n' for each in remarks)
    aside = "".join(f'<p class="note">{escape(each)}</p>\n' for each in judged.left_out)
    if judged.overall is None:
        return f"{notes}<p>No method can be compared yet.</p>\n{aside}"
    overall = judged.overall
    advice, *others = overall.sentences
    html = [
        notes,
        f"<p><strong>{escape(advice)}</strong></p>\n{_list(others)}",
        bars(overall.ranked),
        _NOTE,
    ]
    html += ["<h3>Task by task</h3>\n", _tasks(judged.tasks)]
    for task in judged.tasks:
        html += folded(task.task, [_list([*task.sentences, *_confusions(task.pairs)])])
    return "".join([*html, aside, "<h3>Use it</h3>\n", _commands(judged, classify)])


_NOTE = (
    '<p class="note">± is one standard error, over the test images and the seeds. Methods are compared image by image, '
    "so a difference may be measurable although the bars overlap. Measurable means that luck alone would reach it in "
    "fewer than one of twenty comparisons (Student's t; with few seeds it takes more standard errors).</p>\n"
)


def _list(sentences: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(each)}</li>' for each in sentences)}</ul>\n"


def _tasks(tasks: Sequence[Verdict]) -> str:
    rows = []
    for each in tasks:
        best = each.ranked[0]
        equal = [other.row for other in each.ranked[1:] if not other.behind.measurable]
        confused = "; ".join(f"{pair.true} taken for {pair.predicted} ({pair.share:.0%})" for pair in each.pairs[:1])
        figure = f"{best.figure.value:.1f} ± {best.figure.error:.1f}"
        rows.append(
            [
                each.task,
                best.row if each.usable else f"none yet (best: {best.row})",
                figure,
                ", ".join(equal) or "-",
                confused or "-",
            ]
        )
    header = ["task", "take", "%", "not measurably worse", "most confused"]
    return table_html(Table(header, rows), f"The best method of each task{_at(tasks)}")


def _at(tasks: Sequence[Verdict]) -> str:
    return f", {shots_heading(tasks[0].shots)}" if tasks else ""


def _confusions(pairs: Sequence[Pair]) -> list[str]:
    told = [f"{pair.true} is taken for {pair.predicted} in {pair.share:.0%} of its images" for pair in pairs]
    return [f"Confused: {'; '.join(told)}."] if told else []


def bars(ranked: Sequence[Ranked]) -> str:
    """The figures as bars with their standard errors, as an SVG element."""
    height = _ROW * len(ranked) + 8
    inner = "".join(_bar(number, each) for number, each in enumerate(ranked))
    label = "; ".join(f"{each.row} {each.figure.value:.1f} %" for each in ranked)
    return (
        f'<figure class="narrow" tabindex="0"><svg viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(label)}" font-family="inherit" font-size="13">{inner}</svg></figure>\n'
    )


def _bar(number: int, each: Ranked) -> str:
    top, middle = number * _ROW + 6, number * _ROW + 6 + _ROW / 2 - 3
    long = _WIDTH - _LEFT - _RIGHT

    def at(percent: float) -> float:
        return round(_LEFT + long * min(max(percent, 0.0), 100.0) / 100, 1)

    value, error, _ = each.figure
    opacity = 0.35 if each.behind.measurable else 0.75
    return (
        f'<text x="{_LEFT - 8}" y="{middle + 4}" text-anchor="end" fill="currentColor">{escape(each.row)}</text>'
        f'<rect x="{_LEFT}" y="{top}" width="{at(value) - _LEFT:.1f}" height="{_ROW - 8}" fill="#4477aa" '
        f'opacity="{opacity}"/>'
        f'<path d="M{at(value - error)} {middle}H{at(value + error)}" stroke="currentColor" stroke-width="2"/>'
        f'<text x="{_WIDTH - 4}" y="{middle + 4}" text-anchor="end" fill="currentColor">'
        f"{value:.1f} ± {error:.1f}</text>"
    )


def commands(judged: Judged) -> list[str]:
    """The commands that export the recommended run, or the run of each task, and classify new images."""
    lines = []
    for number, record in enumerate(judged.records):
        name = "classifier" if len(judged.records) == 1 else f"classifier-task{number}"
        lines.append(shlex.join(["python", "export.py", str(record.folder), "-o", f"{name}.safetensors"]))
        lines.append(f"python predict.py {name}.safetensors NEW_IMAGES")
    return lines


def _commands(judged: Judged, classify: str) -> str:
    lines = "\n".join(escape(line.replace("NEW_IMAGES", classify)) for line in commands(judged))
    doubt = "" if judged.overall is None or judged.overall.usable else "It is not measurably more than chance. "
    return (
        f"<p>{doubt}The run of the seed nearest the median. It makes a small file, and the file classifies new "
        "images:</p>\n"
        f"<pre>{lines}</pre>\n"
    )
