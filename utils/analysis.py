"""Statistics of what a model holds inside: from arrays to numbers that say what they are.

Letters used in shapes: A attentions, B sentences, H heads, N real tokens of a batch, T positions,
Q/K query/key positions, D width of the model, E width of a head, F inner width of the feed-forward
network, V vocabulary entries. Padding is left out before anything is computed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

TINY = 1e-12  # keeps divisions and logarithms finite; far below anything measured


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Numbers that say what they are.

    Attributes:
        values: one axis for each entry of ``axes``; NaN where there is nothing to measure.
        name: what was measured.
        unit: of every value.
        axes: axis name -> its labels, in order.

    Raises:
        ValueError: the labels do not fit the values.
    """

    values: np.ndarray
    name: str
    unit: str
    axes: Mapping[str, Sequence[str]]

    def __post_init__(self) -> None:
        labelled = tuple(len(labels) for labels in self.axes.values())
        if self.values.shape != labelled:
            raise ValueError(f"{self.name}: values {self.values.shape}, labels {labelled}")

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "name": self.name,
            "unit": self.unit,
            "axes": {name: list(labels) for name, labels in self.axes.items()},
            "values": self.values.tolist(),
        }


@dataclass(frozen=True, kw_only=True)
class Captured:
    """What one forward pass left behind.

    Attributes:
        tensors: canonical name -> array, as `utils.capture.capture` gives them.
        src_is_real: (B, S) bool, False at padding.
        tgt_is_real: (B, T) bool, False at padding.
    """

    tensors: Mapping[str, np.ndarray]
    src_is_real: np.ndarray
    tgt_is_real: np.ndarray

    def rows_are_real(self, name: str) -> np.ndarray:
        """Which positions of the tensor ``name`` are no padding, (B, position) bool.

        Of scores and weights these are the queries.
        """
        of_source = name.startswith("encoder") or name.endswith(("cross_attn.k", "cross_attn.v"))
        return self.src_is_real if of_source else self.tgt_is_real

    def vectors(self, name: str) -> np.ndarray:
        """The vectors of real tokens: (H, N, E) of q, k, v or context, else (1, N, width)."""
        tensor = self.tensors[name]
        if tensor.ndim == 3:
            tensor = tensor[:, None]
        return tensor.transpose(1, 0, 2, 3)[:, self.rows_are_real(name)]

    def attentions(self) -> list[str]:
        """The attentions whose weights were captured, e.g. ``decoder.0.cross_attn``."""
        return [n.removesuffix(".weights") for n in self.tensors if n.endswith(".weights")]

    def last_cross_attention(self) -> str:
        """The last decoder layer's attention to the source."""
        return [name for name in self.attentions() if name.endswith("cross_attn")][-1]

    def layer_outputs(self, stack: str) -> list[str]:
        """The outputs of a stack's layers that were captured, e.g. ``encoder.0.out``, in order."""
        return [
            name
            for name in self.tensors
            if name.startswith(stack) and name.count(".") == 2 and name.endswith(".out")
        ]

    def map_of(self, attention: str, sentence: int) -> np.ndarray:
        """An attention's weights on one sentence, without padding: (H, Q, K)."""
        queries = self.rows_are_real(f"{attention}.weights")[sentence]
        keys = self.rows_are_real(f"{attention}.k")[sentence]
        return self.tensors[f"{attention}.weights"][sentence][:, queries][:, :, keys]


@dataclass(frozen=True, kw_only=True)
class HeadAblation:
    """The scores of a model, and how they change with each head silenced.

    Attributes:
        nll: (A, H) change of the NLL in nats per target token; above 0 where the head helps.
        exact_match: (A, H) change of the share of sentences, -1 to 1; below 0 where it helps.
        baseline_nll: of the whole model.
        baseline_exact_match: of the whole model, 0-1.
        num_sentences: how many were scored.
    """

    nll: Labelled
    exact_match: Labelled
    baseline_nll: float
    baseline_exact_match: float
    num_sentences: int

    @property
    def most_important(self) -> tuple[int, int]:
        """Attention and head, from 0, without which the NLL rises most."""
        place = np.unravel_index(np.nanargmax(self.nll.values), self.nll.values.shape)
        return int(place[0]), int(place[1])

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "nll": self.nll.as_dict(),
            "exact_match": self.exact_match.as_dict(),
            "baseline_nll": self.baseline_nll,
            "baseline_exact_match": self.baseline_exact_match,
            "num_sentences": self.num_sentences,
        }


def attention_label(name: str) -> str:
    """``decoder.0.cross_attn`` as a reader calls it: ``decoder 1 cross``."""
    stack, layer, site = name.split(".")
    return f"{stack} {int(layer) + 1} {site.removesuffix('_attn')}"


def layer_label(name: str) -> str:
    """``decoder.0``, and what begins so, as a reader calls it: ``decoder 1``."""
    stack, layer = name.split(".")[:2]
    return f"{stack} {int(layer) + 1}" if layer.isdigit() else f"{stack} input"


def padded(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of each attention (H, ...) as one table (A, most heads, ...), NaN where one has fewer.

    Args:
        rows: (H, ...) of each of A attentions, alike but for H.
    """
    table = np.full((len(rows), max(map(len, rows)), *rows[0].shape[1:]), np.nan)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return table


def statistics_of_heads(captured: Captured, attention: str) -> dict[str, np.ndarray]:
    """How wide, how straight and how alike the heads of one attention look.

    Args:
        captured: with the weights of ``attention``.
        attention: canonical name.

    Returns:
        One number (H,) for each head: ``entropy`` in nats, see `attention_entropy`;
        ``diagonality`` from 0 to 1, see `diagonality`; ``similarity`` to the other heads, a cosine
        from 0 to 1, NaN of a single head, see `head_similarity`.
    """
    weights = captured.tensors[f"{attention}.weights"]
    is_real = captured.rows_are_real(f"{attention}.weights")
    key_is_real = captured.rows_are_real(f"{attention}.k")
    return {
        "entropy": attention_entropy(weights, is_real),
        "diagonality": diagonality(weights, is_real, key_is_real),
        "similarity": mean_similarity_to_others(head_similarity(weights, is_real)),
    }


def mean_norm(vectors: np.ndarray) -> np.ndarray:
    """Mean length of the vectors (H, N, E) of each head; returns (H,)."""
    return np.linalg.norm(vectors, axis=-1).mean(axis=-1)


def mean_cosine(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """How far each token's vector kept its direction: mean cosine, from -1 to 1.

    Args:
        one: (H, N, E).
        two: the same tokens' vectors at another time.

    Returns:
        (H,): 1 where all directions are the same.
    """
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(two, axis=-1)
    return ((one * two).sum(axis=-1) / np.maximum(lengths, TINY)).mean(axis=-1)


def effective_rank(vectors: np.ndarray) -> np.ndarray:
    """How many directions a head's vectors really use (Roy and Vetterli 2007).

        exp(-sum_i p_i ln p_i),   p = singular values / their sum

    Args:
        vectors: (H, N, E).

    Returns:
        (H,): from 1, all on one line, to min(N, E), all directions alike; 0 of zero vectors, NaN
        of what is not finite.
    """
    if not np.isfinite(vectors).all():
        return np.full(len(vectors), np.nan)
    values = np.linalg.svd(vectors, compute_uv=False)
    sums = values.sum(axis=-1, keepdims=True)
    shares = values / np.maximum(sums, TINY)
    rank = np.exp(-(shares * np.log(np.maximum(shares, TINY))).sum(axis=-1))
    return np.where(sums[..., 0] > 0, rank, 0.0)


def attention_entropy(weights: np.ndarray, is_real: np.ndarray) -> np.ndarray:
    """How widely each head looks: mean entropy of its real queries' rows.

        -sum_k p_k ln p_k

    Args:
        weights: (B, H, Q, K), rows sum to 1, 0 at padded keys.
        is_real: (B, Q), False at padded queries.

    Returns:
        (H,) in nats: 0 where every query looks at one token, ln K where at K tokens alike.
    """
    entropy = -(weights * np.log(np.maximum(weights, TINY))).sum(axis=-1)  # (B, H, Q)
    return entropy.transpose(1, 0, 2)[:, is_real].mean(axis=-1)


def diagonality(weights: np.ndarray, is_real: np.ndarray, key_is_real: np.ndarray) -> np.ndarray:
    """How far each head looks straight across: 1 for the identity.

        1 - sum_k p_k |position of k - position of the query|

    A position is a share of its sentence's length, from 0 (first token) to 1 (last).

    Args:
        weights: (B, H, Q, K), rows sum to 1, 0 at padded keys.
        is_real: (B, Q), False at padded queries.
        key_is_real: (B, K), False at padded keys.

    Returns:
        (H,), from 0 to 1, the mean over all real queries.
    """
    rows = _shares_of_length(is_real)[:, None, :, None]
    keys = _shares_of_length(key_is_real)[:, None, None, :]
    distance = (weights * np.abs(rows - keys)).sum(axis=-1)  # (B, H, Q)
    return 1 - distance.transpose(1, 0, 2)[:, is_real].mean(axis=-1)


def _shares_of_length(is_real: np.ndarray) -> np.ndarray:
    """Each position as a share of the way through its sentence, (B, T)."""
    last = np.maximum(is_real.sum(axis=1, keepdims=True) - 1, 1)
    return np.arange(is_real.shape[1])[None] / last


def head_similarity(weights: np.ndarray, is_real: np.ndarray) -> np.ndarray:
    """How alike the heads of one attention look: mean cosine of their rows.

    Args:
        weights: (B, H, Q, K), rows sum to 1, 0 at padded keys.
        is_real: (B, Q), False at padded queries.

    Returns:
        (H, H), from 0 (no key in common) to 1 (the same rows).
    """
    rows = weights.transpose(1, 0, 2, 3)[:, is_real]  # (H, N, K)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), TINY)
    return np.einsum("gnk,hnk->gh", rows, rows) / rows.shape[1]


def mean_similarity_to_others(similarity: np.ndarray) -> np.ndarray:
    """Each head's mean similarity (H, H) to the other heads, (H,); NaN of a single head."""
    num_heads = len(similarity)
    if num_heads == 1:
        return np.array([np.nan])
    return (similarity.sum(axis=1) - np.diag(similarity)) / (num_heads - 1)


def dead_share(activations: np.ndarray) -> float:
    """Share in 0-1 of the units of a ReLU layer (N, F) that no token activates."""
    return float((activations <= 0).all(axis=0).mean())
