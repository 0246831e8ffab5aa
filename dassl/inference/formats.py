"""Output formats of answers: a readable table, CSV, or one JSON object per line."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TextIO

from dassl.inference.classifier import ClassScore, PlaceMap, Prediction
from dassl.utils.texts import printable_line, spreadsheet_cell

UNSURE = "unsure"
NO_LABEL = "(none)"


class Writer:
    """Writes answers one by one.

    Args:
        threshold: probability below which the answer is UNSURE; answers of multi-label tasks have it as their own.
        top_k: most classes that an answer names.
        maps: answers have heat maps, whose files are named.
    """

    def __init__(self, stream: TextIO, *, threshold: float, top_k: int, maps: bool = False) -> None:
        self.stream, self.threshold, self.top_k, self.maps = stream, threshold, top_k, maps

    def word(self, answer: Prediction) -> str:
        """The most probable class, or UNSURE; of a multi-label task all predicted classes, "" if there is none."""
        if answer.threshold is not None:
            return ";".join(each.name for each in answer.labels)
        return answer.best.name if answer.best.probability >= self.threshold else UNSURE

    def write(self, answer: Prediction) -> None:
        """Write one answer."""
        raise NotImplementedError

    def finish(self) -> None:
        """End the output; called once after the last answer."""


class JsonLines(Writer):
    """An object for each image and task: "image", "task", "classes"; with a threshold also "answer".

    Multi-label tasks have "labels" (the predicted classes) and "threshold" instead.
    """

    _encode = staticmethod(json.JSONEncoder(ensure_ascii=True, allow_nan=False).encode)

    def write(self, answer: Prediction) -> None:
        """One line."""
        classes = [{"name": each.name, "probability": each.probability} for each in answer.classes]
        content: dict[str, object] = {"image": answer.image, "task": answer.task, "classes": classes}
        if answer.threshold is not None:
            content["labels"] = [each.name for each in answer.labels]
            content["threshold"] = answer.threshold
        elif self.threshold:
            content["answer"] = self.word(answer)
        if self.maps:
            content["map"] = None if answer.map is None else asdict(answer.map)
        # File names need not be UTF-8; JSON then has lone surrogates as escapes.
        self.stream.write(self._encode(content) + "\n")


class Csv(Writer):
    """A row for each image and task: image, task, answer, then the classes with their probabilities.

    The answer of a multi-label task is all predicted classes, with ";" between them.
    """

    def __init__(self, stream: TextIO, *, threshold: float, top_k: int, maps: bool = False) -> None:
        super().__init__(stream, threshold=threshold, top_k=top_k, maps=maps)
        self._rows = csv.writer(stream, lineterminator="\n")
        pairs = [(f"class_{place}", f"probability_{place}") for place in range(1, top_k + 1)]
        heading = ["image", "task", "answer", *(name for pair in pairs for name in pair)]
        self._rows.writerow([*heading, *(["map", "map_least", "map_largest"] if maps else [])])

    def write(self, answer: Prediction) -> None:
        """One row; cells stay empty for tasks with fewer classes."""
        classes = answer.classes[: self.top_k]
        cells = [cell for each in classes for cell in (each.name, f"{each.probability:.6f}")]
        cells += [""] * (2 * (self.top_k - len(classes)))
        if self.maps:
            drawn = answer.map
            cells += [""] * 3 if drawn is None else [drawn.file, f"{drawn.least:.6f}", f"{drawn.largest:.6f}"]
        self._rows.writerow(map(_cell, (answer.image, answer.task, self.word(answer), *cells)))


class Table(Writer):
    """A readable form: the image once, then a line for each task."""

    _last: str | None = None

    def write(self, answer: Prediction) -> None:
        """One line, below the image's path if it is the image's first."""
        if answer.image != self._last:
            self.stream.write(f"{printable_line(answer.image)}\n")
            self._last = answer.image
        if answer.threshold is not None:
            shown, drawn = (
                _shown(answer.labels) or NO_LABEL,
                "" if answer.map is None else f" ({_map_shown(answer.map)})",
            )
            self.stream.write(printable_line(f"  {answer.task}: {shown}{drawn}") + "\n")
            return
        unsure = f"{UNSURE}: " if self.word(answer) == UNSURE and self.threshold else ""
        drawn = "" if answer.map is None else f" ({_map_shown(answer.map)})"
        self.stream.write(printable_line(f"  {answer.task}: {unsure}{_shown(answer.classes)}{drawn}") + "\n")


def _shown(classes: Sequence[ClassScore]) -> str:
    return ", ".join(f"{each.name} {100 * each.probability:.1f} %" for each in classes)


def _map_shown(drawn: PlaceMap) -> str:
    return f"{drawn.file}: cosines {drawn.least:.3f} to {drawn.largest:.3f}"


def _cell(text: str) -> str:
    return spreadsheet_cell(printable_line(text))


FORMATS: dict[str, type[Writer]] = {"table": Table, "csv": Csv, "jsonl": JsonLines}
