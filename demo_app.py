"""Try finished runs in the browser: drop a picture, see every task's answer, give other class names."""

import argparse
import sys
from collections.abc import Sequence

from dassl.app.runs import load_runs
from dassl.app.server import check_installed, serve
from dassl.utils.cache import use_cache
from dassl.utils.cli import Parser, exit_code, warnings_only

_EPILOG = """\
exit status: 2 a mistake that one line explains, 130 after Ctrl-C, 143 after SIGTERM.

examples:
  python demo_app.py output/demo6/first
  python demo_app.py output/demo6/first output/demo6/other tuned.safetensors --port 8000 --no-browser

docs/try.md tells more, and what to install.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = Parser(prog="demo_app.py", description=__doc__, epilog=_EPILOG)
    add = parser.add_argument
    add("runs", metavar="RUN", nargs="+", help="folder of a finished run, or an exported file or folder; up to 4")
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen at (default: this machine only)")
    add("--port", type=_port, default=7860, metavar="N", help="port to listen at; 0 takes a free one (default: 7860)")
    add("--no-browser", action="store_true", help="do not open the page in a browser")
    add("--device", choices=("cpu", "cuda"), default="", help="where to compute (default: a GPU if there is one)")
    add("--weights", default="", metavar="PATH", help="weights of the backbone, if they lie elsewhere than in the runs")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        with warnings_only():
            return exit_code(lambda: _carry_out(argv))
    finally:
        use_cache(False)


def _carry_out(argv: Sequence[str] | None) -> None:
    args = build_parser().parse_args(argv)
    check_installed()
    use_cache()  # runs on one backbone share it
    runs = load_runs(args.runs, device=args.device, weights=args.weights)
    serve(runs, host=args.host, port=args.port, browser=not args.no_browser)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number from 0 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
