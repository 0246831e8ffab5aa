"""Fashion-20: twenty questions about clothes, shoes, hats and socks, 78 classes."""

from dataclasses import replace
from pathlib import Path

from dassl.data.dataset import DATASET_REGISTRY, DatasetBase
from dassl.data.datum import Datum, Split, Task
from dassl.data.raw import class_images, images_below, labelled, read_rows, split_classes
from dassl.utils.errors import UserError

_TABLE = "task_info.csv"

# The subject of the pictures, for zero-shot prompts: tasks 0-2 pants, 3-6 tops, 7-13 shoes, then one by one.
_KINDS = (
    *("pants",) * 3,
    *("tops",) * 4,
    *("shoes",) * 7,
    *("hat", "socks", "socks", "skirt", "tops", "underwear"),
)


@DATASET_REGISTRY.register()
class Fashion20(DatasetBase):
    """Images lie in ``images/<task>/<class>``, both numbers from 0; ``task_info.csv`` names tasks and classes."""

    dataset_dir = "fashion20"
    image_dir = "images"
    metric = "mean_acc"
    template = "a photo of {}, a type of clothing."
    num_classes = 78
    num_tasks = 20

    @classmethod
    def read(cls, folder: Path, stand: Path, *, keep: bool = True) -> Split:
        """As for any data set, but names and templates come from the table: the original's split file has none."""
        split = super().read(folder, stand, keep=keep)
        if not (folder / _TABLE).is_file():
            return split
        tasks = cls.described_tasks(folder)
        sizes, wanted = ([len(task.classnames) for task in each] for each in (tasks, split.tasks))
        if sizes != wanted:
            raise UserError(f"{folder / _TABLE} has {sizes} classes, the split file {wanted}; rename the wrong one")
        return replace(split, tasks=tasks)

    @classmethod
    def read_raw(cls, folder: Path) -> Split:
        """The images of a task are shuffled as a whole, so a rare class may lack validation or test images."""
        tasks = cls.described_tasks(folder)
        groups = {str(number): _images(cls.image_folder(folder), number, task) for number, task in enumerate(tasks)}
        return Split(tasks, *split_classes(groups))

    @classmethod
    def images_on_disk(cls, folder: Path) -> list[str]:
        """Images of the classes of all tasks."""
        return images_below(cls.image_folder(folder) / str(task) for task in range(cls.num_tasks))

    @classmethod
    def task_template(cls, number: int) -> str:
        """The hand-written prompt of a task, which names the subject."""
        return f"a photo of {{}}, a type of {_KINDS[number]}." if number < len(_KINDS) else cls.template

    @classmethod
    def described_tasks(cls, folder: Path) -> tuple[Task, ...]:
        """The tasks of the table: a header, then tab-separated lines of number, name, description and class names."""
        tasks = []
        # The description may be missing; class names come last, separated by commas.
        for number, (_, name, rest) in enumerate(read_rows(folder / _TABLE, 3, "\t", header=1)):
            classnames = tuple(word.strip() for word in rest.split("\t")[-1].split(",") if word.strip())
            description = f"classify {name.strip()} into {len(classnames)} categories"
            template = cls.task_template(number)
            tasks.append(Task(name.strip().replace(" ", "_"), classnames, cls.metric, description, template))
        return tuple(tasks)


def _images(images: Path, number: int, task: Task) -> list[Datum]:
    classes = class_images(images / str(number))
    unknown = [name for name in classes if not name.isdecimal() or int(name) >= len(task.classnames)]
    if unknown:
        raise UserError(
            f"{images / str(number)}: folder {unknown[0]!r} is none of the {len(task.classnames)} classes of task "
            f"{task.name!r} in {_TABLE}"
        )
    return [item for name in sorted(classes, key=int) for item in labelled(classes[name], int(name), number)]
