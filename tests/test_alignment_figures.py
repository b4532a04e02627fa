"""Figures of alignment: they show what was measured, and all can be read."""

import functools

import matplotlib.colors
import numpy as np
import pytest
from matplotlib.patches import Rectangle

from tests.drawn import draw, fits
from tests.test_comparison_figures import overlapping
from utils import alignment_figures as figures
from utils.alignment import SHIFTS, AlignmentTable, BestHead, HeadOnSentence, head_on_sentence
from utils.analysis import Labelled
from utils.corpus import Pair
from utils.visualization import BLUE, ORANGE, PURPLE
from utils.words import AlignedSentence

PAIR = Pair(
    "I eat the rice.",
    "저는 밥을 먹어요.",
    ((0, 0), (1, 2), (3, 1)),
    ((2, 1),),
    (1, 3, 3, 4),
    (1, 1, 3),
)
SRC = ("▁I", "▁eat", "▁the", "▁ri", "ce", ".", "</s>")
TGT = ("▁저", "는", "▁밥", "을", "▁먹", "어요", ".", "</s>")


def table(num_layers=2, num_heads=4, particles=12):
    """Numbers that differ from head to head, and far more content than particles."""
    shape = (len(SHIFTS), num_layers, num_heads)
    aer = np.linspace(0.02, 0.97, np.prod(shape)).reshape(shape)
    accuracy = np.stack([1 - aer, (1 - aer) / 2 if particles else np.full(shape, np.nan)])
    axes = {
        "shift": ["0", "1"],
        "layer": [str(layer + 1) for layer in range(num_layers)],
        "head": [str(head + 1) for head in range(num_heads)],
    }
    unit = "share, 0 to 1"
    return AlignmentTable(
        aer=Labelled(values=aer, name="aer", unit=unit, axes=axes),
        accuracy=Labelled(
            values=accuracy,
            name="accuracy",
            unit=unit,
            axes={"pieces": ["content", "particle"], **axes},
        ),
        num_sentences=500,
        num_pieces={"content": 345, "particle": particles},
    )


BEST = BestHead(layer=2, head=3, shift=1, aer=0.5, sentences=200)


def titles(figure):
    return [ax.get_title() for ax in figure.axes]


# Error rates


@pytest.fixture(scope="module")
def rates_figure():
    return draw(figures.error_rates, table(), BEST)


def test_error_rates_stand_in_their_cells(rates_figure):
    for shift, ax in enumerate(rates_figure.axes[:2]):
        rates = table().aer.values[shift]
        assert np.array_equal(ax.get_images()[0].get_array(), rates)
        written = {text.get_position(): text.get_text() for text in ax.texts}
        assert written == {(h, la): f"{rates[la, h]:.2f}" for la in range(2) for h in range(4)}


def test_error_rates_share_one_scale(rates_figure):
    limits = {ax.get_images()[0].get_clim() for ax in rates_figure.axes[:2]}
    assert limits == {(0, 1)}


def test_numbers_contrast_with_their_cells(rates_figure):
    for ax in rates_figure.axes[:2]:
        image = ax.get_images()[0]
        for text in ax.texts:
            head, layer = text.get_position()
            cell = image.to_rgba(image.get_array())[layer, head, :3]
            ink = matplotlib.colors.to_rgb(text.get_color())
            # WCAG's contrast of large print is 3 to 1
            light, dark = sorted((luminance(cell), luminance(ink)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) > 3


def luminance(rgb):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_the_title_names_the_best_head_and_its_reported_rate(rates_figure):
    title = rates_figure.get_suptitle()
    rate = table().aer.values[1, 1, 2]
    assert f"Layer 2 head 3 aligns best: AER {rate:.2f}" in title
    assert "0.50" not in title  # what it had where it was chosen
    assert "500 sentences, chosen on 200 others" in title


def test_the_best_head_is_framed_at_its_shift(rates_figure):
    other, own = (ax.patches for ax in rates_figure.axes[:2])
    assert not list(other)
    [frame] = own
    assert frame.get_xy() == (1.5, 0.5)  # the cell of head 3 (from 0: 2), layer 2 (from 0: 1)
    assert (frame.get_width(), frame.get_height()) == (1, 1)


@pytest.mark.usefixtures("every_language")
@pytest.mark.parametrize(("num_layers", "num_heads"), [(1, 1), (6, 16)])
def test_error_rates_of_any_shape_fit_the_page(num_layers, num_heads):
    best = BestHead(num_layers, num_heads, 0, 0.1, 200)
    figure = draw(figures.error_rates, table(num_layers, num_heads), best)
    assert fits(figure)
    for ax in figure.axes[:2]:
        cell = ax.get_window_extent().width / num_heads
        assert max(text.get_window_extent().width for text in ax.texts) < cell


# Content and particles


@pytest.fixture(scope="module")
def shares_figure():
    return draw(figures.content_and_particles, table(), BEST)


def points(ax):
    return {line.get_marker(): line for line in ax.get_lines() if line.get_marker() in ("o", "s")}


def test_content_and_particles_are_drawn_head_by_head(shares_figure):
    for shift, ax in enumerate(shares_figure.axes[:2]):
        drawn = points(ax)
        for kind, marker in enumerate("os"):
            expected = 100 * table().accuracy.values[kind, shift].ravel()
            assert np.allclose(drawn[marker].get_ydata(), expected)
        assert titles(shares_figure)[shift].endswith(f"(shift {shift})")


def test_the_title_states_both_percentages_of_the_best_head(shares_figure):
    content, particle = 100 * table().accuracy.values[:, 1, 1, 2]
    assert shares_figure.get_suptitle() == (
        f"Layer 2 head 3 looks at the right word for {content:.0f} % of content tokens "
        f"and {particle:.0f} % of particle tokens"
    )


def test_without_particles_the_title_is_about_content_alone():
    figure = figures.content_and_particles(table(particles=0), BEST)
    assert figure.get_suptitle().endswith("% of content tokens")


def test_the_legend_tells_how_many_tokens_there_are(shares_figure):
    labels = [text.get_text() for text in shares_figure.legends[0].get_texts()]
    assert labels[0].endswith("n = 345")
    assert labels[1].endswith("n = 12")


def test_the_best_head_is_shaded_at_its_shift(shares_figure):
    other, own = (list(ax.patches) for ax in shares_figure.axes[:2])
    assert not other
    [band] = own
    middle = band.get_x() + band.get_width() / 2
    assert middle == pytest.approx(4 + 2)  # after the four heads of layer 1, the third


@pytest.mark.parametrize(("num_layers", "num_heads"), [(1, 1), (6, 16)])
def test_heads_of_any_number_can_be_told_apart(num_layers, num_heads):
    best = BestHead(num_layers, num_heads, 0, 0.1, 200)
    figure = draw(figures.content_and_particles, table(num_layers, num_heads), best)
    assert fits(figure)
    for ax in figure.axes[:2]:
        numbers = [label.get_window_extent() for label in ax.get_xticklabels()]
        gaps = [right.x0 - left.x1 for left, right in zip(numbers, numbers[1:], strict=False)]
        assert min(gaps, default=np.inf) > 3  # pixels: else 1 and 2 read as 12
        [layers] = ax.child_axes
        named = layers.get_xticklabels()
        assert [t.get_text() for t in named] == [f"layer {i + 1}" for i in range(num_layers)]
        lowest = min(label.get_window_extent().y0 for label in ax.get_xticklabels())
        assert max(label.get_window_extent().y1 for label in named) <= lowest


# Gold links over a map


def on_sentence(shift=0, chosen=(0, 3, 2)):
    """One head on the sentence above; the third target word should look at "eat"."""
    weights = np.full((len(TGT), len(SRC)), 0.04)
    weights[np.arange(len(TGT)), [0, 0, 4, 4, 1, 1, 1, 6]] = 0.76
    sentence = AlignedSentence.of(PAIR, SRC, TGT)
    return HeadOnSentence(
        weights, sentence, BestHead(2, 1, shift, 0.1, 200), np.array(chosen), 2
    )  # fmt: skip


@functools.cache
def on_map(shift):
    return draw(figures.gold_on_map, on_sentence(shift))


def frames(figure):
    """Line style -> (first column, first row, columns, rows) of the frames."""
    found = {"-": [], ":": []}
    for patch in figure.axes[0].patches:
        assert isinstance(patch, Rectangle)
        assert matplotlib.colors.same_color(patch.get_edgecolor(), BLUE)
        box = (*patch.get_xy(), patch.get_width(), patch.get_height())
        # Frames keep a little distance from the borders of their cells.
        found[patch.get_linestyle()].append(tuple(round(float(value)) for value in box))
    return {style: sorted(boxes) for style, boxes in found.items()}


@pytest.mark.parametrize("shift", SHIFTS)
def test_gold_links_are_framed_where_they_belong(shift):
    figure = on_map(shift)
    assert frames(figure) == {
        "-": [(0, shift, 1, 2), (1, 4 + shift, 1, 3), (3, 2 + shift, 3, 2)],
        ":": [(2, 2 + shift, 1, 2)],
    }


@pytest.mark.parametrize("shift", SHIFTS)
def test_rows_are_named_after_the_token_that_is_meant(shift):
    figure = on_map(shift)
    ax = figure.axes[0]
    expected = [list(TGT), ["<s>", *TGT[:-1]]][shift]
    assert [label.get_text() for label in ax.get_yticklabels()] == expected
    assert [label.get_text() for label in ax.get_xticklabels()] == list(SRC)
    assert ax.get_ylabel().endswith(["predicts", "has read"][shift])


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_dot_shows_the_word_that_each_target_word_is_linked_to(shift):
    ax = on_map(shift).axes[0]
    dots = [(int(line.get_xdata()[0]), int(line.get_ydata()[0])) for line in ax.get_lines()]
    rows = [0 + shift, 2 + shift, 4 + shift]  # of 저, 밥, 먹
    # "rice." has three tokens; the dot is on the most attended one, "ce".
    assert dots == list(zip([0, 4, 2], rows, strict=True))
    for line in ax.get_lines():
        assert matplotlib.colors.same_color(line.get_color(), ORANGE)


def test_the_map_says_how_many_words_are_right():
    title = on_map(0).axes[0].get_title()
    assert title == "Decoder layer 2 head 1: 2 of 3 target words find their source word"


def test_weights_are_drawn_on_a_scale_from_0_to_1():
    found, figure = on_sentence(), on_map(0)
    [image] = figure.axes[0].get_images()
    assert np.array_equal(image.get_array(), found.weights)
    assert image.get_clim() == (0, 1)
    assert figure.axes[1].get_ylabel() == "attention weight"


def test_special_tokens_are_marked():
    ax = on_map(1).axes[0]
    labels = [*ax.get_xticklabels(), *ax.get_yticklabels()]
    marked = [t.get_text() for t in labels if t.get_color() == PURPLE]
    assert marked == ["</s>", "<s>"]


def test_the_source_stands_below_the_map_as_it_is_written():
    text = "$5 and $6 for 책 \U000e0100"  # the dollars are no formula
    ax = draw(figures.gold_on_map, on_sentence(), text).axes[0]
    assert ax.get_xlabel() == "source token (key)\n$5 and $6 for 책 U+E0100"
    assert not ax.xaxis.label.get_parse_math()


@pytest.mark.usefixtures("every_language")
@pytest.mark.parametrize("copies", [1, 7])
def test_tokens_do_not_touch_in_sentences_of_any_length(copies):
    found = joined(copies)
    figure = draw(figures.gold_on_map, found, " ".join([PAIR.src] * copies))
    ax = figure.axes[0]
    assert len(ax.get_yticklabels()) == 7 * copies + 1  # 50 of the long one
    assert not overlapping(ax.get_xticklabels())
    assert not overlapping(ax.get_yticklabels())
    assert fits(figure)


def joined(copies):
    """The sentence above, several times in a row."""
    links = [
        tuple((i + 4 * n, j + 3 * n) for n in range(copies) for i, j in some) for some in PAIR[2:4]
    ]
    pair = Pair(
        " ".join([PAIR.src] * copies), " ".join([PAIR.tgt] * copies), *links,
        PAIR.src_stems * copies, PAIR.tgt_stems * copies,
    )  # fmt: skip
    src, tgt = SRC[:-1] * copies + SRC[-1:], TGT[:-1] * copies + TGT[-1:]
    sentence = AlignedSentence.of(pair, src, tgt)
    weights = np.full((1, len(tgt), len(src)), 1 / len(src))
    return head_on_sentence(weights, sentence, BestHead(1, 1, 0, 0.1, 200))


# All
