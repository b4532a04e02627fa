"""Scores: token sums, BLEU, chrF, exact match."""

import math

import pytest
import sacrebleu
import torch

from utils.evaluation import source_is_unused
from utils.metrics import TokenScores, perplexity, translation_scores, with_other_sources
from utils.objective import IGNORED_LABEL


def test_nll_and_accuracy_by_hand():
    logits = torch.tensor([[[0.5, 0.25, 0.25], [0.125, 0.125, 0.75], [1.0, 1.0, 1.0]]]).log()
    scores = TokenScores()
    scores.add(logits, torch.tensor([[0, 1, IGNORED_LABEL]]))
    assert scores.nll == pytest.approx((math.log(2) + math.log(8)) / 2)
    assert scores.accuracy == 0.5
    assert perplexity(scores.nll) == pytest.approx(4.0)


def test_every_token_weighs_the_same_however_batched():
    logits, labels = torch.randn(6, 5, 9), torch.randint(0, 9, (6, 5))
    labels[0, 1:], labels[3, 2:] = IGNORED_LABEL, IGNORED_LABEL
    whole, parts = TokenScores(), TokenScores()
    whole.add(logits, labels)
    for part in (slice(0, 1), slice(1, 6)):
        parts.add(logits[part], labels[part])
    assert parts.nll == pytest.approx(whole.nll, rel=1e-6)
    assert parts.accuracy == pytest.approx(whole.accuracy)


def test_perplexity_of_a_hopeless_model_is_infinite():
    assert perplexity(1e6) == math.inf


def test_translations_are_scored_as_sacrebleu_does():
    references = ["the cat sat on the mat today", "a dog barks", "we go home now"]
    hypotheses = ["the cat sat on a mat today", "a dog barks", ""]
    scores = translation_scores(hypotheses, references)
    assert scores["bleu"] == sacrebleu.corpus_bleu(hypotheses, [references]).score
    assert scores["chrf"] == sacrebleu.corpus_chrf(hypotheses, [references]).score
    assert scores["exact_match"] == pytest.approx(1 / 3)
    assert "version" in scores["bleu_signature"]
    assert 20 < scores["bleu"] < 80


def test_a_perfect_translation_scores_full_marks():
    scores = translation_scores(["학생이 책을 세 권 샀어요."], ["학생이 책을 세 권 샀어요."])
    assert scores["bleu"] == pytest.approx(100)
    assert scores["chrf"] == pytest.approx(100)
    assert scores["exact_match"] == 1


def test_other_sources_gives_everyone_the_source_of_another():
    src_ids = torch.arange(4)[:, None].expand(4, 3)
    assert (with_other_sources(src_ids) != src_ids).all()
    assert with_other_sources(src_ids)[:, 0].sort().values.tolist() == [0, 1, 2, 3]


def test_a_source_that_makes_no_difference_is_noticed():
    assert source_is_unused({"nll": 3.30, "nll_other_source": 3.31})
    assert source_is_unused({"nll": 4.20, "nll_other_source": 4.35})
    assert not source_is_unused({"nll": 2.0, "nll_other_source": 3.3})
    assert not source_is_unused({"nll": 0.14, "nll_other_source": 6.2})
