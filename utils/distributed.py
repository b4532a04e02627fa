"""Which of several processes this is, as ``torchrun`` tells in the environment."""

import os

from utils.config import UserError


def rank() -> int:
    """Number of this process among all, from 0; 0 without ``torchrun``."""
    return int(os.environ.get("RANK", 0))


def local_rank() -> int:
    """Number of this process among those of its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", 0))


def world_size() -> int:
    """Processes that train together; 1 without ``torchrun``."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_main() -> bool:
    """Whether this is the one process that prints and writes."""
    return rank() == 0


def require_as_many(before: int) -> None:
    """Refuse to go on with another number of processes, which would share the data otherwise.

    Args:
        before: processes of the interrupted run.

    Raises:
        UserError: now there are more or fewer.
    """
    if before != world_size():
        raise UserError(
            f"--resume: {before} process{'es' if before > 1 else ''} trained together before, "
            f"{world_size()} now; start as many, or start anew without --resume"
        )
