"""Make texts from outside (names of classes, tasks, files) safe for a terminal, a document or a spreadsheet.

*Hidden* characters are invisible but have an effect: control characters (a terminal's escapes among them), changes of
the text direction, other invisible format characters, line separators, and halves of characters. The joiners that
Persian, Indic scripts and emoji need are allowed.
"""

import re

_HIDDEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f"
    "\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f"
)
_IN_LINES = re.compile(f"[{_HIDDEN}]")
_IN_ONE_LINE = re.compile(f"[{_HIDDEN}\t\n]")
_FORMULA = re.compile(r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def is_one_line(text: str) -> bool:
    """Whether a text is one line without hidden characters."""
    return not _IN_ONE_LINE.search(text)


def visible(text: str) -> str:
    r"""For a message or a log: hidden characters as Python's escapes, such as ``\x1b``.

    Tabs and line breaks stay.
    """
    return _IN_LINES.sub(lambda found: _escape(found[0]), text)


def visible_line(text: str) -> str:
    r"""As :func:`visible`, in one line: tabs and line breaks become ``\t`` and ``\n``."""
    return _IN_ONE_LINE.sub(lambda found: _escape(found[0]), text)


def visible_json(text: str) -> str:
    r"""Printed JSON with hidden characters as ``\u`` escapes: another spelling of the same values."""
    return _IN_LINES.sub(lambda found: _json_escape(found[0]), text)


def printable(text: str) -> str:
    """For a document: U+FFFD for each hidden character. Tabs and line breaks stay."""
    return _IN_LINES.sub("\ufffd", text)


def printable_line(text: str) -> str:
    """As :func:`printable`, in one line: U+FFFD for tabs and line breaks, too."""
    return _IN_ONE_LINE.sub("\ufffd", text)


def spreadsheet_cell(text: str) -> str:
    """For a CSV file: an apostrophe before what a spreadsheet reads as a formula; numbers stay."""
    return f"'{text}" if is_formula(text) else text


def is_formula(text: str) -> bool:
    """Whether a spreadsheet may read a text as a formula."""
    return bool(_FORMULA.match(text)) and not _NUMBER.fullmatch(text)


def _escape(character: str) -> str:
    return repr(character)[1:-1]


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[n : n + 2].hex()}" for n in range(0, len(units), 2))
