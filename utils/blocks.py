"""Long rows of items in blocks, so that never all of them are held."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def blocks_of(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """``items`` in lists of ``size``; the last may be shorter."""
    items = iter(items)
    while block := list(islice(items, size)):
        yield block
