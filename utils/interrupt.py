"""Ctrl-C and termination: finish the step, save, stop."""

import signal
from types import FrameType, TracebackType


class Interrupted(Exception):
    """The run was stopped by a signal after saving its state; the message says how to go on.

    Args:
        signum: the signal's number.
        message: one line for the user.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


class SignalWatch:
    """While entered, the first SIGINT or SIGTERM is only remembered; a second one acts at once.

    Attributes:
        signum: the signal that came, or None.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
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

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        self._restore()

    def _restore(self) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
