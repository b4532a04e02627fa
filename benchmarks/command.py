"""What the scripts' command lines have in common."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from utils.command_line import OneLineParser
from utils.config import UserError
from utils.results import RunFailed, set_up_console

MAIN = Path(__file__).parent.parent / "main.py"


def make_parser(name: str, description: str) -> OneLineParser:
    """A parser for ``python -m benchmarks.name``; wrong options are one line."""
    return OneLineParser(
        prog=f"python -m benchmarks.{name}", description=description, allow_abbrev=False
    )


def main_command(*options: str) -> list[str]:
    """The command that runs ``main.py`` with this Python."""
    return [sys.executable, str(MAIN), *options]


def require_success(status: int, *others: int) -> None:
    """Go on only if ``main.py``, run by `main_command`, did its work.

    Args:
        status: that it ended with.
        others: further ones, besides 0, that are as good.

    Raises:
        UserError: it refused its options.
        RunFailed: it failed.
    """
    if status == 2:
        raise UserError("main.py refused its options; its message is above")
    if status not in (0, *others):
        raise RunFailed(f"main.py ended with status {status}; its message is above")


def exit_status(script: Callable[[Sequence[str] | None], None]) -> int:
    """Run a script on the options of its command line.

    Returns:
        0 done; 1 failed; 2 wrong input; 130 interrupted. The last three with one line.
    """
    set_up_console(debug=False, quiet=False)
    try:
        script(None)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunFailed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    return 0
