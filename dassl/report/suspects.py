"""The page's section about images that look mislabelled."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from dassl.report.mistakes_part import gallery
from dassl.results.predictions import PredictedImage

MOST = 24  # images of a task


@dataclass(frozen=True)
class Examined:
    """The cross-validation of one task.

    Attributes:
        images: that took part.
        right: share of them whose own label has the highest probability, in percent.
        rows: those of which another label is sure, the surest first.
        remark: why images or the task took no part; usually empty.
    """

    task: str
    images: int
    right: float
    rows: tuple[PredictedImage, ...] = ()
    remark: str = ""

    @property
    def sentence(self) -> str:
        """The outcome in one line."""
        found = f"{len(self.rows)} of {self.images:,} images look mislabelled"
        example = f", e.g. {_example(self.rows[0])}" if self.rows else ""
        text = (
            f"{found} (the probe gets {self.right:.0f} % of the labels right){example}"
            if self.images
            else "not examined"
        )
        return f"{self.task}: {text}{f'; {self.remark}' if self.remark else ''}"


def _example(row: PredictedImage) -> str:
    return f"{row.image}: {row.true_class}, or {row.predicted_class} ({row.predicted_probability:.0%})?"


def suspects_html(examined: Sequence[Examined], root: Path | None) -> str:
    """The section as HTML; with a data root, with pictures."""
    html = [
        "<p>A linear probe that did not learn from an image is sure that it has another label. Look at these images "
        "before you trust a figure; nothing was changed. A probe on few images errs, too.</p>\n"
    ]
    for each in examined:
        html.append(f"<h3>{escape(each.task)}</h3>\n<p>{escape(each.sentence)}</p>\n")
        html.append(gallery(each.rows[:MOST], root, title="The surest ones"))
    return "".join(html)
