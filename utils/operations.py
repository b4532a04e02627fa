"""Every operation from token ids to the loss, described: formula, kind, inputs, weights, cost.

Nothing is computed here. Letters in the formulas: x the residual stream, memory the encoder's
output, E the embedding, PE the positions, T target tokens, p softmax of the logits, q smoothed
labels; dy is the gradient of the loss with respect to y, and += adds to what other readers of the
same tensor send back. In a LayerNorm n is its normalised input and h = gain * dy. Gradients of
biases, dy summed over positions, are left out.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

EMBEDDING = "embedding.weight"
LOSS, BIASED_LOGITS = "loss", "biased_logits"
# What comes from outside: fields of `utils.batching.Batch`.
IDS = {"encoder": "src_ids", "decoder": "decoder_input_ids"}
LABELS = "labels"

SITES = {"encoder": ("self_attn",), "decoder": ("self_attn", "cross_attn")}


class Kind(Enum):
    """What an operation does to its inputs.

    Attributes:
        label: its name.
        mark: one character for listings.
        is_linear: whether it is linear, up to a constant, in all its inputs together.
        meaning: for legends.
    """

    LOOKUP = ("lookup", "i", True, "table lookup: linear in one-hot ids")
    LINEAR = ("linear", "L", True, "linear map with trained weights")
    SUM = ("sum", "+", True, "sum: linear without weights")
    IDENTITY = ("identity", ".", True, "the same tensor under its next name")
    PRODUCT = ("product", "*", False, "product of two results: linear in each, not in both")
    NONLINEAR = ("non-linear", "N", False, "non-linear without weights")
    NORMALISATION = ("normalisation", "=", False, "LayerNorm: non-linear, trained gain and bias")
    LOSS = ("loss", "!", False, "loss, non-linear")

    def __init__(self, label: str, mark: str, is_linear: bool, meaning: str) -> None:
        self.label, self.mark, self.is_linear, self.meaning = label, mark, is_linear, meaning


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What the names of a model's points do not tell.

    Attributes:
        activation: of the feed-forward networks, as transformers names it.
        scaled: whether embeddings are multiplied by sqrt(d_model).
    """

    activation: str = "relu"
    scaled: bool = True


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One step of the computation.

    Attributes:
        name: of its output, canonical.
        kind: what it does to its inputs.
        formula: how the output comes from the inputs.
        backward: how the gradient at the output becomes gradients of inputs and weights.
        section: of the paper.
        inputs: names of the tensors it reads: outputs of earlier operations, or `Batch`'s fields.
        weights: common names of the trained weights it uses, matrix or gain first.
        per_entry: FLOPs for each entry, see `flops`.
    """

    name: str
    kind: Kind
    formula: str
    backward: str
    section: str
    inputs: tuple[str, ...]
    weights: tuple[str, ...] = ()
    per_entry: int = 0


def flops(
    operation: Operation,
    inputs: Sequence[Sequence[int]],
    output: Sequence[int],
    matrix: Sequence[int] | None,
) -> int:
    """Floating-point operations of the forward pass, by one rule.

    A multiply-add counts 2; any other arithmetic on one entry, a comparison, one exp and one value
    of an activation count 1. Lookup and mask cost nothing, nor does what happens once a row.

    ================ ===================== =======================================================
    linear, product  2 m k n               of (m, k) and (k, n): a bias is where the sum begins
    scores           and 1 per entry       division by sqrt(d_k)
    softmax          5 per entry           comparison, difference, exp, sum, division
    LayerNorm        7 per entry           sum, difference, square, sum, times 1/std, gain, bias
    activation, sum  1 per entry
    embed            2 per entry           scale and position; 1 where embeddings are not scaled
    loss             5 per logit           comparison, difference, exp, sum, difference; with
                                           label smoothing 2 more: a weighted sum
    ================ ===================== =======================================================

    Args:
        operation: which one.
        inputs: shapes of what it reads.
        output: shape of what it gives.
        matrix: shape (out, in) of its weight matrix, None if it has none.
    """
    num_entries = math.prod(inputs[0] if operation.kind is Kind.LOSS else output)
    total = operation.per_entry * num_entries
    if operation.kind is Kind.LINEAR:
        total += 2 * num_entries * matrix[-1]
    if operation.kind is Kind.PRODUCT:
        total += 2 * num_entries * inputs[0][-1]
    return total


def operations(
    points: Iterable[str],
    variant: Variant,
    label_smoothing: float,
    tables: Mapping[str, str] | None = None,
    has_fixed_bias: bool = False,
) -> list[Operation]:
    """All operations of one pass, in the order of computation.

    Args:
        points: canonical names of `utils.capture`; ``encoder.norm`` among them means pre-norm.
        variant: what the names do not tell.
        label_smoothing: eps in [0, 1).
        tables: ``encoder.lookup``, ``decoder.lookup`` and ``logits`` -> name of the weight used;
            left out, all three share one.
        has_fixed_bias: whether a constant is added to the logits, as many released MarianMT
            models do.

    Raises:
        ValueError: the points are not those of an encoder-decoder.
    """
    points = list(points)
    writer = _Writer(variant, tables or {}, pre_norm="encoder.norm" in points)
    memory = ""
    for stack in SITES:
        num_layers = sum(name.startswith(stack) and name.count(".") == 2 for name in points)
        memory = writer.stack(stack, num_layers, memory)
    writer.logits(memory)
    written = {operation.name for operation in writer.operations}
    if different := sorted(written.symmetric_difference(points)):
        raise ValueError(f"not the points of an encoder-decoder: {', '.join(different[:5])}")
    writer.loss(label_smoothing, has_fixed_bias)
    return writer.operations


class _Writer:
    """Writes operations down in the order of computation.

    Every method returns the name of the last output: what flows on.

    Args:
        variant: what the names do not tell.
        tables: as `operations` takes them.
        pre_norm: whether LayerNorm stands before each sublayer, not after it.

    Attributes:
        operations: those written so far.
    """

    def __init__(self, variant: Variant, tables: Mapping[str, str], pre_norm: bool) -> None:
        self.variant, self.tables, self.pre_norm = variant, tables, pre_norm
        self.operations: list[Operation] = []

    def write(
        self, name: str, kind: Kind, formula: str, backward: str, section: str, *inputs: str,
        weights: tuple[str, ...] = (), per_entry: int = 0,
    ) -> str:  # fmt: skip
        """Write one operation."""
        self.operations.append(
            Operation(
                name=name, kind=kind, formula=formula, backward=backward, section=section,
                inputs=inputs, weights=weights, per_entry=per_entry,
            )
        )  # fmt: skip
        return name

    def stack(self, stack: str, num_layers: int, memory: str) -> str:
        """Embedding and layers (figure 1, left or right); the encoder has no memory."""
        x = self.embedding(stack)
        for i in range(num_layers):
            layer = f"{stack}.{i}"
            for site in SITES[stack]:
                x = self.sublayer(f"{layer}.{site}", x, memory)
            x = self.sublayer(f"{layer}.ffn", x, memory)
            if self.pre_norm:
                x = self.write(f"{layer}.out", Kind.IDENTITY, "add", "dadd = dout", "3.1", x)
        return self.norm(f"{stack}.norm", f"{stack}.norm", "x", x) if self.pre_norm else x

    def embedding(self, stack: str) -> str:
        """Sections 3.4 and 3.5."""
        lookup = self.write(
            f"{stack}.lookup", Kind.LOOKUP, "row of E for each id",
            "dE[id] += dlookup of each position", "3.4", IDS[stack],
            weights=(self.tables.get(f"{stack}.lookup", EMBEDDING),),
        )  # fmt: skip
        if self.variant.scaled:
            texts = "lookup * sqrt(d_model) + PE", "dlookup = dembed * sqrt(d_model)", "3.4-3.5"
        else:
            texts = "lookup + PE", "dlookup = dembed", "3.5"
        return self.write(
            f"{stack}.embed", Kind.SUM, *texts, lookup, per_entry=1 + self.variant.scaled
        )

    def sublayer(self, name: str, x: str, memory: str) -> str:
        """One sublayer with its residual sum and LayerNorm (section 3.1)."""
        layer, _, site = name.rpartition(".")
        stack, i = layer.split(".")
        module = f"{stack}.layers.{i}.{site}"
        norm = f"{stack}.layers.{i}.add_norm_{site.removesuffix('_attn')}.norm"
        y, word = x, "x"
        if self.pre_norm:
            y, word = self.norm(f"{name}.norm", norm, "x", x), "norm"
        if site == "ffn":
            out = self.ffn(name, module, word, y)
        else:
            out = self.attention(name, module, word, y, memory)
        add = self.write(
            f"{name}.add", Kind.SUM, "x + out", "dx += dadd, dout = dadd", "3.1", x, out,
            per_entry=1,
        )  # fmt: skip
        if self.pre_norm:
            return add
        return self.norm(f"{layer}.out" if site == "ffn" else f"{name}.norm", norm, "add", add)

    def norm(self, name: str, module: str, word: str, y: str) -> str:
        """LayerNorm (section 3.1)."""
        backward = f"d{word} += (h - mean h - n mean(h n)) / std"
        return self.write(
            name, Kind.NORMALISATION, f"LayerNorm({word})", backward, "3.1", y,
            weights=_affine(module), per_entry=7,
        )  # fmt: skip

    def attention(self, name: str, module: str, word: str, y: str, memory: str) -> str:
        """Multi-head attention (section 3.2) of ``y``, called ``word``, to itself or the memory."""
        cross = name.endswith("cross_attn")
        sources = {"q": (word, y, "3.2.2")}
        sources |= dict.fromkeys("kv", ("memory", memory, "3.2.3") if cross else sources["q"])
        for part, (source_word, source, section) in sources.items():
            self.write(
                f"{name}.{part}", Kind.LINEAR, f"{source_word} W_{part} + b_{part}, per head",
                _linear_backward(source_word, part, f"W_{part}"), section, source,
                weights=_affine(f"{module}.w_{part}"),
            )  # fmt: skip
        q, k, v = (f"{name}.{part}" for part in "qkv")
        scores = self.write(
            f"{name}.scores", Kind.PRODUCT, "q k^T / sqrt(d_k)",
            "(dq, dk) = (dscores k, dscores^T q) / sqrt(d_k)", "3.2.1", q, k, per_entry=1,
        )  # fmt: skip
        causal = name.startswith("decoder") and not cross
        weights = self.write(
            f"{name}.weights", Kind.NONLINEAR,
            "softmax(scores, keys <= query)" if causal else "softmax(scores)",
            "dscores = w (dw - sum_k w dw), w = weights", "3.2.3" if causal else "3.2.1", scores,
            per_entry=5,
        )  # fmt: skip
        context = self.write(
            f"{name}.context", Kind.PRODUCT, "weights v",
            "dweights = dcontext v^T, dv = weights^T dcontext", "3.2.1", weights, v,
        )  # fmt: skip
        return self.write(
            f"{name}.out", Kind.LINEAR, "concat(context) W_o + b_o",
            "dcontext = dout W_o^T, dW_o = concat^T dout", "3.2.2", context,
            weights=_affine(f"{module}.w_o"),
        )  # fmt: skip

    def ffn(self, name: str, module: str, word: str, y: str) -> str:
        """Position-wise feed-forward network (section 3.3) of ``y``, called ``word``."""
        pre = self.write(
            f"{name}.pre", Kind.LINEAR, f"{word} W_1 + b_1", _linear_backward(word, "pre", "W_1"),
            "3.3", y, weights=_affine(f"{module}.pre"),
        )  # fmt: skip
        formula, backward = "max(0, pre)", "dpre = dact where pre > 0, else 0"
        if (activation := self.variant.activation) != "relu":
            formula, backward = f"{activation}(pre)", f"dpre = dact {activation}'(pre)"
        act = self.write(f"{name}.act", Kind.NONLINEAR, formula, backward, "3.3", pre, per_entry=1)
        return self.write(
            f"{name}.out", Kind.LINEAR, "act W_2 + b_2", "dact = dout W_2^T, dW_2 = act^T dout",
            "3.3", act, weights=_affine(f"{module}.out"),
        )  # fmt: skip

    def logits(self, x: str) -> str:
        """Section 3.4: the output projection."""
        return self.write(
            "logits", Kind.LINEAR, "x E^T", "dx = dlogits E, dE += dlogits^T x", "3.4", x,
            weights=(self.tables.get("logits", EMBEDDING),),
        )  # fmt: skip

    def loss(self, label_smoothing: float, has_fixed_bias: bool) -> str:
        """Cross-entropy (section 5.4) per target token; see `objective.smoothed_loss_sum`."""
        logits = "logits"
        if has_fixed_bias:
            logits = self.write(
                BIASED_LOGITS, Kind.SUM, "logits + fixed bias", "dlogits = dbiased_logits",
                "none", "logits", per_entry=1,
            )  # fmt: skip
        if label_smoothing:
            formula, q, per_entry = "-sum q ln p / T, p = softmax", "q", 7
        else:
            formula, q, per_entry = "-sum ln p[label] / T", "onehot(label)", 5
        return self.write(
            LOSS,
            Kind.LOSS,
            formula,
            f"d{logits} = (p - {q}) / T",
            "5.4",
            logits,
            LABELS,
            per_entry=per_entry,
        )


def _linear_backward(source: str, output: str, matrix: str) -> str:
    return f"d{source} += d{output} {matrix}^T, d{matrix} = {source}^T d{output}"


def _affine(module: str) -> tuple[str, str]:
    """The weights of a linear map or LayerNorm."""
    return f"{module}.weight", f"{module}.bias"
