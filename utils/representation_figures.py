"""Figures of what vectors stand for, and of what heads are worth. No torch, no statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from utils.language import capitalized, text
from utils.names import attention_name, layer_name, quantity_name, unit_name
from utils.visualization import (
    BLUE,
    GREEN,
    GREY,
    MOST_INCHES,
    ORANGE,
    drawable,
    font_settings,
    label_tokens,
    mark_special,
)

if TYPE_CHECKING:
    from utils.analysis import HeadAblation, Labelled
    from utils.neurons import Neuron
    from utils.representations import LogitLens, Neighbours

ROW = 0.3  # inches that a row of a table takes
LABEL = 8  # points, of a token
MOST_LETTERS = 12  # of a token written at full size in a cell
DIVERGING = "PuOr_r"  # worse is orange, better violet


def ffn_activity(activity: Mapping[str, Labelled]) -> Figure:
    """Values before the activation function of each layer, and how many units stay silent.

    Args:
        activity: as `utils.neurons.ffn_activity` gives it.
    """
    histogram, sparsity, dead = (activity[key] for key in ("activation", "sparsity", "dead"))
    layers, bins = list(histogram.axes["layer"]), histogram.axes["bin"]
    edges = [float(label.split(" to ")[0]) for label in bins] + [float(bins[-1].split(" to ")[1])]
    with matplotlib.rc_context(font_settings()):
        figure = Figure(figsize=(12, 1.8 + 1.1 * len(layers)), layout="constrained")
        grid = figure.add_gridspec(len(layers), 2, width_ratios=(3, 2), hspace=0)
        shared = None
        for row, layer in enumerate(layers):
            ax = shared = figure.add_subplot(grid[row, 0], sharex=shared, sharey=shared)
            _draw_histogram(ax, histogram.values[row], np.array(edges), layer)
        shared.tick_params(labelbottom=True)
        shared.set_xlabel(text("figure.ffn.value"))
        figure.axes[0].set_title(text("figure.ffn.bins"), fontsize=10)
        _draw_silence(figure.add_subplot(grid[:, 1]), sparsity, dead, activity["tokens"])
        quiet, lively = sparsity.values.argmax(), sparsity.values.argmin()
        title = text(
            "figure.ffn.title",
            quantity=quantity_name(sparsity.name),
            low=f"{sparsity.values[lively]:.0%}",
            lively=layer_name(layers[lively]),
            high=f"{sparsity.values[quiet]:.0%}",
            quiet=layer_name(layers[quiet]),
        )
        figure.suptitle(capitalized(title))
    return figure


def _draw_histogram(ax: Axes, shares: np.ndarray, edges: np.ndarray, layer: str) -> None:
    first = int(np.searchsorted(edges, 0))  # the bin that begins at 0
    for part, color in ((slice(None, first), GREY), (slice(first, None), BLUE)):
        if len(shares[part]):
            stop = None if part.stop is None else part.stop + 1
            ax.stairs(shares[part], edges[part.start : stop], fill=True, color=color)
    ax.axvline(0, color="black", linewidth=0.6)
    ax.set_ylabel(layer_name(layer).text(), rotation=0, ha="right", va="center")
    ax.set_xlim(edges[0], edges[-1])
    ax.tick_params(labelbottom=False, labelsize=8)


def _draw_silence(ax: Axes, sparsity: Labelled, dead: Labelled, tokens: Labelled) -> None:
    """Bars of silent activations and of dead units, a pair for each layer."""
    y = np.arange(len(sparsity.values))
    for result, shift, color, per in ((sparsity, -0.18, GREY, "values"),
                                      (dead, 0.18, ORANGE, "units")):  # fmt: skip
        values = 100 * result.values
        label = text(f"figure.ffn.of_{per}", quantity=quantity_name(result.name))
        ax.barh(y + shift, values, height=0.34, color=color, label=label)
        for place, value in zip(y + shift, values, strict=True):
            ax.text(value + 1, place, f"{value:.1f}", va="center", fontsize=8)
    counts = [
        text("figure.ffn.tokens", layer=layer_name(layer), number=f"{number:,}")
        for layer, number in zip(tokens.axes["layer"], tokens.values, strict=True)
    ]
    ax.set_yticks(y, counts, fontsize=8)
    ax.set_ylim(len(y) - 0.5, -0.5)
    ax.set_xlim(0, 112)
    ax.set_xlabel("%")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=8, frameon=False)


def neuron_table(neurons: Sequence[Neuron]) -> Figure:
    """The most selective units, and the tokens that activate them most.

    Args:
        neurons: layer by layer.
    """
    width = max(len(neuron.tokens) for neuron in neurons)
    values, texts = _padded([neuron.tokens for neuron in neurons], width, "{:.1f}")
    best = max(neurons, key=lambda neuron: neuron.selectivity)
    norm = Normalize(0, np.nanmax(values))
    with matplotlib.rc_context(font_settings()):
        figure, ax = _page(len(neurons), width, 1.5)
        image = _draw_table(ax, values, texts, norm, "Blues")
        figure.colorbar(image, ax=ax, label=text("figure.neurons.value"))
        rows = [f"{_unit_name(n)}  ({n.selectivity:.2f})" for n in neurons]
        ax.set_yticks(range(len(rows)), rows, fontsize=LABEL)
        ax.set_xticks(range(width), [_ordinal(n + 1) for n in range(width)], fontsize=LABEL)
        ax.set_xlabel(text("figure.neurons.tokens"))
        ax.set_ylabel(text("figure.neurons.units"))
        _separate(ax, [neuron.layer for neuron in neurons])
        ax.set_title(
            text(
                "figure.neurons.title",
                unit=_unit_name(best),
                selectivity=f"{best.selectivity:.2f}",
            )
        )
    return figure


def _unit_name(neuron: Neuron) -> str:
    """A unit as a reader calls it, counted from 1."""
    return text("figure.neurons.unit", layer=layer_name(neuron.layer), unit=str(neuron.unit + 1))


def neighbours_table(neighbours: Sequence[Neighbours]) -> Figure:
    """For some tokens, those whose embeddings point most nearly the same way."""
    width = max(len(row.nearest) for row in neighbours)
    values, texts = _padded([row.nearest for row in neighbours], width, "{:.2f}")
    closest = max(neighbours, key=lambda row: row.nearest[0][1])
    token, (other, cosine) = closest.token, closest.nearest[0]
    with matplotlib.rc_context(font_settings()):
        figure, ax = _page(len(neighbours), width, 1.5)
        image = _draw_table(ax, values, texts, Normalize(0, 1), "Blues")
        figure.colorbar(image, ax=ax, label=text("figure.neighbours.cosine"))
        label_tokens(ax.yaxis, [row.token for row in neighbours], LABEL)
        mark_special(ax.get_yticklabels())
        ax.set_xticks(range(width), [_ordinal(n + 1) for n in range(width)], fontsize=LABEL)
        ax.set_xlabel(text("figure.neighbours.nearest"))
        ax.set_ylabel(text("figure.axis.token"))
        title = text(
            "figure.neighbours.title",
            token=drawable(token),
            other=drawable(other),
            cosine=f"{cosine:.2f}",
        )
        ax.set_title(title, parse_math=False)
    return figure


def logit_lens(lens: LogitLens) -> Figure:
    """What each decoder layer would say if it were the last.

    Positions run downwards, so that a long sentence can be read.
    """
    ranks, shares = lens.right_rank.values.T, lens.share_right  # (T, L)
    labels, layers = lens.right_rank.axes["position"], lens.right_rank.axes["layer"]
    texts = [
        [(token, "" if rank == 1 else f"#{rank}") for token, rank in zip(row, line, strict=True)]
        for row, line in zip(zip(*lens.tokens, strict=True), ranks, strict=True)
    ]
    with matplotlib.rc_context(font_settings()):
        figure, ax = _page(len(labels), len(layers), 2.2)
        image = _draw_table(ax, lens.probability.values.T, texts, Normalize(0, 1), "Blues")
        for row, column in np.argwhere(ranks == 1):
            box = Rectangle((column - 0.48, row - 0.44), 0.96, 0.88)
            box.set(fill=False, edgecolor=GREEN, linewidth=1.8)
            ax.add_patch(box)
        figure.colorbar(image, ax=ax, label=text("figure.lens.probability"))
        label_tokens(ax.yaxis, labels, LABEL)
        mark_special(ax.get_yticklabels())
        names = [layer_name(layer).text() for layer in layers]
        ax.set_xticks(range(len(layers)), names, fontsize=LABEL)
        ax.set_xlabel(text("figure.lens.layers"))
        ax.set_ylabel(text("figure.lens.right"))
        found = ", ".join(f"{share:.0%}" for share in shares)
        ax.set_title(text("figure.lens.title", shares=found), fontsize=11)
    return figure


def head_ablation(ablation: HeadAblation) -> Figure:
    """How the scores change with each head silenced."""
    nll, match = ablation.nll, ablation.exact_match
    attentions = [attention_name(name).text() for name in nll.axes["attention"]]
    heads = [text("label.head", head=label.removeprefix("head ")) for label in nll.axes["head"]]
    attention, head = ablation.most_important
    with matplotlib.rc_context(font_settings()):
        size = (3.6 + 1.3 * len(heads), max(4.4, 2.6 + 0.4 * len(attentions)))
        figure = Figure(figsize=(min(MOST_INCHES, max(10.0, size[0])), size[1]))
        figure.set_layout_engine("constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for ax, values, form, cmap, label, whole in (
            (axes[0], nll.values, "{:+.3f}", DIVERGING,
             text("figure.ablation.nll", unit=unit_name(nll.unit)),
             text("figure.ablation.whole_nll", nll=f"{ablation.baseline_nll:.3f}")),
            (axes[1], 100 * match.values, "{:+.1f}", DIVERGING.removesuffix("_r"),
             text("figure.ablation.match"),
             text("figure.ablation.whole_match", match=f"{ablation.baseline_exact_match:.1%}")),
        ):  # fmt: skip
            largest = np.nanmax(np.abs(values)) or 1.0
            texts = [[("" if np.isnan(v) else form.format(v), "") for v in row] for row in values]
            image = _draw_table(ax, values, texts, Normalize(-largest, largest), cmap)
            figure.colorbar(image, ax=ax, label=label)
            ax.set_xticks(range(len(heads)), heads, fontsize=LABEL)
            ax.set_title(whole, fontsize=10)
        axes[0].set_yticks(range(len(attentions)), attentions)
        box = Rectangle((head - 0.5, attention - 0.5), 1, 1)
        box.set(fill=False, edgecolor=GREEN, linewidth=2.5)
        axes[0].add_patch(box)
        title = text(
            "figure.ablation.title",
            head=heads[head],
            attention=attentions[attention],
            nll=f"{nll.values[attention, head]:+.3f}",
            match=f"{100 * match.values[attention, head]:+.1f}",
            sentences=str(ablation.num_sentences),
        )
        figure.suptitle(title)
    return figure


def _page(rows: int, columns: int, cell: float) -> tuple[Figure, Axes]:
    """A figure for a table whose cells are ``cell`` inches wide."""
    size = (max(6.0, 3.0 + cell * columns), max(3.2, 1.6 + ROW * rows))
    figure = Figure(figsize=tuple(min(MOST_INCHES, inches) for inches in size))
    figure.set_layout_engine("constrained")
    return figure, figure.subplots()


def _padded(
    rows: Sequence[Sequence[tuple[str, float]]], width: int, form: str
) -> tuple[np.ndarray, list[list[tuple[str, str]]]]:
    """Rows of (token, value) as equally long ones: the values, NaN where none; and the texts."""
    values = np.full((len(rows), width), np.nan)
    texts = []
    for line, row in zip(values, rows, strict=True):
        line[: len(row)] = [value for _, value in row]
        pairs = [(token, form.format(value)) for token, value in row]
        texts.append(pairs + [("", "")] * (width - len(row)))
    return values, texts


def _draw_table(
    ax: Axes,
    values: np.ndarray,
    texts: Sequence[Sequence[tuple[str, str]]],
    norm: Normalize,
    cmap: str,
) -> AxesImage:
    """Cells coloured by their value; in each a token, or centred text if it has no note."""
    image = ax.imshow(values, norm=norm, cmap=cmap, aspect="auto")
    for row, line in enumerate(texts):
        for column, (token, note) in enumerate(line):
            if not token:
                continue
            red, green, blue, _ = image.cmap(norm(values[row, column]))
            dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.55
            style: dict[str, Any] = {"va": "center", "color": "white" if dark else "black"}
            style["in_layout"] = False  # within the axes: no need to be measured
            place, side = (column - 0.43, "left") if note else (column, "center")
            size = LABEL * min(1.0, MOST_LETTERS / max(len(token), 1))
            drawn = ax.text(place, row, drawable(token), ha=side, fontsize=size, **style)
            drawn.set_parse_math(False)
            mark_special([drawn])
            if note:
                ax.text(column + 0.46, row, note, ha="right", fontsize=LABEL - 1, **style)
    ax.tick_params(length=0)
    return image


def _separate(ax: Axes, groups: Sequence[str]) -> None:
    """A line between rows of different groups."""
    start = 0
    for _, members in groupby(groups):
        if start:
            ax.axhline(start - 0.5, color="black", linewidth=1.2)
        start += len(list(members))


def _ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th; for the small numbers of ranks."""
    return text(f"figure.rank.{number if number <= 3 else 'n'}", number=str(number))
