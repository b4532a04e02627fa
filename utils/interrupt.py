"""Ctrl-C and termination: finish the step, save, stop."""

import shlex
import signal
from types import FrameType, TracebackType

from utils.config import RunConfig, Settings


class Interrupted(Exception):
    """The run was stopped by a signal after saving its state; the message says how to go on.

    Args:
        signum: the signal's number.
        message: one line for the user.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


def interrupted(signum: int, settings: Settings, step: int) -> Interrupted:
    """The exception for a run whose state after ``step`` is saved; it says how to go on."""
    command = ["python", "main.py", "--version", settings.version, "--resume"]
    if (output_dir := settings.run.output_dir) != RunConfig.output_dir:
        command += ["--output_dir", output_dir]
    return Interrupted(
        signum, f"Interrupted after step {step}; state saved. Go on with: {shlex.join(command)}"
    )


class SignalWatch:
    """While entered, the first SIGINT or SIGTERM is only remembered; a second one acts at once.

    Args:
        active: False leaves signals alone.

    Attributes:
        signum: the signal that came, or None.
    """

    def __init__(self, active: bool = True) -> None:
        self.signum: int | None = None
        self._signals = (signal.SIGINT, signal.SIGTERM) if active else ()
        self._before: dict[int, object] = {}

    def __enter__(self) -> "SignalWatch":
        for signum in self._signals:
            self._before[signum] = signal.signal(signum, self._remember)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        self._restore()

    def _restore(self) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
