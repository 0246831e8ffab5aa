"""Raw layouts of the ten members of General-10."""

from collections.abc import Iterator
from itertools import count

import numpy as np

from tests.miniature.box import Box, known, miniature

CAT_BREEDS = (
    *("abyssinian", "bengal", "birman", "bombay", "british_shorthair", "egyptian_mau", "maine_coon", "persian"),
    *("ragdoll", "russian_blue", "siamese", "sphynx"),
)
BOX_FIELDS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")


@miniature("Caltech101", "caltech-101")
def caltech101(box: Box) -> None:
    """Class folders, and the two that do not count."""
    folders = [*box.some(known("Caltech101", "folders")), "BACKGROUND_Google", "Faces_easy"]
    box.class_folders("101_ObjectCategories", folders, "image_{number:04d}.jpg")
    box.clutter("101_ObjectCategories/.DS_Store", "101_ObjectCategories/BACKGROUND_Google/tmp")


@miniature("DescribableTextures", "dtd")
def describable_textures(box: Box) -> None:
    """Class folders; the official lists are there but not used."""
    classes = box.some(known("DescribableTextures"))
    box.class_folders("images", classes, "{name}_{number:04d}.jpg")
    box.clutter(f"images/{classes[-1]}/.directory", "imdb/imdb.mat")
    box.text("labels/train1.txt", [f"{name}/{name}_0001.jpg" for name in classes])


@miniature("EuroSAT", "eurosat")
def eurosat(box: Box) -> None:
    """Class folders in a folder with a number for a name."""
    box.class_folders("2750", box.some(known("EuroSAT", "folders")), "{name}_{number}.jpg")


@miniature("FGVCAircraft", "fgvc_aircraft")
def fgvc_aircraft(box: Box) -> None:
    """All images in one folder; a list for each part, with names that hold spaces and slashes."""
    variants = known("FGVCAircraft")
    box.text("variants.txt", variants)
    box.clutter("README", "images_box.txt", "families.txt")
    numbers = count(34309)
    for part in ("train", "val", "test"):
        lines = []
        for name in box.some(variants):
            for _, number in zip(range(half(box)), numbers, strict=False):
                box.picture(f"images/{number:07d}.jpg", name)
                lines.append(f"{number:07d} {name}")
        box.text(f"images_variant_{part}.txt", lines)


@miniature("Food101", "food-101")
def food101(box: Box) -> None:
    """Class folders; the official lists are there but not used."""
    classes = box.some(known("Food101"))
    box.class_folders("images", classes, "10{number:05d}.jpg")
    box.text("meta/classes.txt", classes)
    box.json("meta/train.json", {name: [f"{name}/1000001"] for name in classes})
    box.clutter("license_agreement.txt", "README.txt", "images/.DS_Store")


@miniature("OxfordFlowers", "oxford_flowers")
def oxford_flowers(box: Box) -> None:
    """All images in one folder in the order of the real ones' labels, a matrix of labels and a table of names."""
    names = known("OxfordFlowers")
    with_images = set(box.some(range(len(names))))
    labels = [label for label in known("OxfordFlowers", "order") if label in with_images for _ in range(box.per_class)]
    for number, label in enumerate(labels, start=1):
        box.picture(f"jpg/image_{number:05d}.jpg", names[label])
    box.mat("imagelabels.mat", labels=np.array([labels], dtype=np.uint8) + 1)
    box.mat("setid.mat", trnid=np.array([[1]], dtype=np.uint16), valid=np.array([[2]], dtype=np.uint16))
    box.json("cat_to_name.json", {str(label + 1): names[label] for label in sorted(range(len(names)), key=str)})


@miniature("OxfordPets", "oxford_pets")
def oxford_pets(box: Box) -> None:
    """All images in one folder, cats with a capital; class numbers count from 1 without a gap, whatever is left out."""
    lists: dict[str, list[str]] = {"trainval": [], "test": []}
    for label, name in enumerate(box.some(known("OxfordPets")), start=1):
        stem, species = (name.title(), 1) if name in CAT_BREEDS else (name, 2)
        for part, numbers in _official_parts(box):
            for number in numbers:
                box.picture(f"images/{stem}_{number}.jpg", name)
                lists["trainval" if part == "train" else "test"].append(f"{stem}_{number} {label} {species} {label}")
    for part, lines in lists.items():
        box.text(f"annotations/{part}.txt", lines)
    box.text("annotations/list.txt", ["#Image CLASS-ID SPECIES BREED ID", *lists["trainval"], *lists["test"]])
    box.clutter("images/Abyssinian_100.mat", "annotations/._trimaps")


@miniature("StanfordCars", "stanford_cars")
def stanford_cars(box: Box) -> None:
    """Two folders of images and three MATLAB files; the year stands behind the car's name."""
    names = known("StanfordCars")
    raw_names = [" ".join([*name.split()[1:], name.split()[0]]) for name in names]
    with_images = set(box.some(range(len(names))))
    order = [label for label in known("StanfordCars", "order") if label in with_images]
    rows: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    for label in order:
        for part, numbers in _official_parts(box):
            for _ in numbers:
                rows[part].append((f"{len(rows[part]) + 1:05d}.jpg", label))
                box.picture(f"cars_{part}/{rows[part][-1][0]}", names[label])
    box.mat("devkit/cars_meta.mat", class_names=np.array([raw_names], dtype=object))
    box.mat("devkit/cars_train_annos.mat", annotations=_car_annotations(rows["train"]))
    box.mat("cars_test_annos_withlabels.mat", annotations=_car_annotations(rows["test"]))
    box.clutter("devkit/README.txt", "devkit/train_perfect_preds.txt")


@miniature("SUN397", "sun397")
def sun397(box: Box) -> None:
    """Folders of one or two levels below a letter, and lists whose lines begin with a slash."""
    folders = known("SUN397", "folders")
    box.text("ClassName.txt", [f"/{folder}" for folder in folders])
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for folder in box.some(folders):
        for part, numbers in _official_parts(box):
            for number in numbers:
                path = f"{folder}/sun_a{number:03d}{'bcdef'[len(folder) % 5]}.jpg"
                box.picture(f"SUN397/{path}", folder)
                lists[part].append(f"/{path}")
    for number in (1, 2):
        box.text(f"Training_{number:02d}.txt", lists["train"][: None if number == 1 else 1])
        box.text(f"Testing_{number:02d}.txt", lists["test"][: None if number == 1 else 1])


@miniature("UCF101", "ucf101")
def ucf101(box: Box) -> None:
    """Lists of videos under their old names; middle frames in folders with the new names. Lines end as on Windows."""
    names = known("UCF101")
    actions = [name.replace("_", "") for name in names]
    box.text("ucfTrainTestlist/classInd.txt", [f"{n} {action}" for n, action in enumerate(actions, 1)], end="\r\n")
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for label in box.some(range(len(names))):
        spelt = "HandStandPushups" if names[label] == "Handstand_Pushups" else actions[label]
        for part, numbers in _official_parts(box):
            for number in numbers:
                video = f"v_{spelt}_g{number:02d}_c01"
                box.picture(f"UCF-101-midframes/{names[label]}/{video}.jpg", names[label])
                lists[part].append(f"{actions[label]}/{video}.avi" + f" {label + 1}" * (part == "train"))
    box.text("ucfTrainTestlist/trainlist01.txt", lists["train"], end="\r\n")
    box.text("ucfTrainTestlist/testlist01.txt", lists["test"], end="\r\n")


def half(box: Box) -> int:
    """Images of a class in the smaller official lists."""
    return max(1, box.per_class // 2)


def _official_parts(box: Box) -> Iterator[tuple[str, range]]:
    """Numbers of a class's images in the official train list and in the official test list."""
    yield "train", range(1, box.per_class + 1)
    yield "test", range(box.per_class + 1, box.per_class + half(box) + 1)


def _car_annotations(rows: list[tuple[str, int]]) -> np.ndarray:
    """(1, images) structure of box corners, class number from 1 and file name."""
    table = np.zeros((1, len(rows)), dtype=[(key, object) for key in (*BOX_FIELDS, "class", "fname")])
    for cell, (file, label) in zip(table[0], rows, strict=True):
        for key in BOX_FIELDS:
            cell[key] = np.uint16(20 + 20 * key.endswith("2"))
        cell["class"], cell["fname"] = np.uint8(label + 1), file
    return table
