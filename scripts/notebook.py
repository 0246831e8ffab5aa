"""Run the code cells of a notebook in order, in this process, and write it with what they show.

python -m scripts.notebook docs/own_tasks.ipynb              renews the outputs that the file stores
python -m scripts.notebook docs/own_tasks.ipynb --out FILE   leaves the file alone
"""

import base64
import io
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from PIL import Image

from dassl.utils.cli import Parser
from dassl.utils.files import read_json, write_json


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a notebook; returns 0. An error in a cell ends the program as in Python."""
    parser = Parser(description=__doc__)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--out", type=Path, help="where to write the notebook (default: in place)")
    args = parser.parse_args(arguments)
    content = read_json(args.notebook)
    run(content["cells"])
    write_json(args.out or args.notebook, content, indent=1)
    return 0


def run(cells: Sequence[dict[str, Any]]) -> None:
    """Run the code cells in one namespace and replace their outputs: texts, and pictures given to ``display``."""
    shown: list[dict[str, Any]] = []
    names: dict[str, Any] = {"display": lambda picture: shown.append(_picture(picture))}
    for number, cell in enumerate((cell for cell in cells if cell["cell_type"] == "code"), 1):
        shown.clear()
        with redirect_stdout(io.StringIO()) as printed:
            exec(compile("".join(cell["source"]), f"<cell {number}>", "exec"), names)
        text = printed.getvalue()
        told = [{"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)}] if text else []
        cell["outputs"], cell["execution_count"] = [*told, *shown], number


def _picture(picture: Image.Image) -> dict[str, Any]:
    written = io.BytesIO()
    picture.save(written, "PNG", optimize=True)
    data = {"image/png": base64.b64encode(written.getvalue()).decode(), "text/plain": ["<picture>"]}
    return {"output_type": "display_data", "data": data, "metadata": {}}


if __name__ == "__main__":
    sys.exit(main())
