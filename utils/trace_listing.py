"""A trace as lines of text: the way from token ids to the loss and back, layer by layer."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from utils.language import display_width
from utils.operations import Kind
from utils.trace import Statistics, Step, Trace

WIDTH = 110
_NAMES = 18  # columns for the names of rows of tokens
_WIDEST_TOKEN = 30

_TITLES = {
    "encoder.self_attn": "self-attention: each token looks at all source tokens",
    "decoder.self_attn": "masked self-attention: each token looks at itself and before",
    "decoder.cross_attn": "cross-attention to the source",
    "encoder.ffn": "feed-forward network: each position alone",
    "decoder.ffn": "feed-forward network: each position alone",
}
_STACKS = {"encoder": "ENCODER: reads the source", "decoder": "DECODER: reads the target so far"}

_LETTERS = (
    "Shapes: batch x positions x width; in attention batch x heads x positions x width or keys.",
    "x: the residual stream, which each sublayer reads and adds to. E: embedding. PE: positions.",
    "p: softmax of the logits. q: smoothed labels. T: target tokens. Dropout is off.",
)
_PRE_NORM = "This model is pre-norm: LayerNorm stands before each sublayer; in the paper, after it."
_BACKWARD_LETTERS = (
    "The row of y tells how dy, the gradient at y, goes on to what y was computed from, and what",
    "dy is like. +=: other readers of the same tensor send back something too. weights: norm of dW",
    "and db together; of a shared weight, of all its uses. db is dy summed over positions.",
    "In LayerNorm, n is its normalised input and h = gain * dy.",
)


def lines(trace: Trace, fold: bool = True) -> list[str]:
    """The whole trace for a terminal, at most `WIDTH` columns wide.

    Args:
        trace: one sentence's.
        fold: show the first layer of each stack in full and the later ones, which do the same
            with other weights, in one line each.
    """
    return [
        *_header(trace),
        *_forward(trace, fold),
        *_outcome(trace),
        *_backward(trace, fold),
        *_totals(trace),
    ]


def _header(trace: Trace) -> list[str]:
    sentence = trace.sentence
    return [
        _rule("One sentence through the model: every operation"),
        *_tokens({"src_ids": sentence.src, "": sentence.src_ids}),
        *_tokens({"decoder_input_ids": sentence.decoder_inputs, "": sentence.decoder_input_ids}),
        "",
        *_wrapped((f"{kind.mark} {kind.meaning}" for kind in _kinds(trace)), "   "),
        *_LETTERS,
        *([_PRE_NORM] if any(step.name == "encoder.norm" for step in trace.steps) else []),
    ]


def _forward(trace: Trace, fold: bool) -> Iterator[str]:
    new = dict(zip((step.name for step in trace.steps), trace.new_parameters(), strict=True))
    yield ""
    yield _rule("FORWARD")
    yield _forward_columns(
        " ", "output", "formula", "section", "shape", ("mean", "std", "min", "max"), "params",
        "FLOPs",
    )  # fmt: skip
    for place, steps in _places(trace.steps):
        parameters = sum(new[step.name] for step in steps)
        flops = sum(step.flops for step in steps)
        size = f"{_short(parameters)} parameters, {_short(flops)} FLOPs"
        if fold and _is_later_layer(place):
            out = steps[-1]
            yield _forward_columns(
                " ", place, f"{len(steps)} operations, rms {_short(out.values.rms)}", "",
                _shape(out.shape), _shown(out.values), _short(parameters), _short(flops),
            )  # fmt: skip
            continue
        yield from _heading(place, steps, trace, size)
        for sublayer, members in _sublayers(steps):
            yield from _sublayer_heading(sublayer, members)
            for step in members:
                operation = step.operation
                shared = bool(step.weights) and not new[step.name]
                yield _forward_columns(
                    operation.kind.mark, _row_name(step), operation.formula, operation.section,
                    _shape(step.shape), _shown(step.values),
                    "shared" if shared else _short(new[step.name]) if step.weights else "",
                    _short(step.flops),
                )  # fmt: skip


def _backward(trace: Trace, fold: bool) -> Iterator[str]:
    yield ""
    yield _rule("BACKWARD: d is the gradient of the loss")
    yield from _BACKWARD_LETTERS
    yield _backward_columns(
        " ", "output", "where its gradient goes", ("norm", "mean", "std", "min", "max"), "weights"
    )
    for place, steps in _places(trace.steps[::-1]):
        if fold and _is_later_layer(place):
            out = steps[0]
            norm = math.hypot(*(weight.gradient_norm for s in steps for weight in s.weights))
            yield _backward_columns(
                " ", place, f"{len(steps)} operations", _shown_gradient(out.gradient), _short(norm)
            )
            continue
        yield from _heading(place, steps, trace, "")
        for sublayer, members in _sublayers(steps):
            yield from _sublayer_heading(sublayer, members)
            for step in members:
                norms = [weight.gradient_norm for weight in step.weights]
                yield _backward_columns(
                    step.operation.kind.mark, _row_name(step), step.operation.backward,
                    _shown_gradient(step.gradient), _short(math.hypot(*norms)) if norms else "",
                )  # fmt: skip


def _outcome(trace: Trace) -> list[str]:
    sentence = trace.sentence
    chances = [f"{chance:.2f}" for chance in sentence.label_probabilities]
    return [
        "",
        *_tokens(
            {
                "labels": sentence.expected,
                "": sentence.labels,
                "their probability": chances,
                "most probable": sentence.predicted,
            }
        ),
        f"Loss {trace.loss:.4f} nats per target token with label smoothing "
        f"{trace.label_smoothing:g}, {trace.nll:.4f} without.",
    ]


def _totals(trace: Trace) -> Iterator[str]:
    totals = trace.totals()
    yield ""
    yield _rule("TOTALS")
    yield f"  {'kind':<16}{'operations':>10}{'parameters':>14}{'FLOPs':>16}{'share':>8}  where"
    for kind in _kinds(trace):
        row = totals["by_kind"][kind.label]
        share = row["flops"] / totals["flops"]
        numbers = f"{row['operations']:>10}{row['parameters']:>14,}{row['flops']:>16,}{share:>8.1%}"
        where = Counter(_ending(s) for s in trace.steps if s.operation.kind is kind)
        places = [f"{count} {ending}" for ending, count in where.items()]
        first, *others = _wrapped(places, width=WIDTH - 68)
        yield f"{kind.mark} {kind.label:<16}{numbers}  {first}"
        yield from (f"{'':68}{other}" for other in others)
    yield (
        f"  {'all':<16}{totals['operations']:>10}{totals['parameters']:>14,}{totals['flops']:>16,}"
        f"{1:>8.0%}  a multiply-add counts 2 FLOPs"
    )
    linear = [row["flops"] for row in totals["by_kind"].values() if row["linear"]]
    yield (
        f"Linear operations take {sum(linear) / totals['flops']:.1%} of the FLOPs. "
        f"Norm of the gradient of all weights: {_short(totals['gradient_norm'])}."
    )


def _places(steps: Sequence[Step]) -> list[tuple[str, list[Step]]]:
    """Steps that belong together: ``encoder`` (outside layers), ``encoder.0``, ``output``."""

    def place(step: Step) -> str:
        stack, *rest = step.name.split(".")
        if not rest:
            return "output"
        return f"{stack}.{rest[0]}" if rest[0].isdigit() else stack

    return [(name, list(members)) for name, members in groupby(steps, key=place)]


def _sublayers(steps: Sequence[Step]) -> list[tuple[str, list[Step]]]:
    """Steps of one place by sublayer, e.g. ``encoder.0.ffn``; elsewhere one group, unnamed."""

    def sublayer(step: Step) -> str:
        parts = step.name.split(".")
        if len(parts) < 3:
            return ""
        return ".".join(parts[:3]) if len(parts) == 4 else f"{parts[0]}.{parts[1]}.ffn"

    return [(name, list(members)) for name, members in groupby(steps, key=sublayer)]


def _is_later_layer(place: str) -> bool:
    return not place.endswith(".0") and "." in place


def _heading(place: str, steps: Sequence[Step], trace: Trace, size: str) -> Iterator[str]:
    stack, _, layer = place.partition(".")
    is_last_norm = steps[0].name.endswith(".norm")
    yield ""
    if place == "output":
        yield "OUTPUT: scores of every vocabulary entry, and the loss"
    elif not layer:
        yield f"{stack.upper()}, after its layers" if is_last_norm else _STACKS[stack]
    else:
        count = sum(step.name.startswith(f"{stack}.") and step.name.endswith(".ffn.act")
                    for step in trace.steps)  # fmt: skip
        text = f"{stack.upper()} LAYER {int(layer) + 1} of {count} ({place})"
        yield f"{text}: {size}" if size else text


def _sublayer_heading(sublayer: str, steps: Sequence[Step]) -> Iterator[str]:
    """What the sublayer does, and what the letters in its formulas stand for."""
    if not sublayer:
        return
    inputs = {step.name: step.operation.inputs for step in steps}
    meaning = f"x = {inputs[f'{sublayer}.add'][0]}"
    if sublayer.endswith("cross_attn"):
        meaning += f", memory = {inputs[f'{sublayer}.k'][0]}"
    stack, _, site = sublayer.split(".")
    yield f"  {_TITLES[f'{stack}.{site}']}; {meaning}"


def _row_name(step: Step) -> str:
    """Within its sublayer an output goes by its last name."""
    parts = step.name.split(".")
    return f"  {parts[-1]}" if len(parts) == 4 else step.name


def _ending(step: Step) -> str:
    parts = step.name.split(".")
    return parts[-1] if "ffn" not in parts else f"ffn.{parts[-1]}"


def _kinds(trace: Trace) -> list[Kind]:
    used = {step.operation.kind for step in trace.steps}
    return [kind for kind in Kind if kind in used]


def _forward_columns(
    mark: str, name: str, formula: str, section: str, shape: str, numbers: Sequence[str],
    parameters: str, flops: str,
) -> str:  # fmt: skip
    values = "".join(f"{number:>7}" for number in numbers)
    texts = f"{mark} {name:<15}{formula:<31}{section:<8}{shape:>12}"
    return f"{texts}{values}{parameters:>7}{flops:>7}".rstrip()


def _backward_columns(
    mark: str, name: str, formula: str, numbers: Sequence[str], weights: str
) -> str:
    values = "".join(f"{number:>7}" for number in numbers)
    return f"{mark} {name:<15}{formula:<49}{values}{weights:>9}".rstrip()


def _shown(values: Statistics) -> list[str]:
    return [_short(value) for value in (values.mean, values.std, values.min, values.max)]


def _shown_gradient(values: Statistics) -> list[str]:
    return [_short(values.norm), *_shown(values)]


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _short(number: float) -> str:
    """A number in six characters."""
    if isinstance(number, int) and number >= 1000:
        for unit in ("", "k", "M", "G", "T", "P"):
            if number < 999.5:
                return f"{number:#.3g}".rstrip(".") + unit
            number /= 1000
    for form in (".3g", ".2g", ".1g", ".0e"):
        text = re.sub(r"e([+-])0", r"e\1", f"{number:{form}}").replace("e+", "e")
        if len(text) <= 6:
            break
    return text


def _rule(title: str) -> str:
    return f"{title} ".ljust(WIDTH, "-")


def _wrapped(items: Iterable[str], between: str = ", ", width: int = WIDTH) -> list[str]:
    """Items side by side, as many to a line as fit."""
    found = [""]
    for item in items:
        joined = f"{found[-1]}{between}{item}" if found[-1] else item
        if len(joined) > width:
            found.append(item)
        else:
            found[-1] = joined
    return found


def _tokens(rows: Mapping[str, Sequence[str | int]]) -> Iterator[str]:
    """One column for each token, as many beside each other as fit; row name -> its cells."""
    block: list[list[str]] = []
    used = _NAMES
    for column in zip(*rows.values(), strict=True):
        cells = [_clipped(str(cell)) for cell in column]
        width = max(map(display_width, cells)) + 1
        if used + width > WIDTH:
            yield from _block(rows, block)
            block, used = [], _NAMES
        block.append([" " * (width - display_width(cell)) + cell for cell in cells])
        used += width
    yield from _block(rows, block)


def _block(names: Iterable[str], block: Sequence[Sequence[str]]) -> Iterator[str]:
    for name, cells in zip(names, zip(*block, strict=True), strict=True):
        yield f"{name:<{_NAMES}}" + "".join(cells)


def _clipped(piece: str) -> str:
    while display_width(piece) > _WIDEST_TOKEN:
        piece = piece[:-2] + "~"
    return piece
