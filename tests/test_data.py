"""Splits that share nothing, and batches of similar length."""

import numpy as np
import pytest
import torch

from utils.batching import (
    LengthBatches,
    TokenizedPairs,
    collate,
    evaluation_batches,
    training_loader,
)
from utils.config import DataConfig, UserError
from utils.corpus import Corpus, Pair
from utils.data import load_corpus, prepare
from utils.objective import IGNORED_LABEL
from utils.tokenizer import BOS_ID, EOS_ID, PAD_ID, Tokenizer


def write_pairs(path, pairs):
    path.write_text("".join(f"{src}\t{tgt}\n" for src, tgt in pairs), encoding="utf-8")
    return DataConfig(dataset=str(path))


@pytest.fixture
def sorted_file(tmp_path):
    """Sorted by length like the Anki file, with two translations of every tenth sentence."""
    pairs = []
    for n in range(200):
        pairs.append((f"{n} " + "word " * (n // 10) + "end.", f"{n} " + "말 " * (n // 10) + "끝."))
        if n % 10 == 0:
            pairs.append((pairs[-1][0], f"다른 번역 {n}"))
    return write_pairs(tmp_path / "pairs.tsv", pairs)


def test_splits_share_no_source_sentence(sorted_file):
    for seed in range(5):
        loaded = load_corpus(sorted_file, seed)
        train, held_out = ({pair.src for pair in part} for part in (loaded.train, loaded.eval))
        assert not train & held_out
        assert len(train | held_out) == 200
        assert len(loaded.eval) == 20
        assert loaded.notes == []  # what is held out is not said to be left out


def test_a_part_of_a_sorted_file_is_drawn_from_all_of_it(tmp_path, sorted_file):
    config = DataConfig(dataset=sorted_file.dataset, train_size=50, eval_size=30)
    loaded = load_corpus(config, seed=1)
    for part in (loaded.train, loaded.eval):
        words = [len(pair.src.split()) for pair in part]
        assert min(words) < 6
        assert max(words) > 17


def test_split_depends_on_the_seed_alone(sorted_file):
    one, again, other = (load_corpus(sorted_file, seed) for seed in (1, 1, 2))
    assert one == again
    assert one.fingerprint() == again.fingerprint() != other.fingerprint()


def test_a_fingerprint_is_found_once(sorted_file):
    class Counted(list):
        passes = 0

        def __iter__(self):
            self.passes += 1
            return super().__iter__()

    train = Counted(load_corpus(sorted_file, 0).train)
    corpus = Corpus("name", train, train[:3], [])
    assert corpus.fingerprint() == corpus.fingerprint()
    assert train.passes == 1
    changed = [Corpus("name", train[1:], train[:3], []), Corpus("name", train, train[:2], [])]
    assert len({corpus.fingerprint(), *(each.fingerprint() for each in changed)}) == 3


def test_given_splits_lose_what_they_share(tmp_path):
    write_pairs(tmp_path / "train.tsv", [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")])
    write_pairs(tmp_path / "valid.tsv", [("b", "other"), ("x", "5")])
    write_pairs(tmp_path / "test.tsv", [("c", "3"), ("x", "5"), ("y", "6")])
    loaded = load_corpus(DataConfig(dataset=str(tmp_path)), seed=0)
    assert {pair.src for pair in loaded.train} == {"a", "d"}
    assert {pair.src for pair in loaded.eval} == {"b"}
    assert {pair.src for pair in loaded.test} == {"c", "x", "y"}
    assert len(loaded.notes) == 2


def test_asking_for_more_than_there_is_uses_all_and_says_so(sorted_file):
    config = DataConfig(dataset=sorted_file.dataset, train_size=10_000)
    loaded = load_corpus(config, seed=0)
    assert len(loaded.train) > 150
    assert any("10,000" in note and str(len(loaded.train)) in note for note in loaded.notes)


@pytest.mark.parametrize(
    ("pairs", "options", "message"),
    [
        ([("a", "1")], {}, "at least 2"),
        ([("a", "1"), ("a", "2")], {}, "at least 2"),
        ([("a", "1"), ("b", "2")], {"eval_size": 2}, "--eval_size 2"),
    ],
)
def test_too_little_data_is_refused(tmp_path, pairs, options, message):
    config = write_pairs(tmp_path / "few.tsv", pairs)
    with pytest.raises(UserError, match=message):
        load_corpus(DataConfig(dataset=config.dataset, **options), seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_size": 10_000_001}, "--train_size 10,000,001.*10,000,000"),
        ({"eval_size": 1_000_001}, "--eval_size 1,000,001.*1,000,000"),
    ],
)
def test_more_than_can_be_made_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        load_corpus(DataConfig(**options), seed=0)


def test_the_embedded_grammar_knows_its_two_languages():
    with pytest.raises(UserError, match="en-de"):
        load_corpus(DataConfig(tgt_lang="de"), seed=0)
    there = load_corpus(DataConfig(train_size=50, eval_size=10), seed=0)
    back = load_corpus(
        DataConfig(src_lang="ko", tgt_lang="en", train_size=50, eval_size=10), seed=0
    )
    assert {pair.tgt for pair in back.train} <= {pair.src for pair in there.train}
    assert back.train[0].sure
    links = set(back.train[0].sure)
    (same,) = [pair for pair in there.train if pair.src == back.train[0].tgt]
    assert links == {(t, s) for s, t in same.sure}


def test_vocabulary_is_learnt_from_training_pairs_alone(tmp_path):
    pairs = [(f"common word {n}", f"흔한 말 {n}") for n in range(99)]
    config = write_pairs(tmp_path / "pairs.tsv", pairs)
    prepared = prepare(DataConfig(dataset=config.dataset, eval_size=30), seed=0)
    texts = [text for pair in prepared.corpus.train for text in (pair.src, pair.tgt)]
    assert prepared.tokenizer.to_json() == Tokenizer.train(texts, 8000).to_json()
    everything = texts + [t for pair in prepared.corpus.eval for t in (pair.src, pair.tgt)]
    assert prepared.tokenizer.to_json() != Tokenizer.train(everything, 8000).to_json()


def test_long_pairs_are_left_out_and_reported_by_line(tmp_path):
    pairs = [(f"a short sentence {n}", f"짧은 문장 {n}") for n in range(40)]
    pairs[7] = ("very " * 50, "아주 " * 50)
    config = write_pairs(tmp_path / "pairs.tsv", pairs)
    prepared = prepare(DataConfig(dataset=config.dataset, max_length=20, eval_size=1), seed=0)
    assert len(prepared.train) == 38
    (note,) = prepared.notes
    assert note.startswith("1 training pairs")
    assert note.endswith(": 8")
    with pytest.raises(UserError, match="max_length 4"):
        prepare(DataConfig(dataset=config.dataset, max_length=4), seed=0)


def test_collate_shifts_targets_and_pads_right():
    batch = collate([([5, 6, EOS_ID], [7, EOS_ID]), ([5, EOS_ID], [8, 9, EOS_ID])])
    assert batch.src_ids.tolist() == [[5, 6, EOS_ID], [5, EOS_ID, PAD_ID]]
    assert batch.decoder_input_ids.tolist() == [[BOS_ID, 7, PAD_ID], [BOS_ID, 8, 9]]
    assert batch.labels.tolist() == [[7, EOS_ID, IGNORED_LABEL], [8, 9, EOS_ID]]
    assert batch.num_target_tokens == 5
    assert batch.num_tokens == 10
    assert batch.src_ids.dtype == torch.int64


@pytest.fixture
def lengths():
    return np.random.default_rng(0).integers(3, 40, size=(1000, 2))


@pytest.mark.parametrize("max_tokens", [None, 500])
def test_every_pair_is_in_one_batch(lengths, max_tokens):
    batches = list(LengthBatches(lengths, 32, max_tokens, seed=0))
    assert sorted(i for batch in batches for i in batch) == list(range(1000))


def test_batches_keep_to_their_budget(lengths):
    for batch in LengthBatches(lengths, 32, 500, seed=0):
        assert len(batch) * lengths[batch].max() <= 500
    assert max(map(len, LengthBatches(lengths, 32, None, seed=0))) == 32
    single = LengthBatches(np.array([[90, 90], [5, 5]]), 32, 50, seed=0)
    assert sorted(map(len, single)) == [1, 1]


def test_sorting_saves_padding(lengths):
    def waste(batches):
        padded = sum(len(b) * lengths[b].max(axis=0).sum() for b in batches)
        return 1 - lengths.sum() / padded

    mixed = np.split(np.random.default_rng(1).permutation(1000), 25)
    assert waste(list(LengthBatches(lengths, 40, None, seed=0))) < 0.6 * waste(mixed)


def test_batches_are_a_function_of_seed_and_epoch(lengths):
    def order(seed, epoch, skip=0):
        sampler = LengthBatches(lengths, 32, None, seed)
        sampler.set_epoch(epoch, skip)
        return list(sampler)

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)
    assert order(0, 1, skip=5) == order(0, 1)[5:]
    sizes = [lengths[batch].max() for batch in order(0, 1)]
    assert sizes != sorted(sizes)  # short and long batches come mixed


def test_batches_do_not_depend_on_the_number_of_workers():
    pairs = [Pair("a " * (n % 9 + 1), "b " * (n % 7 + 1)) for n in range(64)]
    tokenizer = Tokenizer.train(["a b"], vocab_size=300)
    tokenised = TokenizedPairs(pairs, tokenizer, max_length=64)
    sampler = LengthBatches(tokenised.lengths, 8, None, seed=0)
    by_workers = [
        list(training_loader(tokenised, sampler, num_workers, pin_memory=False))
        for num_workers in (0, 2)
    ]
    for here, there in zip(*by_workers, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(here[:3], there[:3], strict=True))
        assert here[3:] == there[3:]


def test_evaluation_sees_every_pair_once():
    pairs = [Pair("a " * (n % 9 + 1), "b") for n in range(20)]
    tokenised = TokenizedPairs(pairs, Tokenizer.train(["a b"], vocab_size=300), max_length=64)
    seen = []
    for indices, batch in evaluation_batches(tokenised, batch_size=6):
        seen += indices
        for index, row in zip(indices, batch.src_ids, strict=True):
            assert row[row != PAD_ID].tolist() == tokenised[index][0]
    assert sorted(seen) == list(range(20))
