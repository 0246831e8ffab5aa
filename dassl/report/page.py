"""One self-contained page with tables, curves, mistakes, configs, environments and remarks; it loads nothing."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from string import Template

from dassl.report import paper
from dassl.report.checks import Notice
from dassl.report.figures import Duration, Figure, Number
from dassl.report.markup import folded, table_html
from dassl.report.metrics import only_accuracy
from dassl.report.mistakes_part import Asked, mistakes_html
from dassl.report.settings import CELL_KEYS
from dassl.report.sheets import MAKERS, Options, Sheet, metric_sheets
from dassl.report.study import Suite
from dassl.report.tree import Record, Tree
from dassl.results.record import idle_keys
from dassl.results.tables import Cell, Table
from dassl.utils.errors import UserError
from dassl.utils.files import write_text
from dassl.utils.privacy import without_home
from dassl.utils.texts import printable

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Part:
    """A section of the page with its anchor."""

    anchor: str
    title: str
    html: str


def write_page(
    path: Path,
    tree: Tree,
    suites: Sequence[Suite],
    remarks: Sequence[Notice],
    options: Options,
    *,
    compare: bool = False,
    asked: Asked | None = None,
    first: Sequence[Part] = (),
) -> None:
    """Write the page about all ``suites`` of ``tree``; home folders appear as "~".

    Args:
        options: how figures are shown; the page always shows each task.
        compare: compare with the published figures.
        asked: runs whose mistakes are shown, and the data root of their images.
        first: sections that stand before all others.

    Raises:
        UserError: the file cannot be written, or a run or folder in ``asked`` cannot be used.
    """
    write_text(path, without_home(page(tree, suites, remarks, options, compare=compare, asked=asked, first=first)))


def page(
    tree: Tree,
    suites: Sequence[Suite],
    remarks: Sequence[Notice],
    options: Options,
    *,
    compare: bool = False,
    asked: Asked | None = None,
    first: Sequence[Part] = (),
) -> str:
    """The whole page as HTML; see :func:`write_page`."""
    shown = replace(options, per_task=True)
    parts = [*first, *([_remarks(remarks)] if remarks else [])]
    parts += [_suite(number, suite, shown, compare) for number, suite in enumerate(suites, 1)]
    parts += [Part("mistakes", "Where runs err", mistakes_html(tree, suites, asked or Asked())), _runs(tree, suites)]
    contents = "".join(f'<li><a href="#{part.anchor}">{escape(part.title)}</a></li>' for part in parts)
    body = "\n".join(
        f'<section id="{part.anchor}">\n<h2>{escape(part.title)}</h2>\n{part.html}</section>' for part in parts
    )
    whole = Template(_file("page.html")).substitute(
        title=escape(f"Results in {tree.top.resolve().name}"),
        summary=escape(_summary(tree, suites, remarks)),
        style=_file("page.css"),
        script=_file("page.js"),
        contents=contents,
        body=body,
    )
    return printable(whole)


def _file(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8").strip()


def _summary(tree: Tree, suites: Sequence[Suite], remarks: Sequence[Notice]) -> str:
    counts = (
        (len(tree.records), "finished run"),
        (len(tree.broken), "run without a figure", "runs without a figure"),
        (len(suites), "suite"),
        (len(remarks), "remark"),
    )
    return ", ".join(
        f"{count} {words[0] if count == 1 else words[-1] + 's' * (len(words) == 1)}" for count, *words in counts
    )


def _remarks(remarks: Sequence[Notice]) -> Part:
    kinds: dict[str, list[Notice]] = defaultdict(list)
    for each in remarks:
        kinds[each.kind].append(each)
    lists = []
    for kind, found in kinds.items():
        items = "".join(
            f"<li>{escape(f'{each.suite}: {each.text}' if each.suite else each.text)}</li>" for each in found
        )
        lists.append(f"<details open><summary>{escape(kind)} ({len(found)})</summary><ul>{items}</ul></details>\n")
    return Part("remarks", "Remarks", "".join(lists))


# ---- one suite


def _suite(number: int, suite: Suite, options: Options, compare: bool) -> Part:
    anchor = f"suite{number}"
    main = list(MAKERS["main"](suite, options))
    html = [_sheet(each) for each in main[:1]]
    if compare and suite.key.learned_on is None and suite.key.dataset in paper.published():
        html += ["<h3>Comparison with the published figures</h3>\n", *map(_sheet, MAKERS["compare"](suite, options))]
    html += _figures(suite, anchor, options)
    html += folded("Each task", [_sheet(each) for each in main[1:]])
    if not only_accuracy(options.metrics):
        names = ", ".join(metric.heading for metric in options.metrics)
        html += [f"<h3>{names}</h3>\n", *map(_sheet, metric_sheets(suite, options))]
    for kind, title in (("base2new", "Base to new classes"), ("new-tasks", "New tasks")):
        sheets = [_sheet(each) for each in MAKERS[kind](suite, options)]
        if sheets:
            html += [f"<h3>{title}</h3>\n", sheets[0], *folded(f"{title}: more tables", sheets[1:])]
    html += ["<h3>Configs</h3>\n", *_configs(suite), "<h3>Environment</h3>\n", _environments(suite)]
    return Part(anchor, suite.title, "".join(html))


def _figures(suite: Suite, anchor: str, options: Options) -> Iterator[str]:
    """Both figures, or a sentence for each that cannot be drawn."""
    from dassl.report.plots import accuracy_figure, cost_figure, svg

    if suite.plain is None:
        return
    for title, draw in (("Accuracy over shots", accuracy_figure), ("Accuracy over cost", cost_figure)):
        yield f"<h3>{title}</h3>\n"
        try:
            drawn = svg(draw, suite, interval=options.interval)
            picture = inline_svg(drawn, f"{anchor}-{title.rpartition(' ')[2]}", f"{title}, {suite.title}")
        except UserError as error:
            yield f"<p>{escape(str(error))}</p>\n"
        else:
            yield f'<figure tabindex="0">{picture}</figure>\n'


def inline_svg(document: str, prefix: str, label: str) -> str:
    """An SVG document as an element of a page: unique ids, ink in the colour of the page's text, no URLs."""
    from dassl.report.plots import INK

    body = re.sub(r"<!--.*?-->", "", document[document.index("<svg") :], flags=re.DOTALL)
    head, rest = body.split(">", 1)
    box = re.search(r'viewBox="([^"]*)"', head)
    rest = rest.replace("xlink:href=", "href=").replace(INK, "currentColor")
    rest = re.sub(r'\bid="', f'id="{prefix}-', rest)
    rest = re.sub(r'\bhref="#', f'href="#{prefix}-', rest)
    rest = re.sub(r"url\(#", f"url(#{prefix}-", rest)
    return f'<svg viewBox="{box[1] if box else ""}" role="img" aria-label="{escape(label)}">{rest.strip()}'


def _configs(suite: Suite) -> Iterator[str]:
    """The config of each method; keys that all share are listed separately."""
    first: dict[str, Record] = {}
    for record in suite.records:
        if record.config:
            first.setdefault(suite.names[record.folder], record)
    if not first:
        yield "<p>The runs have no config.yaml.</p>\n"
        return
    configs = {
        row: {key: str(value) for key, value in config.items() if key not in idle_keys(config) | CELL_KEYS}
        for row, config in ((row, record.config) for row, record in first.items())
    }
    keys = sorted({key for config in configs.values() for key in config})
    same = [key for key in keys if len({config.get(key) for config in configs.values()}) == 1]
    different = [key for key in keys if key not in same]
    if different:
        rows = [[key, *(config.get(key) for config in configs.values())] for key in different]
        table = table_html(Table(["key", *configs], rows), "Differences between the methods (first run of each)")
        yield from folded(f"{len(different)} different keys", [table])
    config = next(iter(configs.values()))
    lines = "\n".join(escape(f"{key}: {config[key]}") for key in same)
    yield from folded(f"{len(same)} shared keys", [f"<pre>{lines}</pre>\n"])


def _environments(suite: Suite) -> str:
    """The machines and versions of the runs, with the number of runs of each."""
    found = Counter(
        (each.result.device, each.result.backbone.precision, tuple(each.result.versions.items()))
        for each in suite.records
    )
    names = list(dict.fromkeys(name for _, _, versions in found for name, _ in versions))
    rows = [
        [device or None, precision, *map(dict(versions).get, names), count]
        for (device, precision, versions), count in found.most_common()
    ]
    weights = ", ".join(sorted({each.result.backbone.digest[:16] for each in suite.records}))
    table = table_html(Table(["device", "precision", *names, "runs"], rows), "Where the runs were made")
    return f'{table}<p class="note">weights of {escape(suite.key.backbone)}: sha256 {escape(weights)}…</p>\n'


def _runs(tree: Tree, suites: Sequence[Suite]) -> Part:
    rows: list[list[Cell]] = []
    for suite in suites:
        for record in suite.records:
            result = record.result
            peak = max(result.memory.values(), default=None)
            rows.append(
                [
                    tree.name(record.folder), suite.title, suite.names[record.folder], result.shots, result.seed,
                    record.classes, record.task_choice, result.metric, Number(result.parameters),
                    Duration(result.seconds["train"]) if "train" in result.seconds else None,
                    None if peak is None else Number(round(peak)),
                ]
            )  # fmt: skip
    header = ["folder", "suite", "method", "shots", "seed", "classes", "tasks", "figure", "parameters", "training time"]
    table = table_html(Table([*header, "memory (MiB)"], rows), "All runs that count")
    return Part("runs", "All runs", "".join(folded(f"{len(rows)} runs", [table])))


# ---- tables


def _sheet(sheet: Sheet) -> str:
    ranks = {cell.rank for row in sheet.table.rows for cell in row if isinstance(cell, Figure)}
    notes = [*(["bold: best, underlined: second in its column"] if ranks - {0} else []), *sheet.notes]
    return f'{table_html(sheet.table, sheet.title, block=sheet.block)}<p class="note">{escape("; ".join(notes))}</p>\n'
