"""Figures of what was followed while a model was trained. No torch, no statistics.

Each takes what was followed, and a title: what was trained.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils import timelines
from utils.analysis import Labelled, attention_label
from utils.attention_figures import Cell, map_grid
from utils.history import History
from utils.language import capitalized, text
from utils.names import attention_name, layer_name, role_name, site_name, unit_name
from utils.visualization import BLUE, GREEN, ORANGE, PURPLE, font_settings

SITE_COLORS = {"encoder self": BLUE, "decoder self": GREEN, "decoder cross": ORANGE}
STACK_COLORS = {"encoder": BLUE, "decoder": ORANGE}
LINES, MARKERS = ("-", "--", ":", "-."), "osv^Dx"  # by layer
QUANTITIES = ("norm", "cosine_to_first", "effective_rank")
# Okabe and Ito's, all eight.
ROLE_COLORS = {"q": BLUE, "k": "#56B4E9", "v": GREEN, "o": "#F0E442", "ffn1": ORANGE,
               "ffn2": "#E69F00", "norm": PURPLE, "embedding": "#000000"}  # fmt: skip
ROLE_MARKERS = MARKERS + "+*"
MOST_HEADS, MOST_STEPS = 4, 5
LEAST_APART = 0.16  # of an axis, between two of its labels
ATTENTION_AT_STEP = "attention/attention_step_{step}"


def qkv_evolution(history: History, title: str) -> Figure:
    """Norm, direction and rank of Q, K and V over training, attention by attention."""
    tables = {q: timelines.timeline(history.records, "qkv", q) for q in QUANTITIES}
    with matplotlib.rc_context(font_settings()):
        # Margins by hand: it is drawn again and again, and a layout engine takes half the time.
        figure = Figure(figsize=(13, 9))
        axes = figure.subplots(3, 3, sharex=True, sharey="row")
        figure.subplots_adjust(0.07, 0.115, 0.99, 0.9, wspace=0.04, hspace=0.08)
        for row, quantity in zip(axes, QUANTITIES, strict=True):
            for ax, kind in zip(row, "qkv", strict=True):
                _draw_attentions(ax, tables[quantity], f".{kind}")
            label, unit = text(f"figure.qkv.{quantity}"), tables[quantity].unit
            row[0].set_ylabel(
                label if quantity == "norm" else f"{label}\n({unit_name(unit).text()})"
            )
        for ax, kind in zip(axes[0], "qkv", strict=True):
            ax.set_title(text(f"figure.qkv.{kind}"))
        for ax in axes[-1]:
            ax.set_xlabel(text("figure.axis.step"))
        figure.legend(
            *axes[0, 0].get_legend_handles_labels(), loc="lower center", ncols=6, fontsize=9
        )
        figure.suptitle(f"{title}\n{_qkv_finding(tables['cosine_to_first'])}")
    return figure


def _qkv_finding(cosines: Labelled) -> str:
    """Which vectors training turned the most."""
    last = cosines.values[:, -1]
    attention, _, kind = cosines.axes["name"][int(last.argmin())].rpartition(".")
    return text(
        "figure.qkv.finding",
        vector=kind.upper(),
        attention=attention_name(attention),
        cosine=f"{last.min():.2f}",
    )


def attention_numbers(history: History, title: str) -> Figure:
    """Entropy, diagonality and likeness of the heads over training."""
    quantities = ("entropy", "diagonality", "similarity")
    with matplotlib.rc_context(font_settings()):
        figure = Figure(figsize=(13, 4.6), layout="constrained")
        for ax, quantity in zip(figure.subplots(1, 3), quantities, strict=True):
            table = timelines.timeline(history.records, "attention", quantity)
            _draw_attentions(ax, table, "")
            ax.set_ylabel(text(f"figure.heads.{quantity}"))
            ax.set_xlabel(text("figure.axis.step"))
        _legend_below(figure, figure.axes[0])
        figure.suptitle(f"{title}\n{_entropy_finding(history.records)}")
    return figure


def _entropy_finding(records: Sequence[Mapping[str, Any]]) -> str:
    """How much more narrowly the last cross-attention looks after training."""
    entropies = timelines.timeline(records, "attention", "entropy")
    names = entropies.axes["name"]
    place = max(i for i, name in enumerate(names) if name.endswith("cross_attn"))
    before, after = entropies.values[place, [0, -1]]
    steps = entropies.axes["step"]
    finding = text(
        "figure.heads.narrows" if after < before else "figure.heads.widens",
        attention=attention_name(names[place]),
        before=f"{before:.2f}",
        first=f"{int(steps[0]):,}",
        after=f"{after:.2f}",
        last=f"{int(steps[-1]):,}",
    )
    return capitalized(finding)


def attention_evolution(history: History, title: str) -> Figure:
    """Cross-attention of the last layer on one sentence: heads by steps."""
    maps, attention = history.maps, history.last_cross_attention()
    chosen = np.linspace(0, len(maps) - 1, min(MOST_STEPS, len(maps))).round().astype(int)
    steps = [list(maps)[i] for i in chosen]
    num_heads = min(MOST_HEADS, len(maps[steps[0]][attention][0]))
    grid = [
        [
            (
                maps[step][attention][0][head],
                text("figure.maps.head_at_step", head=str(head + 1), step=f"{step:,}"),
            )
            for step in steps
        ]
        for head in range(num_heads)
    ]
    return _map_grid(grid, history, f"{title}\n{_entropy_finding(history.records)}")


def attention_at_step(history: History, step: int, title: str) -> Figure:
    """Cross-attention of the last layer on one sentence after one step: all heads."""
    attention = history.last_cross_attention()
    heads = history.maps[step][attention][0][: 2 * MOST_HEADS]
    row = [(weights, text("label.head", head=str(head + 1))) for head, weights in enumerate(heads)]
    when = text("figure.maps.after_step", attention=attention_name(attention), step=f"{step:,}")
    return _map_grid([row], history, f"{title}\n{capitalized(when)}")


def _map_grid(grid: Sequence[Sequence[Cell]], history: History, title: str) -> Figure:
    """Maps of the first sentence that was followed."""
    return map_grid(
        grid,
        query_pieces=history.tgt_pieces[0],
        key_pieces=history.src_pieces[0],
        title=title,
    )


def gradient_flow(history: History, title: str) -> Figure:
    """How the loss gradient reaches every layer and site, and what each step changes."""
    records = history.records
    with matplotlib.rc_context(font_settings()):
        figure = Figure(figsize=(13, 10), layout="constrained")
        axes = figure.subplots(2, 2)
        finding = _draw_depths(axes[0, 0], records)
        _draw_layers_and_sites(figure, axes[0, 1], records)
        _draw_roles(axes[1, 0], records, "gradient_norm")
        axes[1, 0].set_ylabel(text("figure.gradient.by_role_norm"))
        axes[1, 0].set_title(text("figure.gradient.by_role"))
        _draw_roles(axes[1, 1], records, "update_ratio")
        axes[1, 1].set_ylabel(text("figure.gradient.update_ratio"))
        axes[1, 1].set_title(text("figure.gradient.update"))
        axes[1, 1].legend(fontsize=8, ncols=2)
        figure.suptitle(f"{title}\n{finding}")
    return figure


def _draw_depths(ax: Axes, records: Sequence[Mapping[str, Any]]) -> str:
    """The gradient in the residual stream, layer by layer, at several steps; says the finding."""
    table = timelines.timeline(records, "residual", "gradient_norm")
    names = table.axes["name"]
    colors = matplotlib.colormaps["viridis_r"](np.linspace(0.1, 1, len(records)))
    chosen = np.unique(np.linspace(0, len(records) - 1, MOST_STEPS).round().astype(int))
    for i in chosen:
        for stack in STACK_COLORS:
            places = [p for p, name in enumerate(names) if name.startswith(stack)]
            step = text("label.state.step", number=f"{records[i]['step']:,}")
            label = step if stack == "encoder" else None
            ax.plot(
                places, table.values[places, i], "-", color=colors[i], marker="o", markersize=4,
                label=label,
            )  # fmt: skip
    labels = [layer_name(name).text() for name in names]
    ax.set_xticks(range(len(names)), labels, rotation=35, ha="right", fontsize=8)
    _log_scale(ax, table.values)
    ax.set_ylabel(text("figure.gradient.residual_norm"))
    ax.set_title(text("figure.gradient.residual"))
    ax.legend(fontsize=8)
    ax.grid(alpha=0.3)
    encoder = [p for p, name in enumerate(names) if name.startswith("encoder")]
    first, last = table.values[encoder[0], -1], table.values[encoder[-1], -1]
    return text(
        "figure.gradient.finding",
        step=f"{records[-1]['step']:,}",
        ratio=f"{first / max(last, 1e-30):.2f}",
    )


def _draw_layers_and_sites(figure: Figure, ax: Axes, records: Sequence[Mapping[str, Any]]) -> None:
    """Gradient norms of the last probe as a table of layers and sites."""
    table = timelines.by_layer_and_site(records, "gradient_norm")
    with np.errstate(divide="ignore"):
        values = np.log10(table.values[:, :, -1])
    image = ax.imshow(np.where(np.isfinite(values), values, np.nan), cmap="viridis", aspect="auto")
    sites = [site_name(site).text() for site in table.axes["site"]]
    layers = [layer_name(layer).text() for layer in table.axes["layer"]]
    ax.set_xticks(range(len(sites)), sites, rotation=90, fontsize=8)
    ax.set_yticks(range(len(layers)), layers, fontsize=8)
    ax.set_title(text("figure.gradient.sites", step=f"{records[-1]['step']:,}"))
    figure.colorbar(image, ax=ax, label=text("figure.gradient.log"))


def _draw_roles(ax: Axes, records: Sequence[Mapping[str, Any]], quantity: str) -> None:
    """One line for each kind of weight: the mean over all layers."""
    table = timelines.timeline(records, "weights", quantity)
    steps = [record["step"] for record in records]
    for role, marker in zip(ROLE_COLORS, ROLE_MARKERS, strict=True):
        places = [p for p, n in enumerate(table.axes["name"]) if n.rpartition(".")[2] == role]
        if not places:
            continue
        values = table.values[places]
        known = ~np.isnan(values).any(axis=0)
        ax.plot(
            np.array(steps)[known], values[:, known].mean(axis=0), marker=marker, markersize=4,
            linewidth=1.2, color=ROLE_COLORS[role], label=role_name(role).text(),
        )  # fmt: skip
    _log_scale(ax, table.values)
    _step_scale(ax, steps)
    ax.set_xlabel(text("figure.axis.step"))
    ax.grid(alpha=0.3)


def layers_evolution(history: History, title: str) -> Figure:
    """Feed-forward activations and the residual stream over training, layer by layer."""
    records = history.records
    panels = (
        ("ffn", "zero_share"),
        ("ffn", "dead_share"),
        ("ffn", "pre_std"),
        ("residual", "norm"),
    )
    steps = [record["step"] for record in records]
    with matplotlib.rc_context(font_settings()):
        figure = Figure(figsize=(12, 8), layout="constrained")
        for ax, (group, quantity) in zip(figure.subplots(2, 2).flat, panels, strict=True):
            table = timelines.timeline(records, group, quantity)
            for name, values in zip(table.axes["name"], table.values, strict=True):
                stack, layer = name.split(".")[:2]
                number = int(layer) if layer.isdigit() else -1
                ax.plot(
                    steps, values, LINES[number % len(LINES)], color=STACK_COLORS[stack],
                    marker=MARKERS[number % len(MARKERS)], markersize=4, linewidth=1.2,
                    label=layer_name(name).text(),
                )  # fmt: skip
            ax.set_ylabel(text(f"figure.layers.{quantity}"))
            ax.set_xlabel(text("figure.axis.step"))
            _step_scale(ax, steps)
            ax.grid(alpha=0.3)
        _legend_below(figure, figure.axes[-1])  # the residual stream has the most curves
        zero = timelines.timeline(records, "ffn", "zero_share").values.mean(axis=0)
        figure.suptitle(f"{title}\n{_sparsity_finding(zero, steps)}")
    return figure


def _sparsity_finding(zero: np.ndarray, steps: Sequence[int]) -> str:
    """Whether fewer activations are left after training."""
    values = {"before": f"{zero[0]:.0%}", "after": f"{zero[-1]:.0%}", "last": f"{steps[-1]:,}"}
    if zero[-1] > zero[0]:
        return text("figure.layers.sparser", first=f"{steps[0]:,}", **values)
    return text("figure.layers.not_sparser", **values)


def _draw_attentions(ax: Axes, table: Labelled, ending: str) -> None:
    """One line for each attention: the mean over its heads."""
    steps = [int(step) for step in table.axes["step"]]
    for name, values in zip(table.axes["name"], table.values, strict=True):
        if not name.endswith(ending):
            continue
        attention = name.removesuffix(ending)
        stack, layer, site = attention_label(attention).split()
        number = int(layer) - 1
        ax.plot(
            steps, values, LINES[number % len(LINES)], color=SITE_COLORS[f"{stack} {site}"],
            marker=MARKERS[number % len(MARKERS)], markersize=3.5, linewidth=1.2,
            label=attention_name(attention).text(),
        )  # fmt: skip
    _step_scale(ax, steps)
    ax.grid(alpha=0.3)


def _step_scale(ax: Axes, steps: Sequence[int]) -> None:
    """Give early steps more room where they were probed more often."""
    if len(steps) > 3 and steps[-1] - steps[-2] > 2 * (steps[1] - steps[0]):
        ax.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
        ax.set_xticks(_apart([int(t) for t in ax.get_xticks() if 0 <= t <= steps[-1]]))
        ax.set_xlim(-0.0001 * steps[-1], 1.02 * steps[-1])


def _apart(ticks: Sequence[int]) -> list[int]:
    """Those ticks whose labels do not touch on an axis of square roots."""
    kept = list(ticks[:1])
    for tick in ticks[1:]:
        if tick**0.5 - kept[-1] ** 0.5 >= LEAST_APART * ticks[-1] ** 0.5:
            kept.append(tick)
    return kept


def _log_scale(ax: Axes, values: np.ndarray) -> None:
    """A logarithmic axis, unless nothing is above zero."""
    if (values > 0).any():
        ax.set_yscale("log")


def _legend_below(figure: Figure, ax: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=9)


def followed_figures(
    version: str, history: History, title: str
) -> Iterator[tuple[str, Callable[[], Figure], dict[str, Any]]]:
    """The figures of every run: file name, how to draw it, record for the manifest.

    Args:
        version: "pytorch" or "huggingface"; their files have different names.
        history: what has been followed so far.
        title: what is trained.
    """
    if version == "pytorch":
        yield (
            "attention_plots/attention_evolution",
            partial(attention_evolution, history, title),
            _of_sentence("over training", max(history.maps), history),
        )
    else:
        for step in history.maps:
            yield (
                ATTENTION_AT_STEP.format(step=step),
                partial(attention_at_step, history, step, title),
                _of_sentence("after one step", step, history),
            )
    yield (
        "qkv_evolution" if version == "pytorch" else "qkv/qkv_evolution",
        partial(qkv_evolution, history, title),
        over_steps("qkv_evolution", history),
    )


def _of_sentence(when: str, step: int, history: History) -> dict[str, Any]:
    return {
        "shows": f"cross-attention of the last layer {when}",
        "step": step,
        "layer": int(history.last_cross_attention().split(".")[1]) + 1,
        "head": "all",
        "sentence": history.sentences[0][0],
        "checkpoint": None,
        "axes": {"x": "source token (key)", "y": "target token that the query predicts"},
    }


# Over a whole run: file name -> how to draw it, and what it shows.
TRAINING_FIGURES: dict[str, tuple[Callable[[History, str], Figure], str]] = {
    "qkv_evolution": (qkv_evolution, "norm, direction and effective rank of Q, K, V"),
    "attention_evolution": (attention_evolution, "cross-attention of the last layer"),
    "attention_numbers": (attention_numbers, "entropy, diagonality and likeness of the heads"),
    "gradient_flow": (gradient_flow, "gradient and update by layer and site"),
    "layers_evolution": (layers_evolution, "feed-forward activations, residual stream"),
}


def over_steps(name: str, history: History) -> dict[str, Any]:
    """The manifest's record of one of `TRAINING_FIGURES`."""
    return {
        "shows": f"{TRAINING_FIGURES[name][1]} over training",
        "step": history.records[-1]["step"],
        "layer": "all",
        "head": "all",
        "checkpoint": None,
        "axes": {"x": "optimizer step", "y": "as labelled"},
        "probe_sentences": [list(pair) for pair in history.sentences],
    }
