"""Check the paths that answers and exported files are written to."""

from pathlib import Path

from dassl.utils.errors import UserError


def keep_the_run(out: Path, run: str | Path, flag: str) -> None:
    """Refuse to overwrite a file of the run in use, or the exported file in use.

    Args:
        out: the file to be written; a new file in the run folder is allowed.
        run: folder of a run, or an exported file or folder.
        flag: the command line flag of ``out``, for the message.

    Raises:
        UserError: ``out`` exists and is ``run`` or lies in it.
    """
    place, own = out.resolve(), Path(run).resolve()
    if place.is_file() and (place == own or own in place.parents):
        what = "the exported file itself" if place == own else f"already a file in {run}"
        raise UserError(f"{flag} {out} is {what}, and writing would destroy it; name another file")
