"""How good a model is: scores of tokens under teacher forcing and of whole translations.

Letters used in shapes: B sentences, S source positions, T target positions, V vocabulary entries.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from utils import collectives
from utils.objective import IGNORED_LABEL, at_least_float32


class TokenScores:
    """Sums over target tokens, added batch by batch, so that every token weighs the same.

    The sums stay on the device until they are read.
    """

    def __init__(self) -> None:
        self._nll_sum: Tensor | float = 0.0
        self._num_right: Tensor | int = 0
        self._num_tokens: Tensor | int = 0

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add one batch.

        Args:
            logits: (B, T, V).
            labels: (B, T); positions holding `IGNORED_LABEL` count nothing.
        """
        real = labels != IGNORED_LABEL
        self._nll_sum += F.cross_entropy(
            at_least_float32(logits).flatten(0, 1),
            labels.flatten(),
            ignore_index=IGNORED_LABEL,
            reduction="sum",
        ).double()
        self._num_right += ((logits.argmax(dim=-1) == labels) & real).sum()
        self._num_tokens += real.sum()

    def add_up_processes(self) -> None:
        """Take in the sums of all processes that evaluate together."""
        sums = torch.tensor(
            [float(self._nll_sum), float(self._num_right), float(self._num_tokens)],
            dtype=torch.float64,
        )
        self._nll_sum, self._num_right, self._num_tokens = collectives.add_up(sums)

    @property
    def nll(self) -> float:
        """Unsmoothed negative log-likelihood per real target token, in nats."""
        return float(self._nll_sum / self._num_tokens)

    @property
    def accuracy(self) -> float:
        """Share in 0-1 of target tokens that are the most probable one, given those before."""
        return float(self._num_right / self._num_tokens)


def perplexity(nll: float) -> float:
    """The exponential of the NLL in nats; infinite where that overflows."""
    return math.exp(nll) if nll < 700 else math.inf


def translation_scores(hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """Compare whole translations with their references.

    Returns:
        ``bleu`` and ``chrf`` (0-100, by sacrebleu), ``exact_match`` (share in 0-1 of translations
        equal to the reference) and ``bleu_signature``, which makes the BLEU reproducible.
    """
    from sacrebleu.metrics import BLEU, CHRF

    bleu = BLEU(force=True)  # no word on text that looks tokenised: it is the user's, as it is
    scores = {
        "bleu": bleu.corpus_score(list(hypotheses), [list(references)]).score,
        "chrf": CHRF().corpus_score(list(hypotheses), [list(references)]).score,
    }
    pairs = zip(hypotheses, references, strict=True)
    scores["exact_match"] = sum(h == r for h, r in pairs) / len(references)
    scores["bleu_signature"] = str(bleu.get_signature())
    return scores


def with_other_sources(src_ids: Tensor) -> Tensor:
    """Give every sentence of a batch (B, S) the source of its neighbour."""
    return torch.roll(src_ids, 1, dims=0)
