"""Figures of what cross-attention aligns. No torch, no statistics."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from utils.language import message, text
from utils.names import state_name
from utils.visualization import (
    BLUE,
    GREY,
    MOST_INCHES,
    ORANGE,
    PURPLE,
    drawable,
    font_settings,
    label_tokens,
)

if TYPE_CHECKING:
    from utils.alignment import AlignmentTable, BestHead, HeadOnSentence

QUERIES = (message("figure.axis.predicted"), message("figure.axis.has_read"))  # by shift
HEADS_SIDE_BY_SIDE = 24  # of all layers, in a panel that shares its line with another
MOST_TICKS = 48
NUMBERS_PER_PANEL = 16  # heads beside each other that still have room for their numbers


def error_rates(table: AlignmentTable, best: BestHead) -> Figure:
    """The alignment error rate of every head, at both rows that could be meant.

    Args:
        table: of the sentences that are reported on.
        best: the head that was chosen; it is framed.
    """
    values, axes_of = table.aer.values, table.aer.axes
    num_layers, num_heads = values.shape[1:]
    size = (4.2 + 2 * max(2.6, 0.62 * num_heads), max(3.4, 2.2 + 0.55 * num_layers))
    with matplotlib.rc_context(font_settings()):
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(axes_of["shift"]), sharey=True)
        for ax, shift, rates in zip(panels, axes_of["shift"], values, strict=True):
            image = ax.imshow(rates, vmin=0, vmax=1, cmap="viridis_r", aspect="auto")
            _write_numbers(ax, rates)
            ax.set_xticks(range(num_heads), axes_of["head"])
            ax.set_yticks(range(num_layers), axes_of["layer"])
            ax.set_xlabel(text("figure.axis.head"))
            ax.set_title(text(f"figure.alignment.row_{shift}"), fontsize=10)
        panels[0].set_ylabel(text("figure.alignment.layer"))
        corner = (best.head - 1.5, best.layer - 1.5)
        frame = {"fill": False, "edgecolor": ORANGE, "linewidth": 3, "clip_on": False}
        panels[best.shift].add_patch(Rectangle(corner, 1, 1, **frame))
        figure.colorbar(image, ax=panels, label=text("figure.alignment.rate"))
        title = text(
            "figure.alignment.best",
            layer=str(best.layer),
            head=str(best.head),
            aer=f"{table.row(*best[:3])['aer']:.2f}",
            sentences=str(table.num_sentences),
            others=str(best.sentences),
        )
        figure.suptitle(title, fontsize=11)
    return figure


def _write_numbers(ax: Axes, rates: np.ndarray) -> None:
    """Each value in its cell, in a colour that can be read there."""
    size = 9 if rates.shape[1] <= NUMBERS_PER_PANEL else 7
    for (layer, head), rate in np.ndenumerate(rates):
        # viridis_r is dark where values are high
        color = "white" if rate > 0.5 else "black"
        ax.text(head, layer, f"{rate:.2f}", ha="center", va="center", color=color, fontsize=size)


def content_and_particles(table: AlignmentTable, best: BestHead) -> Figure:
    """How often tokens of stems and of endings look at the right word, head by head.

    Args:
        table: of the sentences that are reported on.
        best: the head that was chosen; the title tells its shares.
    """
    values, axes_of = 100 * table.accuracy.values, table.accuracy.axes
    num_layers, num_heads = values.shape[2:]
    x = np.arange(num_layers * num_heads)
    many = len(x) > HEADS_SIDE_BY_SIDE  # then one panel below the other
    size = (2.5 + 0.14 * len(x), 8) if many else (max(9.0, 2.5 + 0.44 * len(x)), 5)
    with matplotlib.rc_context(font_settings()):
        figure = Figure(figsize=(max(9.0, size[0]), size[1]), layout="constrained")
        panels = figure.subplots(*((2, 1) if many else (1, 2)), sharey=True)
        for shift, ax in enumerate(panels):
            content, particle = values[:, shift].reshape(2, -1)
            ax.vlines(x, content, particle, color=GREY, linewidth=1.2)
            for shares, color, marker, kind in (
                (content, BLUE, "o", "content"),
                (particle, ORANGE, "s", "particle"),
            ):
                label = text(f"figure.alignment.{kind}", number=str(table.num_pieces[kind]))
                ax.plot(x, shares, marker, color=color, markersize=6, label=label)
            _mark_layers(ax, num_layers, num_heads)
            row = text(f"figure.alignment.row_{axes_of['shift'][shift]}")
            ax.set_title(row, fontsize=10)
        chosen = (best.layer - 1) * num_heads + best.head - 1
        panels[best.shift].axvspan(chosen - 0.45, chosen + 0.45, color=GREY, alpha=0.25)
        panels[0].set_ylim(-3, 103)
        figure.supylabel(text("figure.alignment.share"), fontsize=10)
        handles, labels = panels[0].get_legend_handles_labels()
        handles.append(Patch(color=GREY, alpha=0.25))
        labels.append(text("figure.alignment.best_head"))
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
        figure.suptitle(_content_title(table, best), fontsize=11)
    return figure


def _mark_layers(ax: Axes, num_layers: int, num_heads: int) -> None:
    """Heads in groups of a layer along the x axis."""
    count = num_layers * num_heads
    step = -(-count // MOST_TICKS)  # else the numbers would touch
    ticks = [i for i in range(count) if i % num_heads % step == 0]
    ax.set_xticks(ticks, [str(i % num_heads + 1) for i in ticks], fontsize=8)
    second = ax.secondary_xaxis(-0.06)
    middles = [layer * num_heads + (num_heads - 1) / 2 for layer in range(num_layers)]
    names = [state_name(f"layer {layer + 1}").text() for layer in range(num_layers)]
    second.set_xticks(middles, names, fontsize=9)
    second.tick_params(length=0)
    second.spines["bottom"].set_visible(False)
    for layer in range(1, num_layers):
        ax.axvline(layer * num_heads - 0.5, color=GREY, linewidth=0.6)
    ax.set_xlim(-0.6, count - 0.4)
    second.set_xlabel(text("figure.alignment.heads"))
    ax.grid(axis="y", alpha=0.3)


def _content_title(table: AlignmentTable, best: BestHead) -> str:
    row = table.row(*best[:3])
    shares = [
        text(f"figure.alignment.right_{kind}", share=f"{100 * row[f'{kind}_accuracy']:.0f}")
        for kind in ("content", "particle")
        if row[f"{kind}_accuracy"] is not None
    ]
    return text(
        "figure.alignment.right",
        layer=str(best.layer),
        head=str(best.head),
        shares=text("figure.and").join(shares),
    )


def gold_on_map(found: HeadOnSentence, source: str = "") -> Figure:
    """One head's cross-attention with the gold alignment drawn over it.

    Args:
        found: the head on one sentence.
        source: its text, written under the map.
    """
    sentence, best = found.sentence, found.best
    rows = sentence.tgt_pieces
    if best.shift:  # then the rows are the decoder's inputs
        rows = ("<s>", *rows[:-1])
    num_rows, num_keys = found.weights.shape
    width, height = 3.5 + 0.3 * num_keys, 3.0 + 0.25 * num_rows
    shrink = min(1.0, MOST_INCHES / width, MOST_INCHES / height)
    size = (shrink * max(7.5, width), shrink * max(4.5, height))
    with matplotlib.rc_context(font_settings()):
        figure = Figure(figsize=size, layout="constrained")
        ax = figure.subplots()
        image = ax.imshow(found.weights, vmin=0, vmax=1, cmap="Greys", aspect="auto")
        _draw_links(ax, found)
        for axis, pieces, rotation in ((ax.xaxis, sentence.src_pieces, 90), (ax.yaxis, rows, 0)):
            label_tokens(axis, pieces, 9 * shrink, rotation)
            _mark_special(axis.get_ticklabels(), pieces)
        below = textwrap.wrap(drawable(source), int(11 * size[0]))
        ax.set_xlabel("\n".join([text("figure.axis.source_key"), *below]), parse_math=False)
        ax.set_ylabel(QUERIES[best.shift].text())
        figure.colorbar(image, ax=ax, label=text("figure.axis.weight"), shrink=0.8)
        figure.legend(handles=_link_legend(), loc="outside lower center", ncols=3, fontsize=9)
        title = text(
            "figure.alignment.map",
            layer=str(best.layer),
            head=str(best.head),
            right=str(found.num_right),
            words=str(len(found.chosen)),
        )
        ax.set_title(title, fontsize=11)
    return figure


def _draw_links(ax: Axes, found: HeadOnSentence) -> None:
    """A frame round the tokens of every gold link, and a dot where the head looks most."""
    sentence, shift = found.sentence, found.best.shift
    for j, i in np.argwhere(sentence.possible):
        rows = np.flatnonzero(sentence.tgt_words == j) + shift
        keys = np.flatnonzero(sentence.src_words == i)
        sure = sentence.sure[j, i]
        ax.add_patch(
            Rectangle(
                (keys[0] - 0.42, rows[0] - 0.42), len(keys) - 0.16, len(rows) - 0.16, fill=False,
                edgecolor=BLUE, linewidth=2.2 if sure else 1.6, linestyle="-" if sure else ":",
            )
        )  # fmt: skip
    for row, word in zip(sentence.first_pieces() + shift, found.chosen, strict=True):
        keys = np.flatnonzero(sentence.src_words == word)
        key = keys[found.weights[row, keys].argmax()]
        ax.plot(key, row, "o", color=ORANGE, markersize=5, markeredgecolor="white")


def _link_legend() -> list[Any]:
    frame = {"fill": False, "edgecolor": BLUE}
    return [
        Patch(**frame, linewidth=2.2, label=text("figure.alignment.sure")),
        Patch(**frame, linewidth=1.6, linestyle=":", label=text("figure.alignment.possible")),
        Line2D([], [], color=ORANGE, marker="o", linestyle="", markeredgecolor="white",
               label=text("figure.alignment.looked_at")),
    ]  # fmt: skip


def _mark_special(labels: Sequence[Any], pieces: Sequence[str]) -> None:
    """Let <s> and </s> stand out from the text."""
    for label, piece in zip(labels, pieces, strict=True):
        if piece in ("<s>", "</s>"):
            label.set_color(PURPLE)
            label.set_fontstyle("italic")
