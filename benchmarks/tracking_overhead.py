"""What following a model's insides costs: milliseconds of training per optimizer step.

    python -m benchmarks.tracking_overhead --steps 2000 --rounds 3

Whole runs of ``main.py`` take turns: one that probes only before the first and after the last
step and draws nothing, one as it comes, one with ``--track_internals``. Training time is that of
``summary.json``, evaluations left out. Options that are not this script's own are passed on to
``main.py``.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.command import exit_status, main_command, make_parser, require_success
from benchmarks.measure import comparison_table, heading, interleaved
from utils.config import UserError
from utils.environment import select_device

REFERENCE = "nothing"
RUNS: Mapping[str, Sequence[str]] = {
    REFERENCE: ("--no_visualize", "--track_every", "1000000000"),
    "default": (),
    "--track_internals": ("--track_internals",),
}


def main(argv: Sequence[str] | None) -> None:
    """Run, compare, print.

    Raises:
        UserError: the user's input is wrong.
        RunFailed: a run of ``main.py`` failed.
    """
    parser = make_parser("tracking_overhead", __doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=2000, help="of every run")
    parser.add_argument("--rounds", type=int, default=3, help="that count")
    options, further = parser.parse_known_args(argv)
    if options.steps < 1 or options.rounds < 1:
        raise UserError("--steps and --rounds must be at least 1")
    runs = {
        name: lambda extra=extra: milliseconds_per_step(options.steps, [*further, *extra])
        for name, extra in RUNS.items()
    }
    figures = interleaved(runs, options.rounds)
    print(heading(f"Tracking overhead, runs of {options.steps:,} steps", select_device("auto")))
    if further:
        print(f"Further options: `{' '.join(further)}`.\n")
    print(comparison_table(figures, REFERENCE, "ms per step", higher_is_better=False, digits=2))


def milliseconds_per_step(num_steps: int, further: Sequence[str]) -> float:
    """Train in a folder of its own and read what the run says of itself.

    Raises:
        UserError: ``main.py`` refused an option.
        RunFailed: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = ["--version", "pytorch", *further]
        own = ["--max_steps", str(num_steps), "--quiet", "--output_dir", folder]
        command = main_command(*given, *own)
        require_success(subprocess.run(command, stdout=subprocess.DEVNULL).returncode)
        (summary,) = Path(folder).glob("results_*/summary.json")
        return 1000 * json.loads(summary.read_text("utf-8"))["speed"]["train_seconds"] / num_steps


if __name__ == "__main__":
    sys.exit(exit_status(main))
