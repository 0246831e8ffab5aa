"""Files of weights, and checkpoints at every entry that reads them."""

import io
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

import predict
import train
from tests.dassl.data.toy import write_image
from tests.rubbish import payloads
from tests.rubbish.case import Bench, Case, drawn, mangled

Make = Callable[[Bench], bytes]


def _torch(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _header(size: int, text: bytes) -> bytes:
    """The start of a safetensors file that says its header has ``size`` bytes."""
    return struct.pack("<Q", size) + text


def _tensor(dtype: str, shape: list[int], offsets: list[int]) -> bytes:
    text = json.dumps({"logit_scale": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()
    return _header(len(text), text)


_PLAIN: dict[str, bytes] = {
    "empty": b"",
    "zero bytes": b"\0" * 5000,
    "a web page": b"<!DOCTYPE html>\n<html>404</html>\n",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
    "a text": b"weights\n" * 100,
    "a text with an escape": b"\x1b]0;owned\x07 weights\n",
    "a text that turns": "\u202estxet sthgiew\n".encode(),
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "a zip of nothing": payloads.zipped({}),
    "a zip of texts": payloads.zipped({"a.txt": b"x"}),
    "a zip with odd names": payloads.zipped({"../../\x1b[31mx": b"x", "/etc/passwd": b"y"}),
    "a cut zip": payloads.zipped({"archive/data.pkl": b"x" * 5000})[:300],
    "a pickle of nothing": b"\x80\x04.",
    "a cut pickle": b"\x80\x04\x95\xff\xff\xff\xff",
    "a pickle of 2**60 bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**60),
    "a pickle with a huge memo": b"\x80\x02]r\xff\xff\xff\xff.",
    "a list": _torch([torch.zeros(2)]),
    "a number": _torch(5),
    "no tensors": _torch({"state_dict": {}, "epoch": 1}),
    "keys that are numbers": _torch({"state_dict": {1: torch.zeros(2)}, "epoch": 1}),
    "tensors that are texts": _torch({"state_dict": {"ctx": "x"}, "epoch": 1}),
    "an epoch that is a text": _torch({"state_dict": {"ctx": torch.zeros(2)}, "epoch": "one"}),
    "wrong shapes": _torch({"state_dict": {"ctx": torch.zeros(1)}, "epoch": 1}),
    "wrong names": _torch({"state_dict": {"\x1b[31mx": torch.zeros(1)}, "epoch": 1}),
    "complex numbers": _torch({"state_dict": {"ctx": torch.zeros(2, 128, dtype=torch.complex64)}, "epoch": 1}),
    "NaN": _torch({"state_dict": {"ctx": torch.full((2, 128), torch.nan)}, "epoch": 1}),
    "a sparse tensor": _torch({"state_dict": {"ctx": torch.zeros(2, 128).to_sparse()}, "epoch": 1}),
    "a name of 3,000 characters": _torch({"state_dict": {"n" * 3000: torch.zeros(1)}, "epoch": 1}),
    "a huge header": _header(2**62, b"{}"),
    "a header larger than the file": _header(10_000, b"{}"),
    "a header of no JSON": _header(4, b"\xff\xff\xff\xff"),
    "a header of 10,000 brackets": _header(10_000, b"[" * 10_000),
    "a tensor beyond the file": _tensor("F32", [10**9], [0, 4 * 10**9]),
    "a tensor below 0": _tensor("F32", [1], [8, 4]),
    "a shape of 2**62": _tensor("F32", [2**62, 2**62], [0, 4]),
    "an unknown type": _tensor("X9", [1], [0, 4]),
    "safetensors of nothing": save({}),
    "safetensors of other tensors": save({"a": torch.zeros(3)}),
    "a whole module": payloads.module(),
}
_HOSTILE: dict[str, Make] = {"TorchScript that writes": lambda bench: payloads.script(bench.marker, bench.folder)}
for _kind in payloads.KINDS:
    _HOSTILE[f"pickle that calls {_kind}"] = lambda b, k=_kind: payloads.plain_pickle(k, b.marker)
    _HOSTILE[f"torch file that calls {_kind}"] = lambda b, k=_kind: payloads.saved(k, b.marker)
    _HOSTILE[f"old torch file that calls {_kind}"] = lambda b, k=_kind: payloads.saved(k, b.marker, legacy=True)
    _HOSTILE[f"zip with a pickle that calls {_kind}"] = lambda b, k=_kind: payloads.zip_with_pickle(k, b.marker)


def _as_weights(make: Make, *, published: bool = False) -> Callable[[Bench], int]:
    def act(bench: Bench) -> int:
        path = bench.write("weights.pt", make(bench))
        name = ("RN50", "MODEL.BACKBONE.WEIGHTS", str(path)) if published else (str(path),)
        command = bench.lab.command("run", "--no-train", dataset="ToyPets", backbone=name[0])
        return train.main([*command, *name[1:]])

    return act


def _run_with(bench: Bench, content: bytes, *, best: bool = False) -> Path:
    """A copy of the finished run, in which the checkpoint is replaced."""
    run = bench.folder / "copy"
    shutil.copytree(bench.run, run)
    (path,) = run.glob("*/model.pth.tar-1")
    path.write_bytes(content)
    return run


def _evaluated(make: Make) -> Callable[[Bench], int]:
    def act(bench: Bench) -> int:
        run = _run_with(bench, make(bench))
        flags = ("--eval-only", "--model-dir", str(run))
        return train.main(bench.lab.command("run", *flags, dataset="ToyPets", trainer="MTCoOpHard"))

    return act


def _predicted(make: Make) -> Callable[[Bench], int]:
    def act(bench: Bench) -> int:
        run, image = _run_with(bench, make(bench)), write_image(bench.folder / "a.png")
        return predict.main([str(run), str(image), "--workers", "0", "--device", "cpu"])

    return act


def _resumed(make: Make) -> Callable[[Bench], int]:
    """The damaged epoch is named, and the run starts anew (0), or the checkpoint is refused (2)."""

    def act(bench: Bench) -> int:
        run = _run_with(bench, make(bench))
        (run / "results.json").unlink()
        options = {"OPTIM__MAX_EPOCH": 1, "OPTIM__WARMUP_EPOCH": 0}
        command = bench.lab.command("run", dataset="ToyPets", trainer="MTCoOpHard", **options)
        command[command.index("--output-dir") + 1] = str(run)
        return train.main(command)

    return act


def _init(make: Make) -> Callable[[Bench], int]:
    def act(bench: Bench) -> int:
        run = _run_with(bench, make(bench))
        command = bench.lab.command("run", "--no-train", dataset="ToyPets", trainer="MTCoOpHard")
        return train.main([*command, "MODEL.INIT_WEIGHTS", str(run)])

    return act


def _just(content: bytes) -> Make:
    return lambda bench: content


_GOOD = _torch({"state_dict": {"ctx": torch.zeros(2, 128)}, "epoch": 1})
_BAD = {title: _just(content) for title, content in _PLAIN.items()}
_DOORS = {"checkpoint in --model-dir": _evaluated, "checkpoint for predict.py": _predicted, "INIT_WEIGHTS": _init}

CASES = [
    *(
        Case("weights of a backbone", title, _as_weights(make), says=("weights.pt",))
        for title, make in {**_BAD, **_HOSTILE}.items()
    ),
    *(
        Case("weights under a published name", title, _as_weights(make, published=True), says=("weights.pt",))
        for title, make in _HOSTILE.items()
    ),
    *(
        Case("weights of a backbone", f"mangled ({n})", _as_weights(_just(content)))
        for n, content in enumerate(drawn(mangled(save({"logit_scale": torch.ones(1)})), 10))
    ),
    *(
        Case("checkpoint in --model-dir", title, _evaluated(make), says=("model.pth.tar-1",))
        for title, make in _BAD.items()
    ),
    *(
        Case("checkpoint in --model-dir", f"mangled ({n})", _evaluated(_just(content)), codes=(0, 2))
        for n, content in enumerate(drawn(mangled(_GOOD), 15))
    ),
    *(Case(door, title, give(make), codes=(0, 2)) for door, give in _DOORS.items() for title, make in _HOSTILE.items()),
    *(Case("checkpoint to resume from", title, _resumed(make), codes=(0, 2)) for title, make in _HOSTILE.items()),
    *(Case("checkpoint to resume from", title, _resumed(_BAD[title]), codes=(0, 2)) for title in list(_BAD)[::4]),
]
