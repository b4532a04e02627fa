"""Sentence pairs and token ids in Arrow files, read from the disk when they are asked for.

The files are mapped into memory by `datasets`: what was read stays there as long as there is room,
but nothing has to. It is imported only when there is such a file.
"""

from abc import abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np

from utils.blocks import blocks_of
from utils.corpus import Pair, source_key

BLOCK = 10_000  # pairs that are held at once while writing or going through all
T = TypeVar("T")


class StoredRows(Sequence, Generic[T]):
    """Some rows of an Arrow file, in an order of their own.

    Args:
        dataset: a ``datasets.Dataset`` whose format is "arrow".
        rows: which, (N,) int64 or a range; None takes all as they come.
    """

    def __init__(self, dataset: Any, rows: Sequence[int] | np.ndarray | None = None) -> None:
        self._dataset = dataset
        self._rows = range(len(dataset)) if rows is None else rows

    @classmethod
    def open(cls, path: Path):
        """All rows of a file."""
        from datasets import Dataset

        return cls(Dataset.from_file(str(path)).with_format("arrow"))

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, key: int) -> T: ...
    @overload
    def __getitem__(self, key: slice) -> "StoredRows[T]": ...
    def __getitem__(self, key):
        if isinstance(key, slice):
            return type(self)(self._dataset, self._rows[key])
        return self.many([key])[0]

    def __iter__(self) -> Iterator[T]:
        for table in self.tables():
            yield from self._decoded(table)

    def many(self, indices: Sequence[int]) -> list[T]:
        """The rows at several places."""
        return self._decoded(self._dataset[[self._rows[i] for i in indices]])

    def chosen(self, indices: np.ndarray) -> "StoredRows[T]":
        """The rows at ``indices``, (N,) int64; nothing is read."""
        return type(self)(self._dataset, np.asarray(self._rows)[indices])

    def tables(self, *columns: str) -> Iterator[Any]:
        """All rows in blocks, each a ``pyarrow.Table`` of ``columns``, by default of all."""
        dataset = self._dataset.select_columns(list(columns)) if columns else self._dataset
        for start in range(0, len(self), BLOCK):
            rows = self._rows[start : start + BLOCK]
            yield dataset[rows] if isinstance(rows, range) else _gathered(dataset, rows)

    @abstractmethod
    def _decoded(self, table: Any) -> list[T]:
        """The rows of a ``pyarrow.Table``."""


class StoredPairs(StoredRows[Pair]):
    """Sentence pairs in the file that `write_pairs` wrote."""

    def texts(self) -> Iterator[tuple[str, str]]:
        """Source and target of every pair; quicker than going through the pairs."""
        for table in self.tables("src", "tgt"):
            yield from zip(table["src"].to_pylist(), table["tgt"].to_pylist(), strict=True)

    def _decoded(self, table: Any) -> list[Pair]:
        sure, possible = ([_links(row) for row in _lists(table[c])] for c in ("sure", "possible"))
        stems = ([tuple(row) for row in _lists(table[c])] for c in ("src_stems", "tgt_stems"))
        texts = (table[column].to_pylist() for column in ("src", "tgt"))
        columns = (*texts, sure, possible, *stems, table["line"].to_pylist())
        return [Pair(*fields) for fields in zip(*columns, strict=True)]


class StoredIds(StoredRows[tuple[list[int], list[int]]]):
    """Token ids of source and target in the file that `write_ids` wrote."""

    def lengths(self) -> np.ndarray:
        """(N, 2) int32, tokens of source and target."""
        import pyarrow.compute

        counts = [
            [pyarrow.compute.list_value_length(table[c]).to_numpy() for c in ("src_ids", "tgt_ids")]
            for table in self.tables()
        ]
        return np.concatenate([np.stack(block, axis=1) for block in counts])

    def _decoded(self, table: Any) -> list[tuple[list[int], list[int]]]:
        return list(zip(_lists(table["src_ids"]), _lists(table["tgt_ids"]), strict=True))


def write_pairs(path: Path, pairs: Iterable[Pair]) -> np.ndarray:
    """Write pairs as they come, a block at a time.

    Returns:
        (N,) int64, the `source_key` of each.
    """
    import pyarrow as pa

    schema = pair_schema()
    keys = array("q")

    def tables() -> Iterator[Any]:
        for block in blocks_of(pairs, BLOCK):
            keys.extend(map(source_key, block))
            columns = dict(zip(Pair._fields, zip(*block, strict=True), strict=True))
            for name in ("sure", "possible"):
                columns[name] = [
                    [word for link in links for word in link] for links in columns[name]
                ]
            yield pa.table(columns, schema=schema)

    write_tables(path, tables(), schema)
    return np.array(keys, np.int64)


def pair_schema() -> Any:
    """The columns of a file of pairs: the fields of `Pair`, each link as two numbers in a row."""
    import pyarrow as pa

    lists = pa.list_(pa.int16())
    types = (pa.string(), pa.string(), lists, lists, lists, lists, pa.int64())
    return pa.schema(zip(Pair._fields, types, strict=True))


def write_ids(
    path: Path,
    texts: Iterable[tuple[str, str]],
    encode: Callable[[Sequence[str]], list[list[int]]],
    vocab_size: int,
) -> None:
    """Write the token ids of pairs of texts.

    Args:
        path: the file.
        texts: source and target of each pair.
        encode: texts -> token ids of each, in parallel.
        vocab_size: entries of the vocabulary, which say how wide an id is.
    """
    import pyarrow as pa

    lists = pa.list_(pa.uint16() if vocab_size <= 2**16 else pa.int32())
    schema = pa.schema({"src_ids": lists, "tgt_ids": lists})
    blocks = (zip(*block, strict=True) for block in blocks_of(texts, BLOCK))
    tables = (
        pa.table({"src_ids": encode(src), "tgt_ids": encode(tgt)}, schema=schema)
        for src, tgt in blocks
    )
    write_tables(path, tables, schema)


def write_tables(path: Path, tables: Iterable[Any], schema: Any) -> None:
    """Write ``pyarrow`` tables one after another into one file.

    Raises:
        OSError: the disk is full.
    """
    from datasets.arrow_writer import ArrowWriter

    with ArrowWriter(path=str(path), schema=schema, writer_batch_size=BLOCK) as writer:
        for table in tables:
            writer.write_table(table)
        writer.finalize()


def _gathered(dataset: Any, rows: np.ndarray) -> Any:
    """``dataset[rows]`` for many rows: `datasets` would take each by itself, not by blocks."""
    import pyarrow as pa

    order = np.argsort(rows)
    in_order = rows[order]
    blocks = in_order // BLOCK
    parts = [
        dataset[range(block * BLOCK, min((block + 1) * BLOCK, len(dataset)))].take(
            in_order[blocks == block] - block * BLOCK
        )
        for block in np.unique(blocks).tolist()
    ]
    return pa.concat_tables(parts).combine_chunks().take(np.argsort(order))


def _lists(column: Any) -> list[list[int]]:
    """A column of lists; much quicker than Arrow's own conversion."""
    import pyarrow.compute

    flat = pyarrow.compute.list_flatten(column).to_numpy().tolist()
    ends = np.cumsum(pyarrow.compute.list_value_length(column).to_numpy()).tolist()
    return [flat[start:end] for start, end in pairwise([0, *ends])]


def _links(words: list[int]) -> tuple[tuple[int, int], ...]:
    return tuple(zip(words[::2], words[1::2], strict=True))
