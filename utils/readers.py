"""Sentence pairs from what people have: files of many forms, folders of splits, the hub.

A dataset is found first and read when its pairs are asked for, one at a time. `usable_pairs` alone
decides which records are usable; line numbers survive up to the messages, so that users can look
at what was left out.
"""

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from utils.config import DataConfig, UserError
from utils.corpus import Pair
from utils.formats import (
    FORMATS,
    ROWS_PER_BATCH,
    Record,
    first_line,
    language_columns,
    listing,
    most_records,
    reading,
    records_of,
    sides,
    table_rows,
)
from utils.hub import load_from_hub

LeftOut = dict[str, list[int]]  # reason -> numbers of the lines that were left out for it
T = TypeVar("T")

BLANK = "the line is blank"
# "test_2016_flickr", "dev2010" and "train-00000-of-00001" are splits; "trainer" is not.
SPLIT_NAMES = {
    "train": re.compile(r"train(ing)?(?![a-z])", re.IGNORECASE),
    "eval": re.compile(r"(val|valid|validation|dev)(?![a-z])", re.IGNORECASE),
    "test": re.compile(r"test(?![a-z])", re.IGNORECASE),
}
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
# `datasets` takes these for file formats and would read whatever lies in the current folder.
FORMAT_NAMES = ("csv", "json", "text", "parquet", "arrow", "pandas", "xml", "webdataset")


@dataclass(frozen=True)
class Source:
    """Where one split comes from; nothing of it is held.

    Attributes:
        name: of the file, the files or the hub dataset, for messages.
        identity: plain values that change whenever the content may have: of each file its path,
            size in bytes and time of change in ns.
        most_pairs: tells how many pairs there are at most, without reading them.
        pairs: reads them: NFC-normalised text without surrounding whitespace, no side empty, each
            with its line, row or record number. What is not usable goes into the `LeftOut` given.
            Raises `UserError` where the file cannot be read or has no usable pair.
        doing: what reading them is called beside a progress bar.
    """

    name: str
    identity: list
    most_pairs: Callable[[], int]
    pairs: Callable[[LeftOut], Iterator[Pair]]
    doing: str = "Reading"

    def notes(self, left_out: LeftOut) -> list[str]:
        """One line for each reason, of what `pairs` left out."""
        return [
            left_out_note(f"lines of {self.name}", reason, lines)
            for reason, lines in left_out.items()
        ]


def find_dataset(config: DataConfig) -> dict[str, Source]:
    """Find the dataset that the user named: a file, a prefix, a folder, else one on the hub.

    Returns:
        The splits "train" and, where the dataset has them, "eval" and "test".

    Raises:
        UserError: there is no such dataset, or it cannot be had.
    """
    path = Path(os.path.expanduser(config.dataset))
    with reading(path):
        if path.is_dir():
            return _find_in_folder(path, config)
        if path.exists():
            return {"train": _source_of((path,), config)}
        aligned = _aligned(path, config)
        found = [file for file in aligned if file.is_file()]
        if len(found) == 2:
            return {"train": _source_of(aligned, config)}
    if found:
        (missing,) = set(aligned) - set(found)
        raise UserError(f"{found[0]} is there, but there is no {missing}; two files are needed")
    looks_like_path = path.suffix.lower() in FORMATS or not HUB_NAME.fullmatch(config.dataset)
    if looks_like_path or config.dataset in FORMAT_NAMES:
        raise UserError(
            f"--dataset: no such file or folder: {path}, nor two files {aligned[0].name} and "
            f"{aligned[1].name}; check the path"
        )
    return _find_on_hub(config)


def _aligned(prefix: Path, config: DataConfig) -> tuple[Path, Path]:
    return Path(f"{prefix}.{config.src_lang}"), Path(f"{prefix}.{config.tgt_lang}")


def _find_in_folder(folder: Path, config: DataConfig) -> dict[str, Source]:
    files = sorted(file for file in folder.iterdir() if file.is_file())
    candidates: dict[str, tuple[Path, ...]] = {}
    for file in files:
        aligned = _aligned(file.with_suffix(""), config)
        if file in aligned and set(aligned) <= set(files):
            candidates.setdefault(file.stem, aligned)
        elif file.suffix.lower() in FORMATS:
            candidates.setdefault(file.stem, (file,))
    splits = _choose_splits(
        candidates,
        f"no training split in {folder}: looked for train{', train'.join(FORMATS)} and for "
        f"train.{config.src_lang} with train.{config.tgt_lang}; "
        f"there is {listing(file.name for file in files)}",
    )
    return {split: _source_of(paths, config) for split, paths in splits.items()}


def _choose_splits(candidates: Mapping[str, T], complaint: str) -> dict[str, T]:
    """For each split the first candidate in the order of names."""
    chosen = {}
    for split, pattern in SPLIT_NAMES.items():
        if names := sorted(name for name in candidates if pattern.match(name)):
            chosen[split] = candidates[names[0]]
    if "train" not in chosen:
        raise UserError(complaint)
    return chosen


def _source_of(paths: Sequence[Path], config: DataConfig) -> Source:
    """One split in one file, or in two aligned ones."""
    name = " + ".join(path.name for path in paths)
    return Source(
        name=name,
        identity=_identity(paths),
        most_pairs=partial(most_records, paths),
        pairs=lambda left_out: usable_pairs(records_of(paths, config), name, left_out),
    )


def _identity(paths: Iterable[Path]) -> list:
    stats = ((path.resolve(), path.stat()) for path in paths)
    return [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in stats]


def usable_pairs(records: Iterable[Record], source: str, left_out: LeftOut) -> Iterator[Pair]:
    """Clean every record and give the complete pairs; the others are noted in ``left_out``.

    Raises:
        UserError: there is none.
    """
    num_pairs = 0
    for number, src, tgt in records:
        if src is None or tgt is None:
            reason = "a side is missing"
        elif not (isinstance(src, str) and isinstance(tgt, str)):
            reason = "a side is not text"
        else:
            src, tgt = _clean(src), _clean(tgt)
            if src and tgt:
                num_pairs += 1
                yield Pair(src, tgt, line=number)
                continue
            reason = "a side is empty" if src or tgt else BLANK
        left_out.setdefault(reason, []).append(number)
    if not num_pairs:
        reasons = "; ".join(reason for reason in left_out if reason != BLANK)
        what = f"has no complete sentence pair ({reasons} everywhere)" if reasons else "is empty"
        raise UserError(f"{source} {what}; give a dataset with sentence pairs")


def left_out_note(what: str, reason: str, numbers: Sequence[int]) -> str:
    """One line that counts what was left out and names the first few, e.g. by line number."""
    first = ", ".join(str(n) for n in numbers[:5]) + (", ..." if len(numbers) > 5 else "")
    return f"{len(numbers):,} {what} left out because {reason}: {first}"


def _clean(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def _find_on_hub(config: DataConfig) -> dict[str, Source]:
    name = config.dataset
    try:
        loaded = load_from_hub(name, config)
    except UserError:
        raise
    except Exception as error:  # of `datasets`, of the hub's client or of its network library
        raise UserError(
            f"--dataset {name}: neither a file or folder here nor to be had from the Hugging Face "
            f"hub ({first_line(error)}); check the spelling (most are OWNER/NAME), go online "
            "once so that it is cached, or give a path"
        ) from error
    splits = _choose_splits(loaded, f"{name} has no training split; it has {listing(loaded)}")
    return {split: _source_on_hub(table, name, config) for split, table in splits.items()}


def _source_on_hub(table: Any, name: str, config: DataConfig) -> Source:
    """One split of a hub dataset, which `datasets` keeps in files of its own."""
    name = f"{name} ({table.split})"

    def pairs(left_out: LeftOut) -> Iterator[Pair]:
        columns = language_columns(table.column_names, config, name)
        batches = table.select_columns(columns).with_format("arrow").iter(ROWS_PER_BATCH)
        return usable_pairs(sides(table_rows(batches), config, name), name, left_out)

    return Source(
        name=name,
        identity=_identity(Path(file["filename"]) for file in table.cache_files),
        most_pairs=lambda: len(table),
        pairs=pairs,
    )
