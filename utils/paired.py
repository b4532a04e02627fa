"""Two trainings of one model, step beside step: how far apart are their losses and weights?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from utils.language import Message, message
from utils.parity import STEP, STEP_KEY_BIASES, as_vectors

EARLY_STEPS = 10
TOLERANCE_FP64 = 1e-12  # of losses, over the whole run
EXPECTED_FP32 = 1e-5  # of losses, over the first steps; later, rounding errors grow


@dataclass(frozen=True)
class ShortRun:
    """A short training without dropout.

    Attributes:
        losses: of each step, in nats per target token.
        weights: after the last step, by the common names.
    """

    losses: list[float]
    weights: Mapping[str, Tensor]


@dataclass(frozen=True)
class PairedTraining:
    """The same short training by both implementations, and by two attention paths of one.

    Attributes:
        ours_fp64, theirs_fp64: the strict comparison.
        ours_fp32, theirs_fp32: the everyday precision.
        other_path_fp32: ours again, with our other attention path: a difference in rounding alone.
        tables_equal: whether both use the same numbers as position table.
    """

    ours_fp64: ShortRun
    theirs_fp64: ShortRun
    ours_fp32: ShortRun
    theirs_fp32: ShortRun
    other_path_fp32: ShortRun
    tables_equal: bool

    def gaps_fp64(self) -> list[float]:
        """Loss difference at each step, both implementations in double precision."""
        return gaps(self.ours_fp64.losses, self.theirs_fp64.losses)

    def gaps_fp32(self) -> list[float]:
        """Loss difference at each step, both implementations in single precision."""
        return gaps(self.ours_fp32.losses, self.theirs_fp32.losses)

    def gaps_own_paths(self) -> list[float]:
        """Loss difference at each step between our own two attention paths."""
        return gaps(self.ours_fp32.losses, self.other_path_fp32.losses)

    @property
    def ok(self) -> bool:
        """Whether the two trainings are one: what single precision adds is only reported."""
        return (
            self.tables_equal
            and largest(self.gaps_fp64()) <= TOLERANCE_FP64
            and bool(np.isfinite(self.gaps_fp32()).all())
        )

    def lines(self) -> list[str]:
        """The comparison in words, for a terminal."""
        return [f"  {said.text()}" for said in self.messages()]

    def messages(self) -> list[Message]:
        """The comparison in words: double precision, single precision, weights."""
        fp64, own = largest(self.gaps_fp64()), largest(self.gaps_own_paths())
        early, late = largest(self.gaps_fp32()[:EARLY_STEPS]), largest(self.gaps_fp32())
        weights, key_biases = weight_differences(self.ours_fp32, self.theirs_fp32)
        is_rounding = late <= 10 * own
        tables = "equal" if self.tables_equal else "unequal"
        return [
            message(
                "compare.paired.double",
                difference=f"{fp64:.0e}",
                allowed=f"{TOLERANCE_FP64:.0e}",
                tables=message(f"compare.paired.{tables}"),
                verdict=message(f"compare.paired.{'one' if self.ok else 'not_one'}"),
            ),
            message(
                "compare.paired.single",
                early=f"{early:.0e}",
                steps=str(EARLY_STEPS),
                expected=f"{EXPECTED_FP32:.0e}",
                late=f"{late:.0e}",
                own=f"{own:.0e}",
                conclusion=message(f"compare.paired.{'rounding' if is_rounding else 'more'}"),
            ),
            message(
                "compare.paired.weights", weights=f"{weights:.0e}", key_biases=f"{key_biases:.0e}"
            ),
        ]

    def summary(self) -> dict[str, Any]:
        """The ``paired_training`` of ``comparison.json``; losses in nats per target token."""
        weights, key_biases = weight_differences(self.ours_fp64, self.theirs_fp64)
        weights_fp32, key_biases_fp32 = weight_differences(self.ours_fp32, self.theirs_fp32)
        return {
            "steps": len(self.ours_fp64.losses),
            "ok": self.ok,
            "position_tables_equal": self.tables_equal,
            "max_abs_loss_difference": largest(self.gaps_fp64()),
            "max_abs_weight_difference": largest([weights, key_biases]),
            "max_abs_weight_difference_without_key_biases": weights,
            "max_abs_key_bias_difference": key_biases,
            "tolerance": TOLERANCE_FP64,
            "losses": {
                "pytorch_fp64": list(self.ours_fp64.losses),
                "huggingface_fp64": list(self.theirs_fp64.losses),
                "pytorch_fp32": list(self.ours_fp32.losses),
                "huggingface_fp32": list(self.theirs_fp32.losses),
                "pytorch_other_path_fp32": list(self.other_path_fp32.losses),
            },
            "fp32": {
                "early_steps": min(EARLY_STEPS, len(self.ours_fp32.losses)),
                "max_abs_loss_difference_early": largest(self.gaps_fp32()[:EARLY_STEPS]),
                "expected_early": EXPECTED_FP32,
                "max_abs_loss_difference": largest(self.gaps_fp32()),
                "max_abs_loss_difference_of_own_attention_paths": largest(self.gaps_own_paths()),
                "max_abs_weight_difference_without_key_biases": weights_fp32,
                "max_abs_key_bias_difference": key_biases_fp32,
            },
        }


def gaps(one: Sequence[float], two: Sequence[float]) -> list[float]:
    """Absolute difference at each step."""
    return [abs(a - b) for a, b in zip(one, two, strict=True)]


def largest(values: Sequence[float]) -> float:
    """The largest value; NaN if one is NaN, which ``max`` would lose."""
    return float(np.max(values))


def weight_differences(one: ShortRun, two: ShortRun) -> tuple[float, float]:
    """Largest absolute difference of the weights, and of the key biases apart."""
    ours, theirs = as_vectors(one.weights), as_vectors(two.weights)
    return tuple((ours[g] - theirs[g]).abs().max().item() for g in (STEP, STEP_KEY_BIASES))
