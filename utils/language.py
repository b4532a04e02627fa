"""What a reader is told, in their language: one catalogue of texts for each, ``catalogues/*.json``.

A text is named by its key and may have places for values, ``{name}``. Values are texts themselves,
numbers already formatted, so that a page can show the same message in another language later.
"""

from __future__ import annotations

import functools
import json
import locale
import os
import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LANGUAGES = ("en", "ko")
CATALOGUES = Path(__file__).parent / "catalogues"


@dataclass(frozen=True)
class Message:
    """A text that can be said in every language.

    Attributes:
        key: of the catalogues.
        values: name of a place -> what stands there.
    """

    key: str
    values: Mapping[str, str | Message] = field(default_factory=dict)

    def text(self, language: str | None = None) -> str:
        """The text in ``language``; None takes the language in use.

        Raises:
            KeyError: there is no such key, or a value is missing.
        """
        values = {
            name: value.text(language) if isinstance(value, Message) else value
            for name, value in self.values.items()
        }
        return catalogue(language or in_use())[self.key].format_map(values)

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for a page."""
        values = {
            name: value.as_dict() if isinstance(value, Message) else value
            for name, value in self.values.items()
        }
        return {"key": self.key, "values": values}


def message(key: str, **values: str | Message) -> Message:
    """A message with values."""
    return Message(key, values)


def text(key: str, **values: str | Message) -> str:
    """A message in the language in use."""
    return Message(key, values).text()


def capitalized(text: str) -> str:
    """``text`` as it begins a sentence."""
    return text[:1].upper() + text[1:]


def display_width(text: str) -> int:
    """Columns that a terminal takes for ``text``: two for each Hangul syllable."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def padded(text: str, columns: int, right: bool = False) -> str:
    """``text`` as wide as ``columns`` on a terminal, at their left or ``right`` end."""
    spaces = " " * (columns - display_width(text))
    return spaces + text if right else text + spaces


@functools.cache
def catalogue(language: str) -> Mapping[str, str]:
    """All texts of a language, by key."""
    return json.loads((CATALOGUES / f"{language}.json").read_text("utf-8"))


_IN_USE = ["en"]


def in_use() -> str:
    """The language that this process speaks."""
    return _IN_USE[0]


def use(language: str) -> None:
    """Let this process speak ``language``: "auto" asks the system, "en" or "ko"."""
    _IN_USE[0] = of_system() if language == "auto" else language


def of_system() -> str:
    """The language that the user's system is set to: Korean, or else English."""
    # As gettext does: the first that is set counts.
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(name):
            return "ko" if value.lower().startswith("ko") else "en"
    if sys.platform in ("win32", "darwin"):  # where these variables are seldom set
        name = (locale.getlocale()[0] or "").lower()
        return "ko" if name.startswith(("ko", "korean")) else "en"
    return "en"
