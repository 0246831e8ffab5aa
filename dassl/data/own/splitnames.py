"""What people call the splits of their data: train, val and test in many spellings, with typing errors."""

import re
import unicodedata

_WORDS = {
    "train": ("train", "training", "trainval", "trn"),
    "val": ("val", "valid", "validation", "validate", "validating", "dev", "development"),
    "test": ("test", "testing", "eval", "evaluation", "evaluate", "holdout", "heldout"),
}
_SPLIT_OF = {word: split for split, words in _WORDS.items() for word in words}
# What may accompany such a word: seg_train, training_data, "Test Set", train2017.
_BESIDE = (
    "seg|data|dataset|set|split|images|image|imgs|img|pictures|photos|samples|folder|dir|my|the|new|old|copy|original|"
    "final|public|private|[0-9]+"
)
_BESIDE_WORD = re.compile(f"(?:{_BESIDE})")
_NAME = re.compile(f"(?:{_BESIDE})*({'|'.join(_SPLIT_OF)})(?:{_BESIDE})*")
_SEPARATORS = re.compile(r"[\s_.()\[\]-]+")
_SHORT = 4  # words of up to this many letters may have one typing error, longer ones two


def split_of(name: str) -> str:
    """ "train", "val" or "test" for a name that says so, else "".

    Case, blanks, "_", "-" and "." do not matter, nor do a number or words such as "data" and "set" beside it.
    """
    found = _NAME.fullmatch("".join(_words(name)))
    return _SPLIT_OF[found[1]] if found else ""


def nearest_split(name: str) -> str:
    """The split that a name was probably meant to be, such as "tset", "tarin" or "vaildation"; "" if none."""
    core = "".join(word for word in _words(name) if not _BESIDE_WORD.fullmatch(word))
    distance = {word: slips(core, word) for word in _SPLIT_OF}
    nearest = min(_SPLIT_OF, key=lambda word: (distance[word], -len(word)))
    return _SPLIT_OF[nearest] if distance[nearest] <= (1 if min(len(nearest), len(core)) <= _SHORT else 2) else ""


def slips(first: str, second: str) -> int:
    """Letters to add, drop, change or swap with their neighbour to make one word the other (Damerau, 1964)."""
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, letter in enumerate(first, 1):
        above, before_above = row, before
        row = [i]
        for j, other in enumerate(second, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (letter != other)))
            if i > 1 and j > 1 and letter == second[j - 2] and first[i - 2] == other:
                row[j] = min(row[j], before_above[j - 2] + 1)
        before = above
    return row[-1]


def _words(name: str) -> list[str]:
    folded = unicodedata.normalize("NFKC", name).casefold()
    return [word for word in _SEPARATORS.split(folded) if word]
