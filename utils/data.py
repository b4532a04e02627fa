"""From a dataset's name to tokenised sentence pairs, the same for both versions."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from utils import corpus
from utils.batching import TokenizedPairs
from utils.config import EMBEDDED_DATASETS, EMBEDDED_DEFAULTS, DataConfig, UserError
from utils.corpus import Pair
from utils.readers import RawSplit, read_dataset
from utils.tokenizer import Tokenizer

MOST_MADE = 5_000_000  # pairs of an embedded dataset: some 5 GB
MOST_HELD_OUT = 1000  # evaluation pairs taken from a dataset that has no such split


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
    if config.dataset in EMBEDDED_DATASETS:
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
    rng.shuffle(held_out["eval"])
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
    eval_size = config.eval_size or EMBEDDED_DEFAULTS["eval_size"]
    train_size = config.train_size or EMBEDDED_DEFAULTS["train_size"]
    if max(train_size, eval_size) > MOST_MADE:
        raise UserError(
            f"--train_size {train_size:,} --eval_size {eval_size:,}: an embedded dataset is held "
            f"in memory, {MOST_MADE:,} pairs at most; ask for fewer"
        )
    sizes = {"train": train_size, "eval": eval_size, "test": eval_size}
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
