"""The context vectors of a trained method, and the vocabulary that they can be compared with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from dassl.data.columns import flat_classnames, task_of_class
from dassl.data.datum import Task

Unit = Literal["all", "task", "class"]
CLASS_PROMPTS = "class prompts"


@dataclass(frozen=True, eq=False)
class Context:
    """The context vectors that some prompts share.

    Attributes:
        prompts: the kind of prompt, such as CLASS_PROMPTS.
        owner: the task, or "task: class", that the prompts belong to; "" for all of them.
        tasks: numbers of the tasks whose prompts have the context.
        vectors: (M, D) float32 on the CPU, in the order in which they stand in the prompt.
        origin: "learned", "generated" or "frozen".
        note: what a reader must know beside that; "": nothing.
    """

    prompts: str
    owner: str
    tasks: tuple[int, ...]
    vectors: Tensor
    origin: str = "learned"
    note: str = ""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens of a text encoder.

    Attributes:
        texts: the V tokens as text.
        kinds: "word", "piece" (more letters follow) or "special" (start and end of a text), for each of them.
        embeddings: (V, D) float32 on the CPU.
    """

    texts: Sequence[str]
    kinds: Sequence[str]
    embeddings: Tensor


def contexts_of(
    vectors: Tensor | None,
    tasks: Sequence[Task],
    unit: Unit,
    *,
    prompts: str = CLASS_PROMPTS,
    origin: str = "learned",
    note: str = "",
) -> list[Context]:
    """Name the owners of contexts.

    Args:
        vectors: (M, D) for the unit "all", (T, M, D) for "task", (C, M, D) for "class"; None: there is no context.
    """
    if vectors is None:
        return []
    vectors = vectors.detach().float().cpu()
    if unit == "all":
        return [Context(prompts, "", tuple(range(len(tasks))), vectors, origin, note)]
    owners = [task.name for task in tasks]
    numbers = list(range(len(tasks)))
    if unit == "class":
        numbers = task_of_class(tasks).tolist()
        owners = [f"{owners[task]}: {name}" for task, name in zip(numbers, flat_classnames(tasks), strict=True)]
    rows = zip(owners, numbers, vectors, strict=True)
    return [Context(prompts, owner, (task,), each, origin, note) for owner, task, each in rows]
