"""From a dataset's name to tokenised sentence pairs, the same for both versions."""

from dataclasses import dataclass

import numpy as np

from utils import large_corpus
from utils.batching import TokenizedPairs
from utils.config import DataConfig, UserError
from utils.corpus import Corpus, Pair
from utils.large_corpus import LargeCorpus
from utils.readers import LeftOut, left_out_note
from utils.sources import find_sources
from utils.splits import keys_of
from utils.tokenizer import Tokenizer

# Training pairs that are held in memory, at some 4 kB each; more are kept on the disk.
MOST_IN_MEMORY = 200_000


def load_corpus(config: DataConfig, seed: int) -> Corpus:
    """Load or generate the splits that ``config`` describes.

    Raises:
        UserError: the dataset cannot be read, or has too little in it.
        OSError: it is large, and the disk is full.
    """
    sources, choose = find_sources(config, seed)
    if sources["train"].most_pairs() > MOST_IN_MEMORY:
        return large_corpus.load(config, seed, sources, choose)
    left_out: dict[str, LeftOut] = {split: {} for split in sources}
    pairs = {split: list(source.pairs(left_out[split])) for split, source in sources.items()}
    notes = [note for split in sources for note in sources[split].notes(left_out[split])]
    if choose is None:
        return Corpus(config.dataset, **pairs, notes=notes)
    choice = choose({split: keys_of(pairs[split]) for split in pairs})

    def chosen(split: str, rows: np.ndarray) -> list[Pair]:
        return [pairs[split][row] for row in rows.tolist()]

    return Corpus(
        name=config.dataset,
        train=chosen("train", choice.train),
        eval=chosen("train" if choice.holds_out else "eval", choice.eval),
        test=chosen("test", choice.test),
        notes=notes + choice.notes,
    )


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
        OSError: the dataset is large, and the disk is full.
    """
    loaded = load_corpus(config, seed)
    if isinstance(loaded, LargeCorpus):
        tokenizer, ids = large_corpus.tokenised(loaded, config.vocab_size)
        train = TokenizedPairs.stored(loaded.train, ids, config.max_length)
    else:
        texts = [text for pair in loaded.train for text in (pair.src, pair.tgt)]
        tokenizer = Tokenizer.train(texts, config.vocab_size)
        train = TokenizedPairs(loaded.train, tokenizer, config.max_length)
    evaluated = TokenizedPairs(loaded.eval, tokenizer, config.max_length)
    notes = list(loaded.notes)
    for name, kept in (("training", train), ("evaluation", evaluated)):
        reason = f"longer than --max_length {config.max_length} tokens"
        if not len(kept):
            raise UserError(f"all {len(kept.too_long):,} {name} pairs are {reason}; raise it")
        if kept.too_long:
            lines = [pair.line for pair in kept.too_long]
            notes.append(left_out_note(f"{name} pairs, by line,", f"they are {reason}", lines))
    return PreparedData(loaded, tokenizer, train, evaluated, train.first(len(evaluated)), notes)
