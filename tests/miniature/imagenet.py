"""Raw layouts of ImageNet and its four variants; all have the table of 1000 names."""

from collections.abc import Sequence

from tests.miniature.box import HERE, Box, known, miniature
from tests.miniature.general10 import half


@miniature("ImageNet", "imagenet")
def imagenet(box: Box) -> None:
    """A folder for each number of WordNet, in two parts."""
    synsets = box.some(_copy_names(box))
    for part in ("train", "val"):
        for synset in synsets:
            for number in range(1, (box.per_class if part == "train" else half(box)) + 1):
                stem = f"{synset}_{number}" if part == "train" else f"ILSVRC2012_val_{synset[4:]}{number:02d}"
                box.picture(f"images/{part}/{synset}/{stem}.JPEG", synset)


@miniature("ImageNetV2", "imagenetv2")
def imagenet_v2(box: Box) -> None:
    """Folders are named by label, so in the order of their names 10 comes before 2."""
    synsets = _copy_names(box)
    for label in box.some(range(len(synsets))):
        for number in range(half(box)):
            path = f"imagenetv2-matched-frequency-format-val/{label}/{number:040x}.jpeg"
            box.picture(path, synsets[label])


@miniature("ImageNetSketch", "imagenet-sketch")
def imagenet_sketch(box: Box) -> None:
    """A folder for each number of WordNet."""
    _synset_folders(box, "images", _copy_names(box), "sketch_{number}.JPEG")


@miniature("ImageNetA", "imagenet-adversarial")
def imagenet_a(box: Box) -> None:
    """Folders of 200 of the 1000 classes, beside a text."""
    synsets = _copy_names(box)
    _synset_folders(
        box, "imagenet-a", [synsets[label] for label in known("ImageNetA", "labels")], "0.{number:06d}_x.jpg"
    )
    box.clutter("imagenet-a/README.txt")


@miniature("ImageNetR", "imagenet-rendition")
def imagenet_r(box: Box) -> None:
    """Folders of 200 of the 1000 classes, beside a text."""
    synsets = _copy_names(box)
    _synset_folders(box, "imagenet-r", [synsets[label] for label in known("ImageNetR", "labels")], "art_{number}.jpg")
    box.clutter("imagenet-r/README.txt")


def name_table() -> dict[str, str]:
    """Number of WordNet -> name, in label order."""
    return dict(line.split(" ", 1) for line in (HERE / "classnames.txt").read_text(encoding="utf-8").splitlines())


def _copy_names(box: Box) -> list[str]:
    """Write classnames.txt; returns the 1000 numbers of WordNet."""
    table = name_table()
    box.text("classnames.txt", [f"{synset} {name}" for synset, name in table.items()])
    return list(table)


def _synset_folders(box: Box, folder: str, synsets: Sequence[str], file: str) -> None:
    for synset in box.some(synsets):
        for number in range(half(box)):
            box.picture(f"{folder}/{synset}/{file.format(number=number)}", synset)
