"""A corpus too large for memory: read or made once, tokenised once, and kept on the disk.

What is kept lies in the cache of `datasets`, in a folder named by all that it depends on:

    train.arrow  eval.arrow  test.arrow  about.json     the pairs, in the order of use
    tokens-NAME/  tokenizer.json  ids.arrow             for one size of the vocabulary

In memory are, for each training pair, the lengths of its sides and its places in the order of
batches: some 40 bytes. While the folder is made it is 100 to 200 bytes, to tell sources apart and
to choose and shuffle. To learn the vocabulary, each distinct word is held.
"""

import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from itertools import chain
from logging import INFO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from utils.config import DataConfig
from utils.corpus import Corpus, Pair, fingerprint
from utils.disk_cache import cache_root, code_digest, digest, made_once
from utils.readers import LeftOut, Source
from utils.results import console_shows, log
from utils.sources import Choose
from utils.splits import Choice, keys_of
from utils.stored_pairs import (
    BLOCK,
    StoredIds,
    StoredPairs,
    pair_schema,
    write_ids,
    write_pairs,
    write_tables,
)
from utils.tokenizer import Tokenizer

T = TypeVar("T")

FORMAT = 1  # of the files; to be raised when what is in them changes
# The options that the pairs depend on, besides the dataset itself.
OPTIONS = ("src_lang", "tgt_lang", "src_column", "tgt_column", "train_size", "eval_size")
# Our code that the pairs depend on, and that the token ids depend on besides.
MAKING = (
    "blocks", "clauses", "combinations", "corpus", "formats", "grammar", "hub", "korean",
    "large_corpus", "lexicon", "patterns", "phrases", "questions", "readers", "sources", "splits",
    "stored_pairs",
)  # fmt: skip
TOKENISING = ("tokenizer",)


@dataclass(frozen=True)
class LargeCorpus(Corpus):
    """A corpus whose training pairs are on the disk.

    Attributes:
        folder: where they are.
        known_fingerprint: found when they were written.
    """

    folder: Path = field(kw_only=True)
    known_fingerprint: str = field(kw_only=True)

    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any training or evaluation text."""
        return self.known_fingerprint


def load(
    config: DataConfig, seed: int, sources: Mapping[str, Source], choose: Choose | None
) -> LargeCorpus:
    """Open the corpus; the first time it is made, which takes minutes.

    Args:
        config: how the corpus was asked for.
        seed: of its choice and order.
        sources: of its splits.
        choose: what chooses from them; None takes all as it comes.

    Raises:
        UserError: a source cannot be read, or has too little in it.
        OSError: the disk is full.
    """
    folder = cache_root() / digest(
        FORMAT,
        code_digest(MAKING),
        {name: getattr(config, name) for name in OPTIONS},
        seed,
        {split: [source.name, source.identity] for split, source in sources.items()},
        # Shuffling is Python's, and so are the tables by which characters are composed.
        [sys.version_info[:2], unicodedata.unidata_version, version("datasets")],
    )
    kept, is_new = made_once(folder, partial(_make_pairs, folder, sources, choose))
    if not is_new:
        log.info(f"Dataset: prepared before, in {folder}")
    return LargeCorpus(
        name=config.dataset,
        train=StoredPairs.open(folder / "train.arrow"),
        eval=list(StoredPairs.open(folder / "eval.arrow")),
        test=list(StoredPairs.open(folder / "test.arrow")),
        notes=kept["notes"],
        folder=folder,
        known_fingerprint=kept["fingerprint"],
    )


def tokenised(corpus: LargeCorpus, vocab_size: int) -> tuple[Tokenizer, StoredIds]:
    """The vocabulary of the training pairs and their token ids; made the first time.

    Args:
        corpus: the pairs.
        vocab_size: entries of the vocabulary, at most.

    Raises:
        OSError: the disk is full.
    """
    name = digest(FORMAT, code_digest(TOKENISING), vocab_size, version("tokenizers"))
    folder = corpus.folder / f"tokens-{name}"
    made_once(folder, partial(_make_tokens, corpus.train, vocab_size))
    tokenizer = Tokenizer.from_json((folder / "tokenizer.json").read_text("utf-8"))
    return tokenizer, StoredIds.open(folder / "ids.arrow")


def _make_pairs(
    lasting: Path, sources: Mapping[str, Source], choose: Choose | None, folder: Path
) -> dict[str, Any]:
    """Write all splits into ``folder``, which will be called ``lasting``."""
    log.info(f"Dataset: large, so it is prepared once and kept in {lasting}")
    left_out: dict[str, LeftOut] = {split: {} for split in sources}
    source, everything = sources["train"], folder / "everything.arrow"
    pairs = _shown(source.doing, source.pairs(left_out["train"]), source.most_pairs())
    keys = {"train": write_pairs(everything, pairs)}
    held = {s: list(sources[s].pairs(left_out[s])) for s in sources if s != "train"}
    if choose is None:
        sizes = (len(keys["train"]), len(held["eval"]), len(held["test"]))
        choice = Choice(*map(np.arange, sizes))
    else:
        keys |= {split: keys_of(pairs) for split, pairs in held.items()}
        choice = choose(keys)
    evaluated = _chosen_for_evaluation(choice, everything, held)
    write_pairs(folder / "eval.arrow", evaluated)
    write_pairs(folder / "test.arrow", [held["test"][i] for i in choice.test])
    _write_chosen(folder / "train.arrow", everything, choice.train)
    texts = StoredPairs.open(folder / "train.arrow").texts()
    notes = [note for s in sources for note in sources[s].notes(left_out[s])]
    return {
        "notes": notes + choice.notes,
        "fingerprint": fingerprint(texts, ((pair.src, pair.tgt) for pair in evaluated)),
    }


def _chosen_for_evaluation(
    choice: Choice, everything: Path, held: Mapping[str, list[Pair]]
) -> list[Pair]:
    if choice.holds_out:
        return list(StoredPairs.open(everything).chosen(choice.eval))
    return [held["eval"][i] for i in choice.eval]


def _write_chosen(path: Path, everything: Path, rows: np.ndarray) -> None:
    """Write the training pairs in their order, and remove the file of all that were read."""
    pairs = StoredPairs.open(everything)
    if np.array_equal(rows, np.arange(len(pairs))):
        del pairs  # Windows renames no file that is open
        everything.rename(path)
        return
    blocks = _shown("Shuffling", pairs.chosen(rows).tables(), len(rows) // BLOCK, each=BLOCK)
    write_tables(path, blocks, pair_schema())
    del pairs, blocks
    everything.unlink()


def _make_tokens(pairs: StoredPairs, vocab_size: int, folder: Path) -> dict[str, Any]:
    tokenizer = Tokenizer.train(_Texts(pairs), vocab_size)
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), "utf-8")
    texts = _shown("Tokenising", pairs.texts(), len(pairs))
    write_ids(folder / "ids.arrow", texts, tokenizer.encode_batch, tokenizer.vocab_size)
    return {}


class _Texts:
    """All texts of some pairs; the vocabulary is learnt in two passes over them."""

    def __init__(self, pairs: StoredPairs) -> None:
        self._pairs = pairs
        self._passes = 0

    def __iter__(self) -> Iterator[str]:
        self._passes += 1
        doing = f"Learning the vocabulary ({self._passes} of 2)"
        return chain.from_iterable(_shown(doing, self._pairs.texts(), len(self._pairs)))


def _shown(doing: str, items: Iterable[T], total: int, each: int = 1) -> Iterable[T]:
    """``items`` of ``each`` pairs with a progress bar, where the user is to see one."""
    return tqdm(
        items,
        doing,
        total,
        unit=" pairs",
        unit_scale=each,
        dynamic_ncols=True,
        disable=None if console_shows(INFO) else True,  # None: off unless on a terminal
    )
