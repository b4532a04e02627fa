"""Every command that the guides promise, one after another in one folder, with its time.

python -m benchmarks.guide_commands
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.command import exit_status, main_command, make_parser
from benchmarks.measure import heading, markdown_table
from utils.environment import select_device
from utils.results import RunFailed

# Options of main.py; a name in capitals before them is set in the environment.
COMMANDS = (
    "--version both --epochs 2 --train_size 500 --eval_size 100 --debug",
    "--version both --epochs 2 --train_size 500 --eval_size 100",
    "--version both --epochs 2 --train_size 500",
    "--version both --epochs 3 --train_size 1000",
    "--version pytorch --epochs 3 --debug --visualize --batch_size 8 --train_size 1000 "
    "--eval_size 200",
    "--version huggingface --epochs 5 --track_internals --batch_size 16 --train_size 2000 "
    "--eval_size 500",
    "--version both --epochs 5 --debug --track_internals --visualize --batch_size 12 "
    "--train_size 3000 --eval_size 600",
    "--version analysis",
    "--version test",
    "--version pytorch --epochs 1 --train_size 200 --eval_size 50 --debug",
    "--version pytorch --epochs 2 --batch_size 4 --hidden_size 128 --train_size 500 "
    "--eval_size 100",
    "--batch_size 8 --train_size 100",
    "--version pytorch --epochs 3 --debug --visualize",
    "--version huggingface --epochs 3 --track_internals",
    "MPLBACKEND=Agg --version pytorch --visualize",
    "--version pytorch --epochs 2 --batch_size 4",
    "--version huggingface --epochs 10 --track_internals --wandb "
    "--wandb_project my-transformer-study",
    "",
    "--version both",
    "--device cpu",
)


def main(argv: Sequence[str] | None) -> None:
    """Run, print.

    Raises:
        RunFailed: a command failed.
    """
    parser = make_parser("guide_commands", __doc__.partition("\n")[0])
    parser.add_argument("--folder", help="where to run them (default: one that is deleted)")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for command in COMMANDS:
            minutes, rest = divmod(round(seconds(command, folder)), 60)
            rows.append([f"`{shown(command)}`", f"{minutes} min {rest:02} s"])
            print(f"{rows[-1][1]}  {shown(command)}", file=sys.stderr, flush=True)
    print(heading("The guides' commands", select_device("auto")))
    print(markdown_table(["command", "time"], rows))


def shown(command: str) -> str:
    """A command as one types it."""
    variables, options = _split(command)
    before = [f"{name}={value}" for name, value in variables.items()]
    return " ".join([*before, "python main.py", *options])


def _split(command: str) -> tuple[dict[str, str], list[str]]:
    """The variables and the options of a command."""
    words = command.split()
    variables = dict(word.split("=") for word in words if word[0].isupper() and "=" in word)
    return variables, [word for word in words if word.partition("=")[0] not in variables]


def seconds(command: str, folder: Path) -> float:
    """Run a command in a folder, as a user would: no option is added.

    Raises:
        RunFailed: it failed.
    """
    variables, options = _split(command)
    started = time.perf_counter()
    finished = subprocess.run(
        main_command(*options), cwd=folder, env=os.environ | variables, capture_output=True,
        text=True, encoding="utf-8",
    )  # fmt: skip
    if finished.returncode:
        raise RunFailed(
            f"{shown(command)} ended with status {finished.returncode}: {finished.stderr.strip()}"
        )
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(exit_status(main))
