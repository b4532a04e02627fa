"""The figures of a trained model, each with two sentences on what it shows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from utils import (
    alignment_figures,
    attention_figures,
    head_tables,
    representation_figures,
    trajectory_figures,
)
from utils.analysis import attention_entropy, attention_label
from utils.figure_writer import Exhibit
from utils.language import Message, message
from utils.names import attention_name, layer_name

if TYPE_CHECKING:
    from utils.inspection import Alignment, Inspection

WEIGHTED_HEADS = 4  # shown with what they take


def exhibits(inspection: Inspection) -> Iterator[Exhibit]:
    """The figures of one trained model; for others see `of_alignment`, `training_exhibits`."""
    yield from _maps(inspection)
    yield _head_ablation(inspection)
    yield _head_statistics(inspection)
    yield _rollout(inspection)
    yield _value_weighted(inspection)
    yield from _vectors(inspection)
    yield from _inside_layers(inspection)


def of_alignment(found: Alignment) -> Iterator[Exhibit]:
    """The figures of which head looks at the word that is being translated."""
    best = found.best
    where = {"layer": str(best.layer), "head": str(best.head)}
    yield Exhibit(
        name="alignment/error_rates",
        caption=message(
            "caption.alignment.error_rates",
            **where,
            aer=f"{found.aer:.3f}",
            sentences=str(found.table.num_sentences),
        ),
        draw=partial(alignment_figures.error_rates, found.table, best),
        record=_all_heads("alignment error rate at both shifts", "head", "decoder layer"),
    )
    yield Exhibit(
        name="alignment/content_and_particles",
        caption=_content_and_particles(found),
        draw=partial(alignment_figures.content_and_particles, found.table, best),
        record=_all_heads("tokens that look at a gold word", "layer and head", "% of tokens"),
    )
    for number, (head, text) in enumerate(found.shown, start=1):
        yield Exhibit(
            name=f"alignment/sentence_{number}",
            caption=message(
                "caption.alignment.sentence",
                **where,
                sentence=text,
                right=str(head.num_right),
                words=str(len(head.chosen)),
            ),
            draw=partial(alignment_figures.gold_on_map, head, text),
            record={
                "shows": "cross-attention of the best aligning head with gold links",
                "layer": best.layer,
                "head": best.head,
                "sentence": text,
                "axes": {
                    "x": "source token",
                    "y": alignment_figures.QUERIES[best.shift].text("en"),
                },
            },
        )


def _content_and_particles(found: Alignment) -> Message:
    """How often the best head looks at the right word, with stems and with endings."""
    best = found.best
    content, particle = (
        found.table.accuracy.values[i, best.shift, best.layer - 1, best.head - 1] for i in (0, 1)
    )
    if np.isnan(particle):
        return message(
            "caption.alignment.content_and_particles.no_endings", content=f"{content:.0%}"
        )
    return message(
        "caption.alignment.content_and_particles",
        content=f"{content:.0%}",
        particle=f"{particle:.0%}",
    )


def _maps(inspection: Inspection) -> Iterator[Exhibit]:
    """Every head of every attention on the first sentence."""
    pieces, sentence = inspection.pieces[0], inspection.examples[0]
    for attention in inspection.captured.attentions():
        stack, layer, site = attention_label(attention).split()
        maps = inspection.captured.map_of(attention, 0)
        entropy = attention_entropy(maps[None], np.ones((1, maps.shape[1]), dtype=bool))
        queries, keys = {
            "encoder self": (pieces.src, pieces.src),
            "decoder self": (pieces.tgt, pieces.inputs),
            "decoder cross": (pieces.tgt, pieces.src),
        }[f"{stack} {site}"]
        narrow, wide = int(np.argmin(entropy)), int(np.argmax(entropy))
        yield Exhibit(
            name=f"attention/{stack}_{layer}_{site}",
            caption=message(
                "caption.attention.map",
                attention=attention_name(attention),
                sentence=sentence.src,
                narrow=str(narrow + 1),
                lowest=f"{entropy[narrow]:.2f}",
                wide=str(wide + 1),
                highest=f"{entropy[wide]:.2f}",
            ),
            draw=partial(
                attention_figures.all_heads, maps, queries, keys, attention, entropy.tolist()
            ),
            record={
                "shows": "attention weights of every head",
                "layer": int(layer),
                "head": "all",
                "sentence": sentence.src,
                "axes": _map_axes(attention),
            },
        )


def _map_axes(attention: str) -> dict[str, str]:
    """The axes of an attention's map, for the manifest."""
    rows, columns = attention_figures.axis_names(attention)
    return {"y": rows.text("en"), "x": columns.text("en")}


def _head_ablation(inspection: Inspection) -> Exhibit:
    """Which heads matter."""
    ablation = inspection.ablation
    row, head = ablation.most_important
    attentions = ablation.nll.axes["attention"]
    return Exhibit(
        name="head_ablation",
        caption=message(
            "caption.head_ablation",
            sentences=str(ablation.num_sentences),
            head=str(head + 1),
            attention=attention_name(attentions[row]),
            change=f"{ablation.nll.values[row, head]:.3f}",
            nll=f"{ablation.baseline_nll:.3f}",
        ),
        draw=partial(representation_figures.head_ablation, ablation),
        record=_all_heads("change of NLL and exact match", "head", "attention"),
    )


def _head_statistics(inspection: Inspection) -> Exhibit:
    """How each head looks."""
    entropy = inspection.attention["entropy"]
    widest = np.unravel_index(np.nanargmax(entropy.values), entropy.values.shape)
    return Exhibit(
        name="attention/statistics",
        caption=message(
            "caption.attention.statistics",
            sentences=str(inspection.num_sampled),
            head=str(widest[1] + 1),
            attention=attention_name(entropy.axes["attention"][widest[0]]),
            entropy=f"{entropy.values[widest]:.2f}",
            tokens=f"{np.exp(entropy.values[widest]):.0f}",
        ),
        draw=partial(head_tables.head_statistics, inspection.attention),
        record=_all_heads("entropy, diagonality, similarity to other heads", "head", "attention"),
    )


def _rollout(inspection: Inspection) -> Exhibit:
    """What flows through all layers together."""
    encoder, decoder = inspection.rollout
    own = np.diag(encoder.values).mean()
    return Exhibit(
        name="attention/rollout",
        caption=message("caption.attention.rollout", own=f"{own:.0%}"),
        draw=partial(attention_figures.rollout, encoder, decoder),
        record={
            "shows": "attention rollout",
            "layer": "all",
            "head": "mean",
            "sentence": inspection.examples[0].src,
            "axes": {"x": "input token", "y": "position of the last layer"},
        },
    )


def _value_weighted(inspection: Inspection) -> Exhibit:
    """What the heads of the last cross-attention take from where they look."""
    last, pieces = inspection.captured.last_cross_attention(), inspection.pieces[0]
    sentence = inspection.examples[0].src
    maps = inspection.captured.map_of(last, 0)
    weighted, overlap = inspection.value_weighted
    heads = range(min(WEIGHTED_HEADS, len(maps)))
    return Exhibit(
        name="attention/value_weighted",
        caption=message(
            "caption.attention.value_weighted",
            attention=attention_name(last),
            sentence=sentence,
            here=f"{overlap.mean():.0%}",
            sentences=str(inspection.num_sampled),
            everywhere=f"{np.nanmean(inspection.value_overlap.values):.0%}",
        ),
        draw=partial(
            attention_figures.value_weighted,
            maps,
            weighted,
            pieces.tgt,
            pieces.src,
            last,
            overlap.tolist(),
            heads,
        ),
        record={
            "shows": "attention weights and value-weighted attention",
            "layer": int(last.split(".")[1]) + 1,
            "head": [head + 1 for head in heads],
            "sentence": sentence,
            "axes": _map_axes(last),
        },
    )


def _vectors(inspection: Inspection) -> Iterator[Exhibit]:
    """Q, K and V layer by layer; embeddings."""
    rank = inspection.qkv["effective_rank"]
    lowest = np.unravel_index(np.nanargmin(rank.values), rank.values.shape)
    yield Exhibit(
        name="qkv/by_layer",
        caption=message(
            "caption.qkv.by_layer",
            vector=rank.axes["vector"][lowest[0]],
            attention=attention_name(rank.axes["attention"][lowest[1]]),
            head=str(lowest[2] + 1),
            rank=f"{rank.values[lowest]:.1f}",
        ),
        draw=partial(head_tables.qkv_by_layer, inspection.qkv),
        record=_all_heads("norm, standard deviation, effective rank", "head", "attention"),
    )
    explained = {stack: part.shares.sum() for stack, part in inspection.trajectories.items()}
    yield Exhibit(
        name="embeddings/layers",
        caption=message(
            "caption.embeddings.layers",
            **{stack: f"{share:.0%}" for stack, share in explained.items()},
        ),
        draw=partial(trajectory_figures.layer_trajectories, inspection.trajectories),
        record={
            "shows": "tokens in the residual stream, layer by layer (PCA)",
            "layer": "all",
            "sentence": inspection.examples[0].src,
            "axes": {"x": "principal component 1", "y": "principal component 2"},
        },
    )
    if inspection.neighbours:
        token, nearest = max(inspection.neighbours, key=lambda n: n.nearest[0][1])
        yield Exhibit(
            name="embeddings/neighbours",
            caption=message(
                "caption.embeddings.neighbours",
                token=token,
                other=nearest[0][0],
                cosine=f"{nearest[0][1]:.2f}",
            ),
            draw=partial(representation_figures.neighbours_table, inspection.neighbours),
            record=table_record("nearest neighbours among the embeddings", "neighbour", "token"),
        )


def _inside_layers(inspection: Inspection) -> Iterator[Exhibit]:
    """Feed-forward networks and the logit lens."""
    sparsity, dead = inspection.ffn["sparsity"], inspection.ffn["dead"]
    silent = "zero" if sparsity.name.endswith(" are zero") else "not_above_zero"  # ReLU, or not
    most = int(np.argmax(sparsity.values))
    yield Exhibit(
        name="ffn/activity",
        caption=message(
            "caption.ffn.activity",
            layer=layer_name(sparsity.axes["layer"][most]),
            share=f"{sparsity.values[most]:.0%}",
            silent=message(f"label.silent.{silent}"),
            dead=f"{dead.values.max():.0%}",
            sentences=str(inspection.num_sampled),
        ),
        draw=partial(representation_figures.ffn_activity, inspection.ffn),
        record=table_record("activations of the feed-forward networks", "value", "share"),
    )
    if inspection.neurons:
        neuron = max(inspection.neurons, key=lambda n: n.selectivity)
        strongest = ", ".join(token for token, _ in neuron.tokens[:3])
        yield Exhibit(
            name="ffn/neurons",
            caption=message(
                "caption.ffn.neurons",
                unit=str(neuron.unit + 1),
                layer=layer_name(neuron.layer),
                tokens=strongest,
            ),
            draw=partial(representation_figures.neuron_table, inspection.neurons),
            record=table_record("tokens that activate units most", "token", "unit"),
        )
    shares = inspection.lens.share_right
    yield Exhibit(
        name="logit_lens",
        caption=message(
            "caption.logit_lens",
            first=f"{shares[0]:.0%}",
            layers=str(len(shares)),
            last=f"{shares[-1]:.0%}",
        ),
        draw=partial(representation_figures.logit_lens, inspection.lens),
        record=table_record("most probable token after each layer", "position", "decoder layer")
        | {"sentence": inspection.examples[0].src},
    )


def _all_heads(shows: str, x: str, y: str) -> dict[str, Any]:
    """`table_record` of a figure of all heads."""
    return {"shows": shows, "layer": "all", "head": "all", "axes": {"x": x, "y": y}}


def table_record(shows: str, x: str, y: str) -> dict[str, Any]:
    """The manifest's record of a figure of all layers.

    Args:
        shows: what the figure shows.
        x: what its horizontal axis is.
        y: what its vertical axis is.
    """
    return {"shows": shows, "layer": "all", "axes": {"x": x, "y": y}}
