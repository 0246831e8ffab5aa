"""UCF101: the middle frames of videos of 101 human actions."""

import re
from pathlib import Path

from dassl.data.dataset import DATASET_REGISTRY, DatasetBase
from dassl.data.datum import Datum, Split
from dassl.data.raw import Labels, hold_out, read_lines, read_rows


@DATASET_REGISTRY.register()
class UCF101(DatasetBase):
    """First of the official splits; a fifth of the training videos is for validation."""

    dataset_dir = "ucf101"
    image_dir = "UCF-101-midframes"
    task_name = "human action image classification"
    task_description = "classify human action images into 101 categories"
    template = "a photo of a person doing {}."
    counts = (7639, 1898, 3783)
    num_classes = 101

    @classmethod
    def read_raw(cls, folder: Path) -> Split:
        """Lists name videos as Action/file.avi; the frame is file.jpg in a folder of the readable class name."""
        lists, images = folder / "ucfTrainTestlist", cls.image_folder(folder)
        actions = [name for _, name in read_rows(lists / "classInd.txt", 2)]
        labels = Labels(actions, lists / "classInd.txt")
        parts = []
        for part in ("trainlist01.txt", "testlist01.txt"):
            videos = [Path(line.split()[0]) for line in read_lines(lists / part)]
            parts.append([_frame(images, video, labels[video.parent.name]) for video in videos])
        return Split((cls.task(folder, [_classname(action) for action in actions]),), *hold_out(parts[0]), parts[1])


def _frame(images: Path, video: Path, label: int) -> Datum:
    return Datum(f"{images}/{_classname(video.parent.name)}/{video.stem}.jpg", label)


def _classname(action: str) -> str:
    """ApplyEyeMakeup -> Apply_Eye_Makeup."""
    return "_".join(re.findall("[A-Z][^A-Z]*", action))
