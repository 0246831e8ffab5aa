"""Remove home folders and places of data from texts that others see (results.json, the page)."""

import re
from collections.abc import Mapping
from pathlib import Path

_BEFORE, _AFTER = r"(?<![\w.~\\-])", r"(?=$|[^\w.-])"
# Homes of Linux, macOS and Windows: a page may be made from another person's runs.
_HOMES = r"(?:/home|/Users|[A-Za-z]:[/\\]Users)[/\\][^/\\\s\"'<>,;:]+"


def without_home(text: str) -> str:
    """``text`` with "~" for home folders: this user's, and /home/NAME, /Users/NAME and C:\\Users\\NAME."""
    own = str(Path.home())
    homes = [re.escape(own), _HOMES] if len(Path(own).parts) > 1 else [_HOMES]
    return re.sub(rf"{_BEFORE}(?:{'|'.join(homes)}){_AFTER}", "~", text)


def without_places(text: str, places: Mapping[str, Path]) -> str:
    """``text`` with a name for each folder of ``places``, the innermost first, and "~" for home folders.

    A root folder, such as "/", is not replaced.
    """
    for name, folder in sorted(places.items(), key=lambda item: -len(item[1].parts)):
        if len(folder.parts) > 1:
            text = re.sub(_BEFORE + re.escape(str(folder)) + _AFTER, name, text)
    return without_home(text)
