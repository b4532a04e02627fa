"""Sentence pairs from what people have: files of many forms, folders of splits, the hub.

Every form becomes a stream of records, and `_collect` alone decides which are usable pairs. Line
numbers survive up to the messages, so that users can look at what was left out.
"""

import csv
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

from utils.config import DataConfig, UserError
from utils.corpus import Pair
from utils.hub import load_from_hub

# Line, row or record number from 1; a side is None where the record lacks it.
Record = tuple[int, Any, Any]
# The same number and the fields by name; a blank line has none.
Row = tuple[int, Mapping[str, Any]]
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
ROWS_PER_BATCH = 10_000


@dataclass(frozen=True)
class RawSplit:
    """The usable pairs of one split, and what was not usable.

    Attributes:
        source: name of the file, the files or the hub dataset, for messages.
        pairs: NFC-normalised text without surrounding whitespace; no side is empty. Each knows
            its line, row or record number.
        left_out: reason -> numbers of the lines that were left out for it.
    """

    source: str
    pairs: list[Pair]
    left_out: dict[str, list[int]]


def read_dataset(config: DataConfig) -> dict[str, RawSplit]:
    """Read the dataset that the user named: a file, a prefix, a folder, else one on the hub.

    Returns:
        The splits "train" and, where the dataset has them, "eval" and "test".

    Raises:
        UserError: there is no such dataset, or it cannot be read.
    """
    path = Path(os.path.expanduser(config.dataset))
    try:
        if path.is_dir():
            return _read_folder(path, config)
        if path.exists():
            return {"train": _read_files((path,), config)}
        aligned = _aligned(path, config)
        found = [file for file in aligned if file.is_file()]
        if len(found) == 2:
            return {"train": _read_files(aligned, config)}
    except OSError as error:
        raise UserError(
            f"cannot read {error.filename or path} ({error.strerror or error}); "
            "check the path and its permissions"
        ) from error
    if found:
        (missing,) = set(aligned) - set(found)
        raise UserError(f"{found[0]} is there, but there is no {missing}; two files are needed")
    looks_like_path = path.suffix.lower() in READERS or not HUB_NAME.fullmatch(config.dataset)
    if looks_like_path or config.dataset in FORMAT_NAMES:
        raise UserError(
            f"--dataset: no such file or folder: {path}, nor two files {aligned[0].name} and "
            f"{aligned[1].name}; check the path"
        )
    return _read_hub(config)


def _aligned(prefix: Path, config: DataConfig) -> tuple[Path, Path]:
    return Path(f"{prefix}.{config.src_lang}"), Path(f"{prefix}.{config.tgt_lang}")


def _read_folder(folder: Path, config: DataConfig) -> dict[str, RawSplit]:
    files = sorted(file for file in folder.iterdir() if file.is_file())
    candidates: dict[str, tuple[Path, ...]] = {}
    for file in files:
        aligned = _aligned(file.with_suffix(""), config)
        if file in aligned and set(aligned) <= set(files):
            candidates.setdefault(file.stem, aligned)
        elif file.suffix.lower() in READERS:
            candidates.setdefault(file.stem, (file,))
    splits = _choose_splits(
        candidates,
        f"no training split in {folder}: looked for train{', train'.join(READERS)} and for "
        f"train.{config.src_lang} with train.{config.tgt_lang}; "
        f"there is {_listing(file.name for file in files)}",
    )
    return {split: _read_files(paths, config) for split, paths in splits.items()}


def _choose_splits(candidates: Mapping[str, T], complaint: str) -> dict[str, T]:
    """For each split the first candidate in the order of names."""
    chosen = {}
    for split, pattern in SPLIT_NAMES.items():
        if names := sorted(name for name in candidates if pattern.match(name)):
            chosen[split] = candidates[names[0]]
    if "train" not in chosen:
        raise UserError(complaint)
    return chosen


def _read_files(paths: Sequence[Path], config: DataConfig) -> RawSplit:
    """Read one split from one file, or from two aligned ones."""
    if len(paths) == 2:
        records = _aligned_records(*paths)
    else:
        records = READERS.get(paths[0].suffix.lower(), _tsv_records)(paths[0], config)
    return _collect(records, " + ".join(path.name for path in paths))


def _collect(records: Iterable[Record], source: str) -> RawSplit:
    """Clean every record and keep the complete pairs."""
    pairs: list[Pair] = []
    left_out: dict[str, list[int]] = {}
    for number, src, tgt in records:
        if src is None or tgt is None:
            reason = "a side is missing"
        elif not (isinstance(src, str) and isinstance(tgt, str)):
            reason = "a side is not text"
        else:
            src, tgt = _clean(src), _clean(tgt)
            if src and tgt:
                pairs.append(Pair(src, tgt, line=number))
                continue
            reason = "a side is empty" if src or tgt else BLANK
        left_out.setdefault(reason, []).append(number)
    if not pairs:
        reasons = "; ".join(reason for reason in left_out if reason != BLANK)
        what = f"has no complete sentence pair ({reasons} everywhere)" if reasons else "is empty"
        raise UserError(f"{source} {what}; give a dataset with sentence pairs")
    return RawSplit(source, pairs, left_out)


def _clean(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def _lines(path: Path) -> Iterator[str]:
    r"""Stream the lines of a UTF-8 file, each with its end: \n or \r\n, nothing else.

    Text mode also ends lines at a lone \r, and ``str.splitlines`` at U+2028 and the like: two
    aligned files would no longer match.
    """
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if b"\0" in line:
                raise UserError(
                    f"{path}, line {number}: a NUL byte, so the file is binary or UTF-16; "
                    "unpack it, or save it as UTF-8 text"
                )
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path}, line {number}: not UTF-8 text (byte 0x{line[error.start]:02x} at "
                    f"offset {offset + error.start}); save the file as UTF-8"
                ) from error
            offset += len(line)
            yield text.removeprefix("\ufeff") if number == 1 else text


def _tsv_records(path: Path, config: DataConfig) -> Iterator[Record]:
    """Tab-separated columns, in which a quotation mark is a character like any other."""
    src, tgt = config.src_column - 1, config.tgt_column - 1
    most = 0
    for number, line in enumerate(_lines(path), 1):
        columns = line.split("\t")
        if not line.strip():
            yield number, "", ""
        elif len(columns) > max(src, tgt):
            yield number, columns[src], columns[tgt]
        else:
            yield number, None, None
        most = max(most, len(columns) if line.strip() else 0)
    if 0 < most <= max(src, tgt):
        found = "no tabs, so only one column" if most == 1 else f"{most} columns at most"
        raise UserError(
            f"{path} has {found}, but needed are --src_column {src + 1} and --tgt_column "
            f"{tgt + 1}; separate source and target by a tab, or give the prefix of aligned files"
        )


def _aligned_records(src_path: Path, tgt_path: Path) -> Iterator[Record]:
    """Line n of one file and line n of the other."""
    src_count = tgt_count = 0
    for number, (src, tgt) in enumerate(zip_longest(_lines(src_path), _lines(tgt_path)), 1):
        src_count += src is not None
        tgt_count += tgt is not None
        yield number, src, tgt
    if src_count != tgt_count:
        raise UserError(
            f"{src_path} has {src_count:,} lines and {tgt_path} has {tgt_count:,}; line n of one "
            "must be the translation of line n of the other"
        )


def _csv_records(path: Path, config: DataConfig) -> Iterator[Record]:
    return _sides(_csv_rows(path), config, str(path))


def _csv_rows(path: Path) -> Iterator[Row]:
    # Without strict, a quotation mark that is never closed would swallow the rest of the file.
    reader = csv.reader(_lines(path), strict=True)
    start = 1
    try:
        header = [name.strip() for name in next(reader, ())]
        start = reader.line_num + 1
        for row in reader:
            yield start, dict(zip_longest(header, row[: len(header)])) if row else {}
            start = reader.line_num + 1  # a quoted field may span lines
    except csv.Error as error:
        raise UserError(
            f"{path}, line {start}: not valid CSV ({error}); put fields with commas or quotation "
            "marks in double quotes, and double those inside"
        ) from error


def _json_records(path: Path, config: DataConfig) -> Iterator[Record]:
    return _sides(_json_rows(path), config, str(path))


def _json_rows(path: Path) -> Iterator[Row]:
    for number, line in enumerate(_lines(path), 1):
        try:
            row = json.loads(line) if line.strip() else {}
            if re.search(r"\\ud[89a-f]", line, re.IGNORECASE):
                json.dumps(row, ensure_ascii=False).encode()  # fails for half a surrogate pair
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path}, line {number}: not valid JSON ({error}); each line must be one object"
            ) from error
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: no JSON object; each line must be one")
        yield number, row


def _parquet_records(path: Path, config: DataConfig) -> Iterator[Record]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns = _language_columns(file.schema_arrow.names, config, str(path))
            batches = file.iter_batches(ROWS_PER_BATCH, columns=columns)
            yield from _sides(_table_rows(batches), config, str(path))
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable Parquet file ({_first_line(error)})") from error


READERS = {
    ".tsv": _tsv_records,
    ".txt": _tsv_records,
    ".csv": _csv_records,
    ".json": _json_records,
    ".jsonl": _json_records,
    ".parquet": _parquet_records,
}


def _table_rows(batches: Iterable[Any]) -> Iterator[Row]:
    return enumerate((row for batch in batches for row in batch.to_pylist()), 1)


def _sides(rows: Iterable[Row], config: DataConfig, where: str) -> Iterator[Record]:
    """The two languages of each row, from fields of their names or from ``translation``."""
    src, tgt = config.src_lang, config.tgt_lang
    seen: dict[str, None] = {}
    for number, row in rows:
        translation = row.get("translation")
        fields = translation if isinstance(translation, dict) else row
        seen.update(dict.fromkeys(fields))
        yield (number, fields.get(src), fields.get(tgt)) if row else (number, "", "")
    if seen:
        _check_columns(seen, config, where)


def _language_columns(names: Sequence[str], config: DataConfig, where: str) -> list[str]:
    """Those columns to read of a table: the others may be many and large."""
    languages = [config.src_lang, config.tgt_lang]
    if "translation" in names and not set(languages) <= set(names):
        return ["translation"]
    _check_columns(names, config, where)
    return languages


def _check_columns(names: Iterable[str], config: DataConfig, where: str) -> None:
    unknown = [repr(lang) for lang in (config.src_lang, config.tgt_lang) if lang not in names]
    if unknown:
        raise UserError(
            f"{where} has no column {' and no '.join(unknown)}; it has {_listing(names)}: "
            "name two of them with --src_lang and --tgt_lang"
        )


def _listing(names: Iterable[str], most: int = 20) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "") or "nothing"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _read_hub(config: DataConfig) -> dict[str, RawSplit]:
    name = config.dataset
    try:
        loaded = load_from_hub(name, config)
    except UserError:
        raise
    except Exception as error:  # of `datasets`, of the hub's client or of its network library
        raise UserError(
            f"--dataset {name}: neither a file or folder here nor to be had from the Hugging Face "
            f"hub ({_first_line(error)}); check the spelling (most are OWNER/NAME), go online "
            "once so that it is cached, or give a path"
        ) from error
    splits = _choose_splits(loaded, f"{name} has no training split; it has {_listing(loaded)}")
    read = {}
    for split, table in splits.items():
        source = f"{name} ({table.split})"
        columns = _language_columns(table.column_names, config, source)
        batches = table.select_columns(columns).with_format("arrow").iter(ROWS_PER_BATCH)
        read[split] = _collect(_sides(_table_rows(batches), config, source), source)
    return read
