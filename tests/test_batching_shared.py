"""Batches shared by several processes: together the epoch of one process, and no rank left waiting.

Letters: W processes, k rounds.
"""

import itertools

import numpy as np
import pytest

from utils.batching import LengthBatches
from utils.config import UserError

SIZES = {"batch_size": (1, 3, 8, 100), "max_tokens": (1, 20, 64, 10_000)}
WORLD_SIZES = (1, 2, 3, 5)


def cases(world_size):
    """(number of pairs, option, its value) in many combinations."""
    for kind, sizes in SIZES.items():
        for num_pairs, size in itertools.product((5, 6, 7, 16, 96, 331), sizes):
            yield num_pairs, kind, size, world_size


def lengths_of(num_pairs):
    """Unequal lengths of source and target, 1 to 19."""
    return np.random.default_rng(num_pairs).integers(1, 20, (num_pairs, 2))


def planned(num_pairs, kind="batch_size", size=8, rank=0, world_size=1, seed=4, epoch=0):
    options = {"batch_size": 32, "max_tokens": None} | {kind: size}
    lengths = lengths_of(num_pairs)
    sampler = LengthBatches(lengths, **options, seed=seed, rank=rank, world_size=world_size)
    sampler.set_epoch(epoch)
    return sampler


def all_ranks(num_pairs, kind, size, world_size, epoch=0):
    return [
        list(planned(num_pairs, kind, size, rank, world_size, epoch=epoch))
        for rank in range(world_size)
    ]


def in_lists(num_pairs, kind, size, rank, world_size, epoch, seed=4):
    """The order by its definition: shuffle, sort within pools, cut, shuffle the batches, deal."""
    lengths, rng = lengths_of(num_pairs), np.random.default_rng((seed, epoch))
    order = rng.permutation(num_pairs).tolist()
    pool_size = 20 * size if kind == "batch_size" else num_pairs
    batches = []
    for start in range(0, num_pairs, pool_size):
        pool = sorted(
            order[start : start + pool_size],
            key=lambda i: (lengths[i].max(), lengths[i][0], lengths[i][1]),
        )
        batches.append([])
        for i in pool:
            fits = len(batches[-1]) < size
            if kind == "max_tokens":
                fits = (len(batches[-1]) + 1) * lengths[i].max() <= size
            if batches[-1] and not fits:
                batches.append([])
            batches[-1].append(i)
    batches = [batches[place] for place in rng.permutation(len(batches))]
    # Of the batches after the last whole round only the place is told here, not the cutting.
    return batches[rank : len(batches) - len(batches) % world_size : world_size]


@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_the_order_is_the_one_it_has_always_been(world_size):
    for case in cases(world_size):
        for epoch, rank in itertools.product(range(2), range(world_size)):
            expected = in_lists(*case[:3], rank, world_size, epoch)
            found = list(planned(*case[:3], rank, world_size, epoch=epoch))
            if len(expected) > 1:  # a round may be cut along with what is left over
                assert found[: len(expected) - 1] == expected[:-1], case
            if world_size == 1:
                assert found == expected, case


def test_the_next_epoch_may_be_planned_while_one_goes_on():
    sampler, expected = planned(96), list(planned(96))
    batches = iter(sampler)
    first = next(batches)
    sampler.set_epoch(1)
    assert [first, *batches] == expected
    assert list(sampler) != expected


def joined(batches):
    return [index for batch in batches for index in batch]


@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_every_rank_has_as_many_batches_and_none_is_empty(world_size):
    for case in cases(world_size):
        ranks = all_ranks(*case)
        assert len({len(batches) for batches in ranks}) == 1, case
        assert len(ranks[0]) > 0, case
        assert all(len(batch) > 0 for batches in ranks for batch in batches), case


@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_together_the_ranks_see_each_pair_once_an_epoch(world_size):
    for case in cases(world_size):
        for epoch in range(2):
            seen = joined(joined(all_ranks(*case, epoch)))
            assert sorted(seen) == list(range(case[0])), case


@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_a_round_is_the_next_batches_of_one_process(world_size):
    for case in cases(world_size):
        alone = list(planned(*case[:3]))
        rounds = list(zip(*all_ranks(*case), strict=True))
        whole = len(alone) // world_size
        if 0 < len(joined(alone[whole * world_size :])) < world_size:
            whole -= 1  # too few pairs for a round: the one before is cut along with them
        for k, batches in enumerate(rounds[:whole]):
            assert list(batches) == alone[k * world_size : (k + 1) * world_size], case
        rest = alone[whole * world_size :]
        assert sorted(joined(joined(rounds[whole:]))) == sorted(joined(rest)), case
        if len(joined(rest)) >= 2 * world_size:  # enough to cut and never to join
            for part in joined(rounds[whole:]):
                assert any(set(part) <= set(batch) for batch in rest), case


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_a_left_over_batch_is_cut_into_equal_parts(world_size):
    num_pairs = 8 * (2 * world_size) + 7
    (left,) = list(planned(num_pairs))[2 * world_size :]
    sizes = [len(batches[-1]) for batches in all_ranks(num_pairs, "batch_size", 8, world_size)]
    assert sum(sizes) == len(left) >= world_size
    assert max(sizes) - min(sizes) <= 1


def test_for_too_few_left_over_pairs_the_round_before_is_cut_too():
    num_pairs, found = 2 * 5 * 8 + 3, 0
    for epoch in range(30):
        if len(list(planned(num_pairs, epoch=epoch))[-1]) == 3:  # the short batch came last
            found += 1
            ranks = all_ranks(num_pairs, "batch_size", 8, world_size=5, epoch=epoch)
            assert [len(batches) for batches in ranks] == [3] * 5
            # The round before, 5 x 8, and the 3 are cut into ten parts.
            last = [len(batch) for batches in ranks for batch in batches[1:]]
            assert sorted(last) == [3] + [4] * 8 + [8]
    assert found > 0


@pytest.mark.parametrize(
    "world_size",
    [1, 2, 3, 5],
)
def test_no_process_gets_more_tokens_at_once_than_allowed(world_size):
    for num_pairs, epoch in itertools.product((96, 331), range(5)):
        lengths = lengths_of(num_pairs).max(axis=1)
        for batch in joined(all_ranks(num_pairs, "max_tokens", 64, world_size, epoch)):
            assert len(batch) == 1 or len(batch) * lengths[batch].max() <= 64


@pytest.mark.parametrize(
    ("kind", "world_size"),
    [*(("batch_size", world_size) for world_size in WORLD_SIZES), ("max_tokens", 1)],
)
def test_all_epochs_have_equally_many_batches(kind, world_size):
    # The Trainer takes every epoch to be as long as the first.
    sizes = {"batch_size": (1, 2, 3, 8), "max_tokens": (19, 20, 25, 30, 64)}[kind]
    for num_pairs, size in itertools.product((9, 16, 17, 83, 96, 97), sizes):
        sampler, counts = planned(num_pairs, kind, size, world_size=world_size), set()
        for epoch in range(20):
            sampler.set_epoch(epoch)
            counts.add(len(sampler))
        assert len(counts) == 1, (num_pairs, size)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_skip_drops_the_first_batches(world_size):
    for rank in range(world_size):
        whole = list(planned(100, rank=rank, world_size=world_size, epoch=1))
        sampler = planned(100, rank=rank, world_size=world_size)
        for skip in range(len(whole) + 1):
            sampler.set_epoch(1, skip=skip)
            assert len(sampler) == len(whole) - skip
            assert list(sampler) == whole[skip:]


def test_the_order_is_a_function_of_seed_and_epoch():
    for rank in range(3):
        sampler = planned(96, rank=rank, world_size=3)
        for epoch in (2, 0, 1, 1, 2):
            sampler.set_epoch(epoch)
            expected = list(planned(96, rank=rank, world_size=3, epoch=epoch))
            assert list(sampler) == list(sampler) == expected
    epochs = [list(planned(96, epoch=epoch)) for epoch in range(3)]
    seeds = [list(planned(96, seed=seed)) for seed in range(3)]
    for one, two in itertools.combinations(epochs, 2):
        assert one != two
    for one, two in itertools.combinations(seeds, 2):
        assert one != two


def test_fewer_pairs_than_processes_are_refused():
    assert len(planned(5, rank=4, world_size=5)) == 1
    with pytest.raises(UserError, match="4 .* 5 processes"):
        planned(4, rank=0, world_size=5)
