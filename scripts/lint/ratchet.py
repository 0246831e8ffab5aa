"""Compares findings with a record of the number that each file may have. The record only goes down."""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Finding(NamedTuple):
    """Something that a check found, and its place; ``path`` is relative to the checkout."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


class Ratchet:
    """One check with its record.

    Args:
        module: started with ``python -m``.
        record: a file with a line ``PATH COUNT`` for each file that has findings.
    """

    def __init__(self, module: str, record: Path) -> None:
        self._module, self._record = module, record

    def main(self, findings: Sequence[Finding], argv: Sequence[str] | None = None) -> int:
        """Compare with the record, or renew it if the command line asks for that. Returns the exit code."""
        parser = argparse.ArgumentParser(prog=f"python -m {self._module}")
        parser.add_argument("--renew", action="store_true", help="record fewer findings; refuses more")
        parser.add_argument(
            "--accept-more", action="store_true", help="record all, after the check has become stricter"
        )
        args = parser.parse_args(argv)
        counts = Counter(finding.path for finding in findings)
        recorded = self._read()
        more = {path for path, count in counts.items() if count > recorded.get(path, 0)}
        if args.accept_more or (args.renew and not more):
            self._write(counts)
            return 0
        if more:
            return self._refuse(findings, more, recorded)
        return self._ask_to_renew(counts, recorded)

    def _refuse(self, findings: Sequence[Finding], more: set[str], recorded: Mapping[str, int]) -> int:
        for finding in sorted(findings):
            if finding.path in more:
                print(finding)
        for path in sorted(more):
            count = sum(finding.path == path for finding in findings)
            print(f"{self._module}: {path} has {count}, {recorded.get(path, 0)} are recorded: repair the new ones")
        return 1

    def _ask_to_renew(self, counts: Mapping[str, int], recorded: Mapping[str, int]) -> int:
        fewer = [path for path in recorded if counts.get(path, 0) < recorded[path]]
        if not fewer:
            print(f"{self._module}: {sum(counts.values())} in {len(counts)} files, none new")
            return 0
        for path in fewer:
            print(f"{self._module}: {path} has {counts.get(path, 0)}, {recorded[path]} are recorded")
        print(f"{self._module}: fewer than recorded. Renew the record: python -m {self._module} --renew")
        return 1

    def _read(self) -> dict[str, int]:
        if not self._record.exists():
            return {}
        lines = self._record.read_text(encoding="utf-8").splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if line and not line.startswith("#")]
        return {path: int(count) for path, count in pairs}

    def _write(self, counts: Mapping[str, int]) -> None:
        head = f"# Findings that each file may have. Renew: python -m {self._module} --renew\n"
        lines = [f"{path} {count}\n" for path, count in sorted(counts.items())]
        self._record.write_text(head + "".join(lines), encoding="utf-8")
        print(f"{self._module}: recorded {sum(counts.values())} in {len(counts)} files", file=sys.stderr)
