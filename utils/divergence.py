"""Training steps whose loss or gradient was not finite: skipped, counted, in the end too many."""

import math
from typing import Any

from utils.config import TrainConfig
from utils.results import RunFailed, log

MOST_IN_A_ROW = 5
LARGE_NORM = 100.0  # of a gradient; in healthy runs it is around 1


class SkippedSteps:
    """Counts the steps that left the weights alone, and says so.

    Args:
        config: with nothing left open.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self._count = self._in_a_row = 0
        self._norm_before = 0.0

    def take(self, line: dict[str, Any]) -> None:
        """Look at a step.

        Args:
            line: for ``metrics.jsonl``, with ``loss`` and ``grad_norm`` as numbers.

        Raises:
            RunFailed: it is the last of too many in a row.
        """
        if math.isfinite(line["grad_norm"]):
            self._in_a_row, self._norm_before = 0, line["grad_norm"]
            return
        if self._config.precision == "fp16" and math.isfinite(line["loss"]):
            return  # the loss was scaled too much for fp16; the next step tries a smaller scale
        self._count += 1
        self._in_a_row += 1
        log.warning(
            f"Note: step {line['step']:,} was skipped ({self._count} so far): its loss is "
            f"{line['loss']:.4g}, the norm of its gradient {line['grad_norm']:.4g}"
        )
        if self._in_a_row >= MOST_IN_A_ROW:
            first = line["step"] - self._in_a_row + 1
            raise RunFailed(
                f"the loss or its gradient was not finite in {self._in_a_row} steps in a row, from "
                f"step {first:,} on: {self._likely_cause()}"
            )

    def _likely_cause(self) -> str:
        config = self._config
        if config.precision == "fp16":
            return "numbers beyond what fp16 can hold; start anew with --precision bf16 or fp32"
        if self._norm_before > LARGE_NORM and not config.max_grad_norm:
            return (
                f"the gradient had grown to a norm of {self._norm_before:.4g} before; start anew "
                f"with --max_grad_norm 1 or a --learning_rate below {config.learning_rate:.2e}"
            )
        return (
            "training has diverged; start anew with a --learning_rate below "
            f"{config.learning_rate:.2e} or a longer warm-up than --warmup_steps "
            f"{config.warmup_steps}"
        )
