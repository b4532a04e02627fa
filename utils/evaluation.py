"""Evaluation of either version, and the record of a finished run.

Several processes evaluate together: each takes a part, and all get the scores of the whole.

Letters used in shapes: B sentences, T target positions, V vocabulary entries.
"""

import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from utils import collectives, distributed
from utils.batching import TokenizedPairs, evaluation_batches
from utils.metrics import TokenScores, perplexity, translation_scores, with_other_sources

EVALUATION_BATCH_SIZE = 128
LONGEST_LINE = 100  # characters of a sample shown on the terminal
# A source that takes away less than this share of the NLL makes no difference to speak of.
LEAST_SOURCE_GAIN = 0.1

LogitsOf = Callable[[Tensor, Tensor], Tensor]  # (source ids, decoder inputs) -> (B, T, V)
Translate = Callable[[Sequence[str]], list[str]]


class Translations(NamedTuple):
    """Translations of a set of sentences and how good they are.

    Attributes:
        scores: as `utils.metrics.translation_scores` gives them.
        hypotheses: one for each pair, in order.
        seconds: how long the translating took.
    """

    scores: dict[str, Any]
    hypotheses: list[str]
    seconds: float


@torch.inference_mode()
def score_tokens(
    logits_of: LogitsOf, pairs: TokenizedPairs, device: torch.device
) -> dict[str, float]:
    """Evaluate under teacher forcing, every token counting the same.

    Args:
        logits_of: the model, in eval mode.
        pairs: what to evaluate on.
        device: where the model is.

    Returns:
        ``nll`` (nats per target token, unsmoothed), ``token_accuracy`` (0-1), and
        ``nll_other_source``: the NLL when every sentence is given the source of another one of
        similar length. A model that does not look at the source has the same NLL in both cases.
    """
    right, other = TokenScores(), TokenScores()
    batches = evaluation_batches(pairs, EVALUATION_BATCH_SIZE)
    for _, batch in islice(batches, distributed.rank(), None, distributed.world_size()):
        batch = batch.to(device)
        right.add(logits_of(batch.src_ids, batch.decoder_input_ids), batch.labels)
        swapped = with_other_sources(batch.src_ids)
        other.add(logits_of(swapped, batch.decoder_input_ids), batch.labels)
    for scores in (right, other):
        scores.add_up_processes()
    return {
        "nll": right.nll,
        "token_accuracy": right.accuracy,
        "nll_other_source": other.nll,
    }


def score_translations(translate: Translate, pairs: TokenizedPairs) -> Translations:
    """Translate every source and compare with its reference."""
    start = time.perf_counter()
    sources = [pair.src for pair in pairs.pairs]
    hypotheses = collectives.whole_again(translate(collectives.share_of(sources)))
    seconds = time.perf_counter() - start
    scores = translation_scores(hypotheses, [pair.tgt for pair in pairs.pairs])
    return Translations(scores, hypotheses, seconds)


def source_is_unused(scores: dict[str, float]) -> bool:
    """Whether another sentence's source does almost as well: the model hardly reads its source."""
    return scores["nll"] > (1 - LEAST_SOURCE_GAIN) * scores["nll_other_source"]


def with_references(pairs: TokenizedPairs, hypotheses: Sequence[str]) -> list[dict[str, str]]:
    """Each evaluation sentence with its reference and its translation."""
    triples = zip(pairs.pairs, hypotheses, strict=True)
    return [{"src": p.src, "reference": p.tgt, "hypothesis": h} for p, h in triples]


def final_metrics(
    train: dict[str, float], evaluated: dict[str, float], translations: Translations
) -> dict[str, Any]:
    """The ``metrics`` of ``summary.json``.

    Args:
        train: `score_tokens` of a fixed part of the training pairs.
        evaluated: `score_tokens` of the evaluation pairs.
        translations: of the evaluation pairs.
    """
    return {
        "train_nll": train["nll"],
        "eval_nll": evaluated["nll"],
        "eval_ppl": perplexity(evaluated["nll"]),
        "eval_nll_other_source": evaluated["nll_other_source"],
        "token_accuracy": evaluated["token_accuracy"],
        **translations.scores,
    }


def result_lines(metrics: dict[str, Any], shown: Sequence[dict[str, str]]) -> list[str]:
    """A finished run in words: metrics, then sample translations."""
    lines = [
        f"  NLL          {metrics['eval_nll']:8.4f} nats per target token "
        f"(training {metrics['train_nll']:.4f}), perplexity {metrics['eval_ppl']:.2f}",
        f"  token acc.   {metrics['token_accuracy']:8.1%} under teacher forcing",
        f"  BLEU         {metrics['bleu']:8.2f}   ({metrics['bleu_signature']})",
        f"  chrF         {metrics['chrf']:8.2f}",
        f"  exact match  {metrics['exact_match']:8.1%}",
        "",
        "Samples (= right, x differs from the reference):",
    ]
    for sample in shown:
        right = sample["hypothesis"] == sample["reference"]
        lines.append(f"  {'=' if right else 'x'} {_shortened(sample['src'])}")
        lines.append(f"    -> {_shortened(sample['hypothesis'])}")
        if not right:
            lines.append(f"       reference: {_shortened(sample['reference'])}")
    return lines


def _shortened(text: str) -> str:
    """``text``, cut where it would fill the screen; ``summary.json`` has it whole."""
    return text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]} ..."
