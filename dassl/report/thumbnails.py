"""Small copies of pictures for the page, as data URIs; the images are decoded as in runs."""

import io
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from dassl.utils.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

MOST_BYTES = 6144  # bytes of a thumbnail; a third more as base64
# Longest side in pixels and JPEG quality, tried until one is small enough; the last always is.
_SIZES = ((128, 80), (128, 55), (96, 40), (48, 40))


@dataclass(frozen=True)
class Thumbnail:
    """A picture as a data URI, or the reason why there is none.

    Attributes:
        remark: the problem with it; usually empty.
    """

    uri: str = ""
    remark: str = ""


def check_root(root: Path) -> Path:
    """The data root as an absolute path.

    Raises:
        UserError: it is not a folder.
    """
    found = root.expanduser().absolute()
    if not found.is_dir():
        raise UserError(f"data folder {root} does not exist; name the folder of your data sets with --root FOLDER")
    return found


def thumbnail(root: Path, name: str, *, tested: float) -> Thumbnail:
    """The picture called ``name`` below ``root``.

    Nothing outside ``root`` is read, because anybody may have written the file with the name.

    Args:
        tested: when the predictions were written, in seconds since 1970; a remark tells if the picture is newer.
    """
    from dassl.data.images import read_image  # loads torch

    if not _is_inside(name):
        return Thumbnail(remark="not below the data root, so it was not read")
    path = root / name
    try:
        picture = read_image(path)
        changed = path.stat().st_mtime > tested
    except UserError as error:
        return Thumbnail(remark=_reason(error, path))
    except OSError as error:
        return Thumbnail(remark=error.strerror or "cannot be read")
    except MemoryError:
        return Thumbnail(remark="the memory did not suffice to decode it")
    remark = "the file was changed after the test and may not be the picture that was tested" if changed else ""
    return Thumbnail(f"data:image/jpeg;base64,{b64encode(_small(picture)).decode()}", remark)


def _is_inside(name: str) -> bool:
    """Whether a path stays below the folder it is joined to, on any system."""
    for path in (PurePosixPath(name), PureWindowsPath(name)):
        if path.is_absolute() or path.drive or path.root or ".." in path.parts:
            return False
    return not name.startswith("~")


def _reason(error: UserError, path: Path) -> str:
    """Why an image cannot be read, without the data root; the page shows the image's path anyway."""
    if isinstance(error.__cause__, FileNotFoundError) and not path.is_symlink():
        return "no such file below the data root"
    return str(error).removeprefix(f"cannot read image {path}: ").replace(str(path), path.name)


def _small(picture: "Image.Image") -> bytes:
    content = b""
    for side, quality in _SIZES:
        small = picture.copy()
        small.thumbnail((side, side))
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=quality)
        content = buffer.getvalue()
        if len(content) <= MOST_BYTES:
            break
    return content
