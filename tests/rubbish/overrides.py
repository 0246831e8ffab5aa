"""KEY VALUE pairs: of every key a value of the wrong kind, and pairs that are none."""

from collections.abc import Callable, Iterator
from typing import Any

import train
from dassl.config.build import all_keys
from dassl.config.keys import Key
from tests.rubbish.case import Bench, Case

_PAIRS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "a key without a value": (("OPTIM.LR",), ("OPTIM.LR",)),
    "a value in place of a key": (("0.1", "OPTIM.LR"), ("0.1",)),
    "an empty key": (("", "1"), ("''",)),
    "a flag behind the pairs": (("OPTIM.LR", "1", "--seed", "2"), ("--seed",)),
    "an equals sign": (("OPTIM.LR=1", "x"), ("OPTIM.LR=1",)),
    "small letters": (("optim.lr", "1"), ("optim.lr", "OPTIM.LR")),
    "a key with an escape": (("OPTIM.\x1b[31mLR", "1"), ("OPTIM.",)),
    "a key that turns": (("OPTIM.\u202eRL", "1"), ("OPTIM.",)),
    "a key with a line break": (("OPTIM.LR\nerror: all is well", "1"), ("OPTIM.LR",)),
    "a key with half a character": (("OPTIM.\udce9", "1"), ("OPTIM.",)),
    "a key of 3,000 characters": (("K" * 3000, "1"), ("KKK",)),
    "a key of Python": (("__class__.__init__", "1"), ("__class__.__init__",)),
    "a value with a line break": (("TRAINER.LABEL", "two\nlines"), ("TRAINER.LABEL",)),
    "a value with an escape": (("TRAINER.LABEL", "\x1b[31m"), ("TRAINER.LABEL",)),
    "a value with half a character": (("TRAINER.LABEL", "\udce9"), ("TRAINER.LABEL",)),
    "a value that turns": (("TRAINER.LABEL", "\u202ex"), ("TRAINER.LABEL",)),
    "code for a number": (("OPTIM.LR", "__import__('os').system('touch ../code-was-run')"), ("OPTIM.LR",)),
    "code for a list": (("INPUT.SIZE", "[__import__('os').system('touch ../code-was-run')]*2"), ("INPUT.SIZE",)),
    "a section": (("OPTIM", "{}"), ("OPTIM",)),
    "tasks on the command line": (("DATASET.TASKS", "[{'name': 'x'}]"), ("DATASET.TASKS",)),
    "Arabic digits in a word": (("OPTIM.MAX_EPOCH", "٣x"), ("OPTIM.MAX_EPOCH",)),
    "a number with blanks inside": (("OPTIM.MAX_EPOCH", "1 0"), ("OPTIM.MAX_EPOCH",)),
    "a hexadecimal number": (("OPTIM.MAX_EPOCH", "0x10"), ("OPTIM.MAX_EPOCH",)),
    "a huge exponent": (("OPTIM.MAX_EPOCH", "1e400"), ("OPTIM.MAX_EPOCH",)),
    "half an epoch": (("OPTIM.MAX_EPOCH", "1.5"), ("OPTIM.MAX_EPOCH",)),
    "a negative zero and a half": (("OPTIM.LR", "-0.5"), ("OPTIM.LR",)),
    "a background that is no colour": (("INPUT.BACKGROUND", "white;rm"), ("INPUT.BACKGROUND",)),
    "a size of zero": (("INPUT.SIZE", "0,0"), ("INPUT.SIZE",)),
    "a size of a million": (("INPUT.SIZE", "1000000,1000000"), ("INPUT.SIZE",)),
    "a negative size": (("INPUT.SIZE", "-32,-32"), ("INPUT.SIZE",)),
    "a transform that is none": (("INPUT.TRANSFORMS", "random_flip,os.system"), ("os.system",)),
    "a deviation of zero": (("INPUT.PIXEL_STD", "0,0,0"), ("INPUT.PIXEL_STD",)),
    "a deviation below zero": (("INPUT.PIXEL_STD", "-1,1,1"), ("INPUT.PIXEL_STD",)),
    "a seed beyond 64 bits": (("SEED", str(2**64)), ("SEED",)),
    "workers below zero": (("DATALOADER.NUM_WORKERS", "-1"), ("DATALOADER.NUM_WORKERS",)),
    "no images in a batch": (("DATALOADER.TRAIN_X.BATCH_SIZE", "0"), ("DATALOADER.TRAIN_X.BATCH_SIZE",)),
    "an unknown logger": (("TRAIN.LOGGERS", "../x"), ("../x",)),
    "a split that is none": (("TEST.SPLIT", "train;x"), ("TEST.SPLIT",)),
    "a billion shots of a class": (("DATASET.NUM_SHOTS", "9999999999999999999999"), ()),
    "an odd choice of tasks": (("DATASET.SUBSAMPLE_TASKS", "task-1"), ("task-1",)),
    "a task that is not there": (("DATASET.SUBSAMPLE_TASKS", "task99"), ("task99",)),
    "a task number of 500 digits": (("DATASET.SUBSAMPLE_TASKS", "task" + "9" * 500), ("DATASET.SUBSAMPLE_TASKS",)),
}
_CODES = {"a billion shots of a class": (0, 2)}


def _given(*pairs: str) -> Callable[[Bench], int]:
    return lambda bench: train.main([*bench.lab.command("run", "--no-train", dataset="ToyPets"), *pairs])


def _wrong_values(key: Key) -> Iterator[str]:
    """Values that no key of this kind may have."""
    like = key.default if key.like is None else key.like
    if key.parse or key.choices:
        yield "\x1b[31mno such thing\u202e"
    elif isinstance(like, bool):
        yield "perhaps"
        yield "2"
    elif isinstance(like, int):
        yield "1.5"
        yield "nan"
    elif isinstance(like, float):
        yield "inf"
        yield "0,1"
    elif isinstance(like, str):
        yield "two\nlines"
    elif like:
        yield "x,y"


def _cases() -> Iterator[Case]:
    for title, (pairs, says) in _PAIRS.items():
        yield Case("override", title, _given(*pairs), codes=_CODES.get(title, (2,)), says=says)
    for key in all_keys().values():
        if key.name == "TRAINER.PUBLISHED_KEYS":
            continue  # any names of keys; what a run notes down by itself
        for value in _wrong_values(key):
            # An unknown logger is named by the table of loggers, not by the key.
            place = "logger" if key.name == "TRAIN.LOGGERS" else key.name
            yield Case("override", f"{key.name} {value!r}", _given(key.name, value), says=(place,))


CASES: list[Any] = list(_cases())
