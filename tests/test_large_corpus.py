"""A corpus on the disk is the same corpus, made once and never mistaken for another."""

import ast
import errno
import io
import json
import logging
import os
import pickle
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.test_imports import imports_of
from utils import large_corpus, results, stored_pairs
from utils.batching import LengthBatches, evaluation_batches, training_loader
from utils.config import EMBEDDED_DEFAULTS, DataConfig, UserError
from utils.data import load_corpus, prepare
from utils.large_corpus import LargeCorpus
from utils.results import set_up_console
from utils.stored_pairs import StoredIds, StoredPairs

UTILS = Path(large_corpus.__file__).parent
WORDS = ["the", "student", "book", "학생은", "도서관에서", "cafe\u0301", "책을", "日本", "x" * 30]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and blocks so small that there are several."""
    import datasets

    folder = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    monkeypatch.setattr(stored_pairs, "BLOCK", 64)
    return folder / "transformer_tutorial"


@pytest.fixture
def large(monkeypatch):
    """From here on every corpus is a large one."""
    monkeypatch.setattr("utils.data.MOST_IN_MEMORY", 20)


@pytest.fixture
def said(monkeypatch):
    """The log lines of level "info" and above."""
    lines = []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: lines.append(record.getMessage())
    results.log.addHandler(handler)
    results.log.setLevel(logging.DEBUG)
    yield lines
    results.log.removeHandler(handler)


def rows(count, seed=0):
    """Texts of very unequal lengths, some sources twice."""
    rng = random.Random(seed)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(1, 20))) for _ in range(2 * count)]
    pairs = list(zip(texts[:count], texts[count:], strict=True))
    return pairs + [(src, f"{tgt} 또") for src, tgt in pairs[::7]]


def write_tsv(path, pairs):
    lines = [f"{src}\t{tgt}\n" for src, tgt in pairs]
    lines[3:3] = ["\n", "no tab\n"]
    path.write_text("".join(lines), "utf-8")
    return {"dataset": str(path), "max_length": 40, "vocab_size": 400}


def write_aligned(path, pairs):
    for language, texts in zip(("en", "ko"), zip(*pairs, strict=True), strict=True):
        path.with_suffix(f".{language}").write_text("".join(f"{t}\n" for t in texts), "utf-8")
    return {"dataset": str(path), "max_length": 50, "vocab_size": 400}


def write_folder(folder, pairs):
    folder.mkdir()
    write_aligned(folder / "train", pairs)
    write_tsv(folder / "valid.tsv", [*rows(60, seed=1), *((src, "검증") for src, _ in pairs[:9])])
    tests = [{"en": src, "ko": "시험"} for src, _ in [*pairs[5:20], *rows(60, seed=1)[:5]]]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tests), "utf-8")
    return {"dataset": str(folder), "max_length": 50, "vocab_size": 400}


EMBEDDED = {"train_size": 300, "eval_size": 40, "vocab_size": 500}
DATASETS = {
    "grammar": lambda folder: EMBEDDED,
    "grammar, Korean to English": lambda folder: (
        EMBEDDED | {"src_lang": "ko", "tgt_lang": "en", "max_length": 25}
    ),
    "copy": lambda folder: EMBEDDED | {"dataset": "copy"},
    "tsv": lambda folder: write_tsv(folder / "a.tsv", rows(300)),
    "part of a tsv": lambda folder: (
        write_tsv(folder / "a.tsv", rows(300)) | {"train_size": 90, "eval_size": 70}
    ),
    "more than a tsv": lambda folder: write_tsv(folder / "a.tsv", rows(99)) | {"train_size": 999},
    "aligned": lambda folder: write_aligned(folder / "a", rows(300)),
    "folder": lambda folder: write_folder(folder / "splits", rows(300)),
}


def everything(prepared):
    """All that a run can see of its data, as plain values."""
    corpus, train = prepared.corpus, prepared.train
    found = {
        "fingerprint": corpus.fingerprint(),
        "tokenizer": prepared.tokenizer.to_json(),
        "notes": (corpus.notes, prepared.notes),
        "name": corpus.name,
        "test": corpus.test,
        "train": list(corpus.train),
        "too_long": list(train.too_long),
        "ids": [train[i] for i in range(len(train))],
        "one by one": [train.pairs[i] for i in range(len(train.pairs))],
    }
    for name in ("train", "eval", "train_sample"):
        part = getattr(prepared, name)
        found |= {f"{name} pairs": list(part.pairs), f"{name} lengths": part.lengths.tolist()}
        found[f"{name} batches"] = [
            (indices, [tensor.tolist() for tensor in batch[:3]], batch[3:])
            for indices, batch in evaluation_batches(part, 16)
        ]
    for max_tokens in (None, 200):
        sampler = LengthBatches(train.lengths, 8, max_tokens, seed=1)
        loaded = training_loader(train, sampler, num_workers=0, pin_memory=False)
        found[f"batches of {max_tokens}"] = [[t.tolist() for t in batch[:3]] for batch in loaded]
    return found


@pytest.mark.parametrize("name", DATASETS)
def test_a_corpus_on_the_disk_is_the_one_in_memory(tmp_path, monkeypatch, cache, name):
    config = DataConfig(**DATASETS[name](tmp_path))
    expected = prepare(config, seed=3)
    assert not isinstance(expected.corpus, LargeCorpus)
    assert not cache.exists()
    monkeypatch.setattr("utils.data.MOST_IN_MEMORY", 20)
    for _ in range(2):  # made, and found again
        prepared = prepare(config, seed=3)
        assert isinstance(prepared.corpus, LargeCorpus)
        for (key, value), wanted in zip(
            everything(prepared).items(), everything(expected).values(), strict=True
        ):
            assert value == wanted, key


def test_the_limit_is_kept_in_memory_and_one_more_is_not(tmp_path, monkeypatch, cache):
    monkeypatch.setattr("utils.data.MOST_IN_MEMORY", 30)
    for size, kind in ((30, list), (31, StoredPairs)):
        config = DataConfig(dataset="copy", train_size=size, eval_size=5)
        assert isinstance(load_corpus(config, seed=0).train, kind)
    write_aligned(tmp_path / "a", rows(300)[:31])
    assert isinstance(load_corpus(DataConfig(dataset=str(tmp_path / "a")), 0), LargeCorpus)


def test_neither_datasets_nor_the_disk_is_used_for_less(tmp_path):
    code = (
        "import sys; from utils.config import DataConfig; from utils.data import prepare\n"
        "prepare(DataConfig(train_size=60, eval_size=5, vocab_size=400), 0)\n"
        f"prepare(DataConfig(dataset={str(tmp_path / 'a.tsv')!r}, vocab_size=400), 0)\n"
        "print({'datasets', 'pyarrow', 'filelock'} & set(sys.modules))"
    )
    write_tsv(tmp_path / "a.tsv", rows(30))
    printed = subprocess.check_output(
        [sys.executable, "-c", code],
        text=True,
        cwd=UTILS.parent,
        env=os.environ | {"HF_HOME": str(tmp_path / "home")},
    )
    assert printed.strip() == "set()"
    assert not (tmp_path / "home").exists()


def test_several_workers_and_copies_of_a_process_read_the_same(large):
    train = prepare(DataConfig(**EMBEDDED), seed=0).train
    here = [train[i] for i in range(len(train))]
    there = pickle.loads(pickle.dumps(train))  # as a process gets it that is not forked
    assert [there[i] for i in range(len(there))] == here
    assert list(there.pairs) == list(train.pairs)
    sampler = LengthBatches(train.lengths, 8, None, seed=0)
    one, two = (
        [batch.src_ids for batch in training_loader(train, sampler, workers, pin_memory=False)]
        for workers in (0, 2)
    )
    assert len(one) == len(two) > 30
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_a_batch_is_read_at_once(large, monkeypatch):
    train = prepare(DataConfig(**EMBEDDED), seed=0).train
    reads, many = [], StoredIds.many

    def counted(self, indices):
        reads.append(indices)
        return many(self, indices)

    monkeypatch.setattr(StoredIds, "many", counted)
    sampler = LengthBatches(train.lengths, 8, None, seed=0)
    batches = list(training_loader(train, sampler, 0, pin_memory=False))
    assert reads == list(sampler)
    assert len(batches) == len(reads)


def test_rows_behave_like_a_list(large):
    pairs = prepare(DataConfig(**EMBEDDED), seed=0).train.pairs
    plain = list(pairs)
    assert [pairs[-1], pairs[np.int64(5)]] == [plain[-1], plain[5]]
    assert list(pairs[10:30][5:]) == plain[15:30]
    assert list(pairs[:0]) == list(pairs[290:][20:]) == []
    assert len(pairs[:7]) == 7
    assert plain[3] in pairs
    with pytest.raises(IndexError):
        pairs[300]


@pytest.mark.parametrize("vocab_size", [300, 2**16, 2**16 + 1])
def test_ids_of_any_vocabulary_are_kept(tmp_path, vocab_size):
    last = vocab_size - 1
    stored_pairs.write_ids(
        tmp_path / "ids", [("a", "b")], lambda texts: [[last, 2] for _ in texts], vocab_size
    )
    assert list(StoredIds.open(tmp_path / "ids")) == [([last, 2], [last, 2])]


# Made once


def forbid(monkeypatch, *names):
    for name in names:
        monkeypatch.setattr(name, lambda *_, name=name: pytest.fail(f"{name} once more"))


def test_nothing_is_read_or_tokenised_twice_and_the_user_is_told_where_it_is(
    tmp_path, large, cache, said, monkeypatch
):
    config = DataConfig(**write_tsv(tmp_path / "a.tsv", rows(100)))
    prepare(config, seed=0)
    (folder,) = (path for path in cache.iterdir() if path.is_dir())
    assert len(said) == 1
    assert str(folder) in said[0]
    assert "once" in said[0]
    forbid(
        monkeypatch, "utils.readers.usable_pairs", "utils.tokenizer.Tokenizer.train",
        "utils.stored_pairs.write_tables",
    )  # fmt: skip
    prepare(config, seed=0)
    assert len(said) == 2
    assert str(folder) in said[1]
    assert "before" in said[1]
    # What is left out depends on the length, but what is kept does not.
    shorter = prepare(DataConfig(**vars(config) | {"max_length": 20, "num_workers": 2}), seed=0)
    assert shorter.train.lengths.max() == 20


def folders(cache):
    return {path for path in cache.rglob("*") if path.is_dir()}


CHANGES = {
    "train_size": 20,
    "eval_size": 7,
    "src_column": 3,
    "tgt_column": 3,
    "src_lang": "de",
    "tgt_lang": "de",
}


@pytest.mark.parametrize("name", [*CHANGES, "seed", "size", "time", "path", "code", "version"])
def test_other_settings_have_another_corpus(tmp_path, large, cache, monkeypatch, name):
    path, seed = tmp_path / "a.tsv", 0
    options = write_tsv(path, [(src, f"{tgt}\t{src} x") for src, tgt in rows(60)])
    prepare(DataConfig(**options), seed)
    before = folders(cache)
    if name in CHANGES:
        options[name] = CHANGES[name]
    elif name == "seed":
        seed = 1
    elif name == "size":
        time = path.stat().st_mtime_ns
        path.write_text(path.read_text("utf-8") + "new\t새\n", "utf-8")
        os.utime(path, ns=(time, time))
    elif name == "time":
        os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1))
    elif name == "path":
        options["dataset"] = str(path.rename(tmp_path / "b.tsv"))
    elif name == "code":
        monkeypatch.setattr(large_corpus, "MAKING", large_corpus.MAKING[1:])
    elif name == "version":
        monkeypatch.setattr(large_corpus, "version", lambda package: f"{package} 0")
    prepare(DataConfig(**options), seed)
    assert len(folders(cache) - before) == 2  # pairs and tokens


def test_another_default_size_is_another_corpus(large, cache, monkeypatch):
    for size in (7, 8):
        monkeypatch.setitem(EMBEDDED_DEFAULTS, "eval_size", size)
        assert len(load_corpus(DataConfig(train_size=30), seed=0).eval) == size


@pytest.mark.parametrize("name", ["vocab_size", "code", "version"])
def test_another_vocabulary_takes_the_same_pairs(large, cache, monkeypatch, name):
    prepare(DataConfig(**EMBEDDED), seed=0)
    before, options = folders(cache), EMBEDDED
    forbid(monkeypatch, "utils.corpus.stream")
    if name == "vocab_size":
        options = options | {"vocab_size": 400}
    elif name == "code":
        monkeypatch.setattr(large_corpus, "TOKENISING", ())
    else:
        known = large_corpus.version
        changed = {"tokenizers": "0"}
        monkeypatch.setattr(large_corpus, "version", lambda name: changed.get(name) or known(name))
    tokenizer = prepare(DataConfig(**options), seed=0).tokenizer
    assert len(folders(cache) - before) == 1
    assert tokenizer.vocab_size <= options["vocab_size"]


def test_the_code_that_pairs_depend_on_is_all_named():
    # They choose a place for the pairs, or print; the vocabulary is apart.
    apart = {"config", "disk_cache", "results", "distributed", "tokenizer"}
    found, waiting = set(), ["large_corpus"]
    while waiting:
        name = waiting.pop()
        if name in found | apart:
            continue
        found.add(name)
        imported = imports_of(UTILS / f"{name}.py")
        parts = (module.split(".") for module in imported if module.startswith("utils."))
        waiting += [part[1] for part in parts if (UTILS / f"{part[1]}.py").exists()]
    assert found == set(large_corpus.MAKING)
    tree = ast.parse((UTILS / "tokenizer.py").read_text("utf-8"))
    imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert {m for m in imported if m.startswith("utils")} == {"utils.blocks"}  # named above


@pytest.mark.parametrize(
    "pattern", ["*/train.arrow", "*/eval.arrow", "*/*/ids.arrow", "*/*/tokenizer.json"]
)
def test_a_damaged_cache_is_made_anew(large, cache, said, pattern):
    expected = everything(prepare(DataConfig(**EMBEDDED), seed=0))
    (file,) = cache.glob(pattern)
    os.truncate(file, file.stat().st_size - 1)
    assert everything(prepare(DataConfig(**EMBEDDED), seed=0)) == expected
    (line,) = (line for line in said if "is damaged" in line)
    assert str(file.parent) in line


@pytest.mark.parametrize(("blocks", "kept"), [(2, 0), (6, 0), (9, 1)])
def test_a_full_disk_leaves_no_half_of_a_cache(large, cache, monkeypatch, blocks, kept):
    from datasets.arrow_writer import ArrowWriter

    written, write_table = [], ArrowWriter.write_table

    def write_until_full(self, table):
        written.append(table)
        if len(written) > blocks:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_table(self, table)

    with monkeypatch.context() as patch:
        patch.setattr(ArrowWriter, "write_table", write_until_full)
        with pytest.raises(OSError, match="No space left"):
            prepare(DataConfig(**EMBEDDED), seed=0)
    assert len(folders(cache)) == kept  # the pairs, if it was their tokens that had no room
    assert len(prepare(DataConfig(**EMBEDDED), seed=0).train) == 300


def test_wrong_input_is_refused_and_leaves_nothing(tmp_path, large, cache, monkeypatch):
    monkeypatch.setattr("utils.corpus.SYLLABLES", ("ba",))
    monkeypatch.setattr("utils.corpus._PATIENCE", 1000)
    ended = DataConfig(dataset="copy", train_size=30)
    few = DataConfig(**write_tsv(tmp_path / "few.tsv", [("same", str(n)) for n in range(30)]))
    broken = DataConfig(**write_tsv(tmp_path / "broken.tsv", rows(300)))
    with (tmp_path / "broken.tsv").open("ab") as file:
        file.write("가\t나\n".encode("cp949"))
    for config, message in ((ended, "ends at"), (few, "at least 2"), (broken, "not UTF-8")):
        with pytest.raises(UserError, match=message):
            prepare(config, seed=0)
        assert folders(cache) == set()
    with pytest.raises(UserError, match="all 300 training pairs are longer than --max_length 4"):
        prepare(DataConfig(**EMBEDDED | {"max_length": 4}), seed=0)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "quiet", "rank", "shown"),
    [
        (Terminal, False, "0", True),
        (Terminal, True, "0", False),
        (Terminal, False, "1", False),
        (io.StringIO, False, "0", False),
    ],
)
def test_progress_is_shown_on_a_terminal(large, monkeypatch, tmp_path, stream, quiet, rank, shown):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(sys, "stderr", stream())
    monkeypatch.setattr(sys.stderr, "reconfigure", lambda **_: None, raising=False)
    monkeypatch.setattr(sys.stdout, "reconfigure", lambda **_: None, raising=False)
    handlers = list(results.log.handlers)
    set_up_console(debug=False, quiet=quiet)
    try:
        prepare(DataConfig(**EMBEDDED), seed=0)
        prepare(DataConfig(**write_tsv(tmp_path / "a.tsv", rows(99))), seed=0)
    finally:
        results.log.handlers[:] = handlers
    bars = ("Generating", "Reading", "Shuffling", "vocabulary (2 of 2)", "Tokenising")
    printed = sys.stderr.getvalue()
    assert [bar in printed for bar in bars] == [shown] * len(bars)
    assert bool(printed) == shown


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["copy", "tsv"])
def test_memory_hardly_grows_with_the_corpus(tmp_path, large, dataset):
    held = {}
    for size in (1_000, 4_000, 12_000):  # the first loads what is loaded once
        config = DataConfig(dataset="copy", train_size=size, eval_size=50, vocab_size=400)
        if dataset == "tsv":
            path = tmp_path / f"{size}.tsv"
            path.write_text("".join(f"source {n}\ttarget {n}\n" for n in range(size)), "utf-8")
            config = DataConfig(dataset=str(path), eval_size=50, vocab_size=400)
        tracemalloc.start()
        train = prepare(config, seed=0).train
        LengthBatches(train.lengths, 32, None, seed=0)
        held[size] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # In memory it would be 2,000 bytes a pair.
    assert (held[12_000] - held[4_000]) / 8_000 < 250
