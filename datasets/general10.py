"""General-10: ten well-known data sets, 1,191 classes."""

from dassl.data.dataset import DATASET_REGISTRY, Suite


@DATASET_REGISTRY.register()
class General10(Suite):
    """Objects, textures, land use, aircraft, food, flowers, pets, cars, scenes and actions."""

    members = (
        "Caltech101",
        "DescribableTextures",
        "EuroSAT",
        "FGVCAircraft",
        "Food101",
        "OxfordFlowers",
        "OxfordPets",
        "StanfordCars",
        "SUN397",
        "UCF101",
    )
    num_classes = 1191
