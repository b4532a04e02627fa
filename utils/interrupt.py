"""Ctrl-C and termination: finish the step, save, stop."""

import os
import shlex
import signal
from collections.abc import Callable
from dataclasses import fields
from types import FrameType, TracebackType
from typing import Any

from utils import distributed
from utils.config import RunConfig, Settings, option_name


class Interrupted(Exception):
    """The run was stopped by a signal after saving its state; the message says how to go on.

    Args:
        signum: the signal's number.
        message: one line for the user.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


def resume_command(settings: Settings, is_saved: bool = True) -> str:
    """What to type to go on with a run.

    Args:
        settings: all options.
        is_saved: False if there may be no checkpoint yet; with one, only options of the run group
            need to be given again.
    """
    command = ["python"]
    if distributed.world_size() > 1:
        command = ["torchrun", f"--nproc_per_node={os.environ['LOCAL_WORLD_SIZE']}"]
    command += ["main.py", "--version", settings.version, "--resume"]
    of_run = {option_name(f) for f in fields(RunConfig)}
    for name in sorted(settings.given, key="output_dir".__ne__):  # that one first
        if name != "resume" and (name in of_run or not is_saved):
            command += _as_typed(name, settings.given[name])
    return shlex.join(command)


def _as_typed(name: str, value: Any) -> list[str]:
    """An option as words of a command line."""
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no_{name}"]
    return [f"--{name}", str(value)]


def interrupted(signum: int, settings: Settings, step: int) -> Interrupted:
    """The exception for a run whose state after ``step`` is saved; it says how to go on."""
    return Interrupted(
        signum,
        f"Interrupted after step {step}; state saved. Go on with: {resume_command(settings)}",
    )


class SignalWatch:
    """While entered, the first SIGINT or SIGTERM is only remembered; a second one acts at once.

    Args:
        agree: gives every process that trains along the largest of their numbers: a signal
            reaches them in different steps, and they must stop after the same.

    Attributes:
        signum: the signal that had come when `check` was last called, or 0.
    """

    def __init__(self, agree: Callable[[int], int] = int) -> None:
        self.signum = 0
        self._agree = agree
        self._came = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> "SignalWatch":
        for signum in (signal.SIGINT, signal.SIGTERM):
            self._before[signum] = signal.signal(signum, self._remember)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def check(self) -> int:
        """Look whether a signal has come, to any process; returns its number, or 0."""
        self.signum = self._agree(self._came)
        return self.signum

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        self._came = signum
        self._restore()

    def _restore(self) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
