"""Files of many forms as streams of records; line numbers survive up to the messages."""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

from utils.config import DataConfig, UserError

# Line, row or record number from 1; a side is None where the record lacks it.
Record = tuple[int, Any, Any]
# The same number and the fields by name; a blank line has none.
Row = tuple[int, Mapping[str, Any]]

ROWS_PER_BATCH = 10_000
BYTES_PER_READ = 2**20


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """While entered, what the system refuses becomes a message about the user's ``path``.

    Raises:
        UserError: it cannot be read.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot read {error.filename or path} ({error.strerror or error}); "
            "check the path and its permissions"
        ) from error


def records_of(paths: Sequence[Path], config: DataConfig) -> Iterator[Record]:
    """The records of one file, by its ending, or of two aligned ones.

    Raises:
        UserError: they cannot be read, or hold something else.
    """
    with reading(paths[0]):
        if len(paths) == 2:
            yield from _aligned_records(*paths)
        else:
            yield from FORMATS.get(paths[0].suffix.lower(), _tsv_records)(paths[0], config)


def most_records(paths: Sequence[Path]) -> int:
    """How many records there are at most, found quickly: the rows of a table, else the lines.

    Raises:
        UserError: a file cannot be read.
    """
    path = paths[0]
    if not path.is_file():
        return 0  # a pipe: it can be read only once, so not now
    with reading(path):
        if path.suffix.lower() == ".parquet":
            with _parquet_file(path) as file:
                return file.metadata.num_rows
        with path.open("rb") as file:
            blocks = iter(lambda: file.read(BYTES_PER_READ), b"")
            return 1 + sum(block.count(b"\n") for block in blocks)


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
    return sides(_csv_rows(path), config, str(path))


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
    return sides(_json_rows(path), config, str(path))


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
    with _parquet_file(path) as file:
        columns = language_columns(file.schema_arrow.names, config, str(path))
        batches = file.iter_batches(ROWS_PER_BATCH, columns=columns)
        yield from sides(table_rows(batches), config, str(path))


@contextmanager
def _parquet_file(path: Path) -> Iterator[Any]:
    """A ``pyarrow.parquet.ParquetFile``; only here, so that pyarrow is imported only then."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield file
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable Parquet file ({first_line(error)})") from error


FORMATS = {
    ".tsv": _tsv_records,
    ".txt": _tsv_records,
    ".csv": _csv_records,
    ".json": _json_records,
    ".jsonl": _json_records,
    ".parquet": _parquet_records,
}


def table_rows(batches: Iterable[Any]) -> Iterator[Row]:
    """The rows of Arrow batches, counted from 1."""
    return enumerate((row for batch in batches for row in batch.to_pylist()), 1)


def sides(rows: Iterable[Row], config: DataConfig, where: str) -> Iterator[Record]:
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


def language_columns(names: Sequence[str], config: DataConfig, where: str) -> list[str]:
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
            f"{where} has no column {' and no '.join(unknown)}; it has {listing(names)}: "
            "name two of them with --src_lang and --tgt_lang"
        )


def listing(names: Iterable[str], most: int = 20) -> str:
    """Names in one line, the first ``most`` of them."""
    names = list(names)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "") or "nothing"


def first_line(error: Exception) -> str:
    """What an error says, without what follows on further lines."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
