"""Interactive drawings of the page: a confusion matrix and a reliability diagram, as SVG elements.

They need neither matplotlib nor separate colours for dark pages: hues are classes of page.css, ink is the text's.
``data-grid`` holds the content of cells and bins for page.js.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from unicodedata import east_asian_width

from dassl.report.mistakes import BINS, Bin, Confusion

LABELLED, COUNTED = 25, 14  # most rows with names, and with counts in their cells
_SIDE = 480  # pixels of a matrix without names
_LETTER = 6.4  # pixels, a generous mean
_LONGEST_LABEL, _LONGEST_NAME = 22, 60  # characters of a name beside a matrix, and in the line about a cell
_INK = 0.8  # the strongest fill on which both dark and light text is readable
_STEPS = (0.01, 0.1, 0.25, 0.5, 1.0)  # of the legend
_ROUND = (10, 20, 25, 50, *(step * 10**n for n in range(2, 7) for step in (1, 2, 5)))  # between numbers beside a matrix
_WIDTH, _HEIGHT, _COUNTS = 420, 300, 60  # pixels of a reliability diagram: its square part and its counts
_LEFT, _TOP = 44, 10


def shorten(text: str, most: int) -> str:
    """At most ``most`` characters; wide ones, such as Chinese, count twice."""
    width = 0
    for number, letter in enumerate(text):
        width += _wide(letter)
        if width > most:
            return f"{text[: max(number - 1, 1)]}…"
    return text


def _wide(letter: str) -> int:
    return 2 if east_asian_width(letter) in "WF" else 1


def _length(text: str) -> float:
    return _LETTER * sum(map(_wide, text))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


# ---- confusions


def matrix(confusion: Confusion, label: str) -> str:
    """The matrix as a picture; each row shows shares of its images.

    Args:
        confusion: at most a few hundred rows.
        label: the text for screen readers.
    """
    size = len(confusion.names)
    named = size <= LABELLED
    cell = max(19.0, min(44.0, _SIDE / size)) if named else _SIDE / size
    labels = [shorten(name, _LONGEST_LABEL) for name in confusion.names] if named else []
    longest = max(map(_length, labels), default=0.0)
    left, top = (longest + 28, 0.72 * longest + 34) if named else (56.0, 40.0)
    side = size * cell
    width, height = left + side + (0.72 * longest if named else 20), top + side + 8
    body = [
        f'<rect class="paper" x="{left:.1f}" y="{top:.1f}" width="{side:.1f}" height="{side:.1f}"/>',
        f'<g transform="translate({left:.1f} {top:.1f}) scale({cell:.4g})" shape-rendering="crispEdges">',
        *_cells(confusion),
        "</g>",
        *(_names(labels, left, top, cell) if named else _ticks(confusion, left, top, cell)),
        *(_counts(confusion, left, top, cell) if size <= COUNTED else ()),
        *_axes(left, top, side),
    ]
    return _svg(width, height, body, label, _matrix_grid(confusion, left, top, cell), fixed=named)


def _cells(confusion: Confusion) -> Iterator[str]:
    """A path for each hue and strength."""
    paths: dict[tuple[str, float], list[str]] = defaultdict(list)
    for (true, predicted), count in sorted(confusion.cells.items()):
        hue = "hit" if true == predicted else "miss"
        paths[hue, strength(count / confusion.totals[true])].append(f"M{predicted} {true}h1v1h-1z")
    for (hue, fill), moves in sorted(paths.items()):
        yield f'<path class="{hue}" fill-opacity="{fill:g}" d="{"".join(moves)}"/>'


def strength(share: float) -> float:
    """The opacity of a share; the power makes rare confusions visible."""
    return round(max(0.12, _INK * share**0.4), 2)


def _names(labels: Sequence[str], left: float, top: float, cell: float) -> Iterator[str]:
    for number, name in enumerate(labels):
        middle = (number + 0.5) * cell
        yield f'<text class="end" x="{left - 6:.1f}" y="{top + middle + 4:.1f}">{escape(name)}</text>'
        x, y = left + middle + 3, top - 6
        yield f'<text transform="translate({x:.1f} {y:.1f}) rotate(-45)">{escape(name)}</text>'


def _ticks(confusion: Confusion, left: float, top: float, cell: float) -> Iterator[str]:
    """Numbers of classes in label order, for matrices with too many rows for names."""
    size = len(confusion.names)
    every = next(each for each in _ROUND if size * confusion.step <= 8 * each or each == _ROUND[-1])
    for number in range(0, size * confusion.step, every):
        place = number / confusion.step * cell
        yield f'<text class="end" x="{left - 6:.1f}" y="{top + place + 9:.1f}">{number + 1}</text>'
        yield f'<text class="middle" x="{left + place + 2:.1f}" y="{top - 6:.1f}">{number + 1}</text>'
        yield f'<path class="line" d="M{left - 4:.1f} {top + place:.1f}h4M{left + place:.1f} {top - 4:.1f}v4"/>'


def _counts(confusion: Confusion, left: float, top: float, cell: float) -> Iterator[str]:
    for (true, predicted), count in sorted(confusion.cells.items()):
        x, y = left + (predicted + 0.5) * cell, top + (true + 0.5) * cell + 4
        yield f'<text class="middle" x="{x:.1f}" y="{y:.1f}">{_short_count(count)}</text>'


def _short_count(count: int) -> str:
    """Such as 250, 1.2k or 36k."""
    if count < 1000:
        return str(count)
    thousands = count / 1000
    return f"{thousands:.1f}k" if thousands < 9.95 else f"{thousands:.0f}k"


def _axes(left: float, top: float, side: float) -> Iterator[str]:
    yield f'<rect class="line" x="{left:.1f}" y="{top:.1f}" width="{side:.1f}" height="{side:.1f}"/>'
    yield f'<text class="axis" x="{left:.1f}" y="12">predicted →</text>'
    middle = top + side / 2
    yield f'<text class="axis middle" transform="translate(11 {middle:.1f}) rotate(-90)">← true</text>'


def _matrix_grid(confusion: Confusion, left: float, top: float, cell: float) -> dict[str, object]:
    size = len(confusion.names)
    counts = [each for (t, p), count in sorted(confusion.cells.items()) for each in (t * size + p, count)]
    return {
        "kind": "matrix",
        "box": [round(left, 1), round(top, 1), round(cell, 4), round(cell, 4), size, size],
        "names": [shorten(name, _LONGEST_NAME) for name in confusion.names],
        "totals": confusion.totals,
        "hits": confusion.hits,
        "several": confusion.step > 1,
        "counts": counts,
    }


def legend() -> str:
    """The legend of a matrix's colours."""
    swatches = "".join(
        f'<rect class="{hue}" fill-opacity="{strength(share):g}" x="{70 + 62 * n}" y="{18 * row}" '
        f'width="16" height="14"/>'
        f'<text x="{90 + 62 * n}" y="{18 * row + 11}">{share:.0%}</text>'
        for row, hue in enumerate(("hit", "miss"))
        for n, share in enumerate(_STEPS)
    )
    words = '<text x="0" y="11">right</text><text x="0" y="29">wrong</text>'
    return _svg(400, 34, [words, swatches], "Colours: share of the images of the true class", None)


# ---- reliability


def reliability(bins: Sequence[Bin], label: str) -> str:
    """Accuracy over confidence in bins of equal width, with the counts of the bins below."""
    most = max((each.count for each in bins), default=0) or 1
    below = _TOP + _HEIGHT + 22
    body = [*_frame(), *(part for n, each in enumerate(bins) if each.count for part in _bar(n, each))]
    body.append(f'<path class="line dashed" d="M{_LEFT} {_TOP + _HEIGHT}L{_LEFT + _WIDTH} {_TOP}"/>')
    body += [_bin_count(n, each.count, most, below) for n, each in enumerate(bins) if each.count]
    body.append(f'<path class="line" d="M{_LEFT} {below + _COUNTS}h{_WIDTH}"/>')
    body.append(f'<text class="axis middle" transform="translate(11 {below + 30}) rotate(-90)">images</text>')
    grid = {
        "kind": "bins",
        "box": [_LEFT, _TOP, _WIDTH / BINS, _HEIGHT + 22 + _COUNTS, 1, BINS],
        "texts": list(_bin_texts(bins)),
    }
    return _svg(_LEFT + _WIDTH + 12, below + _COUNTS + 22, body, label, grid)


def _frame() -> Iterator[str]:
    yield f'<rect class="paper" x="{_LEFT}" y="{_TOP}" width="{_WIDTH}" height="{_HEIGHT}"/>'
    yield f'<rect class="line" x="{_LEFT}" y="{_TOP}" width="{_WIDTH}" height="{_HEIGHT}"/>'
    for fifth in range(6):
        x, y = _LEFT + _WIDTH * fifth / 5, _TOP + _HEIGHT * (1 - fifth / 5)
        yield f'<text class="end" x="{_LEFT - 5}" y="{y + 4:.1f}">{fifth / 5:.1f}</text>'
        yield f'<text class="middle" x="{x:.1f}" y="{_TOP + _HEIGHT + 15}">{fifth / 5:.1f}</text>'
    yield f'<text class="axis middle" transform="translate(11 {_TOP + _HEIGHT / 2}) rotate(-90)">accuracy</text>'
    y = _TOP + _HEIGHT + 22 + _COUNTS + 15
    yield f'<text class="axis middle" x="{_LEFT + _WIDTH / 2}" y="{y}">probability of the predicted class</text>'


def _bar(number: int, each: Bin) -> Iterator[str]:
    """The accuracy of a bin, and the gap to its mean confidence."""
    accuracy, confidence = each.right / each.count, each.confidence / each.count
    wide = _WIDTH / BINS
    x, bottom = _LEFT + number * wide, _TOP + _HEIGHT

    def rect(hue: str, fill: float, low: float, high: float) -> str:
        y, tall = bottom - high * _HEIGHT, (high - low) * _HEIGHT
        return (
            f'<rect class="{hue}" fill-opacity="{fill:g}" x="{x + 1:.1f}" y="{y:.1f}" '
            f'width="{wide - 2:.1f}" height="{tall:.1f}"/>'
        )

    yield rect("hit", _INK, 0.0, min(accuracy, confidence))
    if confidence > accuracy:
        yield rect("miss", 0.6, accuracy, confidence)
    else:
        yield rect("hit", 0.35, confidence, accuracy)


def _bin_count(number: int, count: int, most: int, top: float) -> str:
    """A bar whose height is the bin's number of images, relative to the fullest bin."""
    wide = _WIDTH / BINS
    x, high = _LEFT + number * wide, max(1.0, (_COUNTS - 14) * count / most)
    y = top + _COUNTS - high
    return (
        f'<rect class="soft" x="{x + 1:.1f}" y="{y:.1f}" width="{wide - 2:.1f}" height="{high:.1f}"/>'
        f'<text class="middle small" x="{x + wide / 2:.1f}" y="{y - 3:.1f}">{_short_count(count)}</text>'
    )


def _bin_texts(bins: Sequence[Bin]) -> Iterator[str]:
    for number, each in enumerate(bins):
        span = f"{number / BINS:.3f} to {(number + 1) / BINS:.3f}"
        if not each.count:
            yield f"{span}: no image"
            continue
        shares = _percent(each.right / each.count), _percent(each.confidence / each.count)
        yield f"{span}: {each.count:,} image{'s' * (each.count > 1)}, {shares[0]} right, mean probability {shares[1]}"


def _svg(
    width: float,
    height: float,
    body: Sequence[str],
    label: str,
    grid: Mapping[str, object] | None,
    *,
    fixed: bool = False,
) -> str:
    """An SVG element; ``fixed``: never scaled down, because its text is small."""
    data = f' data-grid="{escape(json.dumps(grid, separators=(",", ":"), ensure_ascii=False))}"' if grid else ""
    look = f' style="width:{width:.0f}px{";max-width:none" * fixed}"'
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(label)}"{look}{data}>'
        f"{''.join(body)}</svg>"
    )
