"""Output formats of answers: a readable table, CSV, or one JSON object per line."""

import csv
import json
from collections.abc import Sequence
from typing import TextIO

from dassl.inference.classifier import ClassScore, Prediction
from dassl.utils.texts import printable, spreadsheet_cell

UNSURE = "unsure"


class Writer:
    """Writes answers one by one.

    Args:
        threshold: probability below which the answer is UNSURE.
        top_k: most classes that an answer names.
    """

    def __init__(self, stream: TextIO, *, threshold: float, top_k: int) -> None:
        self.stream, self.threshold, self.top_k = stream, threshold, top_k

    def word(self, answer: Prediction) -> str:
        """The most probable class, or UNSURE."""
        return answer.best.name if answer.best.probability >= self.threshold else UNSURE

    def write(self, answer: Prediction) -> None:
        """Write one answer."""
        raise NotImplementedError

    def finish(self) -> None:
        """End the output; called once after the last answer."""


class JsonLines(Writer):
    """An object for each image and task: "image", "task", "classes"; with a threshold also "answer"."""

    _encode = staticmethod(json.JSONEncoder(ensure_ascii=True, allow_nan=False).encode)

    def write(self, answer: Prediction) -> None:
        """One line."""
        classes = [{"name": each.name, "probability": each.probability} for each in answer.classes]
        content = {"image": answer.image, "task": answer.task, "classes": classes}
        if self.threshold:
            content["answer"] = self.word(answer)
        # File names need not be UTF-8; JSON then has lone surrogates as escapes.
        self.stream.write(self._encode(content) + "\n")


class Csv(Writer):
    """A row for each image and task: image, task, answer, then the classes with their probabilities."""

    def __init__(self, stream: TextIO, *, threshold: float, top_k: int) -> None:
        super().__init__(stream, threshold=threshold, top_k=top_k)
        self._rows = csv.writer(stream, lineterminator="\n")
        pairs = [(f"class_{place}", f"probability_{place}") for place in range(1, top_k + 1)]
        self._rows.writerow(["image", "task", "answer", *(name for pair in pairs for name in pair)])

    def write(self, answer: Prediction) -> None:
        """One row; cells stay empty for tasks with fewer classes."""
        cells = [cell for each in answer.classes for cell in (each.name, f"{each.probability:.6f}")]
        cells += [""] * (2 * (self.top_k - len(answer.classes)))
        self._rows.writerow(map(_cell, (answer.image, answer.task, self.word(answer), *cells)))


class Table(Writer):
    """A readable form: the image once, then a line for each task."""

    _last: str | None = None

    def write(self, answer: Prediction) -> None:
        """One line, below the image's path if it is the image's first."""
        if answer.image != self._last:
            self.stream.write(f"{_printable(answer.image)}\n")
            self._last = answer.image
        unsure = f"{UNSURE}: " if self.word(answer) == UNSURE and self.threshold else ""
        self.stream.write(_printable(f"  {answer.task}: {unsure}{_shown(answer.classes)}") + "\n")


def _shown(classes: Sequence[ClassScore]) -> str:
    return ", ".join(f"{each.name} {100 * each.probability:.1f} %" for each in classes)


def _printable(text: str) -> str:
    """A path or a name in one line, without terminal escapes and lone surrogates."""
    return printable(text.replace("\n", "\ufffd").replace("\t", "\ufffd"))


def _cell(text: str) -> str:
    return spreadsheet_cell(_printable(text))


FORMATS: dict[str, type[Writer]] = {"table": Table, "csv": Csv, "jsonl": JsonLines}
