"""Finds phrases that are listed in words.txt, with a record of those that each file still has.

python -m scripts.lint.words                 a new one fails with its place and a better phrase
python -m scripts.lint.words --renew         record that there are fewer
python -m scripts.lint.words --accept-more   record all, after the list has grown
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from scripts.lint.ratchet import ROOT, Finding, Ratchet

LIST = Path(__file__).with_name("words.txt")
RECORD = Path(__file__).with_name("words_record.txt")
_KINDS = {".md", ".py", ".sh", ".yaml", ".yml", ".toml", ".cff", ".in", ".html", ".js"}
_LEFT_OUT = ("scripts/lint/", "tests/scripts/lint/")  # they quote the phrases


def read_list(text: str) -> dict[str, str]:
    """Phrases and their replacements, from lines ``phrase => replacement``; "#" begins a comment.

    Raises:
        ValueError: a line has another form, or a phrase is listed twice.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].strip()
        if not words:
            continue
        phrase, arrow, instead = (part.strip() for part in words.partition("=>"))
        if not (phrase and arrow and instead) or phrase.lower() in found:
            raise ValueError(f"{LIST.name}, line {number}: give PHRASE => REPLACEMENT, each phrase once, not {line!r}")
        found[phrase.lower()] = instead
    return found


def find_phrases(path: str, text: str, phrases: Mapping[str, str]) -> list[Finding]:
    """The places of phrases in a text, across line ends and comment marks, regardless of case."""
    if not phrases:
        return []
    found = []
    for match in _pattern(phrases).finditer(text):
        phrase = " ".join(re.sub(r"[\s#>*]+", " ", match[0]).lower().split())
        line = text.count("\n", 0, match.start()) + 1
        found.append(Finding(path, line, f'"{phrase}": write "{phrases[phrase]}"'))
    return found


def _pattern(phrases: Mapping[str, str]) -> re.Pattern[str]:
    longest_first = sorted(phrases, key=len, reverse=True)
    spaced = [r"[\s#>*]+".join(re.escape(word) for word in phrase.split()) for phrase in longest_first]
    return re.compile(rf"(?<!\w)(?:{'|'.join(spaced)})(?!\w)", re.IGNORECASE)


def texts(root: Path = ROOT) -> Iterator[tuple[str, str]]:
    """Paths and contents of the texts in the checkout, including new ones, without ignored ones."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout.decode("utf-8").split("\0")
    for name in sorted(set(names)):
        path = root / name
        if path.suffix in _KINDS and path.is_file() and not name.startswith(_LEFT_OUT):
            yield name, path.read_text(encoding="utf-8")


def main() -> int:
    """Check all texts and compare with the record; returns the exit code."""
    phrases = read_list(LIST.read_text(encoding="utf-8"))
    findings = [finding for path, text in texts() for finding in find_phrases(path, text, phrases)]
    return Ratchet("scripts.lint.words", RECORD).main(findings)


if __name__ == "__main__":
    sys.exit(main())
