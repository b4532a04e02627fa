"""From a dataset's name to batches of token ids, the same for both versions.

Letters used in shapes: B sentences, S source positions, T target positions.
"""

import copy
import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from utils import corpus
from utils.config import DataConfig, TrainConfig, UserError
from utils.corpus import Pair
from utils.objective import IGNORED_LABEL
from utils.readers import RawSplit, read_dataset
from utils.tokenizer import BOS_ID, PAD_ID, Tokenizer

DEFAULT_EMBEDDED_SIZES = {"train": 24_000, "eval": 500, "test": 500}
MOST_HELD_OUT = 1000  # evaluation pairs taken from a dataset that has no such split
# Batches that are sorted by length together: all of them, unless the corpus is very large.
BATCHES_PER_POOL = 1000


@dataclass(frozen=True)
class Corpus:
    """The sentence pairs of a run. No source sentence stands in two splits.

    Attributes:
        name: what the user called it.
        train: pairs to learn from.
        eval: pairs to choose the best checkpoint by.
        test: pairs for a last, single evaluation; may be empty.
        notes: what was left out or changed while loading, one line each.
    """

    name: str
    train: list[Pair]
    eval: list[Pair]
    test: list[Pair]
    notes: list[str] = field(default_factory=list)

    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any training or evaluation text."""
        digest = hashlib.sha256()
        for pairs in (self.train, self.eval):
            for pair in pairs:
                digest.update(f"{pair.src}\t{pair.tgt}\n".encode())
            digest.update(b"\0")
        return digest.hexdigest()[:16]


def load_corpus(config: DataConfig, seed: int) -> Corpus:
    """Load or generate the splits that ``config`` describes.

    Raises:
        UserError: the dataset cannot be read, or has too little in it.
    """
    if config.dataset in corpus.TASKS:
        return _embedded(config, seed)
    splits = read_dataset(config)
    notes = [note for split in splits.values() for note in _notes_on(split)]
    rng = random.Random(seed)
    held_out = {name: split.pairs for name, split in splits.items() if name != "train"}
    train = splits["train"].pairs
    if "eval" not in held_out:
        train, held_out["eval"] = _hold_out(train, config.eval_size, rng)
    train = _without_sources_of(held_out, train, notes)
    # Files are often sorted, by length or topic: shuffle before taking a part.
    rng.shuffle(train)
    return Corpus(
        name=config.dataset,
        train=_take(train, config.train_size, "--train_size", "training", notes),
        eval=_take(held_out["eval"], config.eval_size, "--eval_size", "evaluation", notes),
        test=held_out.get("test", []),
        notes=notes,
    )


def _embedded(config: DataConfig, seed: int) -> Corpus:
    """Generate the splits of the built-in grammar or of an algorithmic task."""
    languages = (config.src_lang, config.tgt_lang)
    swapped = config.dataset == "grammar" and languages == ("ko", "en")
    if config.dataset == "grammar" and not swapped and languages != ("en", "ko"):
        raise UserError(
            f"the embedded grammar is English and Korean; it has no {'-'.join(languages)}: "
            "use --src_lang en --tgt_lang ko or the reverse, or --dataset with a file of yours"
        )
    sizes = {
        "train": config.train_size or DEFAULT_EMBEDDED_SIZES["train"],
        "eval": config.eval_size or DEFAULT_EMBEDDED_SIZES["eval"],
        "test": config.eval_size or DEFAULT_EMBEDDED_SIZES["test"],
    }
    try:
        splits = {
            split: corpus.generate(config.dataset, split, size, seed)
            for split, size in sizes.items()
        }
    except ValueError as error:  # more than there is
        raise UserError(f"--dataset {config.dataset}: {error}") from error
    notes: list[str] = []
    if swapped:
        splits = {
            split: _first_of_each_source([pair.reversed_direction() for pair in pairs])
            for split, pairs in splits.items()
        }
        # Distinct in English, two sentences may be the same in Korean, which has no articles.
        splits["train"] = _without_sources_of(splits, splits["train"], notes)
    return Corpus(name=config.dataset, **splits, notes=notes)


def _hold_out(
    pairs: list[Pair], eval_size: int | None, rng: random.Random
) -> tuple[list[Pair], list[Pair]]:
    """Set aside source sentences for evaluation, with all their translations."""
    sources = list(dict.fromkeys(pair.src for pair in pairs))
    if len(sources) < 2:
        raise UserError(
            f"{len(sources)} distinct source sentence is too little to train and evaluate on; "
            "give a dataset with at least 2"
        )
    rng.shuffle(sources)
    wanted = eval_size or min(MOST_HELD_OUT, max(1, len(sources) // 10))
    if wanted >= len(sources):
        raise UserError(
            f"--eval_size {wanted} leaves nothing to train on: the dataset has {len(sources)} "
            "distinct source sentences"
        )
    chosen = set(sources[:wanted])
    held_out = [pair for pair in pairs if pair.src in chosen]
    return [pair for pair in pairs if pair.src not in chosen], _first_of_each_source(held_out)


def _first_of_each_source(pairs: Sequence[Pair]) -> list[Pair]:
    """One pair for each source sentence, in order: a sentence is evaluated once."""
    first: dict[str, Pair] = {}
    for pair in pairs:
        first.setdefault(pair.src, pair)
    return list(first.values())


def _without_sources_of(
    held_out: dict[str, list[Pair]], train: list[Pair], notes: list[str]
) -> list[Pair]:
    """Drop what a later split shares: test wins over evaluation, evaluation over training."""
    seen = {pair.src for pair in held_out.get("test", ())}
    before = len(held_out["eval"])
    held_out["eval"] = [pair for pair in held_out["eval"] if pair.src not in seen]
    if dropped := before - len(held_out["eval"]):
        notes.append(f"{dropped:,} evaluation pairs left out: their source is in the test split")
    seen |= {pair.src for pair in held_out["eval"]}
    kept = [pair for pair in train if pair.src not in seen]
    if dropped := len(train) - len(kept):
        notes.append(f"{dropped:,} training pairs left out: their source is evaluated on")
    for what, pairs in (("training", kept), ("evaluation", held_out["eval"])):
        if not pairs:
            raise UserError(f"no {what} pairs are left; give a dataset with more sentences")
    return kept


def _take(
    pairs: list[Pair], size: int | None, flag: str, what: str, notes: list[str]
) -> list[Pair]:
    if size is not None and size > len(pairs):
        notes.append(
            f"{flag} {size:,} is more than there is: using all {len(pairs):,} {what} pairs"
        )
    return pairs[:size]


def _notes_on(split: RawSplit) -> list[str]:
    return [
        left_out_note(f"lines of {split.source}", reason, lines)
        for reason, lines in split.left_out.items()
        if lines
    ]


def left_out_note(what: str, reason: str, numbers: Sequence[int]) -> str:
    """One line that counts what was left out and names the first few, e.g. by line number."""
    first = ", ".join(str(n) for n in numbers[:5]) + (", ..." if len(numbers) > 5 else "")
    return f"{len(numbers):,} {what} left out because {reason}: {first}"


class Batch(NamedTuple):
    """Token ids of some sentence pairs, padded on the right.

    Attributes:
        src_ids: (B, S) int64, each source ended by </s>.
        decoder_input_ids: (B, T) int64, <s> and the target without its </s>: position j is the
            query whose answer is ``labels[:, j]``.
        labels: (B, T) int64, the target ended by </s>; `IGNORED_LABEL` at padding.
        num_tokens: real tokens, source and target together.
        num_target_tokens: real target tokens, what a mean loss divides by.
    """

    src_ids: Tensor
    decoder_input_ids: Tensor
    labels: Tensor
    num_tokens: int
    num_target_tokens: int

    def to(self, device: torch.device) -> "Batch":
        """The same batch on ``device``; the copy does not wait for the GPU."""
        tensors = (tensor.to(device, non_blocking=True) for tensor in self[:3])
        return Batch(*tensors, *self[3:])


class TokenizedPairs(Dataset):
    """Sentence pairs as token ids, those longer than ``max_length`` left out.

    Args:
        pairs: sentence pairs.
        tokenizer: the joint tokenizer.
        max_length: longest side in tokens, </s> included.

    Attributes:
        pairs: those kept.
        lengths: (N, 2) int array, tokens of source and target.
        too_long: the pairs left out.
    """

    def __init__(self, pairs: Sequence[Pair], tokenizer: Tokenizer, max_length: int) -> None:
        src = tokenizer.encode_batch([pair.src for pair in pairs])
        tgt = tokenizer.encode_batch([pair.tgt for pair in pairs])
        fits = [max(len(s), len(t)) <= max_length for s, t in zip(src, tgt, strict=True)]
        self.pairs = [pair for pair, ok in zip(pairs, fits, strict=True) if ok]
        self.too_long = [pair for pair, ok in zip(pairs, fits, strict=True) if not ok]
        self._ids = [ids for ids, ok in zip(zip(src, tgt, strict=True), fits, strict=True) if ok]
        self.lengths = np.array([(len(s), len(t)) for s, t in self._ids]).reshape(-1, 2)

    def first(self, count: int) -> "TokenizedPairs":
        """The first ``count`` pairs, or all if there are fewer."""
        part = copy.copy(self)
        part.pairs, part._ids = self.pairs[:count], self._ids[:count]
        part.lengths, part.too_long = self.lengths[:count], []
        return part

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> tuple[list[int], list[int]]:
        return self._ids[index]


def collate(examples: Sequence[tuple[list[int], list[int]]]) -> Batch:
    """Pad (source ids, target ids) pairs into one `Batch`."""
    src, tgt = zip(*examples, strict=True)
    num_target_tokens = sum(map(len, tgt))
    return Batch(
        src_ids=pad_sources(src),
        decoder_input_ids=_padded([[BOS_ID, *ids[:-1]] for ids in tgt], PAD_ID),
        labels=_padded(tgt, IGNORED_LABEL),
        num_tokens=sum(map(len, src)) + num_target_tokens,
        num_target_tokens=num_target_tokens,
    )


def pad_sources(sources: Sequence[Sequence[int]]) -> Tensor:
    """Source token ids as one tensor, (B, S) int64, padded on the right."""
    return _padded(sources, PAD_ID)


def _padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    """(B, longest row) int64."""
    table = np.full((len(rows), max(map(len, rows))), fill)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    return torch.from_numpy(table)


class LengthBatches:
    """Batches of pairs of similar length; a batch sampler for torch's ``DataLoader``.

    The pairs are shuffled, sorted by length within pools of 1,000 batches, cut into batches, and
    the batches shuffled. The order is a function of (seed, epoch) alone.

    Args:
        lengths: (N, 2) tokens of source and target.
        batch_size: sentences per batch.
        max_tokens: if given, replaces ``batch_size``: sentences times the longest side stay
            within it (a longer pair is a batch of its own).
        seed: of the shuffling.
    """

    def __init__(
        self, lengths: np.ndarray, batch_size: int, max_tokens: int | None, seed: int
    ) -> None:
        self._lengths = lengths
        self._batch_size = batch_size
        self._max_tokens = max_tokens
        self._seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        """Plan the batches of ``epoch``, counted from 0, without the first ``skip``."""
        rng = np.random.default_rng((self._seed, epoch))
        order = rng.permutation(len(self._lengths))
        batches = [batch for pool in self._pools(order) for batch in self._cut(pool)]
        self._batches = [batches[i] for i in rng.permutation(len(batches))[skip:]]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches)

    def _pools(self, order: np.ndarray) -> Iterator[np.ndarray]:
        """Parts of ``order``, each sorted by the longer side, then by either side."""
        per_batch = self._batch_size
        if self._max_tokens is not None:
            per_batch = max(1, int(self._max_tokens / self._lengths.max(axis=1).mean()))
        size = BATCHES_PER_POOL * per_batch
        for start in range(0, len(order), size):
            pool = order[start : start + size]
            src, tgt = self._lengths[pool].T
            yield pool[np.lexsort((tgt, src, np.maximum(src, tgt)))]

    def _cut(self, pool: np.ndarray) -> Iterator[list[int]]:
        """Cut a sorted pool into batches."""
        if self._max_tokens is None:
            for start in range(0, len(pool), self._batch_size):
                yield pool[start : start + self._batch_size].tolist()
            return
        batch: list[int] = []
        for index, longest in zip(pool.tolist(), self._lengths[pool].max(axis=1), strict=True):
            # Sorted, so the newest pair is the longest of its batch.
            if batch and (len(batch) + 1) * longest > self._max_tokens:
                yield batch
                batch = []
            batch.append(index)
        yield batch


def evaluation_batches(pairs: TokenizedPairs, batch_size: int) -> Iterator[tuple[list[int], Batch]]:
    """All pairs once, sorted by length: (indices into ``pairs``, batch)."""
    order = np.lexsort((pairs.lengths[:, 1], pairs.lengths[:, 0])).tolist()
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        yield indices, collate([pairs[i] for i in indices])


@dataclass(frozen=True)
class PreparedData:
    """Everything a run learns from and is evaluated on.

    Attributes:
        corpus: the sentence pairs.
        tokenizer: trained on the training pairs alone.
        train: tokenised training pairs.
        eval: tokenised evaluation pairs.
        train_sample: a fixed part of the training pairs, to evaluate on.
        notes: what was left out or changed on the way, one line each.
    """

    corpus: Corpus
    tokenizer: Tokenizer
    train: TokenizedPairs
    eval: TokenizedPairs
    train_sample: TokenizedPairs
    notes: list[str]


def prepare(config: DataConfig, seed: int) -> PreparedData:
    """Load the pairs, learn the vocabulary, tokenise.

    Raises:
        UserError: the dataset cannot be read, or nothing in it fits ``max_length``.
    """
    loaded = load_corpus(config, seed)
    texts = (text for pair in loaded.train for text in (pair.src, pair.tgt))
    tokenizer = Tokenizer.train(texts, config.vocab_size)
    notes = list(loaded.notes)
    tokenised = {}
    for name, pairs in (("training", loaded.train), ("evaluation", loaded.eval)):
        kept = TokenizedPairs(pairs, tokenizer, config.max_length)
        reason = f"longer than --max_length {config.max_length} tokens"
        if not len(kept):
            raise UserError(f"all {len(pairs):,} {name} pairs are {reason}; raise it")
        if kept.too_long:
            lines = [pair.line for pair in kept.too_long]
            notes.append(left_out_note(f"{name} pairs, by line,", f"they are {reason}", lines))
        tokenised[name] = kept
    train_sample = tokenised["training"].first(len(tokenised["evaluation"]))
    return PreparedData(
        loaded, tokenizer, tokenised["training"], tokenised["evaluation"], train_sample, notes
    )


def training_loader(
    pairs: TokenizedPairs, sampler: LengthBatches, num_workers: int, pin_memory: bool
) -> DataLoader:
    """The training batches; ``sampler.set_epoch`` reshuffles them."""
    return DataLoader(
        pairs,
        batch_sampler=sampler,
        collate_fn=collate,
        # A loader draws seeds for its workers even when it has none. From a generator of its own,
        # so that dropout's random numbers do not depend on when loading began.
        generator=torch.Generator(),
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory,
    )
