"""How well cross-attention finds the word that is being translated.

A word alignment is read off each head: the source word that it looks at most. Two rows of a map
can be meant by "when the head deals with a target token" (Kobayashi et al. 2020), so both are read:

    shift 0  the row that predicts the token: row j for ``labels[j]``
    shift 1  the row that has read it: row j + 1, where ``decoder_input_ids[j + 1] == labels[j]``

Letters used in shapes: L decoder layers, H heads; T, S, W, V as in `utils.words`. Layers and heads
have numbers from 1, as figures name them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from utils.analysis import Labelled
from utils.words import AlignedSentence

SHIFTS = (0, 1)
KINDS = ("content", "particle")
ROUNDING = 0.02  # how far the sum of a row of weights may be from 1, in half precision too


def most_attended_words(weights: np.ndarray, sentence: AlignedSentence) -> np.ndarray:
    """The source word that each query looks at most.

    The weights of a word's tokens are added. What a head gives to </s> is left out: it rests there
    when it has nothing to find (Clark et al. 2019), and an alignment joins words.

    Args:
        weights: (..., T, S), rows sum to 1.
        sentence: whose T and S tokens they are.

    Returns:
        (..., T) int, source words from 0; the first of equally attended ones.
    """
    belongs = sentence.src_words[:, None] == np.arange(sentence.sure.shape[1])  # (S, V)
    return (weights @ belongs.astype(weights.dtype)).argmax(axis=-1)


@dataclass(frozen=True, kw_only=True)
class AlignmentTable:
    """How well every head aligns.

    Attributes:
        aer: alignment error rate (Och and Ney 2003), axes shift, layer, head.
        accuracy: share of target tokens whose most attended source word is a gold link's, sure or
            possible; axes pieces, shift, layer, head.
        num_sentences: how many were read.
        num_pieces: kind of token -> how many its accuracy was taken over.
    """

    aer: Labelled
    accuracy: Labelled
    num_sentences: int
    num_pieces: Mapping[str, int]

    def row(self, layer: int, head: int, shift: int) -> dict[str, Any]:
        """One head at one shift as plain values; None where there is nothing to measure."""
        place = (shift, layer - 1, head - 1)
        content, particle = (
            None if np.isnan(share) else float(share)
            for share in self.accuracy.values[:, shift, layer - 1, head - 1]
        )
        return {
            "layer": layer,
            "head": head,
            "shift": shift,
            "aer": float(self.aer.values[place]),
            "content_accuracy": content,
            "particle_accuracy": particle,
        }


def score(
    weights_by_layer: Sequence[Sequence[np.ndarray]], sentences: Sequence[AlignedSentence]
) -> AlignmentTable:
    """Compare what every head of every layer looks at with the gold alignment.

    Each target word is linked to the source word that the row of its first token looks at most;
    these links are A. With the sure links S and the possible ones P, which include S, all counted
    over all sentences:

        AER = 1 - (|A and S| + |A and P|) / (|A| + |S|)

    Accuracy is taken token by token instead, over the tokens of words that have a gold link.

    Args:
        weights_by_layer: for each decoder layer its cross-attention weights on each sentence,
            (H, T, S), or padded at the end to (B, H, longest T, longest S).
        sentences: in the same order.

    Raises:
        ValueError: there is no sentence, or the weights are not those of the sentences.
    """
    if not sentences:
        raise ValueError("no sentences to align")
    for weights in weights_by_layer:
        if len(weights) != len(sentences):
            raise ValueError(f"weights of {len(weights)} sentences, not of {len(sentences)}")
    counted = [
        _count([weights[i] for weights in weights_by_layer], sentence)
        for i, sentence in enumerate(sentences)
    ]
    hits, totals = (sum(counts) for counts in zip(*counted, strict=True))
    axes = {
        "shift": [str(shift) for shift in SHIFTS],
        "layer": [str(layer + 1) for layer in range(hits.shape[2])],
        "head": [str(head + 1) for head in range(hits.shape[3])],
    }
    with np.errstate(invalid="ignore"):  # 0 of 0 tokens are right: NaN
        accuracy = hits[2:] / totals[2:].reshape(-1, 1, 1, 1)
    unit = "share, 0 to 1"
    rate = 1 - (hits[0] + hits[1]) / (totals[0] + totals[1])
    return AlignmentTable(
        aer=Labelled(values=rate, name="alignment error rate", unit=unit, axes=axes),
        accuracy=Labelled(
            values=accuracy,
            name="tokens that look at a source word of a gold link",
            unit=unit,
            axes={"pieces": list(KINDS), **axes},
        ),
        num_sentences=len(sentences),
        num_pieces=dict(zip(KINDS, map(int, totals[2:]), strict=True)),
    )


def _count(
    weights: Sequence[np.ndarray], sentence: AlignedSentence
) -> tuple[np.ndarray, np.ndarray]:
    """What error rate and accuracy are made of, on one sentence.

    Args:
        weights: of each layer, (H, at least T, at least S).
        sentence: with T and S tokens.

    Returns:
        (4, shift, L, H): a head's links that are sure, those that are possible, and its content
        and particle tokens that look at a gold word; (4,): all its links, all sure links, and all
        such tokens.
    """
    real = np.stack([_without_padding(layer, sentence) for layer in weights])
    chosen = most_attended_words(real, sentence)  # (L, H, T)

    def hits(gold: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """How many of ``tokens`` look at a ``gold`` word: (shift, L, H)."""
        words = sentence.tgt_words[tokens]
        return np.stack([gold[words, chosen[..., tokens + s]].sum(axis=-1) for s in SHIFTS])

    first = sentence.first_pieces()
    linked = sentence.possible.any(axis=1)[sentence.tgt_words]
    content, particle = (
        np.flatnonzero(linked & part) for part in (sentence.content, sentence.particle)
    )
    gold = (sentence.sure, sentence.possible, sentence.possible, sentence.possible)
    return (
        np.stack(
            [hits(*each) for each in zip(gold, (first, first, content, particle), strict=True)]
        ),
        np.array([len(first), sentence.sure.sum(), len(content), len(particle)]),
    )


def _without_padding(weights: np.ndarray, sentence: AlignedSentence) -> np.ndarray:
    """The weights (H, T, S) of the sentence's own tokens."""
    num_queries, num_keys = len(sentence.tgt_words), len(sentence.src_words)
    real = weights[:, :num_queries, :num_keys]
    if real.shape[1:] != (num_queries, num_keys):
        raise ValueError(
            f"weights {weights.shape} of {num_queries} target and {num_keys} source tokens"
        )
    # Not so if the maps are another sentence's, or transposed.
    if not (np.abs(real.sum(axis=-1) - 1) < ROUNDING).all():
        raise ValueError("rows of weights do not sum to 1 over the source tokens")
    return real


class BestHead(NamedTuple):
    """The head whose links are nearest to the gold alignment.

    Attributes:
        layer: of the decoder, from 1.
        head: from 1.
        shift: which row is read, 0 or 1.
        aer: on the sentences that it was chosen on.
        sentences: how many these were.
    """

    layer: int
    head: int
    shift: int
    aer: float
    sentences: int


def best_head(table: AlignmentTable) -> BestHead:
    """The head and shift with the lowest error rate; the first of equal ones."""
    place = np.unravel_index(table.aer.values.argmin(), table.aer.values.shape)
    shift, layer, head = map(int, place)
    lowest = float(table.aer.values[place])
    return BestHead(layer + 1, head + 1, shift, lowest, table.num_sentences)


def report(best: BestHead, table: AlignmentTable) -> dict[str, Any]:
    """The entry ``alignment`` of ``analysis.json``.

    Args:
        best: chosen on some sentences.
        table: of other sentences, which its error rate is reported on: the lowest of many would
            be too good on those it was chosen on.

    Returns:
        Plain values; layers and heads from 1, None where there is nothing to measure.
    """
    return {
        "best": table.row(best.layer, best.head, best.shift) | {"sentences": table.num_sentences},
        "chosen_on": {"aer": best.aer, "sentences": best.sentences},
        "table": [
            table.row(layer + 1, head + 1, shift)
            for shift, layer, head in np.ndindex(*table.aer.values.shape)
        ],
    }


class HeadOnSentence(NamedTuple):
    """What one head looks at in one sentence, and what it should.

    Attributes:
        weights: (T, S).
        sentence: its tokens and gold alignment.
        best: which head, and which rows are read.
        chosen: (W,) int, the source word that each target word is linked to.
        num_right: how many of these links are sure or possible.
    """

    weights: np.ndarray
    sentence: AlignedSentence
    best: BestHead
    chosen: np.ndarray
    num_right: int


def head_on_sentence(
    weights: np.ndarray, sentence: AlignedSentence, best: BestHead
) -> HeadOnSentence:
    """Read the links of one head off one sentence.

    Args:
        weights: of the layer ``best.layer``, (H, at least T, at least S).
        sentence: with T and S tokens.
        best: the head.

    Raises:
        ValueError: the weights are not those of the sentence.
    """
    own = _without_padding(weights, sentence)[best.head - 1]
    chosen = most_attended_words(own, sentence)[sentence.first_pieces() + best.shift]
    right = sentence.possible[np.arange(len(chosen)), chosen].sum()
    return HeadOnSentence(own, sentence, best, chosen, int(right))
