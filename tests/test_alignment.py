"""Alignment error rate: on maps of which a reader can say what they align."""

import json

import numpy as np
import pytest
import torch

from pytorch_version.model import Transformer, inside
from utils.alignment import BestHead, best_head, head_on_sentence, report, score
from utils.batching import collate
from utils.capture import capture
from utils.corpus import Pair, generate
from utils.tokenizer import Tokenizer
from utils.words import AlignedSentence, words_of

SURE = ((0, 0), (1, 2), (2, 1))
PAIR = Pair("I eat rice.", "저는 밥을 먹어요.", SURE, (), (1, 3, 4), (1, 1, 3))
SRC = ("▁I", "▁eat", "▁ri", "ce", ".", "</s>")
TGT = ("▁저", "는", "▁밥", "을", "▁먹", "어요", ".", "</s>")
# What each row that predicts a token should look at, in source tokens: I, ri, eat.
RIGHT = (0, 0, 2, 2, 1, 1, 1, 5)


@pytest.fixture(scope="module")
def tokenizer():
    pairs = generate("grammar", "train", 300, 1)
    return Tokenizer.train([text for pair in pairs for text in pair[:2]], 900)


def sentence(**changes):
    return AlignedSentence.of(PAIR._replace(**changes), SRC, TGT)


def looking_at(keys, num_keys=6):
    """One head whose row j looks at nothing but the token ``keys[j]``, (1, T, S)."""
    return np.eye(num_keys)[list(keys)][None]


def aer(weights, *sentences, shift=0):
    """Error rate of the only head; ``weights`` are one sentence's each."""
    return score([weights], sentences).aer.values[shift, 0, 0]


def accuracy(weights, sentence, shift=0):
    """Shares of content and particle tokens of the only head."""
    return score([[weights]], [sentence]).accuracy.values[:, shift, 0, 0].tolist()


# Words of tokens


def test_a_word_begins_at_its_mark_and_special_tokens_are_in_none():
    assert words_of(["<s>", "▁도서관", "에서", "▁", "책", ".", "</s>", "<pad>"]) == [
        -1, 0, 0, 1, 1, 1, -1, -1,
    ]  # fmt: skip


def test_the_first_token_begins_a_word_with_and_without_a_mark():
    assert words_of(["도서관", "에서", "▁책"]) == [0, 0, 1]


@pytest.mark.parametrize(
    "text",
    [
        "저는 밥을 먹어요.",
        "I'm here, Mr. X!",
        "쀍은 3시에 갔어요",
        "a  b",
        " a",
        "a ",
        "a\tb",
        "😀 x",
        "가",
    ],
)
def test_words_are_those_of_splitting_at_spaces(tokenizer, text):
    ids = tokenizer.encode(text)
    words = np.array(words_of(tokenizer.pieces(ids)))
    spelt = [tokenizer.decode(np.array(ids)[words == w].tolist()) for w in range(words.max() + 1)]
    assert [word.removeprefix(" ") for word in spelt] == text.split(" ")
    assert words[-1] == -1


def test_words_of_the_grammar_are_those_of_splitting_at_spaces(tokenizer):
    for pair in generate("grammar", "eval", 100, 3):
        for text in pair[:2]:
            assert max(words_of(tokenizer.pieces(tokenizer.encode(text)))) + 1 == len(text.split())


def test_a_run_of_spaces_in_one_token_counts_every_space():
    text = "a   b"  # words: a, two empty ones, b
    assert words_of(["▁a", "▁ ", "▁b"]) == [0, 2, 3]
    assert text.split(" ").index("b") == 3


# Sentences


def test_tokens_belong_to_stem_or_ending_and_punctuation_to_neither():
    own = sentence()
    named = np.array(TGT)
    assert named[own.content].tolist() == ["▁저", "▁밥", "▁먹", "어요"]
    assert named[own.particle].tolist() == ["는", "을"]


def test_a_token_that_begins_in_the_stem_is_content_however_far_it_reaches():
    own = AlignedSentence.of(PAIR, SRC, ("▁저는", "▁", "밥을", "▁먹어요", ".", "</s>"))
    assert own.content.tolist() == [True, True, True, True, False, False]
    assert not own.particle.any()


def test_bytes_belong_where_their_letter_does():
    pair = Pair("x", "뷁에.", ((0, 0),), (), (1,), (1,))
    spelt = [f"<0x{byte:02X}>" for byte in "뷁에".encode()]
    own = AlignedSentence.of(pair, ("▁x", "</s>"), ("▁", *spelt, "<0x2E>", "</s>"))
    assert own.content.tolist() == [True] * 4 + [False] * 5
    assert own.particle.tolist() == [False] * 4 + [True] * 3 + [False] * 2
    assert own.tgt_words.tolist() == [0] * 8 + [-1]


def test_possible_links_include_the_sure_ones():
    own = sentence(sure=((0, 0),), possible=((1, 2),))
    assert np.argwhere(own.sure).tolist() == [[0, 0]]  # target word, source word
    assert np.argwhere(own.possible).tolist() == [[0, 0], [2, 1]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sure": ()}, "no gold"),
        ({"sure": ((3, 0),)}, "link 3-0"),
        ({"sure": ((0, 3),)}, "link 0-3"),
        ({"possible": ((-1, 0),)}, "link -1-0"),
        ({"src": "I eat."}, "do not spell"),
        ({"tgt": "저는 밥을 먹었어요."}, "do not spell"),
        ({"tgt_stems": (1, 1)}, "2 stems"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        sentence(**changes)


@pytest.mark.parametrize("tgt", [TGT[:-1], ()])
def test_a_target_without_its_end_is_refused(tgt):
    with pytest.raises(ValueError, match="do not end in '</s>'"):
        AlignedSentence.of(PAIR, SRC, tgt)


# Error rate


def test_the_identity_aligns_a_copy_without_error():
    pair = Pair("x y z", "x y z", ((0, 0), (1, 1), (2, 2)), (), (1, 1, 1), (1, 1, 1))
    pieces = ("▁x", "▁y", "▁z", "</s>")
    assert aer([np.eye(4)[None]], AlignedSentence.of(pair, pieces, pieces)) == 0


def test_a_right_map_has_no_error():
    assert aer([looking_at(RIGHT)], sentence()) == 0


def test_one_wrong_link_of_three_costs_a_third():
    # 3 links, 3 sure ones, 2 in common: 1 - (2 + 2) / (3 + 3)
    assert aer([looking_at((1, *RIGHT[1:]))], sentence()) == pytest.approx(1 / 3)


def test_possible_links_count_for_but_not_against():
    # Sure: 저는 and 밥을. The possible link of 먹어요 is followed: 1 - (2 + 3) / (3 + 2)
    followed = sentence(sure=((0, 0), (2, 1)), possible=((1, 2),))
    assert aer([looking_at(RIGHT)], followed) == 0
    # A possible link that is not followed costs nothing either: 1 - (3 + 3) / (3 + 3)
    assert aer([looking_at(RIGHT)], sentence(possible=((0, 1), (1, 0)))) == 0
    # Where the link is neither: 1 - (2 + 2) / (3 + 2)
    unlinked = sentence(sure=((0, 0), (2, 1)))
    assert aer([looking_at(RIGHT)], unlinked) == pytest.approx(1 / 5)


def test_a_sure_link_that_is_missed_costs():
    # Four sure links, but a target word gets one link only: 1 - (3 + 3) / (3 + 4)
    assert aer([looking_at(RIGHT)], sentence(sure=(*SURE, (0, 1)))) == pytest.approx(1 / 7)


def test_counts_are_summed_over_sentences():
    pair = Pair("x y", "z", ((0, 0),), (), (1, 1), (1,))
    wrong = AlignedSentence.of(pair, ("▁x", "▁y", "</s>"), ("▁z", "</s>"))
    maps = [looking_at(RIGHT), looking_at((1, 2), 3)]
    # 1 - (3 + 3) / (4 + 4), where the mean of both sentences would be 1/2
    assert aer(maps, sentence(), wrong) == pytest.approx(1 / 4)


def test_weights_of_a_words_tokens_are_added():
    weights = looking_at(RIGHT)
    weights[0, 2] = [0, 0.4, 0.2, 0.2, 0.2, 0]  # "rice." gets 0.6, "eat" 0.4
    assert aer([weights], sentence()) == 0


def test_the_end_of_the_source_does_not_compete():
    weights = looking_at(RIGHT)
    weights[0, 2] = [0.03, 0.01, 0.06, 0, 0, 0.9]  # "rice." gets more than the other words
    assert aer([weights], sentence()) == 0


def test_a_words_first_token_makes_its_link():
    later_ones_wrong = looking_at((0, 1, 2, 1, 1, 0, 0, 5))
    assert aer([later_ones_wrong], sentence()) == 0


@pytest.mark.parametrize("shift", [0, 1])
def test_a_map_is_right_at_its_own_shift_and_wrong_at_the_other(shift):
    pair = Pair("x y z", "x y z", ((0, 0), (1, 1), (2, 2)), (), (1, 1, 1), (1, 1, 1))
    pieces = ("▁x", "▁y", "▁z", "</s>")
    own = AlignedSentence.of(pair, pieces, pieces)
    weights = looking_at({0: (0, 1, 2, 0), 1: (2, 0, 1, 2)}[shift], 4)
    assert aer([weights], own, shift=shift) == 0
    assert aer([weights], own, shift=1 - shift) == 1


@pytest.mark.parametrize("task", ["copy", "reverse"])
@pytest.mark.parametrize("shift", [0, 1])
def test_the_algorithmic_tasks_have_gold_too(task, shift):
    sentences, maps = [], []
    for pair in generate(task, "eval", 20, 1):
        src, tgt = ([*("▁" + word for word in text.split()), "</s>"] for text in pair[:2])
        sentences.append(AlignedSentence.of(pair, src, tgt))
        n = len(src) - 1
        order = range(n) if task == "copy" else range(n - 1, -1, -1)
        # The row without a task looks at </s>.
        maps.append(looking_at([*[n] * shift, *order, *[n] * (1 - shift)], n + 1))
    table = score([maps], sentences)
    assert table.aer.values[shift] == 0
    # At the other shift no row looks at its own word; one that looks at </s> gives all words
    # alike nothing, and is right only if the first is meant.
    assert table.aer.values[1 - shift] > 0.8
    assert table.accuracy.values[0, shift] == 1
    assert table.num_pieces["particle"] == 0
    assert np.isnan(table.accuracy.values[1]).all()


def test_a_perfect_map_aligns_the_grammar_without_error(tokenizer):
    sentences, maps = [], []
    for pair in generate("grammar", "eval", 100, 5):
        pieces = (tokenizer.pieces(tokenizer.encode(text)) for text in pair[:2])
        own = AlignedSentence.of(pair, *pieces)
        if own.sure.sum(axis=1).max() > 1:
            continue  # one link for a word cannot be both of two
        gold = np.where(own.sure.any(axis=1, keepdims=True), own.sure, own.possible)
        words = gold.argmax(axis=1)[own.tgt_words]
        keys = [own.src_words.tolist().index(word) for word in words]
        sentences.append(own)
        maps.append(looking_at(keys, len(own.src_words)))
    table = score([maps], sentences)
    assert len(sentences) > 90
    assert table.aer.values[0] == 0
    assert (table.accuracy.values[:, 0] == 1).all()


def test_an_untrained_model_does_not_align(tokenizer, model_config):
    model = Transformer(model_config, tokenizer.vocab_size, pad_id=0, max_positions=64).eval()
    pairs = generate("grammar", "eval", 40, 2)
    ids = [(tokenizer.encode(pair.src), tokenizer.encode(pair.tgt)) for pair in pairs]
    batch, seen = collate(ids), inside(model)
    names = [f"decoder.{layer}.cross_attn.weights" for layer in range(2)]
    with torch.no_grad(), seen.explicit_attention(model):
        with capture(model, {name: seen.points[name] for name in names}) as found:
            seen.logits_of(model, batch.src_ids, batch.decoder_input_ids)
    sentences = [
        AlignedSentence.of(pair, *map(tokenizer.pieces, both))
        for pair, both in zip(pairs, ids, strict=True)
    ]
    table = score([found[name].numpy() for name in names], sentences)
    assert table.aer.values.shape == (2, 2, 4)
    assert table.aer.values.min() >= 0.6


# Accuracy


def test_accuracy_counts_tokens_by_kind():
    # Of 4 content tokens the one of 밥 is wrong, of 2 particles the one of 저.
    assert accuracy(looking_at((0, 1, 1, 2, 1, 1, 0, 0)), sentence()) == [3 / 4, 1 / 2]


def test_accuracy_reads_the_row_of_its_shift():
    # One row later every token is right, and of the rows before only 는, 을 and 어요, which
    # follow a token of their own word, are.
    later = looking_at((3, *RIGHT[:-1]))
    assert accuracy(later, sentence(), shift=1) == [1, 1]
    assert accuracy(later, sentence()) == [1 / 4, 1]


def test_accuracy_takes_possible_links():
    own = sentence(sure=((0, 0), (1, 2)), possible=((2, 1),))
    assert accuracy(looking_at(RIGHT), own) == [1, 1]


def test_words_without_gold_are_left_out_of_accuracy():
    own = sentence(sure=((0, 0),))  # 저, 는
    table = score([[looking_at((1, *RIGHT[1:]))]], [own])
    assert table.accuracy.values[:, 0, 0, 0].tolist() == [0, 1]
    assert table.num_pieces == {"content": 1, "particle": 1}


# Weights


def test_padding_changes_nothing():
    short = Pair("x y", "z w", ((0, 1), (1, 0)), (), (1, 1), (1, 1))
    sentences = [
        sentence(), AlignedSentence.of(short, ("▁x", "▁y", "</s>"), ("▁z", "▁w", "</s>")),
    ]  # fmt: skip
    maps = [looking_at(RIGHT), looking_at((1, 1, 2), 3)]
    padded = np.zeros((2, 1, len(TGT), len(SRC)))
    padded[0] = maps[0]
    padded[1, :, :3, :3] = maps[1]
    padded[1, :, 3:, 0] = 1  # rows of padding hold something
    expected, found = score([maps], sentences), score([padded], sentences)
    assert np.array_equal(expected.aer.values, found.aer.values)
    assert np.array_equal(expected.accuracy.values, found.accuracy.values)
    assert 0 < found.aer.values[0, 0, 0] < 1


def test_half_precision_is_taken():
    rows = np.random.default_rng(0).dirichlet(np.ones(len(SRC)), (1, len(TGT)))
    half = rows.astype(np.float16)
    assert abs(half.sum(axis=-1, dtype=np.float64) - 1).max() > 1e-5
    assert aer([half], sentence()) == aer([rows], sentence())


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([looking_at(RIGHT).transpose(0, 2, 1)], "8 target and 6 source"),
        ([looking_at(RIGHT)[:, :, :-1]], "8 target and 6 source"),
        ([np.pad(looking_at(RIGHT)[..., ::-1], ((0, 0), (0, 0), (2, 0)))], "do not sum to 1"),
        ([looking_at(RIGHT) * np.nan], "do not sum to 1"),
        ([looking_at(RIGHT)] * 2, "weights of 2 sentences, not of 1"),
    ],
)
def test_weights_of_something_else_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        score([weights], [sentence()])


def test_no_sentences_are_refused():
    with pytest.raises(ValueError, match="no sentences"):
        score([[]], [])


# Best head


def planted(wrong_rows=()):
    """A table of 2 layers and 3 heads, of which layer 2 head 3 is right, but for some rows."""
    right = [1 if row in wrong_rows else key for row, key in enumerate(RIGHT)]
    maps = np.concatenate([looking_at([5] * len(TGT))] * 3)
    last = np.concatenate([maps[:2], looking_at([0, *right[:-1]])])  # at shift 1
    return score([[maps], [last]], [sentence()])


def test_the_best_head_is_found_and_named_from_one():
    best = best_head(planted())
    assert best == BestHead(layer=2, head=3, shift=1, aer=0, sentences=1)


def test_the_best_head_is_reported_on_other_sentences():
    best = best_head(planted())
    found = report(best, planted(wrong_rows=(0,)))
    assert found["best"] == {
        "layer": 2,
        "head": 3,
        "shift": 1,
        "aer": pytest.approx(1 / 3),
        "content_accuracy": 3 / 4,
        "particle_accuracy": 1,
        "sentences": 1,
    }
    assert found["chosen_on"] == {"aer": 0, "sentences": 1}


def test_the_report_holds_every_head_at_both_shifts():
    rows = report(best_head(planted()), planted())["table"]
    assert len({(row["layer"], row["head"], row["shift"]) for row in rows}) == 2 * 3 * 2
    [own] = [row for row in rows if row["aer"] == 0]
    assert (own["layer"], own["head"], own["shift"]) == (2, 3, 1)


def test_the_report_is_json_where_nothing_was_measured():
    pair = Pair("x y", "x y", ((0, 0), (1, 1)), (), (1, 1), (1, 1))
    pieces = ("▁x", "▁y", "</s>")
    table = score([[np.eye(3)[None]]], [AlignedSentence.of(pair, pieces, pieces)])
    found = report(best_head(table), table)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["best"]["particle_accuracy"] is None


def test_a_head_on_one_sentence_is_read_where_the_best_one_is():
    maps = np.concatenate([looking_at([5] * len(TGT)), looking_at((0, 1, *RIGHT[1:-1]))])
    own = sentence(possible=((1, 0),))
    found = head_on_sentence(maps, own, BestHead(1, 2, 1, 0.0, 1))
    assert np.array_equal(found.weights, maps[1])
    assert found.chosen.tolist() == [1, 2, 1]  # 저는 - eat is possible
    assert found.num_right == 3
    assert head_on_sentence(maps, sentence(), BestHead(1, 2, 1, 0.0, 1)).num_right == 2
