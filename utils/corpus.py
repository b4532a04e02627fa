"""Sentence pairs, and those made on the spot: by an English-Korean grammar, copying, reversing.

    grammar  English to Korean, from a phrase structure of 30 sentence patterns, in polite style;
             see `utils.patterns` for its rules and `utils.phrases` for the word alignments.
    copy     a row of syllables to itself.
    reverse  a row of syllables to the same row from its end.

Splits of the grammar are about composition: about one verb-object and adjective-noun combination
in thirteen is held out. No training sentence contains such a combination, every evaluation and test
sentence contains one at least, and all words occur in training. Which combinations, and which
sentences, belong where is decided by checksums of their words, so it holds across seeds.
"""

import hashlib
import random
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from utils.clauses import COMPLEX
from utils.grammar import Speaker
from utils.patterns import STATEMENTS
from utils.phrases import assemble
from utils.questions import QUESTIONS

Link = tuple[int, int]  # (source word, target word), counted from 0; words are str.split(" ")

TASKS = ("grammar", "copy", "reverse")
SPLITS = ("train", "eval", "test")

SYLLABLES = tuple("ba di fu ge ho ka li mu ne po ra si".split())
LENGTHS = range(3, 13)
PATTERNS = {**STATEMENTS, **COMPLEX, **QUESTIONS}  # pattern: how often
MOST_WORDS = 14  # of an English sentence
# Ways to write so many sentences in a row that are not new before the split counts as used up.
_PATIENCE = 100_000


class Pair(NamedTuple):
    """A sentence, its translation, and which word means which.

    Attributes:
        src: source sentence; words are separated by one space.
        tgt: target sentence.
        sure: gold links between content words; empty when no gold exists.
        possible: further links, of function words and particles. The set P of the alignment error
            rate is ``sure + possible``.
        src_stems: for each source word, how many of its letters come before punctuation or ending.
        tgt_stems: the same for each target word: 3 for 도서관에서, which is 도서관 + 에서.
        line: of the file that the pair was read from, from 1; 0 if it was made.
    """

    src: str
    tgt: str
    sure: tuple[Link, ...] = ()
    possible: tuple[Link, ...] = ()
    src_stems: tuple[int, ...] = ()
    tgt_stems: tuple[int, ...] = ()
    line: int = 0

    def reversed_direction(self) -> "Pair":
        """The same pair from target to source."""
        return Pair(
            self.tgt,
            self.src,
            tuple(sorted((j, i) for i, j in self.sure)),
            tuple(sorted((j, i) for i, j in self.possible)),
            self.tgt_stems,
            self.src_stems,
            self.line,
        )


@dataclass(frozen=True)
class Corpus:
    """The sentence pairs of a run. No source sentence stands in two splits.

    Attributes:
        name: what the user called it.
        train: pairs to learn from; of a large corpus they are read from the disk when asked for.
        eval: pairs to choose the best checkpoint by.
        test: pairs for a last, single evaluation; may be empty.
        notes: what was left out or changed while loading, one line each.
    """

    name: str
    train: Sequence[Pair]
    eval: list[Pair]
    test: list[Pair]
    notes: list[str] = field(default_factory=list)

    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any training or evaluation text."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        # Once, since every checkpoint asks for it.
        return fingerprint(*(((p.src, p.tgt) for p in split) for split in (self.train, self.eval)))


def fingerprint(*splits: Iterable[tuple[str, str]]) -> str:
    """16 hexadecimal digits that change with any source or target text of any split."""
    digest = hashlib.sha256()
    for texts in splits:
        for src, tgt in texts:
            digest.update(f"{src}\t{tgt}\n".encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def generate(task: str, split: str, size: int, seed: int) -> list[Pair]:
    """What `stream` gives, as a list."""
    return list(stream(task, split, size, seed))


def stream(task: str, split: str, size: int, seed: int) -> Iterator[Pair]:
    """Write ``size`` pairs with distinct sources; a longer row starts with the shorter one.

    About 100 bytes are held for each pair, to know its source again.

    Args:
        task: one of `TASKS`.
        split: "train", "eval" or "test"; no source is in two of them, whatever the seeds.
        size: how many.
        seed: the same seed gives the same pairs.

    Raises:
        ValueError: no such task or split, or the split does not hold ``size`` different pairs.
    """
    if task not in TASKS:
        raise ValueError(f"task {task!r} is none of {', '.join(TASKS)}")
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is none of {', '.join(SPLITS)}")
    if size < 0:
        raise ValueError(f"size {size} is less than 0")
    rng = random.Random(f"{task} {split} {seed}")
    candidates = _sentences(split, rng) if task == "grammar" else _rows(task, split, rng)
    seen: set[int] = set()
    repeated = 0
    while len(seen) < size:
        pair = next(candidates)
        if (key := source_key(pair)) not in seen:
            seen.add(key)
            repeated = 0
            yield pair
        elif (repeated := repeated + 1) > _PATIENCE:
            raise ValueError(f"size {size}: the {split} split of {task} ends at {len(seen)} pairs")


def source_key(pair: Pair) -> int:
    """A number below 2^60 that stands for the source text, the same in every process.

    Among a million different sources two share their number once in two million corpora.
    """
    digest = hashlib.blake2b(pair.src.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 4


def _sentences(split: str, rng: random.Random) -> Iterator[Pair]:
    speaker = Speaker(split, rng)
    weighted = [pattern for pattern, weight in PATTERNS.items() for _ in range(weight)]
    while True:
        speaker.start()
        pattern = speaker.pick(weighted)
        form = pattern(speaker)
        if speaker.repeats or sum(len(part.en) for part in form.english) > MOST_WORDS:
            continue
        if split == "train":
            yield Pair(*assemble(form))
        elif speaker.held:
            pair = Pair(*assemble(form))
            if _half(pair.src) == split:
                yield pair


def _half(source: str) -> str:
    """Whether a held-out sentence is for evaluation or for the test."""
    return SPLITS[1 + (zlib.crc32(source.encode()) >> 7) % 2]


def _rows(task: str, split: str, rng: random.Random) -> Iterator[Pair]:
    """Rows of syllables; of ten rows eight are for training."""
    split_of = ["train"] * 8 + ["eval", "test"]
    while True:
        length = LENGTHS[int(rng.random() * len(LENGTHS))]
        words = [SYLLABLES[int(rng.random() * len(SYLLABLES))] for _ in range(length)]
        src = " ".join(words)
        if split_of[zlib.crc32(src.encode()) % 10] != split:
            continue
        order = range(length) if task == "copy" else range(length - 1, -1, -1)
        stems = tuple(map(len, words))
        yield Pair(
            src,
            " ".join(words[i] for i in order),
            tuple((i, order[i]) for i in range(length)),
            (),
            stems,
            tuple(stems[i] for i in order),
        )
