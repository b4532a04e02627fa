"""Which of several processes this is, as ``torchrun`` tells in the environment."""

import os


def rank() -> int:
    """Number of this process among all, from 0; 0 without ``torchrun``."""
    return int(os.environ.get("RANK", 0))


def world_size() -> int:
    """Processes that train together; 1 without ``torchrun``."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_main() -> bool:
    """Whether this is the one process that prints and writes."""
    return rank() == 0
