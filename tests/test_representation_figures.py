"""Figures of vectors and heads: what they show is what was found, and all can be read."""

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation

from tests.drawn import HANGUL, draw, fits
from utils import representation_figures as figures
from utils import trajectory_figures
from utils.analysis import Captured, HeadAblation, Labelled
from utils.neurons import Neuron, ffn_activity
from utils.representations import Neighbours, Trajectories, logit_lens, training_trajectories
from utils.visualization import GREEN, GREY, ORANGE, drawable

AWKWARD = ["$a_$", "$", "▁", "▁$x^2$", "\\frac", "<0xEC>", "😀", "🦄", "뷁", "a_b", "%", "<s>"]


def overlapping(texts):
    """Pairs among the texts that touch."""
    shown = [text for text in texts if text.get_text()]
    boxes = [matplotlib.text.Text.get_window_extent(text) for text in shown]
    return [
        (shown[i].get_text(), shown[j].get_text())
        for i in range(len(shown))
        for j in range(i)
        if boxes[i].overlaps(boxes[j])
    ]


def cells(ax):
    """Place (row, column) -> what is written there, token and note."""
    found = {}
    for text in ax.texts:
        x, y = text.get_position()
        found.setdefault((round(y), round(x)), []).append(text.get_text())
    return {place: tuple(texts) for place, texts in found.items()}


def framed(texts):
    return [t.get_text() for t in texts if t.get_bbox_patch() is not None]


def boxes(ax):
    """Cells (row, column) with a green frame."""
    return sorted(
        (round(box.get_y() + box.get_height() / 2), round(box.get_x() + box.get_width() / 2))
        for box in ax.patches
        if isinstance(box, Rectangle) and to_hex(box.get_edgecolor()) == GREEN.lower()
    )


# Feed-forward networks


def activity(*layers):
    tensors = {}
    for i, pre in enumerate(layers):
        tensors[f"encoder.{i}.ffn.pre"] = np.array([pre])
        tensors[f"encoder.{i}.ffn.act"] = np.maximum([pre], 0)
    is_real = np.ones((1, len(layers[0])), dtype=bool)
    return ffn_activity(Captured(tensors=tensors, src_is_real=is_real, tgt_is_real=is_real))


def test_activity_is_drawn_with_its_silence():
    found = activity([[-1.25, 0.55], [3.75, -0.05]], [[-1.02, -1.05], [-0.5, 1.0]])
    figure = draw(figures.ffn_activity, found)
    first, second, bars = figure.axes
    assert fits(figure)
    for ax, shares, name in zip((first, second), found["activation"].values, "12", strict=True):
        below, above = (patch.get_data() for patch in ax.patches)
        assert np.concatenate([below.values, above.values]).tolist() == shares.tolist()
        assert below.edges[-1] == above.edges[0] == 0
        assert above.edges[-1] == pytest.approx(3.8)
        assert ax.get_ylabel() == f"encoder {name}"
        assert [to_hex(patch.get_facecolor()) for patch in ax.patches][0] == GREY.lower()
    assert first.get_ylim() == second.get_ylim()
    widths = [bar.get_width() for bar in bars.patches]
    assert widths == [50, 75, 0, 50]  # zero, then dead
    assert [label.get_text() for label in bars.get_yticklabels()] == [
        "encoder 1\n2 tokens", "encoder 2\n2 tokens",
    ]  # fmt: skip
    assert figure.get_suptitle() == (
        "Activations that are zero: from 50% in encoder 1 to 75% in encoder 2"
    )
    assert bars.get_ylim()[0] > bars.get_ylim()[1]  # the first layer stands on top, as beside


@pytest.mark.usefixtures("every_language")
@pytest.mark.parametrize("value", [-3.0, 0.0, 3.0])
def test_values_on_one_side_of_zero_can_be_drawn(value):
    assert fits(draw(figures.ffn_activity, activity([[value, value / 2]])))


@pytest.mark.usefixtures("every_language")
def test_the_layers_of_a_deep_model_can_be_told_apart():
    layers = np.random.default_rng(0).normal(size=(8, 20, 8))
    *rows, bars = draw(figures.ffn_activity, activity(*layers)).axes
    assert len(rows) == 8
    assert overlapping(bars.get_yticklabels()) == []
    assert overlapping(bars.texts) == []


def neuron(layer, unit, tokens, selectivity=0.5):
    values = np.linspace(4, 1, len(tokens))
    return Neuron(
        layer=layer, unit=unit, selectivity=selectivity,
        tokens=[(token, float(v)) for token, v in zip(tokens, values, strict=True)],
    )  # fmt: skip


def test_units_stand_with_their_tokens():
    neurons = [
        neuron("encoder 1", 4, ["▁a", "▁b", "</s>"]), neuron("encoder 1", 0, ["▁c"], 0.2),
        neuron("decoder 1", 7, HANGUL[:3], 0.75),
    ]  # fmt: skip
    figure = draw(figures.neuron_table, neurons)
    ax, bar = figure.axes
    image = ax.get_images()[0]
    assert image.get_array().filled(np.nan).tolist()[0] == [4, 2.5, 1]
    assert np.isnan(image.get_array().filled(np.nan)[1]).tolist() == [False, True, True]
    assert image.get_clim() == (0, 4)
    shown = cells(ax)
    assert shown[0, 1] == ("▁b", "2.5")
    assert (1, 1) not in shown
    assert shown[2, 0] == ("▁학생", "4.0")
    rows = [label.get_text() for label in ax.get_yticklabels()]
    assert rows == [
        "encoder 1, unit 5  (0.50)", "encoder 1, unit 1  (0.20)", "decoder 1, unit 8  (0.75)",
    ]  # fmt: skip
    assert framed(ax.texts) == ["</s>"]
    assert "decoder 1, unit 8 (0.75)" in ax.get_title()
    assert bar.get_ylabel() == "highest activation"
    assert [line.get_ydata()[0] for line in ax.get_lines()] == [1.5]  # between the layers
    assert fits(figure)


def test_awkward_tokens_are_drawn_as_they_are():
    figure = draw(figures.neuron_table, [neuron("encoder 1", 0, AWKWARD)])
    tokens = figure.axes[0].texts[::2]
    assert [text.get_text() for text in tokens] == [drawable(token) for token in AWKWARD]
    assert not any(text.get_parse_math() for text in tokens)
    assert framed(tokens) == ["<s>"]


def test_long_tokens_stay_in_their_cells():
    tokens = ["▁internationalisation", "▁도서관에서공부했습니다", "▁a"]
    ax = draw(figures.neuron_table, [neuron("encoder 1", 0, tokens)]).axes[0]
    assert overlapping(ax.texts) == []
    frame = ax.get_window_extent()
    assert all(frame.x0 < t.get_window_extent().x0 for t in ax.texts)
    assert all(t.get_window_extent().x1 < frame.x1 for t in ax.texts)


# Neighbours


def test_neighbours_stand_beside_their_token():
    table = [Neighbours("▁책", [("▁지도", 0.5), ("▁편지", 0.25)]),
             Neighbours("</s>", [(".", 0.75), ("$?$", -0.5)])]  # fmt: skip
    figure = draw(figures.neighbours_table, table)
    ax, bar = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["▁책", "</s>"]
    assert framed(ax.get_yticklabels()) == ["</s>"]
    assert ax.get_images()[0].get_array().tolist() == [[0.5, 0.25], [0.75, -0.5]]
    assert cells(ax) == {
        (0, 0): ("▁지도", "0.50"), (0, 1): ("▁편지", "0.25"),
        (1, 0): (".", "0.75"), (1, 1): ("$?$", "-0.50"),
    }  # fmt: skip
    assert ax.get_title() == "Closest are </s> and .: cosine 0.75"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1st", "2nd"]
    assert "cosine" in bar.get_ylabel()
    assert fits(figure)


# Logit lens


def lens(pieces, layers, right=None):
    """Of a vocabulary of ``pieces``; ``right`` says which layers are right at which positions."""
    length = len(pieces)
    logits = np.zeros((layers, length, length))
    for layer in range(layers):
        for place in range(length):
            is_right = (layer + place) % 2 if right is None else right[layer][place]
            logits[layer, place, place if is_right else (place + 1) % length] = 1 + layer
    return logit_lens(logits, list(range(length)), lambda ids: [pieces[i] for i in ids])


def test_the_lens_shows_what_each_layer_would_say():
    found = lens(["▁책", "을", "</s>"], 2, right=[[0, 1, 0], [1, 1, 0]])
    figure = draw(figures.logit_lens, found)
    ax, bar = figure.axes
    assert ax.get_images()[0].get_array().tolist() == found.probability.values.T.tolist()
    assert ax.get_images()[0].get_clim() == (0, 1)
    assert cells(ax) == {
        (0, 0): ("을", "#2"), (1, 0): ("을",), (2, 0): ("▁책", "#2"),
        (0, 1): ("▁책",), (1, 1): ("을",), (2, 1): ("▁책", "#2"),
    }  # fmt: skip
    assert boxes(ax) == [(0, 1), (1, 0), (1, 1)]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["▁책", "을", "</s>"]
    assert framed(ax.get_yticklabels()) == ["</s>"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["decoder 1", "decoder 2"]
    assert "33%, 67%" in ax.get_title()
    assert bar.get_ylabel().startswith("probability")
    assert fits(figure)


@pytest.mark.usefixtures("every_language")
@pytest.mark.parametrize(("length", "layers"), [(2, 1), (40, 3)])
def test_short_and_long_sentences_can_be_read(length, layers):
    pieces = (HANGUL * 4)[:length]
    figure = draw(figures.logit_lens, lens(pieces, layers))
    ax = figure.axes[0]
    assert fits(figure)
    assert len(ax.get_yticklabels()) == length
    assert overlapping(ax.get_yticklabels()) == []
    assert overlapping(ax.texts) == []


# Heads


def head_ablation(nll, match):
    nll, match = np.array(nll), np.array(match)
    axes = {
        "attention": [f"decoder {n + 1} cross" for n in range(len(nll))],
        "head": [f"head {n + 1}" for n in range(nll.shape[1])],
    }
    return HeadAblation(
        nll=Labelled(values=nll, name="change", unit="nats per target token", axes=axes),
        exact_match=Labelled(values=match, name="change", unit="share of sentences", axes=axes),
        baseline_nll=0.0625, baseline_exact_match=0.75, num_sentences=64,
    )  # fmt: skip


def test_the_most_important_head_is_named_and_framed():
    found = head_ablation([[0.1, -0.05], [0.5, np.nan]], [[0.0, 0.125], [-0.25, np.nan]])
    figure = draw(figures.head_ablation, found)
    nll, match, *bars = figure.axes
    assert nll.get_images()[0].get_clim() == (-0.5, 0.5)
    assert match.get_images()[0].get_clim() == (-25, 25)
    assert cells(nll) == {
        (0, 0): ("+0.100",), (0, 1): ("-0.050",), (1, 0): ("+0.500",),
    }  # fmt: skip
    assert cells(match)[1, 0] == ("-25.0",)
    assert boxes(nll) == [(1, 0)]
    title = figure.get_suptitle()
    assert title.startswith("Most important: head 1 of decoder 2 cross")
    assert "+0.500 nats per target token" in title
    assert "-25.0 percentage points (64 sentences)" in title
    assert "NLL 0.062 " in nll.get_title()
    assert "75.0%" in match.get_title()
    assert [bar.get_ylabel().split(", ")[1] for bar in bars] == [
        "nats per target token", "percentage points",
    ]  # fmt: skip
    assert fits(figure)


def test_worse_has_one_colour_in_both_tables():
    worse = head_ablation([[0.5, -0.5]], [[-0.5, 0.5]])
    nll, match, *_ = draw(figures.head_ablation, worse).axes
    for column in (0, 1):
        one, two = (
            ax.get_images()[0].to_rgba(ax.get_images()[0].get_array())[0, column]
            for ax in (nll, match)
        )
        assert one == pytest.approx(two, abs=0.02)


@pytest.mark.usefixtures("every_language")
def test_heads_that_change_nothing_can_be_drawn():
    nothing = head_ablation(np.zeros((1, 1)), np.zeros((1, 1)))
    assert fits(draw(figures.head_ablation, nothing))


@pytest.mark.usefixtures("every_language")
def test_the_heads_of_a_big_model_can_be_read():
    values = np.random.default_rng(0).normal(size=(3, 16)) / 9
    figure = draw(figures.head_ablation, head_ablation(values, values))
    assert fits(figure)
    for ax in figure.axes[:2]:
        assert overlapping(ax.texts) == []
        assert overlapping(ax.get_xticklabels()) == []


# Trajectories


def ways(tokens, steps=3, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(steps, len(tokens), 5)).cumsum(axis=0)
    return training_trajectories(dict(enumerate(vectors)), tokens)


def names(ax):
    return [text for text in ax.texts if isinstance(text, Annotation)]


def test_every_token_has_its_way_from_start_to_end():
    found = ways(["▁책", "을", "</s>"])
    figure = draw(trajectory_figures.training_trajectories, found)
    (ax,) = figure.axes
    drawn = [line.get_xydata() for line in ax.get_lines() if line.get_linestyle() == "-"]
    for way in found.coordinates:
        assert any(np.array_equal(way, line) for line in drawn)
    hollow = [
        tuple(line.get_xydata()[0]) for line in ax.get_lines()
        if line.get_markerfacecolor() == "white" and len(line.get_xydata())
    ]  # fmt: skip
    assert sorted(hollow) == sorted(map(tuple, found.coordinates[:, 0]))
    ends = {name.get_text(): tuple(name.xy) for name in names(ax)}
    assert ends == dict(zip(found.tokens, map(tuple, found.coordinates[:, -1]), strict=True))
    assert framed(names(ax)) == ["</s>"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["step 0", "step 2"]
    assert f"{found.shares.sum():.0%}" in ax.get_title()
    assert f"({found.shares[0]:.0%} of variance)" in ax.get_xlabel()
    assert f"({found.shares[1]:.0%} of variance)" in ax.get_ylabel()
    assert fits(figure)


@pytest.mark.parametrize("length", [2, 40])
def test_the_ways_of_short_and_long_sentences_can_be_read(length):
    tokens = (HANGUL * 4)[:length]
    both = {"encoder": ways(tokens), "decoder": ways(tokens[::-1], seed=1)}
    figure = draw(trajectory_figures.layer_trajectories, both)
    assert fits(figure)
    for ax, (stack, part) in zip(figure.axes, both.items(), strict=True):
        labels = names(ax)
        assert sorted(label.get_text() for label in labels) == sorted(part.tokens)
        assert overlapping(labels) == []
        frame = ax.get_window_extent()
        for label in labels:  # beside the ways, within the axes
            box = matplotlib.text.Text.get_window_extent(label)
            assert frame.y0 <= box.y0
            assert box.y1 <= frame.y1
            points = ax.transData.transform(part.coordinates.reshape(-1, 2))[:, 0]
            assert box.x1 < points.min() or box.x0 > points.max()
        assert ax.get_title().startswith(f"{stack}, from step 0 to step 2: the plane holds")


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_ways_that_end_at_one_place_are_named_apart(place):
    """At the bottom, in the middle and at the top of the axes."""
    coordinates = np.random.default_rng(0).uniform(size=(40, 2, 2))
    coordinates[:2, 0, 1] = 0, 1
    coordinates[:, 1] = 0.5, place
    found = Trajectories(
        coordinates=coordinates,
        tokens=HANGUL * 4,
        steps=["step 0", "step 1"],
        shares=np.array([0.5, 0.25]),
    )
    (ax,) = draw(trajectory_figures.training_trajectories, found).axes
    labels, frame = names(ax), ax.get_window_extent()
    assert overlapping(labels) == []
    for box in map(matplotlib.text.Text.get_window_extent, labels):
        assert frame.y0 <= box.y0
        assert box.y1 <= frame.y1


def test_awkward_tokens_can_be_named():
    (ax,) = draw(trajectory_figures.training_trajectories, ways(AWKWARD)).axes
    assert {name.get_text() for name in names(ax)} == {drawable(token) for token in AWKWARD}
    assert not any(name.get_parse_math() for name in names(ax))
    (special,) = (name for name in names(ax) if name.get_text() == "<s>")
    assert special.get_color() == ORANGE
