"""Fonts inside a page: Hangul and every sign that it shows, whatever fonts its reader has."""

import base64
import functools
import io
from collections.abc import Iterable
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont
from matplotlib import font_manager

from utils.visualization import font_settings

# What the page writes whatever it tells: Latin, digits, punctuation, arrows, mathematics.
ALWAYS = "".join(map(chr, range(0x20, 0x7F))) + "▁·×÷±≈≤≥√→←↑↓–—…“”‘’−✓✗°ΔΣ𝑑αβ"

# Tables that a page does without: of the fonts' editors, and kerning, which takes half the time.
LEFT_OUT = ["TSI0", "TSI1", "TSI2", "TSI3", "TSI5", "FFTM", "GPOS", "GSUB", "GDEF", "kern"]


def font_faces(text: str) -> tuple[str, str]:
    """CSS that brings along the glyphs of ``text``, and the ``font-family`` that uses them.

    Args:
        text: all characters that the page may show.
    """
    wanted = {ord(c) for c in ALWAYS + text}
    rules, families = [], []
    for path in _files():  # each gets what those before it lack
        held = wanted & _characters(path)
        wanted -= held
        if held:
            families.append(f"'Page {len(families) + 1}'")
            rules.append(_rule(families[-1], path, held))
    return "\n".join(rules), ", ".join([*families, "sans-serif"])


def _files() -> list[Path]:
    """The fonts of the figures, the one with Hangul first: its Latin goes with it."""
    families = font_settings()["font.family"][::-1]
    return [
        Path(font_manager.findfont(font_manager.FontProperties(family=name))) for name in families
    ]


@functools.cache
def _characters(path: Path) -> frozenset[int]:
    with TTFont(path, fontNumber=0, lazy=True) as font:
        return frozenset(font.getBestCmap())


def _rule(family: str, path: Path, characters: Iterable[int]) -> str:
    options = subset.Options(flavor="woff", hinting=False)
    options.drop_tables += LEFT_OUT
    with TTFont(path, fontNumber=0, lazy=True, recalcBBoxes=False) as font:
        subsetter = subset.Subsetter(options)
        subsetter.populate(unicodes=characters)
        subsetter.subset(font)
        font.flavor = "woff"
        file = io.BytesIO()
        font.save(file)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return f"@font-face {{ font-family: {family}; src: url(data:font/woff;base64,{data}); }}"
