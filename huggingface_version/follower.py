"""Follows the Trainer while it trains: progress bar, record, clock, checkpoints, interruption."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback

from huggingface_version.checkpoints import folder_of
from utils import checkpoint
from utils.interrupt import SignalWatch
from utils.progress import Progress, Stopwatch
from utils.recorder import Recorder
from utils.tracking import Tracker


class Follower(TrainerCallback):
    """While entered, shows a progress bar; afterwards ``progress`` says how far the run came.

    Args:
        recorder: takes each step's line; None in a process that writes nothing.
        progress: brought up to date.
        num_steps: optimizer steps planned.
        watch: knows of signals.
        complete: adds to a checkpoint folder what the Trainer did not write.
        model: what is trained, not wrapped.
        tracker: looks into it; None in a process that writes nothing.
    """

    def __init__(
        self,
        recorder: Recorder | None,
        progress: Progress,
        num_steps: int,
        watch: SignalWatch,
        complete: Callable[[Path], None],
        model: nn.Module,
        tracker: Tracker | None,
    ) -> None:
        self._recorder, self._progress, self._num_steps = recorder, progress, num_steps
        self._model, self._tracker = model, tracker
        self._watch, self._complete = watch, complete
        self._stopwatch = Stopwatch(progress)
        self._bar = None

    def __enter__(self) -> "Follower":
        if self._recorder:
            self._bar = self._recorder.progress_bar(self._progress.step)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def step(self, line: dict[str, Any]) -> None:
        """Take a step's line for ``metrics.jsonl``, then probe the model if it is time to."""
        self._progress.tokens += line["tokens"]
        if self._recorder is None:
            return
        if newest := self._recorder.step(line):
            speed = self._stopwatch.tokens_per_sec()
            self._bar.set_postfix_str(self._recorder.bar_text(newest, speed))
        self._bar.update()
        self._tracker.after_step(self._model, line["step"], line["epoch"])

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        """Start the clock, and probe the model before the first step."""
        self._stopwatch.__enter__()
        if self._tracker and state.global_step == 0:
            self._tracker.after_step(self._model, 0, epoch=1)

    def on_step_begin(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        """Let the tracker remember the weights."""
        if self._tracker:
            self._tracker.before_step(self._model, state.global_step + 1)

    def on_step_end(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        """Save now and then; after a signal, save and stop.

        An epoch's last step is saved once it is evaluated.
        """
        self._progress.step = state.global_step
        if state.global_step % checkpoint.SAVE_EVERY == 0 and not self._is_over(state):
            control.should_save = True
        if self._watch.check():
            control.should_training_stop = True
            control.should_save = not self._is_over(state)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        """Stop the clock. An epoch that a signal cut short is not evaluated: it goes on later."""
        self._stopwatch.__exit__()
        if self._watch.signum and not self._is_over(state):
            control.should_evaluate = control.should_save = False

    def on_save(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        """Complete the checkpoint that the Trainer has written."""
        if self._recorder is not None:
            self._recorder.flush_steps()
            self._stopwatch.update()
            self._complete(folder_of(Path(args.output_dir), state.global_step))

    def _is_over(self, state: Any) -> bool:
        """Whether an epoch, or the run, has come to its end."""
        return state.epoch == math.floor(state.epoch) or state.global_step >= self._num_steps


class Patience(TrainerCallback):
    """Stops after so many evaluations without a better NLL, also across an interruption.

    transformers' own callback begins to count anew when a run is resumed.

    Args:
        patience: evaluations to wait for a better one; None waits for ever.
        nlls: of the evaluations so far.
    """

    def __init__(self, patience: int | None, nlls: Sequence[float]) -> None:
        self._patience, self._nlls = patience, list(nlls)

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, float], **options: Any
    ) -> None:
        """Count."""
        self._nlls.append(metrics["eval_nll"])
        if is_out_of_patience(self._patience, self._nlls):
            control.should_training_stop = True


def is_out_of_patience(patience: int | None, nlls: Sequence[float]) -> bool:
    """Whether there were so many evaluations since the one with the lowest NLL."""
    return bool(patience and nlls) and len(nlls) - 1 - nlls.index(min(nlls)) >= patience
