"""What was followed while a model was trained: numbers, attention maps and embeddings by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils import disk

FILE = "logs/tracking.npz"  # below a results folder; the numbers are in metrics.jsonl
MOST_MAPPED_STEPS = 16  # whose attention maps and embeddings are kept
MOST_RECORDS = 200  # whose numbers are kept for figures


@dataclass(frozen=True, kw_only=True)
class History:
    """The probes of one run, thinned out where there were many.

    Attributes:
        records: probe lines of ``metrics.jsonl``, by step.
        maps: step -> attention's name -> one (H, Q, K) array for each mapped sentence, without
            padding.
        embeddings: step -> (N, D), rows of the embedding matrix.
        tokens: the N tokens that they belong to, as shown to a reader.
        src_pieces: source tokens of each mapped sentence.
        tgt_pieces: target tokens of each mapped sentence: decoder query j predicts token j.
        sentences: all sentences probed, (source, target); the first of them are mapped.
    """

    records: Sequence[Mapping[str, Any]]
    maps: Mapping[int, Mapping[str, Sequence[np.ndarray]]]
    embeddings: Mapping[int, np.ndarray]
    tokens: Sequence[str]
    src_pieces: Sequence[Sequence[str]]
    tgt_pieces: Sequence[Sequence[str]]
    sentences: Sequence[tuple[str, str]]

    def last_cross_attention(self) -> str:
        """Name of the last layer's cross-attention, which is always mapped."""
        names = next(iter(self.maps.values()))
        return [name for name in names if name.endswith("cross_attn")][-1]

    def save(self, folder: Path) -> None:
        """Write maps and embeddings below a results folder.

        Raises:
            WriteError: they could not be written; an earlier file is untouched.
        """
        arrays: dict[str, np.ndarray] = {
            "tokens": np.array(self.tokens, dtype=np.str_),
            "sentences": np.array(self.sentences, dtype=np.str_),
        }
        for i, pieces in enumerate(zip(self.src_pieces, self.tgt_pieces, strict=True)):
            for side, of_side in zip(("src", "tgt"), pieces, strict=True):
                arrays[f"pieces/{i}/{side}"] = np.array(of_side, dtype=np.str_)
        for step, maps in self.maps.items():
            for name, sentences in maps.items():
                for i, weights in enumerate(sentences):
                    arrays[f"maps/{step}/{name}/{i}"] = weights
        for step, rows in self.embeddings.items():
            arrays[f"embeddings/{step}"] = rows
        with disk.replacing(folder / FILE) as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, folder: Path, records: Sequence[Mapping[str, Any]]) -> History | None:
        """Read what `save` wrote; None if there is nothing.

        Args:
            folder: a results folder.
            records: its probe lines.
        """
        if not (folder / FILE).exists() or not records:
            return None
        maps: dict[int, dict[str, list[np.ndarray]]] = {}
        embeddings: dict[int, np.ndarray] = {}
        pieces: dict[str, list[list[str]]] = {"src": [], "tgt": []}
        with np.load(folder / FILE, allow_pickle=False) as arrays:
            for key in arrays.files:  # in the order of writing
                kind, *rest = key.split("/")
                if kind == "maps":
                    step, name, _ = rest
                    maps.setdefault(int(step), {}).setdefault(name, []).append(arrays[key])
                elif kind == "embeddings":
                    embeddings[int(rest[0])] = arrays[key]
                elif kind == "pieces":
                    pieces[rest[1]].append(arrays[key].tolist())
            tokens = arrays["tokens"].tolist()
            sentences = [tuple(pair) for pair in arrays["sentences"].tolist()]
        return cls(
            records=thinned(records, MOST_RECORDS),
            maps=maps,
            embeddings=embeddings,
            tokens=tokens,
            src_pieces=pieces["src"],
            tgt_pieces=pieces["tgt"],
            sentences=sentences,
        )


def thinned(entries: Sequence[Any], most: int) -> list[Any]:
    """At most ``most`` entries: the first, the last, and others evenly between them."""
    if len(entries) <= most:
        return list(entries)
    places = np.linspace(0, len(entries) - 1, most).round().astype(int)
    return [entries[i] for i in places]


class Spread:
    """Entries by step, a bounded number: the first, the newest, and others evenly between them.

    Args:
        most: entries held.

    Attributes:
        entries: step -> entry, in the order of adding.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.entries: dict[int, Any] = {}
        self._places: dict[int, int] = {}  # of all ever added, from 0
        self._stride = 1  # places that are multiples of it stay

    def add(self, step: int, entry: Any) -> None:
        """Add the newest entry; others may go."""
        place = 0
        if self.entries:
            newest = next(reversed(self.entries))
            place = self._places[newest] + 1
            self._drop_uneven([newest])
        self.entries[step], self._places[step] = entry, place
        if len(self.entries) > self._most:
            self._stride *= 2
            self._drop_uneven(list(self.entries)[:-1])

    def state_dict(self) -> dict[str, Any]:
        """All of it, as plain as the entries are."""
        return {"entries": self.entries, "places": self._places, "stride": self._stride}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up where `state_dict` was called."""
        self.entries, self._places = dict(state["entries"]), dict(state["places"])
        self._stride = state["stride"]

    def _drop_uneven(self, steps: Sequence[int]) -> None:
        for step in steps:
            if self._places[step] % self._stride:
                del self.entries[step], self._places[step]
