"""What the vectors of a model stand for: feed-forward units, embeddings, layers, predictions.

Letters used in shapes: B sentences, N tokens or points, T target positions, L layers, D width of
the model, F inner width of the feed-forward network, V vocabulary entries, C components.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from utils.analysis import TINY, Captured, Labelled, dead_share

NUM_BINS = 50  # of a histogram, at least about this many


@dataclass(frozen=True, kw_only=True)
class Neuron:
    """A unit of a feed-forward network, and what it reacts to.

    Attributes:
        layer: as a reader calls it, e.g. ``encoder 1``.
        unit: of the layer's F units, from 0.
        selectivity: 0-1, see `top_tokens`.
        tokens: (token, its highest activation), the strongest first.
    """

    layer: str
    unit: int
    selectivity: float
    tokens: Sequence[tuple[str, float]]


@dataclass(frozen=True, kw_only=True)
class Trajectories:
    """The way of some vectors, seen in the plane where they spread most.

    Attributes:
        coordinates: (tokens, steps, 2), in the units of the vectors.
        tokens: whose vectors they are.
        steps: what the vectors went through, in order.
        shares: (2,) 0-1, how much of all variance lies along either axis.
    """

    coordinates: np.ndarray
    tokens: Sequence[str]
    steps: Sequence[str]
    shares: np.ndarray

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "tokens": list(self.tokens),
            "steps": list(self.steps),
            "explained_shares": self.shares.tolist(),
            "coordinates": self.coordinates.tolist(),
        }


class Neighbours(NamedTuple):
    """A token and those whose embeddings point most nearly the same way.

    Attributes:
        token: the piece.
        nearest: (piece, cosine from -1 to 1), the nearest first.
    """

    token: str
    nearest: list[tuple[str, float]]


@dataclass(frozen=True, kw_only=True)
class LogitLens:
    """What each decoder layer would say if it were the last.

    Attributes:
        tokens: for each layer the most probable token at each of the T positions.
        probability: (L, T) of that token.
        right_probability: (L, T) of the right one.
        right_rank: (L, T) of the right one, 1 for the most probable.
    """

    tokens: Sequence[Sequence[str]]
    probability: Labelled
    right_probability: Labelled
    right_rank: Labelled

    @property
    def share_right(self) -> np.ndarray:
        """Share in 0-1 of the positions whose most probable token is the right one, (L,)."""
        return (self.right_rank.values == 1).mean(axis=1)

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "tokens": [list(line) for line in self.tokens],
            "probability": self.probability.as_dict(),
            "right_probability": self.right_probability.as_dict(),
            "right_rank": self.right_rank.as_dict(),
        }


def ffn_activity(captured: Captured) -> dict[str, Labelled]:
    """How the units of the feed-forward networks (section 3.3) are used.

    A unit counts as silent where its activation is not above 0. With ReLU it then is 0 and adds
    nothing to the output; GELU and swish leave a small negative rest.

    Args:
        captured: with ``{stack}.{i}.ffn.pre`` and ``.act``.

    Returns:
        ``activation``: share of the values before the activation function in each bin; a bin holds
        its lower edge, 0 is an edge, and all layers have the same bins. ``sparsity``: share of
        silent activations. ``dead``: share of units that no token activates; with few tokens many
        units seem dead, so ``tokens`` says how many there were.

    Raises:
        ValueError: no feed-forward network was captured.
    """
    layers = _ffn_layers(captured)
    pre = [captured.vectors(f"{name}.ffn.pre") for name in layers.values()]
    act = [captured.vectors(f"{name}.ffn.act")[0] for name in layers.values()]
    axes = {"layer": list(layers)}
    silent = "zero" if all((values >= 0).all() for values in act) else "not above zero"
    return {
        "activation": _histogram(pre, axes),
        "sparsity": Labelled(
            values=np.array([(values <= 0).mean() for values in act]),
            name=f"activations that are {silent}",
            unit="share of values",
            axes=axes,
        ),
        "dead": Labelled(
            values=np.array([dead_share(values) for values in act]),
            name="units that no token activates",
            unit="share of units",
            axes=axes,
        ),
        "tokens": Labelled(
            values=np.array([len(values) for values in act]),
            name="tokens read",
            unit="tokens",
            axes=axes,
        ),
    }


def _ffn_layers(captured: Captured) -> dict[str, str]:
    """The layers as a reader calls them -> their names, e.g. ``encoder 1`` -> ``encoder.0``."""
    names = [n.removesuffix(".ffn.act") for n in captured.tensors if n.endswith(".ffn.act")]
    if not names:
        raise ValueError("no feed-forward network was captured")
    return {_layer_label(name): name for name in names}


def _layer_label(name: str) -> str:
    stack, layer = name.split(".")
    return f"{stack} {int(layer) + 1}"


def _histogram(layers: Sequence[np.ndarray], axes: Mapping[str, Sequence[str]]) -> Labelled:
    """Shares of each layer's values in common bins of a round width."""
    low = min(0.0, *(float(values.min()) for values in layers))
    high = max(0.0, *(float(values.max()) for values in layers))
    width = _round_below((high - low) / NUM_BINS or 1.0)
    first = math.floor(low / width)
    # Bins are counted, not searched for between edges, so that rounding loses no value.
    places = [np.floor(values.ravel() / width).astype(int) - first for values in layers]
    num_bins = max(-first, *(int(place.max()) + 1 for place in places))
    counts = np.stack([np.bincount(place, minlength=num_bins) for place in places])
    edges = [f"{width * (first + n):.6g}" for n in range(num_bins + 1)]
    return Labelled(
        values=counts / counts.sum(axis=1, keepdims=True),
        name="values before the activation function",
        unit="share of values",
        axes={**axes, "bin": [f"{a} to {b}" for a, b in zip(edges, edges[1:], strict=False)]},
    )


def _round_below(value: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not above ``value``."""
    power = 10.0 ** math.floor(math.log10(value))
    return max(m * power for m in (1, 2, 5) if m * power <= value * (1 + TINY))


def lifetime_sparseness(activations: np.ndarray) -> np.ndarray:
    """How few tokens a unit reacts to (Vinje and Gallant 2000), its negative values taken as 0.

        (1 - mean(a)^2 / mean(a^2)) / (1 - 1 / N)

    Args:
        activations: (N, F), N tokens.

    Returns:
        (F,): 0 where all tokens activate the unit alike, 1 where one alone does; 0 of a unit
        that none activates, and of a single token.
    """
    positive = np.maximum(activations, 0).astype(np.float64)
    num_tokens = len(positive)
    if num_tokens < 2:
        return np.zeros(positive.shape[1])
    squares = np.square(positive).mean(axis=0)
    evenness = np.square(positive.mean(axis=0)) / np.where(squares > 0, squares, 1.0)
    return np.where(squares > 0, (1 - evenness) / (1 - 1 / num_tokens), 0.0)


def top_tokens(
    captured: Captured, pieces: Mapping[str, Sequence[Sequence[str]]], per_layer: int, k: int
) -> list[Neuron]:
    """The most selective units of each layer, with the tokens that activate them most.

    Selectivity is the `lifetime_sparseness` of a unit times a_k / a_1, where a_i is what the i-th
    strongest of the different tokens reaches: high where few tokens activate the unit, and k of
    them about as strongly as the strongest. Sparseness alone is highest where a unit fired once.

    Args:
        captured: with ``{stack}.{i}.ffn.act``.
        pieces: stack -> for each sentence the tokens that it reads, without padding; for the
            decoder these are its inputs, <s> first.
        per_layer: units of each layer.
        k: different tokens of each unit.

    Returns:
        Layer by layer, the most selective first; units that nothing activates are left out.

    Raises:
        ValueError: ``pieces`` are not the tokens that were captured.
    """
    neurons = []
    for label, name in _ffn_layers(captured).items():
        act = captured.vectors(f"{name}.ffn.act")[0]
        tokens = [piece for sentence in pieces[name.split(".")[0]] for piece in sentence]
        if len(tokens) != len(act):
            raise ValueError(f"{label}: {len(act)} tokens captured, {len(tokens)} pieces")
        kinds, places = np.unique(tokens, return_inverse=True)
        highest = np.full((len(kinds), act.shape[1]), -np.inf)
        np.maximum.at(highest, places, act)  # (different tokens, F)
        ranked = -np.sort(-highest, axis=0)  # (different tokens, F), the strongest first
        active = np.flatnonzero(ranked[0] > 0)
        kth = np.maximum(ranked[min(k, len(kinds)) - 1], 0)
        evenness = np.zeros(act.shape[1])
        evenness[active] = kth[active] / ranked[0, active]
        selectivity = lifetime_sparseness(act) * evenness
        for unit in active[np.argsort(-selectivity[active], kind="stable")[:per_layer]]:
            order = np.argsort(-highest[:, unit], kind="stable")[:k]
            best = order[highest[order, unit] > 0]
            neurons.append(
                Neuron(
                    layer=label,
                    unit=int(unit),
                    selectivity=float(selectivity[unit]),
                    tokens=[(str(kinds[i]), float(highest[i, unit])) for i in best],
                )
            )
    return neurons


def pca(points: np.ndarray, num_components: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Principal components: the directions in which the points spread most (Pearson 1901).

    Args:
        points: (N, D).
        num_components: C.

    Returns:
        Coordinates (N, C) around the mean, and the share in 0-1 of all variance along each
        component, (C,). 0 where the points have fewer directions. An axis has no natural sign:
        here the largest coordinate of its direction in the D features is positive.
    """
    centred = points.astype(np.float64) - points.mean(axis=0, dtype=np.float64)
    left, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    largest = np.abs(directions).argmax(axis=1)
    signs = np.where(directions[np.arange(len(directions)), largest] < 0, -1, 1)
    coordinates = np.zeros((len(points), num_components))
    shares = np.zeros(num_components)
    kept = min(num_components, len(sizes))
    coordinates[:, :kept] = (left * signs * sizes)[:, :kept]
    shares[:kept] = (sizes**2 / max((sizes**2).sum(), TINY))[:kept]
    return coordinates, shares


def layer_trajectories(
    captured: Captured, sentence: int, pieces: Mapping[str, Sequence[str]]
) -> dict[str, Trajectories]:
    """Where the layers take the tokens of one sentence, from embedding to output.

    Each stack has one PCA over all its tokens and layers, so that they are seen in one plane.

    Args:
        captured: with ``{stack}.embed`` and ``{stack}.{i}.out``; with ``{stack}.norm``, if there.
        sentence: which one of the batch.
        pieces: stack -> its tokens that the stack reads; for the decoder its inputs, <s> first.

    Returns:
        Stack -> the ways of its tokens.

    Raises:
        ValueError: ``pieces`` are not the tokens that were captured.
    """
    found = {}
    for stack, tokens in pieces.items():
        names = _stream(captured, stack)
        real = captured.rows_are_real(f"{stack}.embed")[sentence]
        if len(tokens) != real.sum():
            raise ValueError(f"{stack}: {real.sum()} tokens captured, {len(tokens)} pieces")
        states = [captured.tensors[name][sentence][real] for name in names.values()]
        found[stack] = _trajectories(np.stack(states, axis=1), tokens, list(names))
    return found


def _stream(captured: Captured, stack: str) -> dict[str, str]:
    """States of the residual stream as a reader calls them -> canonical names, in order."""
    num_layers = sum(
        name.startswith(stack) and name.count(".") == 2 and name.endswith(".out")
        for name in captured.tensors
    )
    names = {"embedding": f"{stack}.embed"}
    names |= {f"layer {i + 1}": f"{stack}.{i}.out" for i in range(num_layers)}
    if f"{stack}.norm" in captured.tensors:  # pre-norm
        names["last norm"] = f"{stack}.norm"
    return names


def training_trajectories(
    snapshots: Mapping[int, np.ndarray], tokens: Sequence[str]
) -> Trajectories:
    """Where training takes the embeddings of some tokens; one PCA over all steps.

    Args:
        snapshots: optimizer step -> the tokens' embeddings (N, D).
        tokens: the N tokens.
    """
    steps = sorted(snapshots)
    vectors = np.stack([snapshots[step] for step in steps], axis=1)
    return _trajectories(vectors, tokens, [f"step {step}" for step in steps])


def _trajectories(vectors: np.ndarray, tokens: Sequence[str], steps: Sequence[str]) -> Trajectories:
    """The ways of vectors (tokens, steps, D) in the plane of one PCA."""
    coordinates, shares = pca(vectors.reshape(-1, vectors.shape[-1]))
    return Trajectories(
        coordinates=coordinates.reshape(*vectors.shape[:2], 2),
        tokens=list(tokens),
        steps=list(steps),
        shares=shares,
    )


def nearest_neighbours(
    embedding: np.ndarray, ids: Sequence[int], pieces: Sequence[str], k: int
) -> list[Neighbours]:
    """The tokens whose embeddings point most nearly the same way, by cosine.

    Args:
        embedding: (V, D).
        ids: of the tokens whose neighbours are asked for.
        pieces: the V tokens.
        k: neighbours of each; the token itself and rows of zeros (padding) are none.
    """
    lengths = np.linalg.norm(embedding, axis=1)
    directions = embedding / np.maximum(lengths, TINY)[:, None]
    cosines = directions[list(ids)] @ directions.T  # (ids, V)
    cosines[:, lengths == 0] = -np.inf
    cosines[np.arange(len(ids)), list(ids)] = -np.inf
    found = []
    for token, row in zip(ids, cosines, strict=True):
        nearest = [i for i in np.argsort(-row, kind="stable")[:k] if row[i] > -np.inf]
        found.append(Neighbours(pieces[token], [(pieces[i], float(row[i])) for i in nearest]))
    return found


def logit_lens(
    logits: np.ndarray, label_ids: Sequence[int], pieces_of: Callable[[Sequence[int]], list[str]]
) -> LogitLens:
    """What each decoder layer would say if it were the last: the logit lens.

    Nostalgebraist 2020; Belrose et al. 2023. The vocabulary is scored with the output of every
    layer, as if it were the last layer's. In the paper's post-norm every layer ends in a
    LayerNorm, so each can be scored as it is.

    Args:
        logits: (L, T, V), of one sentence, as `utils.capture.Inside.project` gives them.
        label_ids: (T,) the right tokens.
        pieces_of: token ids -> tokens as they are shown.
    """
    labels = np.asarray(label_ids)
    logits = logits.astype(np.float64)
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=-1, keepdims=True)
    best = logits.argmax(axis=-1)  # (L, T)
    positions = np.arange(len(labels))
    right = logits[:, positions, labels]
    axes = {
        "layer": [f"decoder {i + 1}" for i in range(len(logits))],
        "position": pieces_of(labels.tolist()),
    }
    return LogitLens(
        tokens=[pieces_of(line.tolist()) for line in best],
        probability=Labelled(
            values=probabilities.max(axis=-1),
            name="probability of the most probable token",
            unit="probability",
            axes=axes,
        ),
        right_probability=Labelled(
            values=probabilities[:, positions, labels],
            name="probability of the right token",
            unit="probability",
            axes=axes,
        ),
        right_rank=Labelled(
            values=1 + (logits > right[..., None]).sum(axis=-1),
            name="rank of the right token",
            unit="rank, 1 for the most probable",
            axes=axes,
        ),
    )
