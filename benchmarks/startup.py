"""Seconds that whole commands take, from the first to the last moment of their process.

python -m benchmarks.startup --runs 5
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

from benchmarks.command import exit_status, main_command, make_parser
from benchmarks.measure import heading, interleaved, spread_table
from utils.config import UserError
from utils.environment import select_device
from utils.results import RunFailed

COMMANDS: Mapping[str, str] = {
    "help": "--help",
    "test": "--version test",
    "analysis": "--version analysis",
    "first_run": "--version both --epochs 2 --train_size 500 --eval_size 100",
}


def main(argv: Sequence[str] | None) -> None:
    """Run, print.

    Raises:
        UserError: the user's input is wrong.
        RunFailed: a command failed.
    """
    parser = make_parser("startup", __doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="of each command, that count")
    parser.add_argument("--only", nargs="+", choices=tuple(COMMANDS), default=tuple(COMMANDS))
    options = parser.parse_args(argv)
    if options.runs < 1:
        raise UserError(f"--runs must be at least 1, not {options.runs}")
    chosen = {
        f"`main.py {COMMANDS[name]}`": lambda name=name: seconds(COMMANDS[name].split())
        for name in options.only
    }
    figures = interleaved(chosen, options.runs)
    print(heading(f"Whole commands, {options.runs} runs each", select_device("auto")))
    print(spread_table(figures, "seconds", digits=2))


def seconds(options: Sequence[str]) -> float:
    """Run ``main.py`` once, in an empty folder.

    Raises:
        RunFailed: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        places = [] if "--help" in options else ["--output_dir", folder]
        command = main_command(*options, *places)
        started = time.perf_counter()
        finished = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        passed = time.perf_counter() - started
        if finished.returncode:
            last = (finished.stderr.strip() or finished.stdout.strip()).rpartition("\n")[2]
            raise RunFailed(
                f"main.py {' '.join(options)} ended with status {finished.returncode}: {last}"
            )
    return passed


if __name__ == "__main__":
    sys.exit(exit_status(main))
