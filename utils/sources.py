"""Where the pairs of a run come from, embedded or not, and how its splits are chosen from them."""

from collections.abc import Callable, Iterator
from functools import partial

from utils import corpus
from utils.config import EMBEDDED_DATASETS, EMBEDDED_DEFAULTS, DataConfig, UserError
from utils.corpus import Pair
from utils.readers import LeftOut, Source, find_dataset
from utils.splits import Choice, Keys, choose, choose_made

MOST_MADE = 10_000_000  # training pairs of an embedded dataset: some 3 GB of disk
MOST_EVALUATED = 1_000_000  # evaluation pairs, which are held in memory

Choose = Callable[[Keys], Choice]


def find_sources(config: DataConfig, seed: int) -> tuple[dict[str, Source], Choose | None]:
    """Find the splits that ``config`` describes; nothing is read yet.

    Returns:
        The sources of "train" and, where there are such, "eval" and "test"; and what chooses from
        the pairs in them, None where they are to be taken as they come.

    Raises:
        UserError: there is no such dataset, or it cannot be had.
    """
    if config.dataset in EMBEDDED_DATASETS:
        return _embedded(config, seed)
    return find_dataset(config), partial(choose, config=config, seed=seed)


def _embedded(config: DataConfig, seed: int) -> tuple[dict[str, Source], Choose | None]:
    """The splits of the built-in grammar or of an algorithmic task."""
    languages = (config.src_lang, config.tgt_lang)
    swapped = config.dataset == "grammar" and languages == ("ko", "en")
    if config.dataset == "grammar" and not swapped and languages != ("en", "ko"):
        raise UserError(
            f"the embedded grammar is English and Korean; it has no {'-'.join(languages)}: "
            "use --src_lang en --tgt_lang ko or the reverse, or --dataset with a file of yours"
        )
    eval_size = config.eval_size or EMBEDDED_DEFAULTS["eval_size"]
    train_size = config.train_size or EMBEDDED_DEFAULTS["train_size"]
    for flag, size, most in (
        ("--train_size", train_size, MOST_MADE),
        ("--eval_size", eval_size, MOST_EVALUATED),
    ):
        if size > most:
            raise UserError(
                f"{flag} {size:,}: of an embedded dataset {most:,} pairs at most; ask for fewer"
            )
    sizes = {"train": train_size, "eval": eval_size, "test": eval_size}
    sources = {
        split: Source(
            name=f"the {split} split of {config.dataset}",
            identity=[size],
            most_pairs=lambda size=size: size,
            pairs=partial(_made, config.dataset, split, size, seed, swapped),
            doing="Generating",
        )
        for split, size in sizes.items()
    }
    # Distinct in English, two sentences may be the same in Korean, which has no articles.
    return sources, choose_made if swapped else None


def _made(
    task: str, split: str, size: int, seed: int, swapped: bool, left_out: LeftOut
) -> Iterator[Pair]:
    """Pairs made on the spot; none is left out."""
    try:
        for pair in corpus.stream(task, split, size, seed):
            yield pair.reversed_direction() if swapped else pair
    except ValueError as error:  # more than there is
        raise UserError(f"--dataset {task}: {error}") from error
