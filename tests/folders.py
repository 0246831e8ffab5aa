"""Where recorded numbers lie that the repository does not carry."""

import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]


def golden_folder(part: str = "") -> Path:
    """The folder of recorded cases (SOFTCPT_GOLDEN, else beside the checkout), or one of its parts.

    The calling test is skipped where it is not there.
    """
    folder = Path(os.environ.get("SOFTCPT_GOLDEN", CHECKOUT.parent / "shared" / "golden"))
    if not (folder / "README.md").is_file() or not (folder / part).is_dir():
        pytest.skip(f"no recorded cases in {folder / part}")
    return folder / part
