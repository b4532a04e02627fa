"""Figures with both versions in them: what they show is what was found, and all can be read."""

import itertools
import math
import re

import numpy as np
import pytest
import torch

from pytorch_version.model import hook_points
from tests.drawn import HANGUL, draw, fits
from utils import comparison_figures as figures
from utils import language
from utils.findings import Findings, SharedSentence
from utils.language import display_width, message
from utils.paired import PairedTraining, ShortRun
from utils.parity import Row
from utils.side_by_side import VERSIONS, Quantity, quantities
from utils.visualization import drawable


def overlapping(labels):
    """Neighbours among tick labels that touch."""
    return [
        (one.get_text(), two.get_text())
        for one, two in zip(labels, labels[1:], strict=False)
        if one.get_window_extent().overlaps(two.get_window_extent())
    ]


def drawn_values(axes):
    return {line.get_label(): list(line.get_ydata()) for line in axes.get_lines()}


# Cross-attention


def sentence(src_pieces, tgt_pieces, heads=4, layer=1):
    shape = (heads, len(tgt_pieces), len(src_pieces))
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: (3 * torch.randn(shape, generator=generator)).softmax(dim=-1).numpy()
        for name in VERSIONS
    }
    return SharedSentence(weights, list(src_pieces), list(tgt_pieces), layer, "a sentence")


@pytest.fixture(scope="module")
def shared():
    """7 source and 5 target tokens."""
    return sentence(HANGUL[:7], HANGUL[3:8], heads=3, layer=2)


@pytest.fixture(scope="module")
def attention_figure(shared):
    return draw(figures.cross_attention, shared)


def test_cross_attention_shows_each_head_of_both_models(shared, attention_figure):
    *maps, bar = attention_figure.axes
    order = [(name, head) for name in VERSIONS for head in range(3)]
    for ax, (name, head) in zip(maps, order, strict=True):
        image = ax.get_images()[0]
        assert np.array_equal(image.get_array(), shared.weights[name][head])
        assert image.get_array().shape == (5, 7)  # targets down, sources across
        assert image.get_clim() == (0, 1)
        assert ax.get_title() == f"{figures.SHORT_NAMES[name]}, head {head + 1}"
    assert bar.get_ylabel() == "attention weight"


def test_pieces_stand_beside_their_rows_and_columns(shared, attention_figure):
    figure, lower_left = attention_figure, attention_figure.axes[3]
    ticks = {
        axis: dict(zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True))
        for axis in (lower_left.xaxis, lower_left.yaxis)
    }
    across, down = ({at: t.get_text() for at, t in labels.items()} for labels in ticks.values())
    assert across == dict(enumerate(shared.src_pieces))
    assert down == dict(enumerate(shared.tgt_pieces))
    assert "source" in figure.get_supxlabel()
    assert "target" in figure.get_supylabel()
    first_row, last_row = (ticks[lower_left.yaxis][row].get_window_extent() for row in (0, 4))
    assert first_row.y0 > last_row.y0  # the sentence reads downwards, as the map does


def test_the_title_names_layer_and_difference(shared, attention_figure):
    difference = np.abs(shared.weights["pytorch"] - shared.weights["huggingface"]).max()
    assert "layer 3" in attention_figure.get_suptitle()
    assert f"{difference:.2g}" in attention_figure.get_suptitle()


def test_long_hangul_sentences_can_be_read():
    figure = draw(figures.cross_attention, sentence(HANGUL * 4, HANGUL[1:] * 4, heads=2))
    assert fits(figure)
    upper_left, _, lower_left, _, _ = figure.axes
    assert len(lower_left.get_xticklabels()) == 40
    assert overlapping(lower_left.get_xticklabels()) == []
    assert overlapping(upper_left.get_yticklabels()) == []


def test_awkward_tokens_are_drawn_as_they_are():
    awkward = ["$a_$", "$", "▁", "▁$x^2$", "\\frac", "<0xEC>", "😀", "🦄", "뷁", "a_b", "%", " "]
    figure = draw(figures.cross_attention, sentence(awkward, awkward[::-1], heads=1))
    shown = [label.get_text() for label in figure.axes[1].get_xticklabels()]
    assert shown == [drawable(piece) for piece in awkward]
    assert shown[7] == "U+1F984"  # in none of the fonts
    for label in figure.axes[1].get_xticklabels() + figure.axes[0].get_yticklabels():
        assert not label.get_parse_math()


def test_many_heads_are_cut_to_what_fits():
    figure = figures.cross_attention(sentence(HANGUL[:3], HANGUL[:2], heads=16))
    assert len(figure.axes) == 2 * figures.MOST_HEADS + 1


@pytest.mark.usefixtures("every_language")
@pytest.mark.parametrize("heads", [1, 2])
def test_the_title_fits_above_few_heads(heads):
    assert fits(draw(figures.cross_attention, sentence("abcde", "xyz", heads)))


# Parity


def rows_of(num_layers=2, **changes):
    """Rows as `utils.parity.compare` gives them; ``changes`` by the point's place."""
    gradients = [f"gradient.layer.{n}" for n in range(60 * num_layers)]
    points = [*hook_points(num_layers), "loss", *gradients, "step", "step.key_biases"]
    rows = []
    for n, point in enumerate(points):
        tolerance = None if point.startswith("step") else 1e-5
        fp32, fp64 = changes.get(f"row{n}", (1e-7 * (n % 3), 1e-16 * (n % 5)))
        rows.append(Row(point, fp32, fp64, tolerance))
    return rows


@pytest.fixture(scope="module")
def parity_figure():
    return draw(figures.parity, rows_of())


def test_parity_shows_every_point_with_what_is_allowed(parity_figure):
    rows, (ax,) = rows_of(), parity_figure.axes
    drawn = drawn_values(ax)
    assert drawn["single precision"] == [max(row.max_abs_fp32, figures.EXACT) for row in rows]
    assert drawn["double precision"] == [max(row.max_abs_fp64, figures.EXACT) for row in rows]
    assert drawn["double precision: allowed"] == [1e-10] * len(rows)
    allowed = drawn["single precision: allowed"]
    assert allowed[:-2] == [1e-5] * (len(rows) - 2)
    assert np.isnan(allowed[-2:]).all()  # only reported there
    assert ax.get_yscale() == "log"
    assert ax.get_title().startswith(f"One model: at all {len(rows)} points")
    assert "4e-16" in ax.get_title()


def test_parts_are_named_in_order_below_their_points(parity_figure):
    rows, (ax,) = rows_of(), parity_figure.axes
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels == [
        "embedding", "encoder layer 1", "encoder layer 2",
        "embedding", "decoder layer 1", "decoder layer 2",
        "logits, loss", "gradients", "optimizer step",
    ]  # fmt: skip
    middle = dict(zip(labels, ax.get_xticks(), strict=True))
    points = [row.point for row in rows]
    assert middle["logits, loss"] == points.index("logits") + 0.5
    assert middle["optimizer step"] == points.index("step") + 0.5
    assert middle["encoder layer 2"] == points.index("encoder.1.self_attn.q") + 6.5
    assert fits(parity_figure)


@pytest.mark.parametrize("difference", [(1e-3, 0.0), (0.0, 1e-6), (math.nan, math.nan)])
def test_the_first_point_that_differs_is_named_in_the_title(difference):
    rows = rows_of(row20=difference, row30=(1.0, 1.0))
    (ax,) = figures.parity(rows).axes
    assert ax.get_title().startswith("NOT one model")
    assert ax.get_title().endswith(f" {rows[20].point}")


@pytest.mark.usefixtures("every_language")
def test_what_is_not_a_number_can_be_drawn():
    assert fits(draw(figures.parity, rows_of(row20=(math.nan, math.nan))))


def test_a_large_difference_stays_in_sight():
    (ax,) = figures.parity(rows_of(row20=(30.0, 30.0))).axes
    assert ax.get_ylim()[1] > 30


def test_the_parts_of_a_deep_model_can_be_told_apart():
    (ax,) = draw(figures.parity, rows_of(num_layers=6)).axes
    places = [label.get_window_extent().x1 for label in ax.get_xticklabels()]
    height = ax.get_xticklabels()[0].get_fontsize() * ax.figure.dpi / 72
    # Slanted labels keep apart if their ends are a line's height apart across the slant.
    across = np.diff(places) * math.sin(math.radians(ax.get_xticklabels()[0].get_rotation()))
    assert across.min() > height


# Paired training


def training(gap_fp64=0.0, gap_fp32=1e-7):
    losses = [3.0, 2.5, 2.25, 2.0]

    def run(gap):
        weights = {"a": torch.ones(1), "a.w_k.bias": torch.zeros(1)}
        return ShortRun([loss + gap for loss in losses], weights)

    return PairedTraining(run(0), run(gap_fp64), run(0), run(gap_fp32), run(1e-6), True)


def test_paired_training_shows_losses_and_gaps():
    paired = training()
    figure = draw(figures.paired_training, paired)
    assert fits(figure)
    losses, gaps = figure.axes
    assert list(drawn_values(losses).values()) == [[3.0, 2.5, 2.25, 2.0]] * 2
    assert [list(line.get_xdata()) for line in losses.get_lines()] == [[1, 2, 3, 4]] * 2
    own, fp32, fp64 = drawn_values(gaps).values()
    assert own == paired.gaps_own_paths()
    assert fp32 == paired.gaps_fp32()
    assert fp64 == [figures.EXACT] * 4  # zero has no place on the axis
    assert gaps.get_yscale() == "log"
    assert "NOT" not in losses.get_title()
    assert {losses.get_xlabel(), gaps.get_xlabel()} == {"optimizer step"}


@pytest.mark.parametrize("gap", [1e-6, np.nan])
def test_two_trainings_are_not_called_one(gap):
    figure = figures.paired_training(training(gap, 0.0))
    assert figure.axes[0].get_title().startswith("NOT one training")


# Training curves


def records(steps=120, without=()):
    """Lines of ``metrics.jsonl``; what is not finite is None there."""
    lines = []
    for step in range(1, steps + 1):
        loss = None if step in without else 4.0 / step
        lines.append({"kind": "train", "step": step, "loss": loss, "lr": 1e-3, "grad_norm": 1.0})
        if step % 40 == 0:
            nll = None if step in without else 3.0 / step
            lines.append({"kind": "eval", "step": step, "nll": nll, "exact_match": step / 200})
    return lines


def test_training_curves_show_both_runs():
    both = {"pytorch": records(), "huggingface": records()}
    figure = draw(figures.training_curves, both, 0.0)
    train, difference, nll, exact = figure.axes
    for ax in (train, nll, exact):
        assert list(drawn_values(ax)) == ["PyTorch, from scratch", "Hugging Face, MarianMT"]
    for values in drawn_values(exact).values():
        assert values == pytest.approx([20, 40, 60])
    for values in drawn_values(nll).values():
        assert values == pytest.approx([3 / 40, 3 / 80, 3 / 120])
    assert drawn_values(difference) == {"same batch": [1e-8] * 120}
    means = drawn_values(train)["PyTorch, from scratch"]
    assert len(means) == figures.SMOOTHED_OVER
    assert means[0] == pytest.approx((4 / 1 + 4 / 2 + 4 / 3) / 3)
    assert all(ax.get_xlabel() == "optimizer step" and ax.get_ylabel() for ax in figure.axes)
    assert fits(figure)


def test_short_runs_are_shown_too():
    for steps in (1, 49, 51):
        both = {"pytorch": records(steps), "huggingface": records(steps)}
        figure = figures.training_curves(both, 0.0)
        assert len(drawn_values(figure.axes[0])["PyTorch, from scratch"]) == min(steps, 50)
    one_step = {"pytorch": records(1), "huggingface": records(1)}
    assert fits(draw(figures.training_curves, one_step, 0.0))


def test_what_was_not_finite_is_a_gap():
    both = {"pytorch": records(), "huggingface": records(without={40, 43})}
    train, difference, nll, _ = draw(figures.training_curves, both, 0.0).axes
    ours, theirs = drawn_values(nll).values()
    assert np.isfinite(ours).all()
    assert np.isnan(theirs).tolist() == [True, False, False]
    (gaps,) = drawn_values(difference).values()
    assert np.flatnonzero(np.isnan(gaps)).tolist() == [39, 42]
    for means in drawn_values(train).values():  # what is left of their part of the run
        assert np.isfinite(means).all()


def test_runs_of_unequal_length_are_compared_as_far_as_both_go():
    both = {"pytorch": records(30), "huggingface": records(20)}
    difference = figures.training_curves(both, 0.0).axes[1]
    assert len(drawn_values(difference)["same batch"]) == 20


def test_the_title_says_whether_dropout_sets_the_runs_apart():
    both = {"pytorch": records(), "huggingface": records()}
    without, with_dropout = (
        figures.training_curves(both, dropout).get_suptitle() for dropout in (0.0, 0.1)
    )
    assert "rounding" in without
    assert "dropout" not in without
    assert "dropout" in with_dropout
    assert "0.1" in with_dropout
    assert "rounding" not in with_dropout


# Side by side


def quantity(name, ours, theirs, form):
    name, remark = message(f"compare.quantity.{name}"), message("compare.remark.match")
    return Quantity(name, ours, theirs, form, remark)


def test_ratios_are_theirs_to_ours():
    rows = [
        quantity("training", 1000, 500, ",.0f"),
        quantity("memory", 0, 3, "d"),  # a zero has no ratio
        quantity("code", 10, 45, ",d"),
    ]
    figure = draw(figures.ratios, rows)
    (ax,) = figure.axes
    markers = next(line for line in ax.get_lines() if line.get_marker() == "s")
    assert list(markers.get_xdata()) == [0.5, 4.5]
    names = dict(zip(ax.get_yticks(), (t.get_text() for t in ax.get_yticklabels()), strict=True))
    assert [names[y] for y in markers.get_ydata()] == ["training, tokens/s", "lines of code"]
    assert [text.get_text() for text in ax.texts] == ["500 : 1,000", "45 : 10"]
    assert ax.get_xscale() == "log"
    assert "Hugging Face / PyTorch" in ax.get_xlabel()
    low, high = ax.get_xlim()
    assert all(low <= tick <= high for tick in ax.get_xticks())
    assert fits(figure)


@pytest.mark.parametrize("factor", [0.01, 1.0, 100.0])
def test_values_stay_within_the_axes(factor):
    rows = [quantity("training", 1000, 1000 * factor, ",.0f")]
    (ax,) = draw(figures.ratios, rows).axes
    frame = ax.get_window_extent()
    assert all(text.get_window_extent().x1 < frame.x1 for text in ax.texts)


# All of them


def findings():
    summary = {
        "config": {"dropout": 0.0},
        "metrics": {"eval_nll": 1.0, "bleu": 20.0, "chrf": 30.0, "exact_match": 0.0},
        "speed": {
            "train_tokens_per_sec": 10.0, "decode_sentences_per_sec": 5.0, "peak_memory_mb": None,
        },
        "parameters": 100, "code_lines": 10, "library_lines": 1000, "alike": 1.0,
    }  # fmt: skip
    return Findings(
        there=rows_of(),
        back=rows_of(),
        paired=training(),
        summaries={name: summary for name in VERSIONS},
        records={name: records() for name in VERSIONS},
        translations={name: [] for name in VERSIONS},
        attention=sentence(HANGUL[:3], HANGUL[:2]),
        num_steps=120,
    )


def test_all_figures_are_there_and_described():
    found = {name: (figure, record) for name, figure, record in figures.all_figures(findings())}
    num_axes = {name: len(figure.axes) for name, (figure, _) in found.items()}
    assert num_axes == {
        "parity": 1, "paired_training": 2, "training_curves": 4, "side_by_side": 1,
        "cross_attention": 2 * 4 + 1,
    }  # fmt: skip
    for name, (_, record) in found.items():
        assert record["shows"], name
        assert record["axes"].keys() == {"x", "y"}
        assert "checkpoint" in record
    assert found["paired_training"][1]["step"] == 4
    assert found["training_curves"][1]["step"] == 120
    assert found["cross_attention"][1]["layer"] == 2
    assert found["cross_attention"][1]["sentence"] == "a sentence"
    assert len(quantities(findings().summaries)) == 8  # no memory, for want of a number


def test_a_comparison_is_told_and_drawn_in_korean_and_kept_in_english():
    found = findings()
    in_english = {
        "content": found.content(),
        "records": [record for _, _, record in figures.all_figures(found)],
    }
    titles = titles_of(found)
    language.use("ko")
    assert found.content() == in_english["content"]
    assert "letter for letter" in found.content()["remarks"]["BLEU"]
    assert [record for _, _, record in figures.all_figures(found)] == in_english["records"]
    hangul = re.compile("[가-힣]")
    for here, there in zip(titles_of(found), titles, strict=True):
        assert hangul.search(here), here
        assert not hangul.search(there), there
    lines = found.lines()
    assert "같은 모델입니다" in next(line for line in lines if line.startswith("직접 구현 ->"))
    start = next(n for n, line in enumerate(lines) if "fp64" in line)
    table = list(itertools.takewhile(lambda line: line.startswith("  "), lines[start:]))
    ends = {display_width(re.match(r".*e[-+]\d\d", line).group()) for line in table[1:]}
    assert len(ends) == 1  # on a terminal


def titles_of(found):
    """What stands above each figure, or above its first axes."""
    return [
        figure.get_suptitle() or figure.axes[0].get_title()
        for _, figure, _ in figures.all_figures(found)
    ]
