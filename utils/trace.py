"""One sentence on its way through a model and back: every operation, measured in that very pass.

Knows no implementation: `utils.capture.Inside` says where to look, `utils.operations` what it is
that one sees there.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from utils import operations
from utils.batching import Batch
from utils.capture import Inside, capture
from utils.objective import smoothed_loss_sum
from utils.operations import BIASED_LOGITS, LABELS, LOSS, Kind, Operation, Variant


@dataclass(frozen=True)
class Statistics:
    """What the entries of a tensor are like.

    Attributes:
        mean: of all entries.
        std: standard deviation of these very entries, 0 of a single one.
        min: smallest entry.
        max: largest entry.
        norm: Euclidean length of the tensor as one vector.
        rms: root of the mean square of the entries.
    """

    mean: float
    std: float
    min: float
    max: float
    norm: float
    rms: float

    @classmethod
    def of(cls, tensor: Tensor) -> "Statistics":
        """Measure any tensor, in double precision."""
        entries = tensor.detach().double().flatten()
        norm = entries.norm().item()
        return cls(
            mean=entries.mean().item(),
            std=entries.std(unbiased=False).item(),
            min=entries.min().item(),
            max=entries.max().item(),
            norm=norm,
            rms=norm / math.sqrt(len(entries)),
        )


@dataclass(frozen=True)
class Weight:
    """A trained tensor that an operation uses.

    Attributes:
        name: common to all implementations where it has such a name.
        shape: as the model lays it out, (out, in) of a matrix.
        gradient_norm: Euclidean length of the gradient; of a shared weight that of all its uses
            together.
    """

    name: str
    shape: tuple[int, ...]
    gradient_norm: float

    @property
    def count(self) -> int:
        """Number of parameters."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Step:
    """One operation in one pass.

    Attributes:
        operation: what it is.
        input_shapes: of the tensors that it reads, in the order of ``operation.inputs``.
        shape: of its output.
        values: of its output.
        gradient: of the loss with respect to its output.
        weights: what it uses, in the order of ``operation.weights``.
        flops: of the forward pass, see `operations.flops`.
    """

    operation: Operation
    input_shapes: tuple[tuple[int, ...], ...]
    shape: tuple[int, ...]
    values: Statistics
    gradient: Statistics
    weights: tuple[Weight, ...]
    flops: int

    @property
    def name(self) -> str:
        """Canonical name of the output."""
        return self.operation.name

    def forward(self) -> dict[str, Any]:
        """The way there as plain values."""
        operation = self.operation
        inputs = zip(operation.inputs, self.input_shapes, strict=True)
        return {
            "name": self.name,
            "kind": operation.kind.label,
            "linear": operation.kind.is_linear,
            "formula": operation.formula,
            "section": operation.section,
            "inputs": [{"name": name, "shape": list(shape)} for name, shape in inputs],
            "shape": list(self.shape),
            **dataclasses.asdict(self.values),
            "parameters": [
                {"name": weight.name, "shape": list(weight.shape), "count": weight.count}
                for weight in self.weights
            ],
            "flops": self.flops,
        }

    def backward(self) -> dict[str, Any]:
        """The way back as plain values."""
        return {
            "name": self.name,
            "formula": self.operation.backward,
            "shape": list(self.shape),
            **dataclasses.asdict(self.gradient),
            "parameters": [
                {"name": weight.name, "gradient_norm": weight.gradient_norm}
                for weight in self.weights
            ],
        }


@dataclass(frozen=True)
class Sentence:
    """What went in, and what came of it.

    Attributes:
        src_ids: S source token ids.
        decoder_input_ids: T ids that the decoder reads.
        labels: T ids that it should say after them.
        predicted_ids: T ids, after each input the most probable next.
        src, decoder_inputs, expected, predicted: the same as a reader sees them.
        label_probabilities: T numbers from 0 to 1, what the model gives each label.
    """

    src_ids: list[int]
    decoder_input_ids: list[int]
    labels: list[int]
    predicted_ids: list[int]
    src: list[str]
    decoder_inputs: list[str]
    expected: list[str]
    predicted: list[str]
    label_probabilities: list[float]


@dataclass(frozen=True)
class Trace:
    """All operations of one pass, in the order of computation.

    Attributes:
        sentence: the sentence pair.
        label_smoothing: eps of the loss.
        steps: the operations; the last one is the loss.
    """

    sentence: Sentence
    label_smoothing: float
    steps: tuple[Step, ...]

    @property
    def loss(self) -> float:
        """Mean loss per target token, in nats."""
        return self.steps[-1].values.mean

    @property
    def nll(self) -> float:
        """The same without label smoothing."""
        chances = self.sentence.label_probabilities
        return -sum(math.log(p) if p else -math.inf for p in chances) / len(chances)

    def totals(self) -> dict[str, Any]:
        """Sums over the whole pass, and of each kind of operation; shared weights count once.

        A shared weight counts for the kind that uses it first.
        """
        weights = {weight.name: weight for step in self.steps for weight in step.weights}
        by_kind = {
            kind.label: {"linear": kind.is_linear, "operations": 0, "parameters": 0, "flops": 0}
            for kind in Kind
            if any(step.operation.kind is kind for step in self.steps)
        }
        for step, parameters in zip(self.steps, self.new_parameters(), strict=True):
            row = by_kind[step.operation.kind.label]
            row["operations"] += 1
            row["parameters"] += parameters
            row["flops"] += step.flops
        return {
            "operations": len(self.steps),
            "parameters": sum(weight.count for weight in weights.values()),
            "flops": sum(step.flops for step in self.steps),
            "loss": self.loss,
            "label_smoothing": self.label_smoothing,
            "nll": self.nll,
            "gradient_norm": math.hypot(*(weight.gradient_norm for weight in weights.values())),
            "by_kind": by_kind,
        }

    def new_parameters(self) -> list[int]:
        """Of each step, the number of parameters that no earlier step uses."""
        seen: set[str] = set()
        counts = []
        for step in self.steps:
            counts.append(sum(weight.count for weight in step.weights if weight.name not in seen))
            seen |= {weight.name for weight in step.weights}
        return counts

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for ``logs/trace.json``; ``backward`` is in the order of that pass."""
        return {
            "sentence": dataclasses.asdict(self.sentence),
            "forward": [step.forward() for step in self.steps],
            "backward": [step.backward() for step in reversed(self.steps)],
            "totals": self.totals(),
        }


def trace(
    model: nn.Module,
    inside: Inside,
    batch: Batch,
    label_smoothing: float,
    *,
    variant: Variant,
    pieces: Callable[[Iterable[int]], Sequence[str]] | None = None,
) -> Trace:
    """Follow one sentence through a model to the loss, and the gradients back.

    Nothing of the model changes: neither weights nor gradients nor what is to be trained.

    Args:
        model: in eval mode, so without dropout.
        inside: how to look into it.
        batch: one sentence pair, without padding.
        label_smoothing: eps in [0, 1) of the loss.
        variant: what ``inside`` does not tell; with a wrong one, the formulas would be wrong.
        pieces: from token ids to what a reader sees of them; None shows the ids.

    Raises:
        ValueError: the model is in training mode, or there is more than one sentence, or padding.
        RuntimeError: as `capture`.
    """
    if len(batch.src_ids) != 1 or batch.num_tokens != batch.src_ids.numel() + batch.labels.numel():
        raise ValueError("a trace follows one sentence without padding")
    weights = _weights(model, inside)
    batch = batch.to(next(model.parameters()).device)
    passed = _Pass.run(model, inside, batch, label_smoothing, weights)
    described = operations.operations(
        inside.points,
        variant,
        label_smoothing,
        tables=_tables(model, inside, weights),
        has_fixed_bias=BIASED_LOGITS in passed.tensors,
    )
    show = pieces or (lambda ids: [str(i) for i in ids])
    ids = [ids[0].tolist() for ids in (*batch[:3], passed.logits.argmax(-1))]
    chances = passed.logits.double().softmax(-1)[0, range(len(ids[2])), ids[2]]
    return Trace(
        sentence=Sentence(*ids, *(list(show(row)) for row in ids), chances.tolist()),
        label_smoothing=label_smoothing,
        steps=tuple(passed.step(operation) for operation in described),
    )


def _weights(model: nn.Module, inside: Inside) -> dict[str, nn.Parameter]:
    """All weights by their common names, those without one by their own."""
    return {inside.common_name(name) or name: p for name, p in model.named_parameters()}


def _tables(
    model: nn.Module, inside: Inside, weights: Mapping[str, nn.Parameter]
) -> dict[str, str]:
    """Which embedding each of its uses reads, where a point's module holds it."""
    names = {id(weight): name for name, weight in weights.items()}
    tables = {}
    for point in ("encoder.lookup", "decoder.lookup", "logits"):
        module = model.get_submodule(inside.points[point].module)
        if (weight := getattr(module, "weight", None)) is not None:
            tables[point] = names[id(weight)]
    return tables


@dataclass(frozen=True)
class _Pass:
    """One forward and backward pass.

    Attributes:
        tensors: canonical name -> tensor; the inputs, `LOSS` and perhaps `BIASED_LOGITS` too.
        gradients: the same of what is computed.
        weights: by common names.
        gradient_norms: of the weights.
        logits: what the loss is computed from.
    """

    tensors: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]
    weights: Mapping[str, nn.Parameter]
    gradient_norms: Mapping[str, float]
    logits: Tensor

    @classmethod
    def run(
        cls,
        model: nn.Module,
        inside: Inside,
        batch: Batch,
        label_smoothing: float,
        weights: Mapping[str, nn.Parameter],
    ) -> "_Pass":
        gradients: dict[str, Tensor] = {}
        # A whole backward pass, not torch.autograd.grad: that visits no tensor beside the paths to
        # the weights, and MarianMT's scores are one.
        with inside.explicit_attention(model), torch.enable_grad(), _gradients_apart(model):
            with capture(model, inside.points, gradients) as found:
                logits = inside.logits_of(model, batch.src_ids, batch.decoder_input_ids)
                loss_sum = smoothed_loss_sum(logits, batch.labels, label_smoothing)
                loss = loss_sum / batch.num_target_tokens
                loss.backward()
            norms = {
                name: weight.grad.double().norm().item()
                for name, weight in weights.items()
                if weight.grad is not None
            }
        logits = logits.detach().cpu()
        tensors = found | {
            name: getattr(batch, name) for name in (*operations.IDS.values(), LABELS)
        }
        tensors[LOSS], gradients[LOSS] = loss.detach().cpu(), torch.ones(())
        if not torch.allclose(logits, found["logits"], rtol=0, atol=0, equal_nan=True):
            tensors[BIASED_LOGITS], gradients[BIASED_LOGITS] = logits, gradients["logits"]
        return cls(tensors, gradients, weights, norms, logits)

    def step(self, operation: Operation) -> Step:
        """Measure one operation."""
        inputs = tuple(tuple(self.tensors[name].shape) for name in operation.inputs)
        output = self.tensors[operation.name]
        weights = tuple(
            Weight(name, tuple(self.weights[name].shape), self.gradient_norms[name])
            for name in operation.weights
        )
        return Step(
            operation=operation,
            input_shapes=inputs,
            shape=tuple(output.shape),
            values=Statistics.of(output),
            gradient=Statistics.of(self.gradients[operation.name]),
            weights=weights,
            flops=operations.flops(
                operation, inputs, output.shape, weights[0].shape if weights else None
            ),
        )


@contextmanager
def _gradients_apart(model: nn.Module) -> Iterator[None]:
    """Let a backward pass reach every weight, then put the model's own gradients back."""
    before = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    try:
        for parameter, _, _ in before:
            parameter.grad = None
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter, requires_grad, gradient in before:
            parameter.requires_grad_(requires_grad)
            parameter.grad = gradient
