"""Figures of attention: maps of heads, statistics of heads, and flow. No torch, no statistics.

Letters used in shapes: H heads, Q/K query/key positions, S source and T target positions.
"""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text

from utils.analysis import Labelled
from utils.language import Message, display_width, message, text
from utils.names import attention_name, unit_name
from utils.results import DPI
from utils.tokenizer import SPECIAL_TOKENS
from utils.visualization import ORANGE, drawable, font_settings, label_tokens

# A row of decoder weights belongs to a decoder input, but what it helps to find is the next token.
PREDICTED = message("figure.axis.predicted")
SOURCE_KEY = message("figure.axis.source_key")
WEIGHT = message("figure.axis.weight")

MOST_HEADS, HEADS_IN_A_ROW = 16, 4

# Lengths in inches.
MOST_MAP_INCHES = 36  # of all maps of a figure together, with long sentences
TOKEN, LETTER, LINE = 0.145, 0.075, 0.16  # room that a token, a letter, a line of a subtitle takes
LEAST_WIDTH, LEAST_HEIGHT = 1.8, 2.2  # of a map
GAP, BAR = 0.12, 0.9  # between maps; for the colour bar and its labels
NAME, HEADING = 0.35, 0.24  # for the name of an axis, for a line of the heading
# Text in points.
TOKEN_SIZE, SUBTITLE_SIZE, NAME_SIZE, HEADING_SIZE = 7.5, 9, 10, 12

Cell = tuple[np.ndarray, str]  # weights (Q, K) and a subtitle


def axis_names(attention: str) -> tuple[Message, Message]:
    """What the rows and the columns of an attention's map are.

    Args:
        attention: canonical, e.g. ``decoder.0.cross_attn``.
    """
    if attention.startswith("encoder"):
        return message("figure.axis.source_query"), SOURCE_KEY
    if attention.endswith("cross_attn"):
        return PREDICTED, SOURCE_KEY
    return PREDICTED, message("figure.axis.decoder_input")


def map_grid(
    grid: Sequence[Sequence[Cell]],
    query_pieces: Sequence[str],
    key_pieces: Sequence[str],
    title: str,
    *,
    query_name: Message = PREDICTED,
    key_name: Message = SOURCE_KEY,
    unit: Message = WEIGHT,
) -> Figure:
    """Attention maps side by side, on one scale from 0 to 1.

    The page is laid out here, by measuring the labels of one map: matplotlib's own engine
    measures every text of the figure, which takes longer than drawing them.

    Args:
        grid: rows of cells, (weights (Q, K), subtitle); the last row may be shorter.
        query_pieces: the Q tokens of the rows.
        key_pieces: the K tokens of the columns.
        title: of the whole.
        query_name: what a row is.
        key_name: what a column is.
        unit: of the weights.

    Raises:
        ValueError: a map is not as large as its labels say.
    """
    expected = (len(query_pieces), len(key_pieces))
    for weights, subtitle in (cell for cells in grid for cell in cells):
        if weights.shape != expected:
            raise ValueError(f"{subtitle}: map {weights.shape}, labels {expected}")
    sizes = _sizes(grid, *expected)
    with matplotlib.rc_context(font_settings()):
        figure = Figure(dpi=DPI)  # as it will be saved, so that texts have their final size
        axes = figure.subplots(len(grid), max(map(len, grid)), squeeze=False)
        for line, cells in zip(axes, grid, strict=True):
            for ax in line[len(cells) :]:
                ax.remove()
            for ax, (weights, subtitle) in zip(line, cells, strict=False):
                image = _draw_map(ax, weights, 1)
                ax.set_xticks([])
                ax.set_yticks([])
                ax.set_title(drawable(subtitle), fontsize=SUBTITLE_SIZE, parse_math=False)
        for line in axes:
            _label(line[0].yaxis, query_pieces, TOKEN_SIZE * sizes.shrink)
        for column in range(axes.shape[1]):
            lowest = sum(column < len(cells) for cells in grid) - 1
            xaxis = axes[lowest, column].xaxis
            _label(xaxis, key_pieces, TOKEN_SIZE * sizes.shrink, rotation=90)
        names = tuple(name.text() for name in (query_name, key_name, unit))
        _lay_out(figure, axes, image, sizes, title, names)
    return figure


class _Sizes(NamedTuple):
    """Of a `map_grid`, in inches: a map, the room above it, and how far all is made smaller."""

    width: float
    height: float
    above: float
    shrink: float


def _sizes(grid: Sequence[Sequence[Cell]], num_queries: int, num_keys: int) -> _Sizes:
    """Large enough to read every token and subtitle, within `MOST_MAP_INCHES`."""
    subtitles = [subtitle.split("\n") for cells in grid for _, subtitle in cells]
    longest = max(display_width(line) for lines in subtitles for line in lines)
    width = max(LEAST_WIDTH, TOKEN * num_keys, LETTER * longest)
    height = max(LEAST_HEIGHT, TOKEN * num_queries)
    above = 0.1 + LINE * max(map(len, subtitles))
    wide, high = max(map(len, grid)) * width, len(grid) * height
    shrink = min(1.0, MOST_MAP_INCHES / wide, MOST_MAP_INCHES / high)
    return _Sizes(width * shrink, height * shrink, above, shrink)


def _draw_map(ax: Axes, values: np.ndarray, highest: float) -> AxesImage:
    return ax.imshow(values, vmin=0, vmax=highest, cmap="viridis", aspect="auto")


def _label(axis: Axis, pieces: Sequence[str], fontsize: float, rotation: float = 0) -> None:
    """Tokens along an axis; special ones, which no reader wrote, in a colour of their own."""
    label_tokens(axis, pieces, fontsize, rotation)
    axis.set_tick_params(length=2, pad=2)
    for label, piece in zip(axis.get_ticklabels(), pieces, strict=True):
        if piece in SPECIAL_TOKENS:
            label.set_color(ORANGE)


def _lay_out(
    figure: Figure,
    axes: np.ndarray,
    image: AxesImage,
    sizes: _Sizes,
    title: str,
    names: tuple[str, str, str],
) -> None:
    """Give the page the size that maps and texts need, and put all in its place.

    Args:
        figure: with all its maps.
        axes: (rows, columns); the first of each row and each column is never missing.
        image: one of the maps, for the colour bar.
        sizes: of the maps.
        title: of the whole.
        names: of query, key and unit.
    """
    (rows, columns), (query_name, key_name, unit) = axes.shape, names
    left = NAME + _extent(axes[0, 0].yaxis, "width")
    bottom = NAME + _extent(axes[-1, 0].xaxis, "height")
    right = left + columns * (sizes.width + GAP) - GAP
    top = bottom + rows * (sizes.height + sizes.above) - sizes.above
    page_width = max(right + BAR, 5.5)
    heading = figure.suptitle(drawable(title), fontsize=HEADING_SIZE, parse_math=False)
    page_height = top + sizes.above + 0.1 + HEADING * _wrap(heading, page_width - 0.3)
    figure.set_size_inches(page_width, page_height)
    figure.subplots_adjust(
        left=left / page_width, right=right / page_width, wspace=GAP / sizes.width,
        bottom=bottom / page_height, top=top / page_height, hspace=sizes.above / sizes.height,
    )  # fmt: skip
    middle, length = (bottom + top) / 2, min(top - bottom, 4.0)
    bar = (
        (right + 0.15) / page_width, (middle - length / 2) / page_height,
        0.12 / page_width, length / page_height,
    )  # fmt: skip
    figure.colorbar(image, cax=figure.add_axes(bar), label=unit)
    heading.set(y=1 - 0.08 / page_height, va="top")
    size, margin = {"fontsize": NAME_SIZE}, 0.06
    figure.supxlabel(key_name, x=(left + right) / 2 / page_width, y=margin / page_height, **size)
    figure.supylabel(query_name, x=margin / page_width, y=middle / page_height, **size)


def _extent(axis: Axis, side: str) -> float:
    """Room that the labels of an axis take, in inches."""
    extents = [getattr(label.get_window_extent(), side) for label in axis.get_ticklabels()]
    return max(extents) / DPI + 0.08


def _wrap(heading: Text, inches: float) -> int:
    """Break a heading into lines that are not wider than ``inches``; returns how many."""
    measured = heading.get_window_extent().width / DPI
    if measured > inches:
        most = int(len(heading.get_text()) * inches / measured)
        heading.set_text(textwrap.fill(heading.get_text(), max(10, most)))
    return heading.get_text().count("\n") + 1


def all_heads(
    weights: np.ndarray,
    query_pieces: Sequence[str],
    key_pieces: Sequence[str],
    attention: str,
    entropy: Sequence[float],
) -> Figure:
    """Every head of one attention, at most 16.

    Args:
        weights: (H, Q, K), one sentence without padding.
        query_pieces: the Q tokens of the rows; in the decoder, those that are predicted.
        key_pieces: the K tokens of the columns; in decoder self-attention, the decoder inputs.
        attention: canonical name.
        entropy: of each head, in nats.
    """
    shown = min(len(weights), MOST_HEADS)
    subtitles = [
        text("figure.attention.head", head=str(head + 1), entropy=f"{entropy[head]:.2f}")
        for head in range(shown)
    ]
    cells = list(zip(weights, subtitles, strict=False))
    num_rows = -(-shown // HEADS_IN_A_ROW)
    in_a_row = -(-shown // num_rows)
    grid = [cells[start : start + in_a_row] for start in range(0, shown, in_a_row)]
    query_name, key_name = axis_names(attention)
    return map_grid(
        grid, query_pieces, key_pieces, _heads_title(attention, entropy),
        query_name=query_name, key_name=key_name,
    )  # fmt: skip


def _heads_title(attention: str, entropy: Sequence[float]) -> str:
    name, num_heads = attention_name(attention), len(entropy)
    narrow, wide = int(np.argmin(entropy)), int(np.argmax(entropy))
    if narrow == wide:
        return text("figure.attention.even", attention=name, entropy=f"{entropy[narrow]:.2f}")
    title = text(
        "figure.attention.title",
        attention=name,
        narrow=str(narrow + 1),
        lowest=f"{entropy[narrow]:.2f}",
        wide=str(wide + 1),
        highest=f"{entropy[wide]:.2f}",
    )
    if num_heads <= MOST_HEADS:
        return title
    return title + text("figure.attention.some", shown=str(MOST_HEADS), heads=str(num_heads))


def value_weighted(
    plain: np.ndarray,
    weighted: np.ndarray,
    query_pieces: Sequence[str],
    key_pieces: Sequence[str],
    attention: str,
    overlap: Sequence[float],
    heads: Sequence[int],
) -> Figure:
    """What some heads look at, above what they take from it.

    Args:
        plain: weights (H, Q, K), one sentence without padding.
        weighted: (H, Q, K), from `utils.flow.value_weighted`.
        query_pieces: as in `all_heads`.
        key_pieces: as in `all_heads`.
        attention: canonical name.
        overlap: of each head's two maps, from 0 to 1.
        heads: which heads, from 0.
    """
    moved = [1 - overlap[head] for head in heads]
    most = int(np.argmax(moved))
    grid = [
        [(plain[head], text("figure.weighted.plain", head=str(head + 1))) for head in heads],
        [
            (
                weighted[head],
                text("figure.weighted.weighted", head=str(head + 1), share=f"{share:.0%}"),
            )
            for head, share in zip(heads, moved, strict=True)
        ],
    ]
    title = text(
        "figure.weighted.title",
        attention=attention_name(attention),
        most=f"{moved[most]:.0%}",
        head=str(heads[most] + 1),
        mean=f"{np.mean(moved):.0%}",
    )
    query_name, key_name = axis_names(attention)
    return map_grid(
        grid, query_pieces, key_pieces, title,
        query_name=query_name, key_name=key_name, unit=message("figure.weighted.unit"),
    )  # fmt: skip


def rollout(encoder: Labelled, decoder: Labelled) -> Figure:
    """How much of each input token reaches the last layers.

    Args:
        encoder: (S, S), from `utils.flow.rollout`.
        decoder: (T, S + T), the same.
    """
    num_src, num_columns = len(encoder.values), decoder.values.shape[1]
    widths = [max(2.8, TOKEN * num_src), max(4.4, TOKEN * num_columns)]
    height = max(2.4, TOKEN * max(len(encoder.values), len(decoder.values)))
    shrink = min(1.0, MOST_MAP_INCHES / sum(widths), MOST_MAP_INCHES / height)
    size = (sum(widths) * shrink + 3.6, height * shrink + 2.6)
    highest = max(encoder.values.max(), decoder.values.max())
    with matplotlib.rc_context(font_settings()):
        figure = Figure(figsize=size, layout="constrained", dpi=DPI)
        axes = figure.subplots(1, 2, width_ratios=widths)
        names = (
            (text("figure.rollout.encoder_position"), text("figure.rollout.source")),
            (PREDICTED.text(), text("figure.rollout.inputs")),
        )
        titles = _rollout_titles(encoder, decoder)
        for ax, result, (query_name, key_name), title in zip(
            axes, (encoder, decoder), names, titles, strict=True
        ):
            image = _draw_map(ax, result.values, highest)
            queries, keys = result.axes.values()
            _label(ax.yaxis, queries, TOKEN_SIZE * shrink)
            _label(ax.xaxis, keys, TOKEN_SIZE * shrink, rotation=90)
            ax.set_ylabel(query_name)
            ax.set_xlabel(key_name)
            ax.set_title(title, fontsize=NAME_SIZE, parse_math=False)
        axes[1].axvline(num_src - 0.5, color="white", linewidth=2)  # source | decoder inputs
        figure.colorbar(image, ax=axes, label=unit_name(decoder.unit).text(), pad=0.01)
        figure.suptitle(text("figure.rollout.title"))
    return figure


def _rollout_titles(encoder: Labelled, decoder: Labelled) -> tuple[str, str]:
    kept = np.diag(encoder.values).mean()
    from_source = decoder.values[:, : len(encoder.values)].mean(axis=0)
    most = int(from_source.argmax())
    piece = drawable(list(decoder.axes.values())[1][most])
    return (
        text("figure.rollout.encoder", kept=f"{kept:.0%}"),
        text(
            "figure.rollout.decoder",
            token=piece,
            number=str(most + 1),
            share=f"{from_source[most]:.0%}",
        ),
    )
