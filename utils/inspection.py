"""Every analysis of one trained model: from passes over sentences to results.

Knows neither implementation: a model comes with its `Inside`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils import alignment, flow, neurons, representations
from utils.ablation import ablate_heads
from utils.alignment import AlignmentTable, BestHead, HeadOnSentence
from utils.analysis import Captured, HeadAblation, Labelled
from utils.batching import Batch, TokenizedPairs, evaluation_batches
from utils.capture import Point, capture
from utils.corpus import Pair
from utils.neurons import Neuron
from utils.objective import IGNORED_LABEL
from utils.representations import LogitLens, Neighbours, Trajectories
from utils.results import ResultsFolder, log
from utils.subject import Example, Pieces, Subject
from utils.trace import trace
from utils.trace_listing import lines
from utils.words import AlignedSentence

BATCH_SIZE = 64
SAMPLE = 64  # sentences that statistics and ablation are taken over
SHOWN = 3  # sentences of the model's own task that figures are drawn of
CHOSEN_ON = 200  # sentences that the best aligning head is chosen on
NEURONS_PER_LAYER, TOKENS_PER_NEURON = 4, 6
NEIGHBOURS, MOST_NEIGHBOURED = 6, 14
SHOWN_ALIGNMENTS = 2


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """How well cross-attention finds the word that is being translated.

    Attributes:
        best: the head, chosen on one set of sentences.
        table: of all heads on another set.
        shown: the head on some sentences of that set, with their source texts.
    """

    best: BestHead
    table: AlignmentTable
    shown: Sequence[tuple[HeadOnSentence, str]]

    @property
    def aer(self) -> float:
        """Alignment error rate of the best head on the sentences that it was not chosen on."""
        return self.table.row(self.best.layer, self.best.head, self.best.shift)["aer"]

    def as_dict(self) -> dict[str, Any]:
        """The entry ``alignment`` of ``analysis.json``."""
        return alignment.report(self.best, self.table)


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What all analyses of one model found.

    Attributes:
        subject: the model.
        examples: the sentences that maps are shown of.
        pieces: their tokens.
        captured: what a pass over ``examples`` left.
        num_sampled: sentences behind the statistics.
        attention: see `flow.attention_statistics`.
        qkv: see `flow.qkv_by_layer`.
        value_overlap: see `flow.value_weighting`.
        value_weighted: (H, T, S) of the last cross-attention on the first example, and the overlap
            (H,) of each head's map there with its plain one.
        rollout: of the first example, encoder and decoder.
        ffn: see `neurons.ffn_activity`.
        neurons: the most selective units.
        trajectories: of the first example's tokens through the layers, by stack.
        neighbours: of the first example's tokens among the embeddings.
        lens: what each decoder layer says on the first example.
        ablation: each head silenced; None where that was not asked for.
    """

    subject: Subject
    examples: Sequence[Example]
    pieces: Sequence[Pieces]
    captured: Captured
    num_sampled: int
    attention: Mapping[str, Labelled]
    qkv: Mapping[str, Labelled]
    value_overlap: Labelled
    value_weighted: tuple[np.ndarray, np.ndarray]
    rollout: tuple[Labelled, Labelled]
    ffn: Mapping[str, Labelled]
    neurons: Sequence[Neuron]
    trajectories: Mapping[str, Trajectories]
    neighbours: Sequence[Neighbours]
    lens: LogitLens
    ablation: HeadAblation | None

    def content(self) -> dict[str, Any]:
        """The content of ``analysis.json``."""
        last = self.captured.last_cross_attention()
        return {
            "checkpoint": self.subject.name,
            "sentences": [
                {
                    "src": example.src,
                    "tgt": example.tgt,
                    "src_tokens": pieces.src,
                    "decoder_inputs": pieces.inputs,
                    "tgt_tokens": pieces.tgt,
                    "cross_attention": {last: self.captured.map_of(last, i).tolist()},
                }
                for i, (example, pieces) in enumerate(zip(self.examples, self.pieces, strict=True))
            ],
            "statistics_over_sentences": self.num_sampled,
            "attention": _as_dicts(self.attention),
            "value_weighting": self.value_overlap.as_dict(),
            "rollout": {
                stack: part.as_dict()
                for stack, part in zip(("encoder", "decoder"), self.rollout, strict=True)
            },
            "qkv": _as_dicts(self.qkv),
            "ffn": _as_dicts(self.ffn) | {"neurons": [neuron.__dict__ for neuron in self.neurons]},
            "embeddings": {
                "layers": {stack: part.as_dict() for stack, part in self.trajectories.items()},
                "neighbours": [part._asdict() for part in self.neighbours],
            },
            "logit_lens": self.lens.as_dict(),
            "head_ablation": self.ablation and self.ablation.as_dict(),
        }


def _as_dicts(results: Mapping[str, Labelled]) -> dict[str, Any]:
    return {name: result.as_dict() for name, result in results.items()}


def inspect(
    subject: Subject,
    examples: Sequence[Example],
    sample: Sequence[Example],
    ablate: bool = True,
) -> Inspection:
    """Run every analysis.

    Args:
        subject: the model.
        examples: sentences to show; statistics of single sentences are of the first.
        sample: sentences to take statistics over.
        ablate: silence each head too, which takes longer than all the rest.
    """
    pieces = [_pieces(subject, example) for example in examples]
    captured = _capture_examples(subject, examples)
    sampled = _capture_examples(subject, sample)
    last = captured.last_cross_attention()
    weights = subject.inside.in_common_names(subject.model.state_dict())
    projections = {name: _output_projection(weights, name) for name in captured.attentions()}
    first = pieces[0]
    sampled_pieces = [_pieces(subject, example) for example in sample]
    selective = neurons.top_tokens(
        sampled,
        {"encoder": [p.src for p in sampled_pieces], "decoder": [p.inputs for p in sampled_pieces]},
        NEURONS_PER_LAYER,
        TOKENS_PER_NEURON,
    )
    by_stack = {"encoder": first.src, "decoder": first.inputs}
    return Inspection(
        subject=subject,
        examples=examples,
        pieces=pieces,
        captured=captured,
        num_sampled=len(sample),
        attention=flow.attention_statistics(sampled),
        qkv=flow.qkv_by_layer(sampled),
        value_overlap=flow.value_weighting(sampled, projections),
        value_weighted=_value_weighted(captured, last, projections[last]),
        rollout=flow.rollout(captured, 0, first.src, first.inputs, first.tgt),
        ffn=neurons.ffn_activity(sampled),
        neurons=selective,
        trajectories=representations.layer_trajectories(captured, 0, by_stack),
        neighbours=_neighbours(subject, examples[0], weights),
        lens=_lens(subject, examples[0], captured),
        ablation=_ablation(subject, sample) if ablate else None,
    )


def _ablation(subject: Subject, sample: Sequence[Example]) -> HeadAblation:
    batches = [
        subject.batch(sample[start : start + BATCH_SIZE])
        for start in range(0, len(sample), BATCH_SIZE)
    ]
    return ablate_heads(subject.model, subject.inside, batches, subject.never_generated)


def _capture_examples(subject: Subject, examples: Sequence[Example]) -> Captured:
    """One pass over all examples; everything but scores and sums is kept."""
    points = {
        name: point
        for name, point in subject.inside.points.items()
        if not name.endswith((".scores", ".add", ".lookup", "logits"))
    }
    lengths = [len(example.src_ids) for example in examples]
    return _captured(subject, points, subject.batch(examples), lengths)


def _captured(
    subject: Subject, points: Mapping[str, Point], batch: Batch, src_lengths: Sequence[int]
) -> Captured:
    """One teacher-forced pass over a batch."""
    model, inside = subject.model, subject.inside
    on_device = batch.to(next(model.parameters()).device)
    with torch.no_grad(), inside.explicit_attention(model), capture(model, points) as found:
        inside.logits_of(model, on_device.src_ids, on_device.decoder_input_ids)
    positions = np.arange(batch.src_ids.size(1))
    return Captured(
        tensors={name: tensor.float().numpy() for name, tensor in found.items()},
        # By length: another model's padding may be a token of its own.
        src_is_real=positions[None] < np.array(src_lengths)[:, None],
        tgt_is_real=(batch.labels != IGNORED_LABEL).numpy(),
    )


def align(
    subject: Subject, chosen_on: TokenizedPairs, reported_on: TokenizedPairs
) -> Alignment | None:
    """Find the head that aligns best.

    Args:
        subject: the model.
        chosen_on: sentences to choose the head on.
        reported_on: others, to report its error rate on.

    Returns:
        None where the pairs have no gold alignment.
    """
    if not _all_aligned(chosen_on.pairs) or not _all_aligned(reported_on.pairs):
        return None
    best = alignment.best_head(alignment.score(*_cross_attention(subject, chosen_on)))
    by_layer, sentences = _cross_attention(subject, reported_on)
    shown = [
        (
            alignment.head_on_sentence(by_layer[best.layer - 1][i], sentences[i], best),
            reported_on.pairs[i].src,
        )
        for i in range(min(SHOWN_ALIGNMENTS, len(sentences)))
    ]
    return Alignment(best=best, table=alignment.score(by_layer, sentences), shown=shown)


def _all_aligned(pairs: Sequence[Pair]) -> bool:
    return len(pairs) > 0 and all(pair.sure for pair in pairs)


def _cross_attention(
    subject: Subject, pairs: TokenizedPairs
) -> tuple[list[list[np.ndarray]], list[AlignedSentence]]:
    """Cross-attention of every layer on every sentence, (H, T, S) with padding; the sentences."""
    points = {n: p for n, p in subject.inside.points.items() if n.endswith("cross_attn.weights")}
    by_layer: list[list[Any]] = [[None] * len(pairs) for _ in points]
    for indices, batch in evaluation_batches(pairs, BATCH_SIZE):
        captured = _captured(subject, points, batch, [pairs.lengths[i][0] for i in indices])
        for layer, name in enumerate(points):
            for place, i in enumerate(indices):
                by_layer[layer][i] = captured.tensors[name][place]
    pieces = subject.vocabulary.pieces
    sentences = [
        AlignedSentence.of(pair, *map(pieces, pairs[i])) for i, pair in enumerate(pairs.pairs)
    ]
    return by_layer, sentences


def write_trace(
    subject: Subject, example: Example, label_smoothing: float, folder: ResultsFolder
) -> dict[str, Any]:
    """Follow every operation of one sentence, from its tokens to the loss and back.

    Written as ``logs/trace.json`` and, every layer unfolded, ``logs/trace.txt``; logged folded.

    Args:
        subject: the model.
        example: the sentence.
        label_smoothing: eps in [0, 1) of the loss.
        folder: where to write.

    Returns:
        The content of ``logs/trace.json``.
    """
    found = trace(
        subject.model,
        subject.inside,
        subject.batch([example]),
        label_smoothing,
        variant=subject.variant,
        pieces=subject.vocabulary.pieces,
    )
    content = found.as_dict()
    folder.write_json("logs/trace.json", content)
    folder.write_text("logs/trace.txt", lines(found, fold=False))
    for line in lines(found):
        log.debug("%s", line)
    return content


def _pieces(subject: Subject, example: Example) -> Pieces:
    show = subject.vocabulary.pieces
    inputs = show([subject.start_id, *example.tgt_ids[:-1]])
    return Pieces(show(example.src_ids), inputs, show(example.tgt_ids))


def _output_projection(weights: Mapping[str, Tensor], attention: str) -> np.ndarray:
    stack, layer, site = attention.split(".")
    weight = weights[f"{stack}.layers.{layer}.{site}.w_o.weight"]
    return weight.detach().float().cpu().numpy()


def _value_weighted(
    captured: Captured, attention: str, w_o: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Value-weighted maps (H, Q, K) of the first sentence, their overlap (H,) with plain ones."""
    plain = captured.map_of(attention, 0)[None]
    values = captured.tensors[f"{attention}.v"][:1, :, : plain.shape[-1]]
    weighted = flow.value_weighted(plain, values, w_o)
    return weighted[0], flow.overlap(plain, weighted, np.ones((1, plain.shape[2]), dtype=bool))


def _neighbours(
    subject: Subject, example: Example, weights: Mapping[str, Tensor]
) -> list[Neighbours]:
    """Neighbours of the example's tokens; none where there is no one embedding for all."""
    if "embedding.weight" not in weights:
        return []
    embedding = weights["embedding.weight"].detach().float().cpu().numpy()
    ids = dict.fromkeys([*example.src_ids[:-1], *example.tgt_ids[:-1]])
    pieces = subject.vocabulary.pieces(range(len(embedding)))
    return representations.nearest_neighbours(
        embedding, list(ids)[:MOST_NEIGHBOURED], pieces, NEIGHBOURS
    )


def _lens(subject: Subject, example: Example, captured: Captured) -> LogitLens:
    """What each decoder layer says on the first example."""
    num_tokens = len(example.tgt_ids)
    names = captured.layer_outputs("decoder")
    outputs = [captured.tensors[name][0, :num_tokens] for name in names]
    weight = next(subject.model.parameters())
    with torch.no_grad():
        stacked = torch.from_numpy(np.stack(outputs)).to(weight)
        logits = subject.inside.project(subject.model, stacked)
    return representations.logit_lens(
        logits.float().cpu().numpy(), example.tgt_ids, subject.vocabulary.pieces
    )
