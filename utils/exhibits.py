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
)
from utils.analysis import attention_entropy, attention_label
from utils.figure_writer import Exhibit

if TYPE_CHECKING:
    from utils.inspection import Alignment, Inspection

WEIGHTED_HEADS = 4


def exhibits(inspection: Inspection) -> Iterator[Exhibit]:
    """The figures of one trained model; for others see `of_alignment`, `training_exhibits`."""
    yield from _maps(inspection)
    yield from _attention(inspection)
    yield from _vectors(inspection)
    yield from _inside_layers(inspection)


def of_alignment(found: Alignment) -> Iterator[Exhibit]:
    """The figures of which head looks at the word that is being translated."""
    best = found.best
    where = f"layer {best.layer} head {best.head}"
    content, particle = (
        found.table.accuracy.values[i, best.shift, best.layer - 1, best.head - 1] for i in (0, 1)
    )
    compared = (
        "; this data has no endings"
        if np.isnan(particle)
        else f", and {particle:.0%} of those of particles and endings"
    )
    yield Exhibit(
        name="alignment/error_rates",
        caption=(
            "How far the source word that each head looks at most is from the gold alignment, at "
            f"both rows that could be meant. Decoder {where} aligns best: error rate "
            f"{found.aer:.3f} on {found.table.num_sentences} sentences that it was not chosen on."
        ),
        draw=partial(alignment_figures.error_rates, found.table, best),
        record=_all_heads("alignment error rate at both shifts", "head", "decoder layer"),
    )
    yield Exhibit(
        name="alignment/content_and_particles",
        caption=(
            "The same token by token, stems of words apart from their endings. In that head "
            f"{content:.0%} of the tokens of stems look at the right word{compared}."
        ),
        draw=partial(alignment_figures.content_and_particles, found.table, best),
        record=_all_heads("tokens that look at a gold word", "layer and head", "% of tokens"),
    )
    for number, (head, text) in enumerate(found.shown, start=1):
        yield Exhibit(
            name=f"alignment/sentence_{number}",
            caption=(
                f"What decoder {where} looks at in “{text}”, gold links framed, its own links "
                f"dotted. {head.num_right} of {len(head.chosen)} words are linked rightly."
            ),
            draw=partial(alignment_figures.gold_on_map, head, text),
            record={
                "shows": "cross-attention of the best aligning head with gold links",
                "layer": best.layer,
                "head": best.head,
                "sentence": text,
                "axes": {"x": "source token", "y": alignment_figures.QUERIES[best.shift]},
            },
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
            caption=(
                f"Every head of {attention_label(attention)}-attention on “{sentence.src}”, rows "
                f"are queries. Head {narrow + 1} looks most narrowly ({entropy[narrow]:.2f} nats), "
                f"head {wide + 1} most widely ({entropy[wide]:.2f})."
            ),
            draw=partial(
                attention_figures.all_heads, maps, queries, keys, attention, entropy.tolist()
            ),
            record={
                "shows": "attention weights of every head",
                "layer": int(layer),
                "head": "all",
                "sentence": sentence.src,
                "axes": dict(zip("yx", attention_figures.axis_names(attention), strict=True)),
            },
        )


def _attention(inspection: Inspection) -> Iterator[Exhibit]:
    """Statistics of heads, what flows through them, and which matter."""
    ablation, last = inspection.ablation, inspection.captured.last_cross_attention()
    row, head = ablation.most_important
    attentions = ablation.nll.axes["attention"]
    yield Exhibit(
        name="head_ablation",
        caption=(
            f"What {ablation.num_sentences} translations lose when one head is silenced. Without "
            f"head {head + 1} of {attentions[row]}-attention the NLL rises most, by "
            f"{ablation.nll.values[row, head]:.3f} nats per token (from "
            f"{ablation.baseline_nll:.3f})."
        ),
        draw=partial(representation_figures.head_ablation, ablation),
        record=_all_heads("change of NLL and exact match", "head", "attention"),
    )
    entropy = inspection.attention["entropy"]
    widest = np.unravel_index(np.nanargmax(entropy.values), entropy.values.shape)
    yield Exhibit(
        name="attention/statistics",
        caption=(
            "Entropy, diagonality and likeness of all heads, over "
            f"{inspection.num_sampled} sentences. The widest is head {widest[1] + 1} of "
            f"{entropy.axes['attention'][widest[0]]}-attention: {entropy.values[widest]:.2f} nats, "
            f"as if it looked at {np.exp(entropy.values[widest]):.0f} tokens alike."
        ),
        draw=partial(head_tables.head_statistics, inspection.attention),
        record=_all_heads("entropy, diagonality, similarity to other heads", "head", "attention"),
    )
    first = inspection.examples[0]
    encoder, decoder = inspection.rollout
    own = np.diag(encoder.values).mean()
    yield Exhibit(
        name="attention/rollout",
        caption=(
            "How much of each input token reaches each position of the last layers if residuals "
            f"and attention count half each. In the encoder {own:.0%} of a position is still its "
            "own token."
        ),
        draw=partial(attention_figures.rollout, encoder, decoder),
        record={
            "shows": "attention rollout",
            "layer": "all",
            "head": "mean",
            "sentence": first.src,
            "axes": {"x": "input token", "y": "position of the last layer"},
        },
    )
    overlaps = inspection.value_overlap
    maps = inspection.captured.map_of(last, 0)
    weighted, overlap = inspection.value_weighted
    heads = range(min(WEIGHTED_HEADS, len(maps)))
    yield Exhibit(
        name="attention/value_weighted",
        caption=(
            "What heads look at, and what they really take from there: the weight times the length "
            f"of the value. In {attention_label(last)}-attention on “{first.src}” both agree to "
            f"{overlap.mean():.0%}; over all heads and {inspection.num_sampled} sentences to "
            f"{np.nanmean(overlaps.values):.0%}."
        ),
        draw=partial(
            attention_figures.value_weighted,
            maps,
            weighted,
            inspection.pieces[0].tgt,
            inspection.pieces[0].src,
            last,
            overlap.tolist(),
            heads,
        ),
        record={
            "shows": "attention weights and value-weighted attention",
            "layer": int(last.split(".")[1]) + 1,
            "head": [head + 1 for head in heads],
            "sentence": first.src,
            "axes": dict(zip("yx", attention_figures.axis_names(last), strict=True)),
        },
    )


def _vectors(inspection: Inspection) -> Iterator[Exhibit]:
    """Q, K and V layer by layer; embeddings."""
    rank = inspection.qkv["effective_rank"]
    lowest = np.unravel_index(np.nanargmin(rank.values), rank.values.shape)
    yield Exhibit(
        name="qkv/by_layer",
        caption=(
            "Length, spread and effective rank of the queries, keys and values of every head. The "
            f"{rank.axes['vector'][lowest[0]]} of {rank.axes['attention'][lowest[1]]} head "
            f"{lowest[2] + 1} uses fewest directions: {rank.values[lowest]:.1f}."
        ),
        draw=partial(head_tables.qkv_by_layer, inspection.qkv),
        record=_all_heads("norm, standard deviation, effective rank", "head", "attention"),
    )
    explained = {stack: part.shares.sum() for stack, part in inspection.trajectories.items()}
    yield Exhibit(
        name="embeddings/layers",
        caption=(
            "The way of each token of a sentence from its embedding through all layers, in the "
            "plane of the two principal components. That plane holds "
            + " and ".join(f"{share:.0%} of the {stack}'s" for stack, share in explained.items())
            + " variance."
        ),
        draw=partial(representation_figures.layer_trajectories, inspection.trajectories),
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
            caption=(
                "For each token those whose embeddings point most nearly the same way. The nearest "
                f"two here are {token} and {nearest[0][0]}: cosine {nearest[0][1]:.2f}."
            ),
            draw=partial(representation_figures.neighbours_table, inspection.neighbours),
            record=table_record("nearest neighbours among the embeddings", "neighbour", "token"),
        )


def _inside_layers(inspection: Inspection) -> Iterator[Exhibit]:
    """Feed-forward networks and the logit lens."""
    sparsity, dead = inspection.ffn["sparsity"], inspection.ffn["dead"]
    silent = sparsity.name.removeprefix("activations that are ")  # "zero", with ReLU
    most = int(np.argmax(sparsity.values))
    yield Exhibit(
        name="ffn/activity",
        caption=(
            "What enters the activation function of each layer, and how much of it is cut off. In "
            f"{sparsity.axes['layer'][most]} {sparsity.values[most]:.0%} of the activations are "
            f"{silent}; {dead.values.max():.0%} of a layer's units at most never fire on these "
            f"{inspection.num_sampled} sentences."
        ),
        draw=partial(representation_figures.ffn_activity, inspection.ffn),
        record=table_record("activations of the feed-forward networks", "value", "share"),
    )
    if inspection.neurons:
        neuron = max(inspection.neurons, key=lambda n: n.selectivity)
        strongest = ", ".join(token for token, _ in neuron.tokens[:3])
        yield Exhibit(
            name="ffn/neurons",
            caption=(
                "The most selective units of each layer, with the tokens that excite them most. "
                f"Unit {neuron.unit} of {neuron.layer} answers above all to {strongest}."
            ),
            draw=partial(representation_figures.neuron_table, inspection.neurons),
            record=table_record("tokens that activate units most", "token", "unit"),
        )
    shares = inspection.lens.share_right
    yield Exhibit(
        name="logit_lens",
        caption=(
            "What the decoder would say if each layer were its last. After layer 1 "
            f"{shares[0]:.0%} of the tokens would be right, after layer {len(shares)} "
            f"{shares[-1]:.0%}."
        ),
        draw=partial(representation_figures.logit_lens, inspection.lens),
        record=table_record("most probable token after each layer", "position", "decoder layer")
        | {"sentence": inspection.examples[0].src},
    )


def _all_heads(shows: str, x: str, y: str) -> dict[str, Any]:
    return {"shows": shows, "layer": "all", "head": "all", "axes": {"x": x, "y": y}}


def table_record(shows: str, x: str, y: str) -> dict[str, Any]:
    """The manifest's record of a figure of all layers."""
    return {"shows": shows, "layer": "all", "axes": {"x": x, "y": y}}
