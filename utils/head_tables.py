"""Tables of attention by head: one number for each. No torch, no statistics."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from utils.analysis import Labelled
from utils.attention_figures import SUBTITLE_SIZE
from utils.language import Message, message, text
from utils.names import attention_name, quantity_name, unit_name
from utils.results import DPI
from utils.visualization import GREY, font_settings


def head_statistics(stats: Mapping[str, Labelled]) -> Figure:
    """Tables of attention by head, one for each statistic.

    Args:
        stats: from `utils.flow.attention_statistics`; `utils.flow.value_weighting` fits too.
    """
    attentions, heads = next(iter(stats.values())).axes.values()
    width, height = _table_size(attentions, heads)
    size = (1.6 + len(stats) * (width + 1.2), height + 1.6)
    with matplotlib.rc_context(font_settings()):
        figure = Figure(figsize=size, layout="constrained", dpi=DPI)
        axes = figure.subplots(1, len(stats), sharey=True, squeeze=False)[0]
        for ax, result in zip(axes, stats.values(), strict=True):
            bounded = result.unit in ("0 to 1", "cosine")
            limits = (0, 1 if bounded else _limits(result.values)[1])
            image = _draw_table(ax, result.values, attentions, heads, limits)
            title = text("figure.table.title", quantity=quantity_name(result.name), **_ends(result))
            ax.set_title(title, fontsize=SUBTITLE_SIZE)
            figure.colorbar(image, ax=ax, label=unit_name(result.unit).text(), pad=0.02)
    return figure


def qkv_by_layer(stats: Mapping[str, Labelled]) -> Figure:
    """Tables of attention by head for queries, keys and values: one row for each statistic.

    Args:
        stats: from `utils.flow.qkv_by_layer`.
    """
    vectors, attentions, heads = next(iter(stats.values())).axes.values()
    width, height = _table_size(attentions, heads)
    size = (2.6 + len(vectors) * (width + 0.2), len(stats) * (height + 1.2))
    with matplotlib.rc_context(font_settings()):
        figure = Figure(figsize=size, layout="constrained", dpi=DPI)
        axes = figure.subplots(len(stats), len(vectors), sharey=True, squeeze=False)
        for line, result in zip(axes, stats.values(), strict=True):
            limits = _limits(result.values)
            for ax, vector, values in zip(line, vectors, result.values, strict=True):
                image = _draw_table(ax, values, attentions, heads, limits)
                ax.set_title(vector, fontsize=SUBTITLE_SIZE)
            title = text("figure.table.line", quantity=quantity_name(result.name), **_ends(result))
            line[1].set_title(f"{title}\n{vectors[1]}", fontsize=SUBTITLE_SIZE)
            figure.colorbar(image, ax=line, label=unit_name(result.unit).text(), pad=0.01)
    return figure


def _table_size(attentions: Sequence[str], heads: Sequence[str]) -> tuple[float, float]:
    """Width and height of a table, in inches."""
    return max(2.3, 0.42 * len(heads)), max(1.0, 0.27 * len(attentions))


def _draw_table(
    ax: Axes,
    values: np.ndarray,
    attentions: Sequence[str],
    heads: Sequence[str],
    limits: tuple[float, float],
) -> AxesImage:
    """Numbers on colours; grey where there is nothing to measure."""
    image = ax.imshow(values, vmin=limits[0], vmax=limits[1], cmap="viridis", aspect="auto")
    ax.set_facecolor(GREY)
    ax.set_xticks(range(len(heads)), heads, fontsize=8)
    names = [attention_name(attention).text() for attention in attentions]
    ax.set_yticks(range(len(attentions)), names, fontsize=8)
    ax.set_xlabel(text("figure.axis.head"))
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            color = "black" if image.norm(value) > 0.6 else "white"
            ax.text(column, row, _number(value), ha="center", va="center", fontsize=7, color=color)
    stacks = [name.split()[0] for name in attentions]
    for row in range(1, len(stacks)):
        if stacks[row] != stacks[row - 1]:
            ax.axhline(row - 0.5, color="white", linewidth=2)
    return image


def _number(value: float) -> str:
    """Three digits or so."""
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Smallest and largest value; 0 and 1 if there is none."""
    known = values[np.isfinite(values)]
    return (known.min(), known.max()) if known.size else (0, 1)


def _ends(result: Labelled) -> dict[str, Message]:
    """``lowest`` and ``highest`` value, and whose they are."""
    if np.isnan(result.values).all():
        nothing = message("figure.table.nothing")
        return {"lowest": nothing, "highest": nothing}
    found = {}
    for end, flat in (
        ("lowest", np.nanargmin(result.values)),
        ("highest", np.nanargmax(result.values)),
    ):
        index = np.unravel_index(flat, result.values.shape)
        *vector, attention, head = (
            labels[i] for labels, i in zip(result.axes.values(), index, strict=True)
        )
        found[end] = message(
            "figure.table.end",
            value=_number(result.values[index]),
            where=", ".join([*vector, attention_name(attention).text()]),
            head=head,
        )
    return found
