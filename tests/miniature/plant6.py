"""Raw layouts of the six members of Plant-6."""

from tests.miniature.box import Box, known, miniature

KAGGLE_PARTS = ("train", "test", "validation")


@miniature("FruitVegetable", "fruit_vegetable")
def fruit_vegetable(box: Box) -> None:
    """Three parts of class folders, names with spaces, endings of several spellings."""
    _task_texts(
        box, "fruits and vegetables image classification", "classify fruit and vegetable images into 36 categories"
    )
    for part in KAGGLE_PARTS:
        for name in box.some(known("FruitVegetable")):
            for number in range(1, box.per_class + 1):
                ending = {2: "JPG", 3: "png", 4: "jpeg"}.get(number, "jpg")
                box.picture(f"images/{part}/{name}/Image_{number}.{ending}", name)


@miniature("KaggleFlower", "kaggle_flower_recognition")
def kaggle_flower(box: Box) -> None:
    """Class folders; an older release has the downloader's program among the images."""
    classes = box.some(known("KaggleFlower"))
    box.class_folders("flowers", classes, "10008{number:04d}_f52e8ee070_n.jpg")
    box.clutter(f"flowers/{classes[0]}/flickr.py", f"flowers/{classes[0]}/.DS_Store")


@miniature("KaggleMushroom", "kaggle_mushroom")
def kaggle_mushroom(box: Box) -> None:
    """Class folders."""
    _task_texts(box, "mushroom genus image classification", "classify mushroom images into 9 categories")
    box.class_folders("Mushrooms", box.some(known("KaggleMushroom")), "{number:03d}_ePQknW8cTp8.jpg")


@miniature("KaggleVegetable", "kaggle_vegetable")
def kaggle_vegetable(box: Box) -> None:
    """Three parts of class folders."""
    for part in KAGGLE_PARTS:
        box.class_folders(f"images/{part}", box.some(known("KaggleVegetable")), "{number:04d}.jpg")


@miniature("PlantSeedlingV1", "PlantSeedlingV1")
def plant_seedling(box: Box) -> None:
    """Class folders of PNG images, names with spaces and hyphens."""
    box.class_folders("Nonsegmented", box.some(known("PlantSeedlingV1")), "{number}.png")


@miniature("PlantVillage", "PlantVillage")
def plant_village(box: Box) -> None:
    """Class folders with punctuation in their names; files with spaces, brackets and upper-case endings."""
    folder = "Plant_leave_diseases_dataset_without_augmentation"
    box.class_folders(folder, box.some(known("PlantVillage", "folders")), "image ({number}).JPG")


def _task_texts(box: Box, name: str, description: str) -> None:
    box.text("task_name.txt", [name])
    box.text("task_desc.txt", [description])
