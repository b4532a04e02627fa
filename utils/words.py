"""Words and their tokens: which token belongs to which word, and to its stem or its ending.

Letters used in shapes: T/S target and source tokens of one sentence, with their </s>; W its target
words, V its source words. Words are those of ``str.split(" ")``, so punctuation belongs to the
word that it is written to.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from utils.corpus import Link, Pair
from utils.tokenizer import BYTE_PIECES, SPECIAL_TOKENS


def words_of(pieces: Sequence[str]) -> list[int]:
    """The word that each token belongs to, counted from 0 as ``str.split(" ")`` does.

    Args:
        pieces: tokens as `utils.tokenizer.Tokenizer.pieces` shows them; ``▁`` begins a word.

    Returns:
        One number for each piece; -1 of special tokens.
    """
    words, word = [], -1
    for piece in pieces:
        if piece in SPECIAL_TOKENS:
            words.append(-1)
            continue
        # A run of spaces is one piece, of which only the first space is shown as ▁.
        word = max(0, word + piece.startswith("▁") + piece.count(" "))
        words.append(word)
    return words


@dataclass(frozen=True, kw_only=True)
class AlignedSentence:
    """A sentence pair in tokens, with its gold alignment.

    Attributes:
        src_pieces: the S source tokens, the keys.
        tgt_pieces: the T target tokens, the last one </s>; query j predicts token j.
        src_words: (S,) int, the word of each source token, -1 of special tokens.
        tgt_words: (T,) int, the same of the target.
        sure: (W, V) bool, links that any alignment should have.
        possible: (W, V) bool, all links that are no mistake, the sure ones among them.
        content: (T,) bool, tokens that begin in the stem of a word.
        particle: (T,) bool, tokens that begin in its ending; punctuation is neither.
    """

    src_pieces: tuple[str, ...]
    tgt_pieces: tuple[str, ...]
    src_words: np.ndarray
    tgt_words: np.ndarray
    sure: np.ndarray
    possible: np.ndarray
    content: np.ndarray
    particle: np.ndarray

    @classmethod
    def of(
        cls, pair: Pair, src_pieces: Sequence[str], tgt_pieces: Sequence[str]
    ) -> "AlignedSentence":
        """Bring the words of ``pair`` and the tokens of its two sides together.

        Raises:
            ValueError: the pair has no gold alignment, or one that does not fit its words; the
                tokens do not spell it, or the target's do not end in </s>.
        """
        if not (pair.sure or pair.possible):
            raise ValueError(f"{pair.src!r} has no gold alignment")
        if not tgt_pieces or tgt_pieces[-1] != "</s>":
            raise ValueError(f"the tokens of {pair.tgt!r} do not end in '</s>'")
        src_words = _checked_words(pair.src, src_pieces)
        tgt_words = _checked_words(pair.tgt, tgt_pieces)
        shape = (tgt_words.max() + 1, src_words.max() + 1)
        sure = _matrix(pair.sure, shape)
        parts = _parts(pair.tgt, pair.tgt_stems, tgt_pieces)
        return cls(
            src_pieces=tuple(src_pieces),
            tgt_pieces=tuple(tgt_pieces),
            src_words=src_words,
            tgt_words=tgt_words,
            sure=sure,
            possible=sure | _matrix(pair.possible, shape),
            content=parts == "content",
            particle=parts == "particle",
        )

    def first_pieces(self) -> np.ndarray:
        """Position of the first token of each target word, (W,) int."""
        words, first = np.unique(self.tgt_words, return_index=True)
        return first[words >= 0]


def _checked_words(text: str, pieces: Sequence[str]) -> np.ndarray:
    """`words_of` the tokens of ``text``, (T,) int."""
    if b"".join(map(_bytes, pieces)).decode(errors="replace") != f" {text}":
        raise ValueError(f"the tokens {' '.join(pieces)} do not spell {text!r}")
    return np.array(words_of(pieces))


def _parts(text: str, stems: Sequence[int], pieces: Sequence[str]) -> np.ndarray:
    """Of which part of its word each token is, by its first letter: (T,) str.

    Args:
        text: what the tokens spell.
        stems: how many letters of each word come before its ending.
        pieces: its tokens.

    Returns:
        "content", "particle", or "" of punctuation and special tokens.
    """
    words = text.split(" ")
    if len(stems) != len(words) or "" in words:
        raise ValueError(f"{len(stems)} stems of the words {words}")
    labels = []  # of each character, with a space before every word
    for word, stem in zip(words, stems, strict=True):
        ending = ("particle" if c.isalnum() else "" for c in word[stem:])
        own = ["content"] * len(word[:stem]) + list(ending)
        labels += [own[0], *own]
    parts, spelt = [], b""
    for piece in pieces:
        # A character that the vocabulary lacks is spelt by several tokens, a byte each; from
        # the second of them on, it is among the characters that were begun before.
        begun = len((spelt + _bytes(piece)[:1]).decode(errors="replace"))
        parts.append("" if piece in SPECIAL_TOKENS else labels[begun - 1])
        spelt += _bytes(piece)
    return np.array(parts)


def _bytes(piece: str) -> bytes:
    """What a token spells, in UTF-8."""
    if piece in SPECIAL_TOKENS:
        return b""
    if piece in BYTE_PIECES:
        return bytes([BYTE_PIECES.index(piece)])
    return re.sub("^▁", " ", piece).encode()


def _matrix(links: Sequence[Link], shape: tuple[int, int]) -> np.ndarray:
    """Links (source word, target word) as a bool array of ``shape`` (W, V)."""
    matrix = np.zeros(shape, bool)
    for i, j in links:
        if not (0 <= j < shape[0] and 0 <= i < shape[1]):
            raise ValueError(f"link {i}-{j} among {shape[1]} source and {shape[0]} target words")
        matrix[j, i] = True
    return matrix
