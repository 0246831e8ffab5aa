"""Hand-written prompt of each data set for zero-shot CLIP; "{}" stands for the class name.

The wordings are those that CoOp and SoftCPT evaluate with. PlantVillage's class names are whole phrases ("apple leaf
with scab disease"), which its own template does not fit; it is kept for comparison.
"""

_PHOTO = "a photo of a {}."

TEMPLATES: dict[str, str] = {
    "Caltech101": _PHOTO,
    "DescribableTextures": "{} texture.",
    "EuroSAT": "a centered satellite photo of {}.",
    "FGVCAircraft": "a photo of a {}, a type of aircraft.",
    "Food101": "a photo of {}, a type of food.",
    "OxfordFlowers": "a photo of a {}, a type of flower.",
    "OxfordPets": "a photo of a {}, a type of pet.",
    "StanfordCars": _PHOTO,
    "SUN397": _PHOTO,
    "UCF101": "a photo of a person doing {}.",
    "ImageNet": _PHOTO,
    "ImageNetSketch": _PHOTO,
    "ImageNetV2": _PHOTO,
    "ImageNetA": _PHOTO,
    "ImageNetR": _PHOTO,
    "FruitVegetable": "a photo of a {}, a type of fruit or vegetable.",
    "KaggleFlower": "a photo of a {}, a type of flower.",
    "KaggleMushroom": "a photo of a {}, a type of mushroom.",
    "KaggleVegetable": "a photo of a {}, a type of vegetable.",
    "PlantSeedlingV1": "a photo of a {}, a type of seedling.",
    "PlantVillage": "a photo of a plant leaf with {} disease.",
}

_FASHION_KINDS = (
    *("pants", "pants", "pants", "tops", "tops", "tops", "tops"),
    *("shoes", "shoes", "shoes", "shoes", "shoes", "shoes", "shoes"),
    *("hat", "socks", "socks", "skirt", "tops", "underwear"),
)

MEMBERS: dict[str, tuple[str, ...]] = {
    "General10": (
        *("Caltech101", "DescribableTextures", "EuroSAT", "FGVCAircraft", "Food101", "OxfordFlowers", "OxfordPets"),
        *("StanfordCars", "SUN397", "UCF101"),
    ),
    "Plant6": (
        *("FruitVegetable", "KaggleFlower", "KaggleMushroom", "KaggleVegetable", "PlantSeedlingV1", "PlantVillage"),
    ),
}


def templates_of(dataset: str) -> tuple[str, ...]:
    """The template of each task of a data set or suite, in task order.

    Raises:
        KeyError: the data set has none.
    """
    if dataset == "Fashion20":
        return tuple(f"a photo of {{}}, a type of {kind}." for kind in _FASHION_KINDS)
    return tuple(TEMPLATES[member] for member in MEMBERS.get(dataset, (dataset,)))
