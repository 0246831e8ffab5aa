"""What a folder of recorded cases must hold, and files in it that no case reads."""

from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from tests.golden.report import Case

# Files that each part must hold; a pattern stands for at least one file.
PARTS: dict[str, tuple[str, ...]] = {
    "common": (
        "problem.json",
        "batch.safetensors",
        *(f"{kind}_{variant}.safetensors" for kind in ("clip_tiny", "init") for variant in ("vit", "rn")),
    ),
    "softcpt": ("*.json", "*.safetensors"),
    "hard": ("*.json", "*.safetensors"),
    "zeroshot": ("zeroshot.json", "zeroshot.safetensors"),
    "evaluator": ("evaluator.json", "evaluator.safetensors"),
    "labels": ("labels.json",),
    "lr": ("lr.json",),
    "tokenizer": ("tokenizer.json", "tokenizer.safetensors"),
    "sampling": ("splits.json", "softcpt.json", "coop.json"),
    "transforms": ("transforms.json", "transforms.safetensors", "images/*"),
    "parse": ("cases.json", "*.stdout.txt", "*/*"),
}


def missing(folder: Path, parts: Sequence[str]) -> list[str]:
    """Parts without a folder ("lr/"), and files that a part should hold ("sampling/splits.json")."""
    found = []
    for part in parts:
        if not (folder / part).is_dir():
            found.append(f"{part}/")
            continue
        found += [f"{part}/{name}" for name in PARTS[part] if not any((folder / part).glob(name))]
    return found


def layout_cases(folder: Path, parts: Sequence[str]) -> Iterator[tuple[str, Callable[[Case], None]]]:
    """A failing case for each missing thing and for each file that nothing reads."""
    for name in missing(folder, parts):
        yield name, _failure("is missing")
    for name in _unread(folder, parts):
        yield name, _failure("is a file that no case reads")


def _failure(text: str) -> Callable[[Case], None]:
    return lambda case: case.failures.append(text)


def _unread(folder: Path, parts: Sequence[str]) -> Iterator[str]:
    """Files of unknown names, and tensors or records that lack the other half of their pair."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        part, _, name = path.relative_to(folder).as_posix().partition("/")
        if not name or part not in (*parts, *(set(PARTS) - set(parts))):
            if path.name != "README.md":
                yield path.relative_to(folder).as_posix()
        elif part in parts and not any(fnmatchcase(name, pattern) for pattern in PARTS[part]):
            yield f"{part}/{name}"
        elif part in ("softcpt", "hard") and part in parts:
            other = path.with_suffix(".json" if path.suffix == ".safetensors" else ".safetensors")
            if path.suffix == ".safetensors" and not other.is_file():
                yield f"{part}/{name}"
