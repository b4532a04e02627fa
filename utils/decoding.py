"""How a translation is searched for, and in which batches; the same for both versions.

Letters used in shapes: B sentences, S source positions.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

from utils.batching import pad_sources
from utils.tokenizer import EOS_ID, Tokenizer

ROWS_AT_ONCE = 256  # of the decoder's batch: sentences times beams


class Decoding(NamedTuple):
    """How a translation is searched for.

    Attributes:
        max_length: most tokens generated, </s> included.
        beam_size: N, partial translations followed at once; 1 is greedy.
        length_penalty: a finished translation of n tokens with log-probability p scores
            p / n ** length_penalty; above 0 favours longer ones. The paper (section 6.1) takes
            ((5 + n) / 6) ** 0.6; this is how transformers' ``generate`` does it.
    """

    max_length: int
    beam_size: int = 1
    length_penalty: float = 1.0


def translate_in_batches(
    search: Callable[[Tensor], list[list[int]]],
    tokenizer: Tokenizer,
    sentences: Sequence[str],
    beam_size: int,
) -> list[str]:
    """Translate ``sentences``, in batches of similar length; the order is kept.

    Args:
        search: from source tokens (B, S) to each target's tokens, without <s> and </s>.
        tokenizer: the joint tokenizer.
        sentences: source sentences.
        beam_size: rows that each sentence takes while it is searched for.
    """
    sources = tokenizer.encode_batch(sentences)
    by_length = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    per_batch = max(1, ROWS_AT_ONCE // beam_size)
    translations = [""] * len(sources)
    for start in range(0, len(by_length), per_batch):
        indices = by_length[start : start + per_batch]
        found = search(pad_sources([sources[i] for i in indices]))
        for i, ids in zip(indices, found, strict=True):
            translations[i] = tokenizer.decode(ids)
    return translations


def until_end(ids: list[int]) -> list[int]:
    """The tokens before the first </s>; all where there is none."""
    return ids[: ids.index(EOS_ID)] if EOS_ID in ids else ids
