"""Figures that hold both versions side by side. No torch, no statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils.attention_figures import PREDICTED, SOURCE_KEY, WEIGHT
from utils.language import Message, message, text
from utils.visualization import (
    BLUE,
    GREEN,
    GREY,
    MOST_INCHES,
    ORANGE,
    font_settings,
    label_tokens,
)

if TYPE_CHECKING:
    from utils.findings import Findings, SharedSentence
    from utils.paired import PairedTraining
    from utils.parity import Row
    from utils.side_by_side import Quantity

SHORT_NAMES = {"pytorch": "PyTorch", "huggingface": "Hugging Face"}
STYLES = {"pytorch": (BLUE, "-"), "huggingface": (ORANGE, "--")}
EXACT = 1e-18  # where a difference of zero is drawn, on an axis that has no zero
LEAST_GAP = 1e-8  # where differences of two runs' losses are drawn that are smaller still
NOT_A_NUMBER = 1e6  # where a difference that is not a number is drawn
SMOOTHED_OVER = 50  # parts of a run over which its mean loss and spread are taken
MOST_HEADS = 8
FEW_PARTS = 9  # names that stand slanted below an axis


def parity(rows: Sequence[Row]) -> Figure:
    """The difference at every point, in both precisions, with what is allowed.

    Args:
        rows: in the order of computation.
    """
    x = np.arange(len(rows))
    allowed = [np.nan if row.tolerance is None else row.tolerance for row in rows]
    with matplotlib.rc_context(font_settings()):
        figure = Figure(figsize=(13, 6), layout="constrained")
        ax = figure.subplots()
        for values, limits, color, marker, name in (
            ([r.max_abs_fp32 for r in rows], allowed, ORANGE, "s", text("figure.parity.single")),
            ([r.max_abs_fp64 for r in rows], [r.tolerance_fp64 for r in rows], BLUE, "o",
             text("figure.parity.double")),
        ):  # fmt: skip
            # What is not a number stands at the top, where it cannot be overlooked.
            drawn = np.nan_to_num(np.maximum(values, EXACT), nan=NOT_A_NUMBER)
            ax.plot(x, drawn, marker, color=color, markersize=3.5, label=name)
            label = text("figure.parity.allowed", precision=name)
            ax.plot(x, limits, color=color, linewidth=1, linestyle=":", label=label)
        ax.set_yscale("log")
        differences = np.array([[row.max_abs_fp32, row.max_abs_fp64] for row in rows])
        top = np.nan_to_num(differences, nan=NOT_A_NUMBER).max()
        ax.set_ylim(EXACT / 5, 20 * max(1.0, top))
        ax.axhline(EXACT, color=GREY, linewidth=0.5)
        ax.set_ylabel(text("figure.parity.difference", exact=f"{EXACT:.0e}"))
        _mark_parts(ax, [row.point for row in rows])
        ax.legend(loc="upper left", ncols=2, fontsize=9)
        ax.set_title(_parity_title(rows))
    return figure


def _parity_title(rows: Sequence[Row]) -> str:
    if different := [row.point for row in rows if not row.ok]:
        return text("figure.parity.not_one", point=different[0])
    largest = max(row.max_abs_fp64 for row in rows)
    return text("figure.parity.one", points=str(len(rows)), difference=f"{largest:.0e}")


def _mark_parts(ax: Axes, points: Sequence[str]) -> None:
    """Separate the layers and what comes after them on the axis of points."""
    ticks, labels, start = [], [], 0
    for part, members in groupby(points, _part):
        width = len(list(members))
        ax.axvline(start - 0.5, color=GREY, linewidth=0.4)
        ticks.append(start + (width - 1) / 2)
        labels.append(part.text())
        start += width
    crowded = len(labels) > FEW_PARTS
    rotation, side, size = (90, "center", 8) if crowded else (35, "right", 9)
    ax.set_xticks(ticks, labels, rotation=rotation, ha=side, fontsize=size)
    ax.set_xlim(-1, len(points))
    ax.set_xlabel(text("figure.parity.points"))


def _part(point: str) -> Message:
    stack, _, rest = point.partition(".")
    if stack == "gradient":
        return message("figure.parity.part.gradients")
    if rest in ("lookup", "embed"):
        return message("figure.parity.part.embedding")
    if stack in ("encoder", "decoder"):
        layer = str(int(rest.partition(".")[0]) + 1)
        return message(f"figure.parity.part.{stack}", layer=layer)
    return message("figure.parity.part.step" if stack == "step" else "figure.parity.part.loss")


def _name(version: str) -> str:
    return text(f"label.version.{version}")


def paired_training(paired: PairedTraining) -> Figure:
    """Losses of the short runs, and how far apart they are at each step."""
    steps = np.arange(1, len(paired.ours_fp64.losses) + 1)
    with matplotlib.rc_context(font_settings()):
        figure = Figure(figsize=(11, 5), layout="constrained")
        losses, gaps = figure.subplots(1, 2)
        for version, run in (("pytorch", paired.ours_fp64), ("huggingface", paired.theirs_fp64)):
            color, line = STYLES[version]
            losses.plot(steps, run.losses, line, color=color, label=_name(version))
        losses.set_title(text("figure.paired.one" if paired.ok else "figure.paired.not_one"))
        losses.set_ylabel(text("figure.paired.loss"))
        for values, color, marker, name in (
            (paired.gaps_own_paths(), GREY, "x", text("figure.paired.own_paths")),
            (paired.gaps_fp32(), ORANGE, "s", text("figure.paired.fp32")),
            (paired.gaps_fp64(), BLUE, "o", text("figure.paired.fp64")),
        ):
            gaps.plot(steps, np.maximum(values, EXACT), marker, color=color, ms=4, label=name)
        gaps.set_yscale("log")
        title = text(
            "figure.paired.gaps",
            double=f"{np.max(paired.gaps_fp64()):.0e}",
            single=f"{np.max(paired.gaps_fp32()):.0e}",
        )
        gaps.set_title(title)
        gaps.set_ylabel(text("figure.paired.difference", exact=f"{EXACT:.0e}"))
        for ax in (losses, gaps):
            ax.set_xlabel(text("figure.axis.step"))
            ax.grid(alpha=0.3)
        losses.legend(fontsize=9)
        gaps.set_ylim(EXACT / 5, 1e2)  # room for the legend
        gaps.legend(fontsize=9, loc="upper left")
    return figure


def training_curves(records: Mapping[str, Sequence[Mapping[str, Any]]], dropout: float) -> Figure:
    """Both runs' losses with their spread, the difference, and the evaluations.

    Args:
        records: version -> lines of ``metrics.jsonl``.
        dropout: of both runs.
    """
    with matplotlib.rc_context(font_settings()):
        figure = Figure(figsize=(12, 7.5), layout="constrained")
        axes = figure.subplots(2, 2)
        figure.suptitle(
            text("figure.both.dropout", dropout=str(dropout))
            if dropout
            else text("figure.both.no_dropout")
        )
        train = {
            name: [r for r in lines if r["kind"] == "train"] for name, lines in records.items()
        }
        evals = {name: [r for r in lines if r["kind"] == "eval"] for name, lines in records.items()}
        for name in records:
            _draw_spread(axes[0, 0], train[name], name)
            _draw_evals(axes[1, 0], evals[name], name, "nll", 1)
            _draw_evals(axes[1, 1], evals[name], name, "exact_match", 100)
        _draw_difference(axes[0, 1], *train.values())
        axes[0, 0].set_title(text("figure.both.loss"))
        axes[0, 0].set_ylabel(text("figure.both.loss_unit"))
        axes[1, 0].set_title(text("figure.both.nll"))
        axes[1, 0].set_ylabel(text("figure.axis.nats_per_token"))
        axes[1, 1].set_title(text("figure.both.match"))
        axes[1, 1].set_ylabel("%")
        axes[1, 1].set_ylim(-2, 102)
        for ax in axes.flat:
            ax.set_xlabel(text("figure.axis.step"))
            ax.grid(alpha=0.3)
            ax.legend(fontsize=9)
    return figure


def _draw_spread(ax: Axes, records: Sequence[Mapping[str, Any]], name: str) -> None:
    """Mean and standard deviation of the loss over parts of the run."""
    color, line = STYLES[name]
    losses = _losses(records)
    parts = np.array_split(np.arange(len(losses)), min(SMOOTHED_OVER, len(losses)))
    steps = [np.mean([records[i]["step"] for i in part]) for part in parts]
    known = [losses[part][np.isfinite(losses[part])] for part in parts]
    mean = np.array([part.mean() if len(part) else np.nan for part in known])
    spread = np.array([part.std() if len(part) else np.nan for part in known])
    ax.plot(steps, mean, line, color=color, label=_name(name))
    ax.fill_between(steps, mean - spread, mean + spread, color=color, alpha=0.15, linewidth=0)


def _draw_difference(
    ax: Axes, ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]
) -> None:
    """Difference of the losses on the same batch, step by step."""
    steps = [record["step"] for record in ours][: len(theirs)]
    gaps = np.abs(_losses(ours)[: len(steps)] - _losses(theirs)[: len(steps)])
    label = text("figure.both.same_batch")
    drawn = np.maximum(gaps, LEAST_GAP)
    ax.plot(steps, drawn, ".", color=GREEN, markersize=2.5, label=label)
    ax.set_yscale("log")
    ax.set_ylabel(text("figure.both.gap_unit"))
    ax.set_title(text("figure.both.gap"))


def _losses(records: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """The loss of every step, NaN where it was not finite."""
    return np.array([np.nan if r["loss"] is None else r["loss"] for r in records])


def _draw_evals(
    ax: Axes, records: Sequence[Mapping[str, Any]], name: str, key: str, factor: float
) -> None:
    color, line = STYLES[name]
    marker, size = ("o", 7) if name == "pytorch" else ("s", 4)
    steps = [record["step"] for record in records]
    values = [np.nan if r[key] is None else factor * r[key] for r in records]
    ax.plot(steps, values, line, color=color, marker=marker, markersize=size, label=_name(name))


def ratios(rows: Sequence[Quantity]) -> Figure:
    """Each quantity of the Hugging Face run as a multiple of ours, with both values."""
    rows = [row for row in rows if row.pytorch > 0 and row.huggingface > 0]
    values = [row.huggingface / row.pytorch for row in rows]
    with matplotlib.rc_context(font_settings()):
        figure = Figure(figsize=(10, 0.6 + 0.55 * len(rows)), layout="constrained")
        ax = figure.subplots()
        y = np.arange(len(rows))[::-1]
        ax.hlines(y, 1, values, color=ORANGE, linewidth=2)
        ax.plot(values, y, "s", color=ORANGE, markersize=7)
        ax.axvline(1, color=BLUE, linewidth=1.5)
        ax.set_xscale("log")
        low, high = min([*values, 0.5]), max([*values, 2])
        ax.set_xlim(low / 1.3, high * 3.5)
        for place, row, value in zip(y, rows, values, strict=True):
            _, ours, theirs = row.cells()
            ax.text(max(value, 1) * 1.12, place, f"{theirs} : {ours}", va="center", fontsize=9)
        ax.set_yticks(y, [row.name.text() for row in rows])
        ticks = [t for t in (0.1, 0.25, 0.5, 1, 2, 4, 10, 25) if low / 1.3 <= t <= high * 3.5]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.set_xticks([], minor=True)
        ax.set_xlabel("Hugging Face / PyTorch")
        ax.set_title(text("figure.ratios.title"))
        ax.grid(axis="x", alpha=0.3)
    return figure


def cross_attention(sentence: SharedSentence) -> Figure:
    """Cross-attention of both models on one sentence, head by head."""
    weights = sentence.weights
    num_heads = min(MOST_HEADS, *(len(maps) for maps in weights.values()))
    difference = np.abs(np.subtract(*weights.values())).max()
    width = max(7.0, 2.2 + num_heads * max(2.2, 0.2 * len(sentence.src_pieces)))
    height = 1.8 + len(weights) * max(2.4, 0.22 * len(sentence.tgt_pieces))
    shrink = min(1.0, MOST_INCHES / width, MOST_INCHES / height)
    with matplotlib.rc_context(font_settings()):
        figure = Figure(figsize=(shrink * width, shrink * height), layout="constrained")
        axes = figure.subplots(len(weights), num_heads, squeeze=False, sharex=True, sharey=True)
        for line, (name, maps) in zip(axes, weights.items(), strict=True):
            for head, ax in enumerate(line):
                image = ax.imshow(maps[head], vmin=0, vmax=1, cmap="viridis", aspect="auto")
                title = text("figure.shared.head", version=SHORT_NAMES[name], head=str(head + 1))
                ax.set_title(title, fontsize=10)
        for ax in axes[-1]:
            label_tokens(ax.xaxis, sentence.src_pieces, 8 * shrink, rotation=90)
        for ax in axes[:, 0]:
            label_tokens(ax.yaxis, sentence.tgt_pieces, 8 * shrink)
        figure.supxlabel(SOURCE_KEY.text())
        figure.supylabel(PREDICTED.text())
        figure.colorbar(image, ax=axes, label=WEIGHT.text(), shrink=0.8)
        title = text(
            "figure.shared.title", layer=str(sentence.layer + 1), difference=f"{difference:.2g}"
        )
        figure.suptitle(title)
    return figure


def all_figures(findings: Findings) -> Iterator[tuple[str, Figure, dict[str, Any]]]:
    """Each figure of a comparison: file name, figure, record for the manifest."""
    dropout = findings.summaries["pytorch"]["config"]["dropout"]
    sentence, steps = findings.attention, findings.num_steps
    shared = {"checkpoint": "results_pytorch/checkpoints/best_model.pt, results_huggingface"}
    yield (
        "parity",
        parity(findings.there),
        shared
        | {
            "shows": "largest difference at each point of one forward and backward pass",
            "step": steps,
            "axes": {"x": "point, in the order of computation", "y": "absolute difference"},
        },
    )
    yield (
        "paired_training",
        paired_training(findings.paired),
        {
            "shows": "short runs of both versions from one initialisation, without dropout",
            "step": len(findings.paired.ours_fp64.losses),
            "axes": {"x": "optimizer step", "y": "nats per target token"},
            "checkpoint": None,
        },
    )
    yield (
        "training_curves",
        training_curves(findings.records, dropout),
        {
            "shows": "loss and evaluation of both runs",
            "step": steps,
            "axes": {"x": "optimizer step", "y": "nats per target token, score"},
            "checkpoint": None,
        },
    )
    yield (
        "side_by_side",
        ratios(findings.quantities()),
        shared
        | {
            "shows": "Hugging Face's numbers divided by ours",
            "step": steps,
            "axes": {"x": "ratio", "y": "quantity"},
        },
    )
    yield (
        "cross_attention",
        cross_attention(sentence),
        shared
        | {
            "shows": "cross-attention of both models, given the reference",
            "step": steps,
            "layer": sentence.layer + 1,
            "head": "all",
            "sentence": sentence.text,
            "axes": {"x": "source token", "y": "target token that the query predicts"},
        },
    )
