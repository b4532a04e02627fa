"""From results to figures. No torch, no statistics, no global matplotlib state."""

import functools
import importlib.metadata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text

from utils.language import text
from utils.results import log
from utils.tokenizer import SPECIAL_TOKENS

# Okabe and Ito's colours: told apart by colour-blind readers too, and in print.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
GREY = "#999999"

MOST_INCHES = 40  # of a figure with long sentences

# Fonts with Hangul that systems bring along, by preference.
HANGUL_FONTS = (
    "NanumGothic",
    "Noto Sans CJK KR",
    "Noto Sans KR",
    "Malgun Gothic",
    "Apple SD Gothic Neo",
    "AppleGothic",
    "UnDotum",
)
NO_HANGUL = (
    "Note: no font here has Hangul, so figures show code points such as U+AC00; "
    "pip install koreanize-matplotlib brings one along"
)


@functools.cache
def hangul_font() -> str | None:
    """Name of a font that draws Hangul: the system's, else the one koreanize-matplotlib ships.

    Only that package's font file is used; the package itself is never imported.
    """
    installed = {font.name for font in font_manager.fontManager.ttflist}
    for name in HANGUL_FONTS:
        if name in installed:
            return name
    try:
        shipped = importlib.metadata.distribution("koreanize-matplotlib")
    except importlib.metadata.PackageNotFoundError:
        log.warning(NO_HANGUL)
        return None
    for file in shipped.files or ():
        if file.name == "NanumGothic.ttf":
            path = Path(shipped.locate_file(file))
            font_manager.fontManager.addfont(path)
            return font_manager.FontProperties(fname=path).get_name()
    log.warning(NO_HANGUL)
    return None


def font_settings() -> dict[str, Any]:
    """Settings for ``matplotlib.rc_context`` under which Latin and Hangul both render."""
    families = ["DejaVu Sans"]  # first: it has the minus sign, which Hangul fonts may lack
    if (name := hangul_font()) is not None:
        families.append(name)
    return {"font.family": families}


@functools.cache
def _drawable() -> frozenset[int]:
    """Code points that the fonts of `font_settings` can draw."""
    found: set[int] = set()
    for name in font_settings()["font.family"]:
        path = font_manager.findfont(font_manager.FontProperties(family=name))
        found |= font_manager.get_font(path).get_charmap().keys()
    return frozenset(found)


def drawable(text: str) -> str:
    """``text`` with what no font here can draw written as code points, e.g. U+1F600."""
    return "".join(c if ord(c) in _drawable() else f"U+{ord(c):04X}" for c in text)


def label_tokens(
    axis: Axis, pieces: Sequence[str], fontsize: float = 8, rotation: float = 0
) -> None:
    """Put one token beside each row or column; a dollar sign stays a dollar sign.

    Args:
        axis: with a place 0, 1, ... for each token.
        pieces: the tokens.
        fontsize: in points.
        rotation: in degrees.
    """
    axis.set_ticks(range(len(pieces)), [drawable(piece) for piece in pieces], fontsize=fontsize)
    for label in axis.get_ticklabels():
        label.set_parse_math(False)
        label.set_rotation(rotation)


def mark_special(texts: Iterable[Text]) -> None:
    """Put a frame around <s>, </s> and their like, which no text can spell."""
    for drawn in texts:
        if drawn.get_text() in SPECIAL_TOKENS:
            drawn.set_color(ORANGE)
            drawn.set_bbox({"boxstyle": "round,pad=0.15", "fc": "white", "ec": ORANGE, "lw": 0.8})


def training_curves(records: Sequence[dict[str, Any]], title: str) -> Figure:
    """Loss, learning rate, gradient norm and translation quality over the steps of a run.

    Args:
        records: the lines of ``metrics.jsonl``.
        title: what was trained on what.
    """
    train = [record for record in records if record["kind"] == "train"]
    evals = [record for record in records if record["kind"] == "eval"]
    with matplotlib.rc_context(font_settings()):
        figure = Figure(figsize=(11, 7.5), layout="constrained")
        figure.suptitle(title)
        axes = figure.subplots(2, 2)
        _draw_losses(axes[0, 0], train, evals)
        _draw_quality(axes[0, 1], evals)
        _draw_series(axes[1, 0], train, "lr", text("figure.curves.rate"), BLUE)
        axes[1, 0].set_title(text("figure.curves.rate_title"))
        _draw_series(axes[1, 1], train, "grad_norm", text("figure.curves.gradient"), GREY)
        axes[1, 1].set_yscale("log")
        axes[1, 1].set_title(text("figure.curves.gradient_title"))
        for ax in axes.flat:
            ax.set_xlabel(text("figure.axis.step"))
            ax.grid(alpha=0.3)
    return figure


def _draw_losses(
    ax: Axes, train: Sequence[dict[str, Any]], evals: Sequence[dict[str, Any]]
) -> None:
    _draw_series(ax, train, "loss", text("figure.curves.loss"), GREY)
    _draw_series(ax, evals, "nll", text("figure.curves.nll"), BLUE, marker="o")
    _draw_series(ax, evals, "nll_other_source", text("figure.curves.other_source"), ORANGE, "x")
    ax.set_ylabel(text("figure.axis.nats_per_token"))
    ax.legend()
    if evals:
        best = min(evals, key=lambda record: record["nll"])
        ax.set_title(text("figure.curves.best", nll=f"{best['nll']:.3f}", step=str(best["step"])))


def _draw_quality(ax: Axes, evals: Sequence[dict[str, Any]]) -> None:
    _draw_series(ax, evals, "bleu", "BLEU", BLUE, marker="o")
    _draw_series(ax, evals, "chrf", "chrF", GREEN, marker="s")
    for key, label, color, marker in (
        ("exact_match", text("figure.curves.match"), ORANGE, "^"),
        ("token_accuracy", text("figure.curves.accuracy"), GREY, "v"),
    ):
        percent = [{"step": r["step"], key: 100 * r[key]} for r in evals]
        _draw_series(ax, percent, key, label, color, marker)
    ax.set_ylim(0, 102)
    ax.set_ylabel(text("figure.curves.score"))
    ax.legend()
    if evals:
        ax.set_title(text("figure.curves.bleu", bleu=f"{evals[-1]['bleu']:.1f}"))


def _draw_series(
    ax: Axes, records: Sequence[dict[str, Any]], key: str, label: str, color: str, marker: str = ""
) -> None:
    """One quantity over the steps, gaps where it was not finite."""
    steps = [record["step"] for record in records]
    values = [record[key] if record[key] is not None else float("nan") for record in records]
    ax.plot(steps, values, color=color, marker=marker, markersize=4, linewidth=1.2, label=label)
    ax.set_ylabel(label)
