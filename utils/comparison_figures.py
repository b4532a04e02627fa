"""Figures that hold both versions side by side. No torch, no statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils.visualization import BLUE, GREEN, GREY, ORANGE, font_settings, label_tokens

if TYPE_CHECKING:
    from utils.findings import Findings, SharedSentence
    from utils.paired import PairedTraining
    from utils.parity import Row
    from utils.side_by_side import Quantity

NAMES = {"pytorch": "PyTorch, from scratch", "huggingface": "Hugging Face, MarianMT"}
SHORT_NAMES = {"pytorch": "PyTorch", "huggingface": "Hugging Face"}
STYLES = {"pytorch": (BLUE, "-"), "huggingface": (ORANGE, "--")}
EXACT = 1e-18  # where a difference of zero is drawn, on an axis that has no zero
NOT_A_NUMBER = 1e6  # where a difference that is not a number is drawn
SMOOTHED_OVER = 50  # parts of a run over which its mean loss and spread are taken
MOST_HEADS = 8
MOST_INCHES = 40  # of a figure with long sentences
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
            ([r.max_abs_fp32 for r in rows], allowed, ORANGE, "s", "single precision"),
            ([r.max_abs_fp64 for r in rows], [r.tolerance_fp64 for r in rows], BLUE, "o",
             "double precision"),
        ):  # fmt: skip
            # What is not a number stands at the top, where it cannot be overlooked.
            drawn = np.nan_to_num(np.maximum(values, EXACT), nan=NOT_A_NUMBER)
            ax.plot(x, drawn, marker, color=color, markersize=3.5, label=name)
            ax.plot(x, limits, color=color, linewidth=1, linestyle=":", label=f"{name}: allowed")
        ax.set_yscale("log")
        differences = np.array([[row.max_abs_fp32, row.max_abs_fp64] for row in rows])
        top = np.nan_to_num(differences, nan=NOT_A_NUMBER).max()
        ax.set_ylim(EXACT / 5, 20 * max(1.0, top))
        ax.axhline(EXACT, color=GREY, linewidth=0.5)
        ax.set_ylabel(f"largest absolute difference ({EXACT:.0e}: none)")
        _mark_parts(ax, [row.point for row in rows])
        ax.legend(loc="upper left", ncols=2, fontsize=9)
        ax.set_title(_parity_title(rows))
    return figure


def _parity_title(rows: Sequence[Row]) -> str:
    if different := [row.point for row in rows if not row.ok]:
        return f"NOT one model: the two versions first differ at {different[0]}"
    largest = max(row.max_abs_fp64 for row in rows)
    return (
        f"One model: at all {len(rows)} points the two versions differ by at most {largest:.0e} "
        "in double precision"
    )


def _mark_parts(ax: Axes, points: Sequence[str]) -> None:
    """Separate the layers and what comes after them on the axis of points."""
    ticks, labels, start = [], [], 0
    for part, members in groupby(points, _part):
        width = len(list(members))
        ax.axvline(start - 0.5, color=GREY, linewidth=0.4)
        ticks.append(start + (width - 1) / 2)
        labels.append(part)
        start += width
    crowded = len(labels) > FEW_PARTS
    rotation, side, size = (90, "center", 8) if crowded else (35, "right", 9)
    ax.set_xticks(ticks, labels, rotation=rotation, ha=side, fontsize=size)
    ax.set_xlim(-1, len(points))
    ax.set_xlabel("point, in the order of computation")


def _part(point: str) -> str:
    stack, _, rest = point.partition(".")
    if stack == "gradient":
        return "gradients"
    if rest in ("lookup", "embed"):
        return "embedding"
    if stack in ("encoder", "decoder"):
        return f"{stack} layer {int(rest.partition('.')[0]) + 1}"
    return "optimizer step" if stack == "step" else "logits, loss"


def paired_training(paired: PairedTraining) -> Figure:
    """Losses of the short runs, and how far apart they are at each step."""
    steps = np.arange(1, len(paired.ours_fp64.losses) + 1)
    with matplotlib.rc_context(font_settings()):
        figure = Figure(figsize=(11, 5), layout="constrained")
        losses, gaps = figure.subplots(1, 2)
        for version, run in (("pytorch", paired.ours_fp64), ("huggingface", paired.theirs_fp64)):
            color, line = STYLES[version]
            losses.plot(steps, run.losses, line, color=color, label=NAMES[version])
        losses.set_title(
            "Without dropout the two curves are one (double precision)"
            if paired.ok
            else "NOT one training: the two runs part"
        )
        losses.set_ylabel("training loss, nats per target token")
        for values, color, marker, name in (
            (paired.gaps_own_paths(), GREY, "x", "our own two attention paths, single precision"),
            (paired.gaps_fp32(), ORANGE, "s", "the two versions, single precision"),
            (paired.gaps_fp64(), BLUE, "o", "the two versions, double precision"),
        ):
            gaps.plot(steps, np.maximum(values, EXACT), marker, color=color, ms=4, label=name)
        gaps.set_yscale("log")
        gaps.set_title(
            f"Loss difference at most {np.max(paired.gaps_fp64()):.0e} in double precision,\n"
            f"{np.max(paired.gaps_fp32()):.0e} in single, where rounding grows"
        )
        gaps.set_ylabel(f"absolute difference of the losses ({EXACT:.0e}: none)")
        for ax in (losses, gaps):
            ax.set_xlabel("optimizer step")
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
            f"One experiment, two codes: each draws its own dropout masks (rate {dropout})"
            if dropout
            else "One experiment, two codes: the curves part only by rounding"
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
        axes[0, 0].set_title("Training loss: mean and standard deviation of its batches")
        axes[0, 0].set_ylabel("nats per target token, smoothed labels")
        axes[1, 0].set_title("Evaluation NLL, unsmoothed")
        axes[1, 0].set_ylabel("nats per target token")
        axes[1, 1].set_title("Exact match on evaluation sentences")
        axes[1, 1].set_ylabel("%")
        axes[1, 1].set_ylim(-2, 102)
        for ax in axes.flat:
            ax.set_xlabel("optimizer step")
            ax.grid(alpha=0.3)
            ax.legend(fontsize=9)
    return figure


def _draw_spread(ax: Axes, records: Sequence[Mapping[str, Any]], name: str) -> None:
    """Mean and standard deviation of the loss over parts of the run."""
    color, line = STYLES[name]
    losses = np.array([np.nan if r["loss"] is None else r["loss"] for r in records])
    parts = np.array_split(np.arange(len(losses)), min(SMOOTHED_OVER, len(losses)))
    steps = [np.mean([records[i]["step"] for i in part]) for part in parts]
    known = [losses[part][np.isfinite(losses[part])] for part in parts]
    mean = np.array([part.mean() if len(part) else np.nan for part in known])
    spread = np.array([part.std() if len(part) else np.nan for part in known])
    ax.plot(steps, mean, line, color=color, label=NAMES[name])
    ax.fill_between(steps, mean - spread, mean + spread, color=color, alpha=0.15, linewidth=0)


def _draw_difference(
    ax: Axes, ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]
) -> None:
    """Difference of the losses on the same batch, step by step."""
    pairs = list(zip(ours, theirs, strict=False))
    gaps = [abs((a["loss"] or np.nan) - (b["loss"] or np.nan)) for a, b in pairs]
    steps = [a["step"] for a, _ in pairs]
    ax.plot(steps, np.maximum(gaps, 1e-8), ".", color=GREEN, markersize=2.5, label="same batch")
    ax.set_yscale("log")
    ax.set_ylabel("nats per target token (1e-08: none)")
    ax.set_title("Absolute difference of the two losses at each step")


def _draw_evals(
    ax: Axes, records: Sequence[Mapping[str, Any]], name: str, key: str, factor: float
) -> None:
    color, line = STYLES[name]
    marker, size = ("o", 7) if name == "pytorch" else ("s", 4)
    steps = [record["step"] for record in records]
    values = [np.nan if r[key] is None else factor * r[key] for r in records]
    ax.plot(steps, values, line, color=color, marker=marker, markersize=size, label=NAMES[name])


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
        ax.set_yticks(y, [row.name for row in rows])
        ticks = [t for t in (0.1, 0.25, 0.5, 1, 2, 4, 10, 25) if low / 1.3 <= t <= high * 3.5]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.set_xticks([], minor=True)
        ax.set_xlabel("Hugging Face / PyTorch")
        ax.set_title("The two runs side by side (Hugging Face : PyTorch)")
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
                ax.set_title(f"{SHORT_NAMES[name]}, head {head + 1}", fontsize=10)
        for ax in axes[-1]:
            label_tokens(ax.xaxis, sentence.src_pieces, 8 * shrink, rotation=90)
        for ax in axes[:, 0]:
            label_tokens(ax.yaxis, sentence.tgt_pieces, 8 * shrink)
        figure.supxlabel("source token (key)")
        figure.supylabel("target token that the query predicts")
        figure.colorbar(image, ax=axes, label="attention weight", shrink=0.8)
        figure.suptitle(
            f"The same sentence in both trained models, decoder layer {sentence.layer + 1}:\n"
            f"weights differ by at most {difference:.2g}"
        )
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
