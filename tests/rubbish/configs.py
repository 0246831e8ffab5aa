"""Config files."""

import train
from dassl.utils.tools import CHECKOUT
from tests.rubbish.case import Bench, Case, drawn, mangled

_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
_BY_HAND: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "a list": ("- a\n- b\n", ("list",)),
    "a text": ("only words", ("str",)),
    "a number": ("17", ("int",)),
    "an unknown key": ("OPTIM:\n  LRR: 0.1\n", ("OPTIM.LRR", "OPTIM.LR")),
    "an unknown section": ("OPTIMUS:\n  LR: 0.1\n", ("OPTIMUS.LR",)),
    "a section without keys": ("OPTIM: 5\n", ("OPTIM", "section")),
    "a key that is a section": ("OPTIM:\n  LR:\n    A: 1\n", ("OPTIM.LR.A",)),
    "a key that is no text": ("17: x\n", ("17",)),
    "a key that is null": ("OPTIM:\n  null: 1\n", ("None",)),
    "a key that is a list": ("? [a, b]\n: 1\n", ()),
    "a key inside that is a list": ("OPTIM:\n  ? [a, b]\n  : 1\n", ()),
    "a key inside that is a number": ("OPTIM:\n  5: 1\n", ("OPTIM.5",)),
    "a key with an escape": ('"\\e[31mX": 1\n', ("X",)),
    "a value with an escape": ('OPTIM:\n  LR: "\\e[31m"\n', ("OPTIM.LR",)),
    "a value with a turn": ('OPTIM:\n  LR: "\\u202e1.0"\n', ("OPTIM.LR",)),
    "a huge value": (f"OPTIM:\n  LR: {'9' * 5000}x\n", ("OPTIM.LR",)),
    "a whole number of 5,000 digits": (f"OPTIM:\n  MAX_EPOCH: {'9' * 5000}\n", ()),
    "a whole number of 900 digits": (f"OPTIM:\n  MAX_EPOCH: {'9' * 900}\n", ("OPTIM.MAX_EPOCH",)),
    "a huge key": (f"{'K' * 900}: 1\n", ("KKKK",)),
    "a key too long for YAML": (f"{'K' * 5000}: 1\n", ("line 1",)),
    "NaN": ("OPTIM:\n  LR: .nan\n", ("OPTIM.LR",)),
    "infinity": ("OPTIM:\n  LR: .inf\n", ("OPTIM.LR",)),
    "a date": ("OPTIM:\n  LR: 2001-01-01\n", ("OPTIM.LR",)),
    "an impossible date": ("OPTIM:\n  LR: 2001-99-99\n", ()),
    "a list for a number": ("OPTIM:\n  LR: [1, 2]\n", ("OPTIM.LR",)),
    "a mapping for a list": ("INPUT:\n  SIZE: {a: 1}\n", ("INPUT.SIZE",)),
    "a set": ("OPTIM:\n  LR: !!set {a, b}\n", ("OPTIM.LR",)),
    "bytes": ("OPTIM:\n  LR: !!binary aGVsbG8=\n", ("OPTIM.LR",)),
    "null for a number": ("OPTIM:\n  LR: null\n", ("OPTIM.LR",)),
    "a boolean for a number": ("OPTIM:\n  LR: yes\n", ("OPTIM.LR",)),
    "a key twice": ("OPTIM:\n  LR: 1\n  LR: 2\n", ("'LR'", "twice", "line 3")),
    "tabs": ("OPTIM:\n\tLR: 1\n", ("line 2",)),
    "an open bracket": ("INPUT:\n  SIZE: [1, 2\n", ("line",)),
    "an open quote": ('OPTIM:\n  NAME: "sgd\n', ("line",)),
    "wrong indentation": ("OPTIM:\n  LR: 1\n NAME: x\n", ("line 3",)),
    "several documents": ("OPTIM:\n  LR: 1\n---\nOPTIM:\n  LR: 2\n", ("bad.yaml",)),
    "merge conflict": ("<<<<<<< HEAD\nOPTIM:\n  LR: 1\n=======\n", ("bad.yaml",)),
    "an unknown alias": ("OPTIM:\n  LR: *nowhere\n", ("nowhere",)),
    "a loop of aliases": ("OPTIM: &a\n  LR: *a\n", ()),
    "a loop of merges": ("OPTIM: &a\n  <<: *a\n  LR: x\n", ()),
    "a million laughs": (_BOMB, ()),
    "a million laughs in a key": (_BOMB + "OPTIM:\n  LR: *i\n", ("aliases",)),
    "10,000 brackets": ("INPUT:\n  SIZE: " + "[" * 10_000, ()),
    "10,000 levels": ("".join(f"{' ' * n}a:\n" for n in range(500)) + " " * 500 + "b: 1", ()),
    "a Python object": ('OPTIM:\n  LR: !!python/object/apply:os.system ["touch ../code-was-run"]\n', ("line 2",)),
    "a Python name": ("OPTIM:\n  LR: !!python/name:os.system\n", ("line 2",)),
    "a new Python object": ("OPTIM: !!python/object/new:subprocess.Popen [[touch, ../code-was-run]]\n", ("line 1",)),
    "a Python module": ("!!python/module:antigravity\n", ()),
    "an own tag": ("OPTIM:\n  LR: !include /etc/passwd\n", ("line 2",)),
    "UTF-16": ("OPTIM:\n  LR: x\n".encode("utf-16"), ()),
    "Latin-1": ("OPTIM:\n  NAME: \xe9\xe8\n".encode("latin-1"), ("UTF-8",)),
    "zero bytes": (b"\0" * 1000, ("YAML",)),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), ("UTF-8",)),
    "a web page": ("<!DOCTYPE html>\n<html><body>404: not found</body></html>\n", ("bad.yaml",)),
    "JSON that is cut": ('{"OPTIM": {"LR": 0.1', ("line 1",)),
    "a directory tree": ("OPTIM: {LR: {A: {B: {C: 1}}}}", ("OPTIM.LR.A.B.C",)),
    "an unknown optimiser": ("OPTIM:\n  NAME: sdg\n", ("OPTIM.NAME", "sgd")),
    "an unknown data set": ("DATASET:\n  NAME: ToyPest\n", ("ToyPest", "ToyPets")),
    "an unknown method": ("TRAINER:\n  NAME: ../../x\n", ("../../x",)),
    "a module for a method": ("TRAINER:\n  NAME: os.system\n", ("os.system",)),
}


def _given(bench: Bench, content: str | bytes, *more: str) -> int:
    path = bench.write("bad.yaml", content)
    command = bench.lab.command("run", "--config-file", str(path), "--no-train", dataset="ToyPets")
    # What the command line says would hide what the file says.
    keys = ("OPTIM.", "INPUT.SIZE", "DATASET.NAME")
    start = command.index("DATASET.NAME")
    pairs = zip(command[start::2], command[start + 1 :: 2], strict=True)
    kept = [part for key, value in pairs if not key.startswith(keys) for part in (key, value)]
    trainer = command.index("--trainer")
    flags = command[:start]
    if b"TRAINER" in path.read_bytes():
        del flags[trainer : trainer + 2]
    return train.main([*flags, *more, *kept])


def _by_hand(content: str | bytes) -> "object":
    return lambda bench: _given(bench, content)


def _place(kind: str) -> "object":
    def act(bench: Bench) -> int:
        path = bench.folder / "bad.yaml"
        if kind == "a folder":
            path.mkdir()
        elif kind == "a link to itself":
            path.symlink_to(path)
        elif kind == "a link to nothing":
            path.symlink_to(bench.folder / "nothing")
        elif kind == "a name with a line break":
            path = bench.folder / "bad\nname\x1b[31m.yaml"
        elif kind == "a name of 3,000 characters":
            path = bench.folder / ("n" * 3000)
        return train.main(["--config-file", str(path)])

    return act


_KINDS = (
    "nothing", "a folder", "a link to itself", "a link to nothing", "a name with a line break",
    "a name of 3,000 characters",
)  # fmt: skip
_SHIPPED = (CHECKOUT / "configs/trainers/MTCoOp/demo.yaml").read_bytes()

CASES = [
    *(Case("config file", title, _by_hand(content), says=says) for title, (content, says) in _BY_HAND.items()),
    *(Case("config file", f"the path is {kind}", _place(kind)) for kind in _KINDS),
    *(
        Case("config file", f"a shipped one, mangled ({n})", _by_hand(content), codes=(0, 2))
        for n, content in enumerate(drawn(mangled(_SHIPPED), 40))
    ),
]
