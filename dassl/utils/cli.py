"""Exit codes of the command-line programs."""

import sys
from collections.abc import Callable

from dassl.utils.errors import UserError


def exit_code(
    action: Callable[[], object],
    *,
    errors: tuple[type[Exception], ...] = (UserError,),
    interrupted: str = "interrupted",
) -> int:
    """Run ``action``: 0 when it ends, 2 after one of ``errors`` (one line for each problem), 130 when interrupted."""
    try:
        action()
    except errors as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return 130
    return 0
