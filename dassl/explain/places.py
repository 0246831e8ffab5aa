"""Where in an image the predicted class is: a heat map for each image and task, in a folder of PNG files."""

import json
import logging
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from dassl.data.images import read_image
from dassl.data.transforms import seen_box
from dassl.explain.overlay import overlay
from dassl.inference.classifier import Classifier, PlaceMap, Prediction
from dassl.utils.errors import UserError
from dassl.utils.files import atomic_path, write_error

MOST_MAPS = 1000
_TEXT = "heat-map"  # keyword of the text in a PNG that says what it is of
_log = logging.getLogger(__name__)
_LONGEST = (32, 20)  # letters of the image's and of the task's name in the name of a file


class MapWriter:
    """Writes the heat maps of a classifier's answers into a folder.

    Attributes:
        written: number of maps so far.
        full: whether an answer has got no map because there were ``MOST_MAPS``.
    """

    def __init__(self, classifier: Classifier, folder: Path) -> None:
        self.classifier, self.folder = classifier, folder
        self.written, self.full = 0, False
        if folder.exists() and not folder.is_dir():
            raise UserError(f"--explain {folder} is a file; name a folder")
        # A method or backbone without such maps is refused before any image is read.
        side = classifier.input.SIZE
        classifier.place_cosines(torch.zeros(1, 3, *side), {0: torch.zeros(1, dtype=torch.int64)})

    def write(self, images: Tensor, answers: Sequence[Prediction]) -> list[Prediction]:
        """The answers with the files of their maps.

        Args:
            images: (B, 3, H, W) transformed.
            answers: of these images: all tasks of the first one, then those of the second.
        """
        per_image = len(answers) // len(images)
        room = min(len(images), (MOST_MAPS - self.written) // per_image)
        count = room * per_image
        if room < len(images) and not self.full:
            self.full = True
            _log.warning(
                "--explain: %d heat maps were drawn, and no more are; for others name fewer images, or a --task",
                self.written + count,
            )
        return [*self._drawn(images[:room], answers[:count]), *answers[count:]] if room else list(answers)

    def _drawn(self, images: Tensor, answers: Sequence[Prediction]) -> list[Prediction]:
        per_image = len(answers) // len(images)
        numbers = {task.name: number for number, task in enumerate(self.classifier.tasks)}
        asked = [numbers[answer.task] for answer in answers[:per_image]]
        labels = {task: self._labels(answers[place::per_image], task) for place, task in enumerate(asked)}
        cosines = self.classifier.place_cosines(images, labels)
        found: list[Prediction] = []
        for row in range(len(images)):
            own = answers[row * per_image : (row + 1) * per_image]
            found += self._draw(own, [cosines[task][row] for task in asked])
        self.written += len(found)
        return found

    def _labels(self, answers: Sequence[Prediction], task: int) -> Tensor:
        names = self.classifier.tasks[task].classnames
        return torch.tensor([names.index(answer.best.name) for answer in answers])

    def _draw(self, answers: Sequence[Prediction], cells: Sequence[Tensor]) -> list[Prediction]:
        """Write the maps of one image."""
        picture = read_image(answers[0].image, self.classifier.reading)
        box = seen_box(picture.size, self.classifier.input.SIZE, self.classifier.input.RESIZE)
        found = []
        for answer, grid in zip(answers, cells, strict=True):
            path, digest = map_path(self.folder, answer.image, answer.task)
            told = PlaceMap(str(path), float(grid.min()), float(grid.max()))
            about: dict[str, object] = {
                "of": digest,
                "task": answer.task,
                "class": answer.best.name,
                "cosines": [told.least, told.largest],
            }
            _write(overlay(picture, grid.numpy(), box), path, about)
            found.append(replace(answer, map=told))
        return found


def map_path(folder: Path, image: str, task: str) -> tuple[Path, str]:
    """Where the map of an image and a task is written, and the digest of both that tells it from all others."""
    place = os.fsencode(os.path.abspath(image)) + b"\0" + task.encode("utf-8", "surrogatepass")  # noqa: PTH100
    digest = sha256(place).hexdigest()
    parts = (_plain(Path(image).stem)[: _LONGEST[0]], _plain(task)[: _LONGEST[1]], digest[:12])
    return folder / f"{'-'.join(part for part in parts if part)}.png", digest


def _plain(name: str) -> str:
    """A name as a part of a file's name."""
    return re.sub(r"[^\w.]+", "_", name).strip("._")


def _write(picture: Image.Image, path: Path, about: dict[str, object]) -> None:
    """Write a PNG that says what it is of; a file that is there must be an earlier map of the same.

    Raises:
        UserError: there is another file, or the folder cannot be written.
    """
    try:
        taken = path.is_symlink() or path.exists()
    except OSError as error:
        raise write_error(path, error) from error
    if taken and _of(path) != about["of"]:
        raise UserError(f"--explain: {path} is no heat map of this image and task; choose another folder")
    text = PngImagePlugin.PngInfo()
    text.add_text(_TEXT, json.dumps(about, ensure_ascii=True))
    with atomic_path(path) as temporary:
        picture.save(temporary, "PNG", pnginfo=text)


def _of(path: Path) -> object:
    """Which image and task a map is of; None where the file is no map."""
    with suppress(Exception), Image.open(path, formats=("PNG",)) as picture:
        picture.load()  # texts may stand behind the pixels
        return json.loads(picture.info[_TEXT])["of"]
    return None


def check_outside(folder: Path, places: Sequence[str]) -> None:
    """Refuse a folder whose maps would be read as images by this call or the next one like it.

    Raises:
        UserError: the folder is, or lies below, one of the ``places``.
    """
    for place in places:
        if place != "-" and Path(place).is_dir() and folder.resolve().is_relative_to(Path(place).resolve()):
            raise UserError(f"--explain {folder} lies in {place}, whose images are asked for; choose another folder")
