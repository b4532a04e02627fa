"""Whether two implementations compute the same function: point by point, in order of computation.

Knows neither implementation: each comes as a `Side`, its tensors under the canonical names of
`utils.capture` and its weights under the scratch model's names.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from utils.batching import Batch
from utils.capture import Inside, capture
from utils.config import TrainConfig
from utils.language import Message, message, padded, text
from utils.objective import make_optimizer, smoothed_loss_sum

TOLERANCE_FP64 = 1e-10
TOLERANCE_FP32 = 1e-5  # times the largest value at the point, where that is above 1
# Learning rate of the one optimizer step. Adam moves each weight by about as much, a key bias in
# the direction of rounding noise: small enough for that to stay within the tolerance.
STEP_RATE = 1e-5

GRADIENT, STEP, STEP_KEY_BIASES = "gradient.", "step", "step.key_biases"


@dataclass(frozen=True, kw_only=True)
class Side(Inside):
    """One of the two implementations.

    Attributes:
        model: on its device.
    """

    model: nn.Module


@dataclass(frozen=True)
class Row:
    """How far two implementations are apart at one point.

    Attributes:
        point: canonical name, ``loss``, ``gradient.`` and a weight's name, or ``step``.
        max_abs_fp32: largest absolute difference in single precision.
        max_abs_fp64: the same in double precision.
        tolerance: the most allowed in single precision; None where rounding decides the value and
            single precision is only reported.
        tolerance_fp64: the most allowed in double precision.
    """

    point: str
    max_abs_fp32: float
    max_abs_fp64: float
    tolerance: float | None
    tolerance_fp64: float = TOLERANCE_FP64

    @property
    def ok(self) -> bool:
        """Whether the difference is within the tolerances; NaN is not."""
        within_fp32 = self.tolerance is None or self.max_abs_fp32 <= self.tolerance
        return within_fp32 and self.max_abs_fp64 <= self.tolerance_fp64


def compare(one: Side, two: Side, batch: Batch, config: TrainConfig) -> list[Row]:
    """Compare two implementations at every point, from embeddings to an optimizer step.

    Args:
        one: its names and order are the table's.
        two: must have the same points and weights.
        batch: sentences, with padding.
        config: training options, for loss and optimizer.

    Raises:
        ValueError: one side has points or weights that the other lacks.
    """
    differences = {}
    for dtype in (torch.float32, torch.float64):
        ours, theirs = (_measure(side, batch, config, dtype) for side in (one, two))
        if unshared := ours.keys() ^ theirs.keys():
            raise ValueError(f"only one side has {', '.join(sorted(unshared))}")
        differences[dtype] = {
            name: ((tensor - theirs[name]).abs().max().item(), tensor.abs().max().item())
            for name, tensor in ours.items()
        }
    return [
        Row(
            point=name,
            max_abs_fp32=difference,
            max_abs_fp64=differences[torch.float64][name][0],
            # Adam's first step divides a gradient by its own size, so in single precision it
            # makes rounding errors of tiny gradients as large as any step.
            tolerance=None if name.startswith(STEP) else TOLERANCE_FP32 * max(1.0, largest),
        )
        for name, (difference, largest) in differences[torch.float32].items()
    ]


def first_difference(rows: Sequence[Row]) -> str | None:
    """The first point where the two part: what comes later only follows from it."""
    return next((row.point for row in rows if not row.ok), None)


# The stages of the computation, in its order, and how the names of their points end.
STAGES = {
    "lookup": (".lookup",),
    "positions": (".embed",),
    "qkv": (".self_attn.q", ".self_attn.k", ".self_attn.v"),
    "scores": (".self_attn.scores",),
    "weights": (".self_attn.weights",),
    "context": (".self_attn.context",),
    "projection": (".self_attn.out",),
    "residual": (".add",),
    "norm": ("_attn.norm",),
    "ffn": (".ffn.pre", ".ffn.act", ".ffn.out"),
    "cross": tuple(
        f".cross_attn.{kind}" for kind in ("q", "k", "v", "scores", "weights", "context", "out")
    ),
    "layers": (".out",),
    "logits": ("logits",),
    "loss": ("loss",),
}


def stage(point: str) -> Message:
    """What a reader calls the stage of the computation that a point belongs to."""
    if point == STEP:
        return message("compare.stage.step")
    if point == STEP_KEY_BIASES:
        return message("compare.stage.key_biases")
    if point.startswith(GRADIENT):
        return message("compare.stage.gradients")
    name = next(name for name, endings in STAGES.items() if point.endswith(endings))
    return message(f"compare.stage.{name}")


def table(rows: Sequence[Row]) -> list[str]:
    """The largest differences of each stage as lines of text."""
    stages: dict[str, list[Row]] = {}
    for row in rows:
        stages.setdefault(stage(row.point).text(), []).append(row)
    points = padded(text("compare.table.points"), 8, right=True)
    lines = [f"  {'':24s}{points}{'fp64':>10s}{'fp32':>10s}"]
    for name, members in stages.items():
        fp64 = max(row.max_abs_fp64 for row in members)
        fp32 = max(row.max_abs_fp32 for row in members)
        lines.append(
            f"  {padded(name, 24)}{len(members):8d}{fp64:10.1e}{fp32:10.1e}  {_mark(members)}"
        )
    return lines


def _mark(members: Sequence[Row]) -> str:
    """Whether a stage is the same on both sides."""
    if not all(row.ok for row in members):
        return text("compare.table.differs")
    only_fp64 = members[0].tolerance is None
    return text("compare.table.ok_fp64" if only_fp64 else "compare.table.ok")


def verdict(rows: Sequence[Row]) -> Message:
    """One sentence on a whole comparison."""
    if point := first_difference(rows):
        return message("compare.verdict.not_one", point=point)
    return message(
        "compare.verdict.one",
        points=str(len(rows)),
        difference=f"{max(row.max_abs_fp64 for row in rows):.0e}",
        allowed=f"{TOLERANCE_FP64:.0e}",
    )


def _measure(
    side: Side, batch: Batch, config: TrainConfig, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Every point of one forward pass, backward pass and optimizer step, on the CPU."""
    model = copy.deepcopy(side.model).to(dtype).eval()
    batch = batch.to(next(model.parameters()).device)
    with side.explicit_attention(model), capture(model, side.points) as found:
        logits = side.logits_of(model, batch.src_ids, batch.decoder_input_ids)
    loss_sum = smoothed_loss_sum(logits, batch.labels, config.label_smoothing)
    loss = loss_sum / batch.num_target_tokens
    loss.backward()
    measured = {name: found[name] for name in side.points} | {"loss": loss.detach().cpu()}
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gradients = side.in_common_names({name: p.grad for name, p in trained.items()})
    measured |= {GRADIENT + name: gradients[name].cpu() for name in sorted(gradients)}
    optimizer = make_optimizer(model, config)
    for group in optimizer.param_groups:
        group["lr"] = STEP_RATE
    optimizer.step()
    weights = side.in_common_names({name: p.detach() for name, p in trained.items()})
    return measured | as_vectors(weights)


def as_vectors(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All weights as two vectors: those whose gradient means something, and the key biases.

    The softmax ignores what is added to all scores of a row, so the gradient of a key's bias is
    zero but for rounding errors.
    """
    groups: dict[str, list[Tensor]] = {STEP: [], STEP_KEY_BIASES: []}
    for name in sorted(weights):
        group = STEP_KEY_BIASES if is_key_bias(name) else STEP
        groups[group].append(weights[name].flatten().cpu())
    return {name: torch.cat(tensors) for name, tensors in groups.items()}


def is_key_bias(name: str) -> bool:
    """Whether a weight, by its common name, is the bias of an attention's keys."""
    return name.endswith(".w_k.bias")
