"""Find a data set's images under the names that archives and files commonly have."""

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from unicodedata import normalize


def image_folder(folder: Path, names: Sequence[str]) -> Path:
    """The first of the folders ``names`` below ``folder`` that exists; ``folder / names[0]`` if none does.

    A folder that holds only a folder of the same name is replaced by that one: this is what an archive looks like
    after being unpacked into a folder named after it.
    """
    for name in names:
        place = folder / name
        if place.is_dir():
            return _unwrapped(place)
    return folder / names[0]


def spelt_on_disk(path: str) -> str:
    """A path in which each name is in the normal form (NFC or NFD) that is on the disk.

    Names that exist in neither form stay as they are.
    """
    folder, name = os.path.split(path)
    if not name or os.path.exists(path):  # noqa: PTH110  (a Path for each image costs seconds)
        return path
    folder = spelt_on_disk(folder)
    forms = (name, normalize("NFC", name), normalize("NFD", name))
    places = [os.path.join(folder, form) for form in forms]  # noqa: PTH118
    return next((place for place in places if os.path.exists(place)), places[0])  # noqa: PTH110


def _unwrapped(place: Path) -> Path:
    while True:
        with os.scandir(place) as entries:
            # Two entries are enough; the folder may hold a million.
            inner = list(islice((entry for entry in entries if not _is_rubbish(entry.name)), 2))
        if len(inner) != 1 or inner[0].name != place.name or not inner[0].is_dir():
            return place
        place = Path(inner[0].path)


def _is_rubbish(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"
