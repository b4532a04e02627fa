"""Units of the feed-forward networks: how much they are used, and what they react to.

Letters used in shapes: N tokens, F inner width of the feed-forward network.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from utils.analysis import TINY, Captured, Labelled, dead_share, layer_label

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
    return {layer_label(name): name for name in names}


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
