"""RS-8: eight remote-sensing data sets as one suite of 8 tasks and 208 classes."""

from typing import ClassVar

from dassl.data.dataset import DATASET_REGISTRY, Suite


@DATASET_REGISTRY.register()
class RS8(Suite):
    """A reconstruction: the paper gives 8 tasks and 208 classes but not the members.

    Of the 178 choices of eight common sets that have 208 classes this is the most plausible one (docs/datasets.md);
    DATASET.MEMBERS names another.
    """

    members: ClassVar[tuple[str, ...]] = (
        "AID",
        "RESISC45",
        "UCM",
        "RSSCN7",
        "PatternNet",
        "SIRIWHU",
        "RSICB128",
        "EuroSAT",
    )
    num_classes = 208
