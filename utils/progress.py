"""How far a training run has come; the same for both versions."""

import time
from dataclasses import dataclass


@dataclass
class Progress:
    """How much a run has trained, in plain numbers; saved in every checkpoint.

    Attributes:
        step: optimizer steps made.
        tokens: real tokens trained on, source and target.
        seconds: time spent training, evaluation left out.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0


class Stopwatch:
    """While entered, adds the time that passes to the progress of a run.

    Args:
        progress: whose ``seconds`` grow, also when the block ends in an exception.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._counted_until: float | None = None  # None: not entered

    def __enter__(self) -> "Stopwatch":
        self._started = self._counted_until = time.perf_counter()
        self._tokens_before = self._progress.tokens
        return self

    def __exit__(self, *_: object) -> None:
        self.update()
        self._counted_until = None

    def update(self) -> None:
        """Bring ``seconds`` up to now, e.g. before they are saved; nothing if not entered."""
        if self._counted_until is not None:
            now = time.perf_counter()
            self._progress.seconds += now - self._counted_until
            self._counted_until = now

    def tokens_per_sec(self) -> float:
        """Real tokens trained on per second since the block was entered."""
        elapsed = time.perf_counter() - self._started
        return (self._progress.tokens - self._tokens_before) / elapsed


class Speedometer:
    """Real tokens a second over the last few steps, from the time between them."""

    def __init__(self) -> None:
        self._tokens, self._seconds = 0, 0.0
        self._last: float | None = None  # when the step before was made; None: not under way

    def add(self, num_tokens: int) -> None:
        """Count a step that was just made. The first one after a pause only starts the clock."""
        now = time.perf_counter()
        if self._last is not None:
            self._tokens += num_tokens
            self._seconds += now - self._last
        self._last = now

    def take(self) -> float | None:
        """Tokens a second since the last call; None where no step was timed."""
        if not self._seconds:
            return None
        speed = self._tokens / self._seconds
        self._tokens, self._seconds = 0, 0.0
        return speed

    def pause(self) -> None:
        """Leave out the time until the next step."""
        self._last = None
