"""Command line of the Transformer Tutorial: read the options, run one version, give an exit code.

Nothing heavy is imported before a version is chosen, so that ``--help`` answers at once.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from utils import disk, distributed, language, wandb_log
from utils.command_line import OneLineParser, add_options
from utils.config import GROUPS, Settings, UserError, option_name
from utils.imports import quick_imports
from utils.interrupt import Interrupted, resume_command
from utils.memory import is_out_of_memory, wanted
from utils.results import ProcessLost, RunFailed, log, set_up_console

# The groups of options that each version honours; an option of another group is refused.
HONOURED = {
    "pytorch": ("run", "data", "model", "training"),
    "huggingface": ("run", "data", "model", "training"),
    "both": ("run", "data", "model", "training"),
    "analysis": ("run", "data", "analysis"),
    "test": ("run",),
}

SECONDS_FOR_MAIN = 20  # that the main process may take longer to start than another
# Said where no run was under way, which has advice of its own.
LESS_MEMORY = "use less data (--train_size, --eval_size, --text) or a smaller model (--hidden_size)"
OWN_PACKAGES = ("utils", "pytorch_version", "huggingface_version")
GET_PACKAGES = (
    "activate the environment that has it (source transformer_env/bin/activate; on Windows "
    "transformer_env\\Scripts\\activate), or run setup_and_run"
)


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; options not given leave no attribute."""
    parser = OneLineParser(
        prog="main.py",
        description="Train the Transformer of 'Attention Is All You Need' and look inside it.",
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=34, width=100),
    )
    parser.add_argument(
        "--version",
        choices=tuple(HONOURED),
        default="both",
        help="pytorch: train the scratch Transformer; huggingface: train MarianMT; both: train "
        "both alike and prove that they are one model; analysis: look into a trained model; test: "
        "check the installation "
        "(default: %(default)s)",
    )
    add_options(parser)
    return parser


def parse(argv: Sequence[str]) -> Settings:
    """Turn the command line into settings.

    Raises:
        UserError: an option is out of range, or one that the version cannot honour.
    """
    given = vars(make_parser().parse_args([_with_underscores(word) for word in argv]))
    version = given.pop("version")
    refuse_foreign_options(version, given)
    return Settings.from_options(version, given)


def refuse_foreign_options(version: str, given: dict[str, Any]) -> None:
    """Raise `UserError` for an option that ``version`` would silently ignore."""
    for group, config in GROUPS.items():
        if group in HONOURED[version]:
            continue
        for name in (option_name(f) for f in fields(config)):
            if name in given:
                raise UserError(f"--{name} ({group}) has no meaning with --version {version}")


def _with_underscores(word: str) -> str:
    """Accept ``--batch-size`` for ``--batch_size``; values are left alone."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value


def run(settings: Settings) -> int:
    """Run the chosen version; returns the exit code."""
    language.use(settings.run.lang)
    wandb_log.require(settings.run)
    if settings.run.wandb and settings.version == "test":
        log.warning("Note: --wandb has no effect with --version test, which keeps nothing")
    if distributed.world_size() > 1 and settings.version in ("analysis", "test"):
        raise UserError(
            f"--version {settings.version} trains nothing and runs in one process; start it with "
            "python, not torchrun"
        )
    if settings.version == "test":
        with quick_imports():
            from utils.selfcheck import run_selfcheck
        return run_selfcheck(settings.run)
    if settings.version == "analysis":
        from utils.guided_tour import run_analysis

        run_analysis(settings)
    elif settings.version == "pytorch":
        with quick_imports():
            from pytorch_version.train import run as train_scratch
            from utils.collectives import joined
        with joined(settings.run.device):
            train_scratch(settings, export)
    elif settings.version == "huggingface":
        with quick_imports():
            from huggingface_version.train import run as train_huggingface
            from utils.collectives import joined
            from utils.comparison import initial_weights
        with joined(settings.run.device):
            train_huggingface(settings, initial_weights)
    else:
        with quick_imports():
            from utils.comparison import run_both
        run_both(settings)
    return 0


def export(checkpoint: Path, folder: Path) -> None:
    """Write a scratch checkpoint as a MarianMT folder; transformers is imported only then."""
    from utils.comparison import export

    export(checkpoint, folder)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Returns:
        0 done; 1 failed; 2 wrong input; 130 or 143 interrupted.
    """
    set_up_console(debug=False, quiet=False)
    try:
        settings = parse(sys.argv[1:] if argv is None else argv)
    except UserError as error:
        return refuse(error)
    set_up_console(settings.run.debug, settings.run.quiet)
    # No window is ever opened. What a notebook left here may name a package that is not installed.
    os.environ["MPLBACKEND"] = "agg"
    try:
        return run(settings)
    except UserError as error:
        return refuse(error)
    except RunFailed as error:
        if distributed.is_main() or not isinstance(error, ProcessLost):
            print(f"main.py: {error}", file=sys.stderr)
        return 1
    except (OSError, MemoryError, RuntimeError, ImportError) as error:
        explanation = explain(error, settings)
        if explanation is None:
            raise
        _give_up_on_output()
        print(f"main.py: {explanation}", file=sys.stderr)
        return 1
    except Interrupted as stop:
        if distributed.is_main():
            print(stop, file=sys.stderr)
        return 128 + stop.signum
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130


def refuse(error: UserError) -> int:
    """Say what is wrong with the user's input; returns the exit code."""
    if distributed.is_main():  # the same in every process
        print(f"main.py: error: {error}", file=sys.stderr)
    else:  # torchrun ends all processes with the first, so that one must be the main one
        time.sleep(SECONDS_FOR_MAIN)
    return 2


def explain(error: Exception, settings: Settings) -> str | None:
    """One line on what this machine lacks; None for an error of another kind."""
    if is_out_of_memory(error):
        return f"out of memory {wanted(error)}: {LESS_MEMORY}"
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        if package not in OWN_PACKAGES:
            return f"{sys.executable} has no package {package}: {GET_PACKAGES}"
    problem = disk.problem(error) if isinstance(error, OSError) else None
    return problem and f"{problem}, then {how_to_go_on(settings)}"


def how_to_go_on(settings: Settings) -> str:
    """What to do once a run that could not write can."""
    if "training" in HONOURED[settings.version]:
        return f"go on with: {resume_command(settings, is_saved=False)}"
    return "run it again"


def _give_up_on_output() -> None:
    """Should it be the standard output that cannot be written, let Python not try it once more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
