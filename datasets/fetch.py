"""Download data sets: python -m datasets.fetch SUITE --root DATA.

Existing files are never overwritten, and an interrupted download or unpacking is resumed. What only a person can fetch
is named with its web page and the place where it belongs.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from dassl.data.dataset import DatasetBase
from dassl.data.filekinds import IMAGE_ENDINGS
from dassl.data.layouts import image_folder
from dassl.data.places import data_root
from dassl.utils.cli import exit_code
from dassl.utils.errors import UserError
from dassl.utils.files import write_text
from datasets._command import build_parser, members_of, read_choice
from datasets._fetch.download import DownloadError, download, keep, refuse_damaged, split_of
from datasets._fetch.sources import SOURCES, Mirror, Source
from datasets._fetch.unpack import is_archive, unpack

_EPILOG = """\
exit code: 0 everything is there, 1 something is left to do (it is named; with --dry-run also what would be fetched),
2 the command is wrong.

example: what would be downloaded for RS-8
  python -m datasets.fetch rs8 --root ~/data --dry-run

Kaggle: "pip install kaggle" and an API token of your account (kaggle.com/settings); else the web page is named."""
_KAGGLE_TOKENS = ("kaggle.json", "access_token")


class State(Enum):
    """The state of one source."""

    THERE = "there"
    UNREAD = "not read"
    PLANNED = "would be fetched"
    BY_HAND = "by hand"
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """State of one source and the lines that say so."""

    state: State
    text: str
    optional: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = build_parser("fetch", __doc__, _EPILOG)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done and do nothing")
    complete: list[bool] = []

    def run() -> None:
        options = parser.parse_args(arguments)
        complete.append(_run(options.suite, options.root, dry=options.dry_run))

    return exit_code(run) or int(not complete[0])


def _run(suite: str, root: str, *, dry: bool) -> bool:
    """Fetch all members, or with ``dry`` say what would be fetched; returns whether nothing is left to do."""
    cfg = read_choice(suite, root)
    members = members_of(cfg)
    left, planned = [], False
    for member in members:
        # A dry run makes no folder, so the root need not exist yet.
        folder = (
            Path(root).expanduser().absolute() if root else data_root(cfg, member.__name__, embedded=member.embedded)
        )
        print(f"{member.__name__}: {folder / member.dataset_dir}", flush=True)
        outcomes = fetch(member, folder / member.dataset_dir, dry=dry)
        unfinished = [each for each in outcomes if each.state in (State.BY_HAND, State.FAILED) and not each.optional]
        left += [member.__name__] if unfinished else []
        planned |= any(each.state is State.PLANNED and not each.optional for each in outcomes)
    print(f"\n{len(members) - len(left)} of {len(members)} data sets {'could be' if dry else 'are'} fetched", end="")
    print(f"; left to do: {', '.join(left)}" if left else "")
    if not left and not dry:
        print(f"Next: python -m datasets.check {suite} --root {root}")
    return not left and not planned


def fetch(member: type[DatasetBase], folder: Path, *, dry: bool = False) -> list[Outcome]:
    """Fetch the files of one data set into ``folder``, or only say what would be done."""
    sources = SOURCES.get(member.__name__, ())
    if not sources and not member.embedded:
        print("  no source is known for this data set; see docs/datasets.md")
        return [Outcome(State.BY_HAND, "")]
    if member.embedded:
        print("  it makes its images itself on first use")
    outcomes = []
    for source in sources:
        try:
            outcome = _fetch_source(member, folder, source, dry=dry)
        except UserError as error:
            outcome = Outcome(State.FAILED, str(error), source.optional)
        outcome = _unless_read(member, folder, source, outcome)
        done = outcome.state in (State.THERE, State.UNREAD)
        note = " (optional)" if source.optional and not done else ""
        print(f"  {source.file}: {outcome.state.value}{note}{'; ' if outcome.text else ''}{outcome.text}", flush=True)
        outcomes.append(outcome)
    return outcomes


def _unless_read(member: type[DatasetBase], folder: Path, source: Source, outcome: Outcome) -> Outcome:
    """A note about a split file that no run reads because another takes precedence; else ""."""
    names = member.split_names()
    first = next((name for name in names if (folder / name).is_file()), source.file)
    if source.file not in names or first == source.file:
        return outcome
    text = f"runs read {first}, which takes precedence; rename it to choose {source.file}"
    state = State.UNREAD if outcome.state is State.THERE else outcome.state
    return replace(outcome, state=state, text="; ".join(filter(None, (outcome.text, text))))


# -- one source ------------------------------------------------------------------------------------------------


def _fetch_source(member: type[DatasetBase], folder: Path, source: Source, *, dry: bool) -> Outcome:
    if _is_there(member, folder, source):
        return Outcome(State.THERE, "")
    archive = next((folder / name for name in (source.file, *source.also) if (folder / name).is_file()), None)
    if dry:
        return _plan(folder, source, archive)
    if archive is None:
        archive = folder / source.file
        reasons = _download(source, archive)
        if reasons is not None:
            return Outcome(State.BY_HAND, _instructions(folder, source, reasons), source.optional)
    if source.into is None:
        return Outcome(State.THERE, f"downloaded to {archive}")
    published = [mirror.digest for mirror in source.mirrors if mirror.digest]
    refuse_damaged(archive, published if archive.name == source.file else ())
    count = _unpack(folder, source, archive)
    if not _is_there(member, folder, source):
        wanted = " or ".join(source.gives or (member.image_dir, *member.other_image_dirs))
        raise UserError(f"{archive} was unpacked but does not give {wanted}; compare {folder} with docs/datasets.md")
    return Outcome(State.THERE, f"{count:,} files unpacked from {archive}")


def _is_there(member: type[DatasetBase], folder: Path, source: Source) -> bool:
    if source.into is None:
        return (folder / source.file).is_file()
    if _unfinished(folder, source).is_file():
        return False
    if source.gives:
        return all((folder / name).exists() for name in source.gives)
    return _has_images(image_folder(folder, (member.image_dir, *member.other_image_dirs)))


def _has_images(place: Path) -> bool:
    """Whether a folder holds images or folders of images, and not only an archive or our own records."""
    if not place.is_dir():
        return False
    with os.scandir(place) as entries:
        return any(
            entry.name.lower().endswith(IMAGE_ENDINGS) or (entry.is_dir() and entry.name != "split_fewshot_mt")
            for entry in entries
            if not entry.name.startswith(".")
        )


def _plan(folder: Path, source: Source, archive: Path | None) -> Outcome:
    if archive is not None:
        return Outcome(State.PLANNED, f"{archive} is there and would be unpacked", source.optional)
    usable = [mirror for mirror in source.mirrors if not _GETTERS[_kind(mirror)].missing()]
    if not usable:
        reasons = [f"{mirror.address}: {_GETTERS[_kind(mirror)].missing()}" for mirror in source.mirrors]
        return Outcome(State.BY_HAND, _instructions(folder, source, reasons), source.optional)
    size = f" ({usable[0].size / 1e6:,.0f} MB)" if usable[0].size else ""
    return Outcome(State.PLANNED, f"from {' or '.join(mirror.address for mirror in usable)}{size}", source.optional)


def _instructions(folder: Path, source: Source, reasons: Sequence[str]) -> str:
    lines = [f"get it from {source.page} and put it at {folder / source.file}"]
    if source.into is not None:
        lines[0] += f" (or unpack it in {folder / source.into}); then start this command again"
    lines += [f"note: {source.hint}"] if source.hint else []
    return "\n    ".join([*lines, *(f"not possible: {reason}" for reason in reasons)])


def _unpack(folder: Path, source: Source, archive: Path) -> int:
    """Unpack the archive and those inside it; a marker tells a later call that this one was interrupted."""
    if not is_archive(archive):
        raise UserError(f"{archive} is no zip or tar archive; unpack it in {folder} yourself, or get one of these")
    mark = _unfinished(folder, source)
    write_text(mark, "This data set is being unpacked; the command datasets.fetch resumes when it is started again.\n")
    count = unpack(archive, folder / (source.into or ""), take=source.take if archive.name == source.file else "")
    for inner in source.then:
        if (folder / inner).is_file():
            count += unpack(folder / inner, (folder / inner).parent)
    mark.unlink()
    return count


def _unfinished(folder: Path, source: Source) -> Path:
    return folder / f".unpacking-{source.file}"


# -- addresses -------------------------------------------------------------------------------------------------


def _download(source: Source, target: Path) -> list[str] | None:
    """Try the mirrors in turn; None after a success, else why each mirror failed."""
    reasons = []
    for mirror in source.mirrors:
        getter = _GETTERS[_kind(mirror)]
        missing = getter.missing()
        try:
            if missing:
                raise DownloadError(f"{mirror.address}: {missing}")
            print(f"  {source.file}: from {mirror.address}", flush=True)
            getter.get(mirror, target)
            if source.into is not None and not is_archive(target):
                target.unlink()
                raise DownloadError(f"{mirror.address}: the download is no archive, perhaps a web page")
            return None
        except DownloadError as error:
            reasons.append(str(error))
    return reasons


@dataclass(frozen=True)
class _Getter:
    """A way to fetch files from one kind of address; ``missing`` says which requirement is not met, "" if none."""

    missing: Callable[[], str]
    get: Callable[[Mirror, Path], None]


def _kind(mirror: Mirror) -> str:
    return mirror.address.split(":")[0]


def _from_web(mirror: Mirror, target: Path) -> None:
    download(mirror.address, target, digest=mirror.digest, size=mirror.size)


def _no_gdown() -> str:
    return "" if importlib.util.find_spec("gdown") else "the package gdown is not installed (pip install gdown)"


def _from_drive(mirror: Mirror, target: Path) -> None:
    import gdown  # only needed for Google Drive

    part = split_of(target, mirror.address)
    target.parent.mkdir(parents=True, exist_ok=True)
    identity = mirror.address.removeprefix("drive:")
    try:
        # Without cookies nothing is written outside the data folder.
        gdown.download(id=identity, output=str(part), quiet=not sys.stderr.isatty(), resume=True, use_cookies=False)
    except Exception as error:  # gdown passes on the errors of its libraries and prints long texts
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DownloadError(f"{mirror.address}: {reason}") from error
    if not part.is_file():
        raise DownloadError(f"{mirror.address}: Google Drive gave no file")
    keep(part, target, digest=mirror.digest, size=mirror.size)


def _no_kaggle() -> str:
    if not shutil.which("kaggle"):
        return "Kaggle's client is not installed (pip install kaggle)"
    if os.environ.get("KAGGLE_API_TOKEN") or (os.environ.get("KAGGLE_USERNAME") and os.environ.get("KAGGLE_KEY")):
        return ""
    folders = [Path(os.environ.get("KAGGLE_CONFIG_DIR") or Path.home() / ".kaggle"), Path.home() / ".config" / "kaggle"]
    if any((folder / name).is_file() for folder in folders for name in _KAGGLE_TOKENS):
        return ""
    return f"Kaggle's client finds no token of your account in {folders[0]}"


def _from_kaggle(mirror: Mirror, target: Path) -> None:
    name = mirror.address.removeprefix("kaggle:")
    place = target.with_name(f".{target.name}.kaggle")
    place.mkdir(parents=True, exist_ok=True)
    command = ["kaggle", "datasets", "download", "-d", name, "-p", str(place)]
    shown = None if sys.stderr.isatty() else subprocess.PIPE
    done = subprocess.run(command, check=False, stdout=shown, stderr=shown, text=True)
    came = sorted(place.glob("*.zip"))
    if done.returncode or not came:
        reason = " ".join((done.stderr or done.stdout or "").split())[:200] or f"exit code {done.returncode}"
        raise DownloadError(f"{mirror.address}: Kaggle's client says: {reason}")
    keep(came[0], target, digest=mirror.digest, size=mirror.size)
    shutil.rmtree(place)


_GETTERS = {
    **dict.fromkeys(("http", "https"), _Getter(lambda: "", _from_web)),
    "drive": _Getter(_no_gdown, _from_drive),
    "kaggle": _Getter(_no_kaggle, _from_kaggle),
}


if __name__ == "__main__":
    sys.exit(main())
