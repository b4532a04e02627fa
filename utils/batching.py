"""Batches of token ids: sentences of similar length together, padded on the right.

Letters used in shapes: B sentences, S source positions, T target positions.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from utils.config import UserError
from utils.corpus import Pair
from utils.objective import IGNORED_LABEL
from utils.stored_pairs import StoredIds, StoredPairs
from utils.tokenizer import BOS_ID, PAD_ID, Tokenizer

# Batches that are sorted by length together: enough for little padding, few enough for variety.
BATCHES_PER_POOL = 20


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
        self.pairs: Sequence[Pair] = [pair for pair, ok in zip(pairs, fits, strict=True) if ok]
        self.too_long: Sequence[Pair] = [p for p, ok in zip(pairs, fits, strict=True) if not ok]
        self._ids = [ids for ids, ok in zip(zip(src, tgt, strict=True), fits, strict=True) if ok]
        self.lengths = np.array([(len(s), len(t)) for s, t in self._ids]).reshape(-1, 2)

    @classmethod
    def stored(cls, pairs: StoredPairs, ids: StoredIds, max_length: int) -> "TokenizedPairs":
        """The same of pairs that are on the disk, and stay there; 24 bytes are held of each.

        Args:
            pairs: sentence pairs.
            ids: of each pair, by the joint tokenizer.
            max_length: longest side in tokens, </s> included.
        """
        found = cls.__new__(cls)
        lengths = ids.lengths()
        fits = lengths.max(axis=1) <= max_length
        kept = np.flatnonzero(fits)
        found.pairs, found._ids = pairs.chosen(kept), ids.chosen(kept)
        found.too_long = pairs.chosen(np.flatnonzero(~fits))
        found.lengths = lengths[kept]
        return found

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

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[list[int], list[int]]]:
        """Several at once, which is how torch's ``DataLoader`` asks for a batch."""
        if isinstance(self._ids, StoredIds):
            return self._ids.many(indices)
        return [self._ids[index] for index in indices]


def collate(
    examples: Sequence[tuple[list[int], list[int]]], start_id: int = BOS_ID, pad_id: int = PAD_ID
) -> Batch:
    """Pad (source ids, target ids) pairs into one `Batch`; other models have other special ids."""
    src, tgt = zip(*examples, strict=True)
    num_target_tokens = sum(map(len, tgt))
    return Batch(
        src_ids=_padded(src, pad_id),
        decoder_input_ids=_padded([[start_id, *ids[:-1]] for ids in tgt], pad_id),
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

    The pairs are shuffled, sorted by length within pools of 20 batches (all together with a token
    budget), cut into batches, and the batches shuffled. The order is a function of (seed, epoch)
    alone. All epochs have equally many batches; of several processes with a token budget of one
    or two pairs, an epoch may have one round more or less.

    Several processes take turns: of each round of ``world_size`` batches, every process gets a
    whole one. All processes get equally many, and together the same pairs as one process would.

    Args:
        lengths: (N, 2) tokens of source and target.
        batch_size: sentences per batch.
        max_tokens: if given, replaces ``batch_size``: sentences times the longest side stay
            within it (a longer pair is a batch of its own).
        seed: of the shuffling.
        rank: which of the processes this is, from 0.
        world_size: how many processes there are.

    Raises:
        UserError: there are fewer pairs than processes.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        max_tokens: int | None,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if len(lengths) < world_size:
            raise UserError(
                f"{len(lengths)} training pairs cannot be shared by {world_size} processes"
            )
        self._lengths = lengths
        self._batch_size = batch_size
        self._max_tokens = max_tokens
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self.set_epoch(0)

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        """Plan the batches of ``epoch``, counted from 0, without the first ``skip``."""
        rng = np.random.default_rng((self._seed, epoch))
        self._order = self._sorted(rng.permutation(len(self._lengths)))
        self._bounds = self._cuts()
        places = rng.permutation(len(self._bounds) - 1)
        whole, left_over = self._rounds(places)
        self._places = whole[self._rank :: self._world_size][skip:]
        own = left_over[self._rank :: self._world_size]
        self._left_over = own[max(0, skip - len(whole) // self._world_size) :]

    def __len__(self) -> int:
        return len(self._places) + len(self._left_over)

    def __iter__(self) -> Iterator[list[int]]:
        # Of the epoch as it is planned now, also where the next one is planned meanwhile.
        whole = map(partial(_batch, self._order, self._bounds), self._places)
        return chain(whole, self._left_over)

    def _sorted(self, order: np.ndarray) -> np.ndarray:
        """``order`` in pools, each sorted by the longer side, then by either side.

        With a token budget all is one pool: then the lengths alone say where batches are cut, and
        every epoch has equally many. Which of the equally long pairs go together still changes.
        """
        size = len(order) if self._max_tokens is not None else BATCHES_PER_POOL * self._batch_size
        for start in range(0, len(order), size):
            pool = order[start : start + size]
            src, tgt = self._lengths[pool].T
            pool[:] = pool[np.lexsort((tgt, src, np.maximum(src, tgt)))]
        return order

    def _cuts(self) -> np.ndarray:
        """Where the batches begin in the order, and the end of the last."""
        if self._max_tokens is None:
            return np.append(np.arange(0, len(self._order), self._batch_size), len(self._order))
        bounds = [0]
        longest_sides = self._lengths[self._order].max(axis=1)
        for place, longest in enumerate(longest_sides.tolist()):
            # Sorted, so the newest pair is the longest of its batch.
            if place > bounds[-1] and (place + 1 - bounds[-1]) * longest > self._max_tokens:
                bounds.append(place)
        return np.array([*bounds, len(self._order)])

    def _rounds(self, places: np.ndarray) -> tuple[np.ndarray, list[list[int]]]:
        """Deal batches out in rounds of one for each process.

        What is left over at the end, too few batches for all, is cut into smaller ones; if even
        its pairs are too few, the round before is cut along with it.

        Returns:
            The places of the batches that are dealt out whole, and the batches made of the rest.
        """
        size = self._world_size
        whole = len(places) - len(places) % size
        left = [_batch(self._order, self._bounds, place) for place in places[whole:]]
        if not left:
            return places, []
        if sum(map(len, left)) < size:
            whole -= size
            left = [_batch(self._order, self._bounds, place) for place in places[whole:]]
        return places[:whole], _cut_into(left, -(-len(left) // size) * size)


def _batch(order: np.ndarray, bounds: np.ndarray, place: int) -> list[int]:
    return order[bounds[place] : bounds[place + 1]].tolist()


def _cut_into(batches: list[list[int]], count: int) -> list[list[int]]:
    """Cut batches into ``count`` parts, the largest first; no part mixes two batches.

    Where there are fewer pairs than that, whole batches are joined instead, to half as many.
    """
    if sum(map(len, batches)) < count:
        half = count // 2
        joined = batches[:half]
        for place, batch in enumerate(batches[half:]):
            joined[place] = joined[place] + batch
        return joined
    parts = [1] * len(batches)
    while sum(parts) < count:
        parts[max(range(len(batches)), key=lambda i: len(batches[i]) / parts[i])] += 1
    return [
        piece.tolist()
        for batch, number in zip(batches, parts, strict=True)
        for piece in np.array_split(batch, number)
    ]


def evaluation_batches(pairs: TokenizedPairs, batch_size: int) -> Iterator[tuple[list[int], Batch]]:
    """All pairs once, sorted by length: (indices into ``pairs``, batch)."""
    order = np.lexsort((pairs.lengths[:, 1], pairs.lengths[:, 0])).tolist()
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        yield indices, collate(pairs.__getitems__(indices))


def training_loader(
    pairs: TokenizedPairs,
    sampler: LengthBatches,
    num_workers: int,
    pin_memory: bool,
    collate_fn: Callable[[Sequence[tuple[list[int], list[int]]]], Any] = collate,
) -> DataLoader:
    """The training batches; ``sampler.set_epoch`` reshuffles them."""
    return DataLoader(
        pairs,
        batch_sampler=sampler,
        collate_fn=collate_fn,
        # A loader draws seeds for its workers even when it has none. From a generator of its own,
        # so that dropout's random numbers do not depend on when loading began.
        generator=torch.Generator(),
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory,
    )
