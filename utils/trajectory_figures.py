"""Figures of where vectors go, layer by layer or in training. No torch, no statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils.language import text
from utils.names import state_name
from utils.visualization import (
    BLUE,
    GREEN,
    GREY,
    MOST_INCHES,
    ORANGE,
    drawable,
    font_settings,
    mark_special,
)

if TYPE_CHECKING:
    from utils.representations import Trajectories

COLORS = (BLUE, ORANGE, GREEN, "black")  # of ways that end beside each other
NAME_SIZE = 8  # points, of a token
LINE = 0.17  # inches, of a token's name above another
SHARE_OF_AXES = 0.75  # of a figure's height, at least


def layer_trajectories(trajectories: Mapping[str, Trajectories]) -> Figure:
    """Where the layers take each token of a sentence, stack by stack, in one plane.

    Args:
        trajectories: stack -> the ways of its tokens.
    """
    with matplotlib.rc_context(font_settings()):
        tokens = max(len(part.tokens) for part in trajectories.values())
        figure = Figure(figsize=(8 * len(trajectories), _height(tokens)), layout="constrained")
        axes = figure.subplots(1, len(trajectories), squeeze=False)[0]
        for ax, (stack, part) in zip(axes, trajectories.items(), strict=True):
            _draw_ways(figure, ax, part)
            ax.set_title(_ways_title(stack, part))
    return figure


def training_trajectories(trajectories: Trajectories) -> Figure:
    """Where training takes the embeddings of some tokens."""
    with matplotlib.rc_context(font_settings()):
        size = (9, _height(len(trajectories.tokens)))
        figure = Figure(figsize=size, layout="constrained")
        ax = figure.subplots()
        _draw_ways(figure, ax, trajectories)
        ax.set_title(_ways_title("training", trajectories))
    return figure


def _ways_title(what: str, part: Trajectories) -> str:
    return text(
        f"figure.ways.{what}",
        first=state_name(part.steps[0]),
        last=state_name(part.steps[-1]),
        share=f"{part.shares.sum():.0%}",
    )


def _draw_ways(figure: Figure, ax: Axes, part: Trajectories) -> None:
    """The tokens' ways, each named at the nearer edge of the axes."""
    low, high = part.coordinates.min(axis=(0, 1)), part.coordinates.max(axis=(0, 1))
    x_span, y_span = np.maximum(high - low, 1e-9)
    ax.set_xlim(low[0] - x_span / 3, high[0] + x_span / 3)  # a fifth on either side for names
    ax.set_ylim(low[1] - 0.06 * y_span, high[1] + 0.06 * y_span)
    ends = part.coordinates[:, -1]
    heights = (ends[:, 1] - ax.get_ylim()[0]) / np.ptp(ax.get_ylim())
    gap = LINE / figure.get_figheight() / SHARE_OF_AXES
    order = np.argsort(ends[:, 0], kind="stable")
    for side, members in enumerate(np.array_split(order, 2)):
        members = members[np.argsort(heights[members], kind="stable")]
        places = _apart(heights[members], gap)
        for turn, (token, place) in enumerate(zip(members, places, strict=True)):
            color = COLORS[turn % len(COLORS)]
            _draw_way(ax, part.coordinates[token], color)
            name = ax.annotate(
                drawable(part.tokens[token]), ends[token], (0.01 + 0.98 * side, place),
                textcoords="axes fraction", ha=("left", "right")[side], va="center",
                fontsize=NAME_SIZE, color=color, parse_math=False, in_layout=False,
                arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.5, "linestyle": ":"},
            )  # fmt: skip
            mark_special([name])
    for marker, face, label in (("o", "white", part.steps[0]), ("o", GREY, part.steps[-1])):
        name = state_name(label).text()
        ax.plot([], [], marker, markerfacecolor=face, color=GREY, label=name)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, fontsize=8, frameon=False)
    for number, (axis, share) in enumerate(zip((ax.xaxis, ax.yaxis), part.shares, strict=True)):
        name = text(f"figure.ways.component_{number + 1}", share=f"{share:.0%}")
        axis.set_label_text(name)


def _draw_way(ax: Axes, points: np.ndarray, color: str) -> None:
    """One token's way: hollow at its start, filled at its end."""
    ax.plot(*points.T, "-", color=color, linewidth=1, alpha=0.7)
    ax.plot(*points[1:-1].T, ".", color=color, markersize=4)
    ax.plot(*points[0], "o", color=color, markerfacecolor="white", markersize=5)
    ax.plot(*points[-1], "o", color=color, markersize=6)


def _apart(heights: np.ndarray, gap: float) -> np.ndarray:
    """Ascending heights in 0-1, moved until neighbours are ``gap`` apart."""
    places = heights.copy()
    for n in range(1, len(places)):
        places[n] = max(places[n], places[n - 1] + gap)
    limit = 1 - gap / 2
    for n in reversed(range(len(places))):
        places[n] = min(places[n], limit)
        limit = places[n] - gap
    return places


def _height(num_tokens: int) -> float:
    """Inches in which the names of half the tokens stand one above the other."""
    return min(MOST_INCHES, max(6.0, 2 * LINE + num_tokens * LINE))
