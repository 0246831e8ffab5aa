"""From a name and a folder to miniatures on disk."""

import shutil
import tempfile
from pathlib import Path

from dassl.utils.errors import UserError
from dassl.utils.files import write_error
from dassl.utils.registry import nearest
from tests.miniature.box import MINIATURES, Box

PER_CLASS = 6
MIN_PER_CLASS = 4  # with fewer a class would have no training, validation or test image
# Is in every folder that was made here, so that nothing else is ever replaced, and says what each picture shows.
MARK = ".miniature.json"

SUITES: dict[str, tuple[str, ...]] = {
    "General10": (
        *("Caltech101", "DescribableTextures", "EuroSAT", "FGVCAircraft", "Food101"),
        *("OxfordFlowers", "OxfordPets", "StanfordCars", "SUN397", "UCF101"),
    ),
    "Plant6": (
        *("FruitVegetable", "KaggleFlower", "KaggleMushroom", "KaggleVegetable", "PlantSeedlingV1", "PlantVillage"),
    ),
    "RS8": ("AID", "RESISC45", "UCM", "RSSCN7", "PatternNet", "SIRIWHU", "RSICB128", "EuroSAT"),
    "RemoteSensing": (
        *("AID", "CLRS", "EuroSAT", "MLRSNet", "NaSCTG2", "OPTIMAL31", "PatternNet", "RESISC45", "RSD46WHU"),
        *("RSICB128", "RSICB256", "RSSCN7", "RSC11", "SIRIWHU", "UCM", "WHURS19"),
    ),
    "ImageNetFamily": ("ImageNet", "ImageNetV2", "ImageNetSketch", "ImageNetA", "ImageNetR"),
}


def names_of(suite: str) -> tuple[str, ...]:
    """The data sets of a suite, "all" of them, or the one that is called ``suite``: as registered, or as its yaml.

    Raises:
        UserError: there is nothing of this name, or no miniature of it.
    """
    if suite == "all":
        return tuple(MINIATURES)
    if suite in MINIATURES:
        return (suite,)
    if suite in SUITES:
        return SUITES[suite]
    members = _members(suite)
    if members and all(name in MINIATURES for name in members):
        return members
    choices = [*SUITES, "all", *MINIATURES]
    raise UserError(
        f"there is no miniature of {suite!r}; choose one of {', '.join(nearest(suite, choices) or choices)}"
    )


def _members(suite: str) -> tuple[str, ...]:
    """The data sets that a config file or another registered name stands for; none for an unknown one."""
    from datasets._command import members_of, read_choice

    try:
        return tuple(member.__name__ for member in members_of(read_choice(suite, "")))
    except UserError:
        return ()


def write_suite(suite: str, root: Path, *, per_class: int = PER_CLASS, classes: int | None = None) -> list[Path]:
    """Write the miniatures of :func:`names_of` below ``root``; returns their folders."""
    return [write_miniature(name, root, per_class=per_class, classes=classes) for name in names_of(suite)]


def write_miniature(name: str, root: Path, *, per_class: int = PER_CLASS, classes: int | None = None) -> Path:
    """Write one data set in its own folder below ``root``; an older miniature there is replaced.

    Args:
        per_class: images of a class in every list of images that the raw layout knows.
        classes: how many classes have images, None for all. Class lists of the layout are whole in any case.

    Raises:
        UserError: a number is too small, or the folder holds something else or cannot be written.
    """
    if per_class < MIN_PER_CLASS or (classes is not None and classes < 1):
        raise UserError(
            f"a miniature has at least {MIN_PER_CLASS} images a class and 1 class; got {per_class}, {classes}"
        )
    target = root / MINIATURES[name].folder
    if target.exists() and not (target / MARK).is_file():
        raise UserError(f"{target} exists and is no miniature; choose another folder")
    try:
        _write(name, target, per_class, classes)
    except OSError as error:
        raise write_error(target, error) from error
    return target


def _write(name: str, target: Path, per_class: int, classes: int | None) -> None:
    """Fill a hidden folder beside the target and give it its name when it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        box = Box(made, per_class, classes)
        MINIATURES[name].write(box)
        box.json(MARK, box.subjects)
        made.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        made.rename(target)
    finally:
        shutil.rmtree(made, ignore_errors=True)
