"""Out of memory, on the host or on a GPU: said in one line, with what helps."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.config import Settings
from utils.interrupt import resume_command
from utils.results import RunFailed

# PyTorch has a type for a GPU that is full, but its message says it too, as for all the rest.
MESSAGES = ("can't allocate memory", "not enough memory", "out of memory", "Cannot allocate memory")


@contextmanager
def out_of_memory_explained(settings: Settings, checkpoints: Path) -> Iterator[None]:
    """While entered, memory that runs out ends the run with advice.

    Args:
        settings: all options.
        checkpoints: where those of this run go.

    Raises:
        RunFailed: there was not enough memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        can_resume = checkpoints.exists() and any(checkpoints.iterdir())
        raise RunFailed(_advice(error, settings, can_resume)) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory, of the host or of a GPU, was not enough."""
    return isinstance(error, MemoryError) or any(text in str(error) for text in MESSAGES)


def wanted(error: BaseException) -> str:
    """Where memory was not enough, and how much more was asked for, as far as ``error`` tells."""
    place = "on the GPU" if "CUDA" in str(error) else "on the machine"
    amount = re.search(r"allocate ([\d.]+ \w+)", str(error))
    return f"{place} ({amount[1]} more were asked for)" if amount else place


def _advice(error: BaseException, settings: Settings, can_resume: bool) -> str:
    train, model = settings.train, settings.model
    batch = (
        f"--max_tokens {train.max_tokens}"
        if train.max_tokens is not None
        else f"--batch_size {train.batch_size}"
    )
    advice = (
        f"out of memory {wanted(error)}: lower {batch} (and raise --gradient_accumulation_steps, "
        f"for as many sentences a step), --max_length {settings.data.max_length} or --hidden_size "
        f"{model.d_model}"
    )
    if train.precision == "fp32" and "CUDA" in str(error):
        advice += ", or use --precision bf16"
    if can_resume:
        advice += (
            "; or free memory and go on from the newest checkpoint with: "
            f"{resume_command(settings)}"
        )
    return advice
