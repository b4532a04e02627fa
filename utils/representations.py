"""What the vectors of a model stand for: embeddings, layers, predictions.

Letters used in shapes: N tokens or points, T target positions, L layers, D width of the model,
V vocabulary entries, C components.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from utils.analysis import TINY, Captured, Labelled


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
    names = {"embedding": f"{stack}.embed"}
    names |= {f"layer {i}": n for i, n in enumerate(captured.layer_outputs(stack), start=1)}
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
