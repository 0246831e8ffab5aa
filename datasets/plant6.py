"""Plant-6: six data sets of plants, 116 classes."""

from dassl.data.dataset import DATASET_REGISTRY, Suite


@DATASET_REGISTRY.register()
class Plant6(Suite):
    """Fruit, flowers, mushrooms, vegetables, seedlings and leaf diseases."""

    members = (
        "FruitVegetable",
        "KaggleFlower",
        "KaggleMushroom",
        "KaggleVegetable",
        "PlantSeedlingV1",
        "PlantVillage",
    )
    num_classes = 116
