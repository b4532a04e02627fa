"""Which pairs are learnt and which are held out, so that no source stands in two splits.

Decided on numbers that stand for the source texts (`utils.corpus.source_key`), so that a corpus
need not be in memory. A split is an array of rows: places in what was read, in the order of use.
"""

import random
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from utils.config import DataConfig, UserError
from utils.corpus import Pair, source_key

MOST_HELD_OUT = 1000  # evaluation pairs taken from a dataset that has no such split

Keys = Mapping[str, np.ndarray]  # split -> (N,) int64, the key of each pair's source


def keys_of(pairs: Iterable[Pair]) -> np.ndarray:
    """(N,) int64, the key of each pair's source."""
    return np.array([source_key(pair) for pair in pairs], np.int64)


@dataclass
class Choice:
    """The rows of each split.

    Attributes:
        train: rows of the training pairs that were read, int64.
        eval: rows of the evaluation pairs, or of the training pairs if some were held out.
        test: rows of the test pairs.
        holds_out: whether evaluation pairs were taken from the training pairs.
        notes: what was left out or changed, one line each.
    """

    train: np.ndarray
    eval: np.ndarray
    test: np.ndarray
    holds_out: bool = False
    notes: list[str] = field(default_factory=list)


def choose(keys: Keys, config: DataConfig, seed: int) -> Choice:
    """Choose among pairs that were read, in the order of the file.

    Args:
        keys: of the splits "train" and, where the dataset has them, "eval" and "test".
        config: how many pairs are wanted.
        seed: of the choice and the order.

    Raises:
        UserError: there is too little.
    """
    rng = random.Random(seed)
    choice = Choice(*(np.arange(len(keys.get(split, ()))) for split in ("train", "eval", "test")))
    if "eval" not in keys:
        choice.holds_out = True
        choice.train, choice.eval = _hold_out(keys["train"], config.eval_size, rng)
    _drop_shared(choice, keys)
    # Files are often sorted, by length or topic: shuffle before taking a part.
    choice.train = _shuffled(choice.train, rng)
    choice.eval = _shuffled(choice.eval, rng)
    notes = choice.notes
    choice.train = _take(choice.train, config.train_size, "--train_size", "training", notes)
    choice.eval = _take(choice.eval, config.eval_size, "--eval_size", "evaluation", notes)
    return choice


def choose_made(keys: Keys) -> Choice:
    """Choose among pairs that were made, whose sources may be the same after all."""
    choice = Choice(*(_first_of_each(keys[split]) for split in ("train", "eval", "test")))
    _drop_shared(choice, keys)
    return choice


def _hold_out(
    keys: np.ndarray, eval_size: int | None, rng: random.Random
) -> tuple[np.ndarray, np.ndarray]:
    """Set aside source sentences for evaluation, with all their translations.

    Returns:
        The rows to learn from, and one row for each source held out.
    """
    first = _first_of_each(keys)
    if len(first) < 2:
        raise UserError(
            f"{len(first)} distinct source sentence is too little to train and evaluate on; "
            "give a dataset with at least 2"
        )
    shuffled = _shuffled(first, rng)
    wanted = eval_size or min(MOST_HELD_OUT, max(1, len(first) // 10))
    if wanted >= len(first):
        raise UserError(
            f"--eval_size {wanted} leaves nothing to train on: the dataset has {len(first)} "
            "distinct source sentences"
        )
    held_out = np.sort(shuffled[:wanted])
    return np.flatnonzero(~np.isin(keys, keys[held_out])), held_out


def _first_of_each(keys: np.ndarray) -> np.ndarray:
    """The row where each source stands first, in order: a sentence is evaluated once."""
    return np.sort(np.unique(keys, return_index=True)[1])


def _drop_shared(choice: Choice, keys: Keys) -> None:
    """Drop what a later split shares: test wins over evaluation, evaluation over training."""
    eval_keys = keys["train" if choice.holds_out else "eval"]
    seen = keys["test"][choice.test] if "test" in keys else np.empty(0, np.int64)
    kept = choice.eval[~np.isin(eval_keys[choice.eval], seen)]
    if dropped := len(choice.eval) - len(kept):
        choice.notes.append(
            f"{dropped:,} evaluation pairs left out: their source is in the test split"
        )
    choice.eval = kept
    seen = np.concatenate([seen, eval_keys[kept]])
    kept = choice.train[~np.isin(keys["train"][choice.train], seen)]
    if dropped := len(choice.train) - len(kept):
        choice.notes.append(f"{dropped:,} training pairs left out: their source is evaluated on")
    choice.train = kept
    for what, rows in (("training", choice.train), ("evaluation", choice.eval)):
        if not len(rows):
            raise UserError(f"no {what} pairs are left; give a dataset with more sentences")


def _shuffled(rows: np.ndarray, rng: random.Random) -> np.ndarray:
    """As ``rng`` shuffles a list of as many; 8 bytes each, where a list takes 40."""
    order = array("q", rows.astype(np.int64).tobytes())
    rng.shuffle(order)
    return np.frombuffer(order, np.int64)


def _take(rows: np.ndarray, size: int | None, flag: str, what: str, notes: list[str]) -> np.ndarray:
    if size is not None and size > len(rows):
        notes.append(f"{flag} {size:,} is more than there is: using all {len(rows):,} {what} pairs")
    return rows[:size]
