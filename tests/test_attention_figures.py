"""Figures of attention: what they show is what was measured, and all can be read."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from tests.drawn import HANGUL, draw, fits
from utils import attention_figures as figures
from utils import head_tables
from utils.analysis import Labelled
from utils.language import message
from utils.visualization import ORANGE

ENGLISH = ["▁The", "▁students", "▁bought", "▁$1", "▁$2", "</s>"]


def maps(heads, queries, keys):
    """Random rows that sum to 1, (H, Q, K)."""
    return np.random.default_rng(0).dirichlet(np.full(keys, 0.3), size=(heads, queries))


def images(figure):
    """Axes with a map, colour bars left out."""
    return [ax for ax in figure.axes if ax.get_images()]


def bars(figure):
    return [ax for ax in figure.axes if not ax.get_images()]


def values(ax):
    return np.ma.filled(ax.get_images()[0].get_array(), np.nan)


def ticks(axis):
    """Position -> token, of the labels that are drawn."""
    labels = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
    return {int(at): label.get_text() for at, label in labels}


def overlapping(figure):
    """Pairs of texts anywhere in the figure that touch."""
    axes = [axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)]
    ticks = {tick for axis in axes for tick in (*axis.majorTicks, *axis.minorTicks)}
    shown = {label for axis in axes for label in axis.get_ticklabels()}
    hidden = {label for tick in ticks for label in (tick.label1, tick.label2)} - shown
    texts = [t for t in figure.findobj(Text) if t.get_text().strip() and t not in hidden]
    boxes = np.array([t.get_window_extent().extents for t in texts])
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    shared = np.minimum(high, high.swapaxes(0, 1)) - np.maximum(low, low.swapaxes(0, 1))
    pairs = np.argwhere(np.triu((shared > 1).all(axis=-1), k=1))  # pixels
    return [(texts[i].get_text(), texts[j].get_text()) for i, j in pairs]


# Grids of maps


@pytest.fixture(scope="module")
def weights():
    """Four heads, ten Korean queries, six English keys."""
    return maps(4, len(HANGUL), len(ENGLISH))


@pytest.fixture(scope="module")
def grid_figure(weights):
    grid = [
        [(weights[0], "head 1"), (weights[1], "head 2")],
        [(weights[2], "head 3"), (weights[3], "head 4")],
    ]
    return draw(figures.map_grid, grid, HANGUL, ENGLISH, "Head 1 costs $1, head 2 costs $2")


def test_a_grid_shows_every_map_on_one_scale(weights, grid_figure):
    for head, ax in enumerate(images(grid_figure)):
        assert np.array_equal(values(ax), weights[head])
        assert ax.get_images()[0].get_clim() == (0, 1)
        assert ax.get_title() == f"head {head + 1}"
    assert len(images(grid_figure)) == 4
    assert [bar.get_ylabel() for bar in bars(grid_figure)] == ["attention weight"]
    assert grid_figure.get_suptitle() == "Head 1 costs $1, head 2 costs $2"


def test_maps_stand_in_rows_and_columns(grid_figure):
    boxes = [ax.get_position() for ax in images(grid_figure)]
    upper_left, upper_right, lower_left, lower_right = boxes
    assert upper_left.x1 < upper_right.x0
    assert lower_left.y1 < upper_left.y0
    assert np.allclose(upper_left.size, lower_right.size)
    assert upper_left.x0 == lower_left.x0
    assert lower_left.y0 == lower_right.y0


def test_queries_are_rows_and_keys_are_columns_labelled_on_the_outside(grid_figure):
    upper_left, upper_right, lower_left, lower_right = images(grid_figure)
    for ax in (upper_left, lower_left):
        assert ticks(ax.yaxis) == dict(enumerate(HANGUL))
    for ax in (lower_left, lower_right):
        assert ticks(ax.xaxis) == dict(enumerate(ENGLISH))
    assert ticks(upper_right.xaxis) == ticks(upper_right.yaxis) == {}
    assert ticks(upper_left.xaxis) == ticks(lower_right.yaxis) == {}
    assert grid_figure.get_supylabel() == "target token that the query predicts"
    assert grid_figure.get_supxlabel() == "source token (key)"
    first, *_, last = (t.get_window_extent() for t in upper_left.get_yticklabels())
    assert first.y0 > last.y0  # the sentence reads downwards, as the map does


def test_special_tokens_have_a_colour_of_their_own(grid_figure):
    lower_left = images(grid_figure)[2]
    for labels in (lower_left.get_xticklabels(), lower_left.get_yticklabels()):
        coloured = [t.get_text() for t in labels if to_hex(t.get_color()) == ORANGE.lower()]
        assert coloured == ["</s>"]


def test_texts_of_a_grid_stay_apart_and_on_the_page(grid_figure):
    assert overlapping(grid_figure) == []
    assert fits(grid_figure)


def test_a_map_must_be_as_large_as_its_labels_say(weights):
    with pytest.raises(ValueError, match=r"head 1: map \(10, 6\), labels \(6, 10\)"):
        figures.map_grid([[(weights[0], "head 1")]], ENGLISH, HANGUL, "title")


def test_a_long_title_is_broken_into_lines(weights):
    title = "attention weight of the heads of all layers " * 4
    figure = draw(figures.map_grid, [[(weights[0], "head 1")]], HANGUL, ENGLISH, title)
    assert figure.get_suptitle().split() == title.split()
    assert "\n" in figure.get_suptitle()
    assert overlapping(figure) == []
    assert fits(figure)


def test_names_and_unit_are_those_given(weights):
    names = {
        "query_name": message("figure.axis.source_query"),
        "key_name": message("figure.axis.decoder_input"),
        "unit": message("figure.weighted.unit"),
    }
    figure = figures.map_grid([[(weights[0], "x")]], HANGUL, ENGLISH, "title", **names)
    shown = (figure.get_supylabel(), figure.get_supxlabel(), bars(figure)[0].get_ylabel())
    assert shown == ("source token (query)", "decoder input token (key)", "share of the query")


def test_forty_tokens_can_be_read():
    cells = [(maps(1, 40, 40)[0], "head 1")]
    figure = draw(figures.map_grid, [cells], HANGUL * 4, HANGUL[::-1] * 4, "title")
    assert overlapping(figure) == []
    assert fits(figure)


def test_a_large_page_is_made_smaller_with_its_texts(monkeypatch):
    cells = [(maps(1, 20, 20)[0], f"head {i}") for i in range(2)]
    arguments = [cells], HANGUL * 2, HANGUL[::-1] * 2, "title"
    before = figures.map_grid(*arguments)
    monkeypatch.setattr(figures, "MOST_MAP_INCHES", 4)
    figure = draw(figures.map_grid, *arguments)
    assert figure.get_size_inches()[0] < before.get_size_inches()[0]
    assert overlapping(figure) == []
    assert fits(figure)


def test_one_token_can_be_shown():
    figure = draw(figures.map_grid, [[(np.ones((1, 1)), "x")]], ["</s>"], ["</s>"], "title")
    assert overlapping(figure) == []
    assert fits(figure)


# All heads of an attention


@pytest.mark.usefixtures("every_language")
@pytest.mark.parametrize(
    ("num_heads", "rows"),
    [(1, [1]), (5, [3, 2]), (8, [4, 4])],
)
def test_heads_are_wrapped_into_rows_of_four_at_most(num_heads, rows):
    weights = maps(num_heads, 3, 6)
    entropy = np.linspace(0.5, 1, num_heads)
    figure = draw(figures.all_heads, weights, HANGUL[:3], ENGLISH, "decoder.0.cross_attn", entropy)
    shown = images(figure)
    assert [values(ax).tolist() for ax in shown] == weights.tolist()
    heights = sorted({round(ax.get_position().y0, 6) for ax in shown}, reverse=True)
    found = [sum(round(ax.get_position().y0, 6) == y for ax in shown) for y in heights]
    assert found == rows
    for column in {round(ax.get_position().x0, 6) for ax in shown}:
        in_column = [ax for ax in shown if round(ax.get_position().x0, 6) == column]
        lowest = min(in_column, key=lambda ax: ax.get_position().y0)
        assert ticks(lowest.xaxis) == dict(enumerate(ENGLISH))
    assert overlapping(figure) == []
    assert fits(figure)


def test_the_title_names_the_most_and_least_focused_head(weights):
    figure = figures.all_heads(
        weights, HANGUL, ENGLISH, "decoder.1.cross_attn", [0.5, 0.25, 1.5, 1]
    )
    title = " ".join(figure.get_suptitle().split())
    assert title == (
        "decoder 2 cross: head 2 is the most focused (0.25 nats), head 3 the least (1.50)"
    )
    assert images(figure)[2].get_title() == "head 3 (1.50 nats)"


def test_heads_beyond_the_sixteenth_are_left_out_and_said_to_be():
    weights = maps(20, 2, 6)
    name = "encoder.0.self_attn"
    figure = figures.all_heads(weights, HANGUL[:2], ENGLISH, name, np.arange(20))
    assert len(images(figure)) == 16
    assert "first 16 of 20 heads" in figure.get_suptitle()


def test_heads_alike_are_not_ranked():
    figure = figures.all_heads(maps(2, 1, 1), ["</s>"], ["</s>"], "encoder.0.self_attn", [0.0, 0.0])
    assert figure.get_suptitle() == "encoder 1 self: entropy 0.00 nats in every head"


@pytest.mark.parametrize(
    ("attention", "rows", "columns"),
    [
        ("encoder.0.self_attn", "source", "source"),
        ("decoder.0.self_attn", "predicts", "decoder input"),
        ("decoder.0.cross_attn", "predicts", "source"),
    ],
)
def test_axes_are_named_after_what_the_attention_reads(attention, rows, columns):
    figure = figures.all_heads(maps(1, 1, 1), ["</s>"], ["</s>"], attention, [0.0])
    assert rows in figure.get_supylabel()
    assert columns in figure.get_supxlabel()


# Value-weighted attention


def test_plain_maps_stand_above_the_weighted_ones(weights):
    weighted = maps(4, len(HANGUL), len(ENGLISH))[::-1]
    figure = draw(
        figures.value_weighted, weights, weighted, HANGUL, ENGLISH, "decoder.1.cross_attn",
        [0.9, 0.8, 0.5, 0.6], [3, 1],
    )  # fmt: skip
    shown = [values(ax).tolist() for ax in images(figure)]
    assert shown == [m.tolist() for m in (weights[3], weights[1], weighted[3], weighted[1])]
    assert [ax.get_title() for ax in images(figure)] == [
        "head 4: attention",
        "head 2: attention",
        "head 4: times value length (40% moved)",
        "head 2: times value length (20% moved)",
    ]
    title = " ".join(figure.get_suptitle().split())
    assert title == (
        "decoder 2 cross: the values move 40% of the attention of head 4, 30% on average"
    )
    assert overlapping(figure) == []
    assert fits(figure)


# Rollout


def rollouts(src_pieces, input_pieces, tgt_pieces):
    num_src, num_tgt = len(src_pieces), len(tgt_pieces)
    encoder = maps(1, num_src, num_src)[0]
    decoder = maps(1, num_tgt, num_src + num_tgt)[0]
    unit = "share of the position"
    return (
        Labelled(
            values=encoder,
            name="encoder",
            unit=unit,
            axes={"position in the last encoder layer": src_pieces, "source token": src_pieces},
        ),
        Labelled(
            values=decoder,
            name="decoder",
            unit=unit,
            axes={
                "target token that the query predicts": tgt_pieces,
                "source token, then decoder input": [*src_pieces, *input_pieces],
            },
        ),
    )


def test_rollout_shows_both_stacks_on_one_scale():
    encoder, decoder = rollouts(ENGLISH, ["<s>", *HANGUL[:-1]], HANGUL)
    figure = draw(figures.rollout, encoder, decoder)
    for ax, result in zip(images(figure), (encoder, decoder), strict=True):
        assert np.array_equal(values(ax), result.values)
        assert ax.get_images()[0].get_clim() == (
            0,
            max(encoder.values.max(), decoder.values.max()),
        )
        query_name, key_name = result.axes
        assert (ax.get_ylabel(), ax.get_xlabel()) == (query_name, key_name)
        assert ticks(ax.yaxis) == dict(enumerate(result.axes[query_name]))
        assert ticks(ax.xaxis) == dict(enumerate(result.axes[key_name]))
    (line,) = images(figure)[1].get_lines()
    assert set(line.get_xdata()) == {5.5}  # between </s> of the source and <s>
    assert [bar.get_ylabel() for bar in bars(figure)] == ["share of the position"]
    assert overlapping(figure) == []
    assert fits(figure)


def test_titles_of_a_rollout_say_what_stays_and_what_arrives():
    encoder, decoder = rollouts(["▁I", "</s>"], ["<s>", "▁나"], ["▁나", "</s>"])
    encoder.values[:] = [[0.75, 0.25], [0.35, 0.65]]
    decoder.values[:] = [[0.1, 0.3, 0.6, 0], [0, 0.5, 0.4, 0.1]]
    figure = figures.rollout(encoder, decoder)
    left, right = (" ".join(ax.get_title().split()) for ax in images(figure))
    assert left == "Encoder: 70% of a position is its own token, on average"
    assert "</s> (token 2) arrives most: 40% of a position" in right


@pytest.mark.usefixtures("every_language")
def test_rollout_of_forty_tokens_can_be_read():
    figure = draw(figures.rollout, *rollouts(HANGUL * 4, ["<s>", *HANGUL[:-1]], HANGUL))
    assert overlapping(figure) == []
    assert fits(figure)


# Tables


def table(name, unit, num_layers=2, num_heads=4, scale=1.0):
    attentions = [f"encoder {i + 1} self" for i in range(num_layers)]
    for i in range(num_layers):
        attentions += [f"decoder {i + 1} self", f"decoder {i + 1} cross"]
    shape = (len(attentions), num_heads)
    drawn = np.random.default_rng(1).uniform(0.1, 0.9, size=shape)
    axes = {"attention": attentions, "head": [str(i + 1) for i in range(num_heads)]}
    return Labelled(values=scale * drawn, name=name, unit=unit, axes=axes)


def cell_texts(ax):
    return {tuple(map(int, t.get_position()[::-1])): t.get_text() for t in ax.texts}


def test_each_statistic_has_its_table_with_numbers_scale_and_unit():
    stats = {
        "entropy": table("entropy", "nats", scale=3),
        "diagonality": table("diagonality", "0 to 1"),
        "similarity": table("similarity to other heads", "cosine"),
    }
    stats["entropy"].values[2, 1] = 0.004
    stats["entropy"].values[3, 2] = 12.345
    figure = draw(head_tables.head_statistics, stats)
    tops = {"entropy": 12.345, "diagonality": 1, "similarity": 1}
    for ax, (key, result) in zip(images(figure), stats.items(), strict=True):
        assert np.array_equal(values(ax), result.values)
        assert ax.get_images()[0].get_clim() == (0, tops[key])
        assert len(ax.texts) == result.values.size
    assert cell_texts(images(figure)[0])[3, 2] == "12.3"
    assert cell_texts(images(figure)[0])[2, 1] == "0.00"
    assert ticks(images(figure)[0].yaxis) == dict(enumerate(stats["entropy"].axes["attention"]))
    assert ticks(images(figure)[0].xaxis) == dict(enumerate("1234"))
    assert [bar.get_ylabel() for bar in bars(figure)] == ["nats", "0 to 1", "cosine"]
    assert images(figure)[0].get_title() == (
        "entropy\nfrom 0.00 (decoder 1 self, head 2)\nto 12.3 (decoder 1 cross, head 3)"
    )
    (line,) = images(figure)[0].get_lines()
    assert set(line.get_ydata()) == {1.5}  # between encoder and decoder
    assert overlapping(figure) == []
    assert fits(figure)


def test_a_missing_head_leaves_its_cell_empty():
    result = table("similarity to other heads", "cosine")
    result.values[1, 3] = np.nan
    figure = head_tables.head_statistics({"similarity": result})
    assert (1, 3) not in cell_texts(images(figure)[0])
    assert len(images(figure)[0].texts) == result.values.size - 1


@pytest.mark.parametrize("unit", ["cosine", "nats"])
def test_a_statistic_of_nothing_can_be_drawn(unit):
    result = table("similarity to other heads", unit, num_heads=1)
    result.values[:] = np.nan
    figure = head_tables.head_statistics({"similarity": result})
    assert "nothing" in images(figure)[0].get_title()
    assert len(images(figure)[0].texts) == 0


def vectors(name, unit, **shape):
    tables = [table(name, unit, scale=scale, **shape) for scale in (1, 2, 3)]
    values = np.stack([part.values for part in tables])
    axes = {"vector": ("Q", "K", "V"), **tables[0].axes}
    return Labelled(values=values, name=name, unit=unit, axes=axes)


def test_queries_keys_and_values_share_one_scale_for_each_statistic():
    stats = {
        "norm": vectors("mean norm", "L2 norm"),
        "rank": vectors("entropy", "dimensions"),
    }
    stats["norm"].values[0, 4, 1] = 0.01
    stats["norm"].values[2, 0, 3] = 150.4
    figure = draw(head_tables.qkv_by_layer, stats)
    shown = images(figure)
    for row, result in enumerate(stats.values()):
        for column in range(3):
            ax = shown[3 * row + column]
            assert np.array_equal(values(ax), result.values[column])
            assert ax.get_images()[0].get_clim() == (result.values.min(), result.values.max())
            assert ax.get_title().split("\n")[-1] == "QKV"[column]
    assert shown[1].get_title().split("\n")[0] == (
        "mean norm: from 0.01 (Q, decoder 2 self, head 2) to 150 (V, encoder 1 self, head 4)"
    )
    assert [bar.get_ylabel() for bar in bars(figure)] == ["L2 norm", "dimensions"]
    assert overlapping(figure) == []
    assert fits(figure)


@pytest.mark.usefixtures("every_language")
def test_tables_of_a_large_model_can_be_read():
    result = table("entropy", "nats", num_layers=6, num_heads=16)
    figure = draw(head_tables.head_statistics, {"entropy": result})
    assert overlapping(figure) == []
    assert fits(figure)
