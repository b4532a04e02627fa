"""What ``report.html`` holds of one model: results as plain values, large arrays packed.

A page must stay small enough to open, so what is many times the same kind of thing, maps and
vectors, is packed into text, and a `Detail` says how much of it goes in.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.analysis import Captured, Labelled
from utils.corpus import Pair
from utils.history import History, thinned
from utils.representations import training_trajectories
from utils.timelines import by_layer_and_site, timeline
from utils.words import AlignedSentence

if TYPE_CHECKING:
    from utils.inspection import Alignment, Inspection
    from utils.subject import Pieces

DIGITS = 5  # significant ones of the numbers on a page
MAP_STEPS = 65535  # that a weight from 0 to 1 is rounded to
# What the page draws over training: group of the probe -> quantities.
FOLLOWED = {
    "qkv": ("norm", "cosine_to_first", "effective_rank"),
    "residual": ("norm", "gradient_norm"),
}
STACKS = ("encoder", "decoder")
MOST_SAMPLES = 4  # best ones, and as many worst ones


@dataclass(frozen=True)
class Detail:
    """How much of what there is much of goes into a page.

    Attributes:
        mapped_steps: training steps whose attention maps are kept.
        all_attentions: over those steps, or the last cross-attention alone.
        sentences: whose maps and vectors of the finished model are kept.
        all_vectors: of every attention, or of the last layers' alone.
        train_points: of the loss curve.
    """

    mapped_steps: int
    all_attentions: bool
    sentences: int
    all_vectors: bool
    train_points: int


# From all to the least; a page takes the first that makes it small enough.
DETAILS = (
    Detail(16, True, 8, True, 1000),
    Detail(16, True, 3, True, 1000),
    Detail(8, True, 3, True, 500),
    Detail(8, False, 2, True, 500),
    Detail(4, False, 1, False, 200),
)


@dataclass(frozen=True, kw_only=True)
class ModelResults:
    """All that a page tells of one model.

    Attributes:
        name: as the user knows it.
        version: "pytorch" or "huggingface"; None if unknown.
        inspection: what all analyses found.
        pairs: of the inspected sentences, with their gold alignment; None where there is none.
        alignment: which head aligns, if there are gold alignments.
        history: of its training, if it was followed.
        records: train and eval lines of its ``metrics.jsonl``.
        summary: its run's ``summary.json``, as far as there is one.
        translated: lines of its ``translations.jsonl``.
        trace: content of ``logs/trace.json``, if there is one.
    """

    name: str
    version: str | None
    inspection: Inspection
    pairs: Sequence[Pair | None]
    alignment: Alignment | None
    history: History | None
    records: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]
    translated: Sequence[Mapping[str, str]]
    trace: Mapping[str, Any] | None

    def content(self, detail: Detail) -> dict[str, Any]:
        """As plain values, for the page."""
        found = self.inspection
        return {
            "name": self.name,
            "version": self.version,
            "step": found.subject.step,
            "summary": {key: part for key, part in self.summary.items() if key != "files"},
            "samples": best_and_worst(self.translated or self.summary.get("samples", ())),
            "curves": curves(self.records, detail.train_points),
            "attention": attention_content(self, detail),
            "vectors": vectors_content(found, detail),
            "followed": followed_content(self.history),
            "inside": inside_content(found, self.history),
            "trace": self.trace,
        }


def rounded(value: Any) -> Any:
    """``value`` with `DIGITS` significant digits in every float; None for what is not finite."""
    if isinstance(value, Mapping):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value


def packed_map(weights: np.ndarray) -> dict[str, Any]:
    """Attention weights, 0 to 1, as 16-bit numbers in base64, for `unpack` of the page."""
    numbers = np.round(np.clip(weights, 0, 1) * MAP_STEPS).astype("<u2")
    return _packed(numbers, weights.shape)


def packed_vectors(vectors: np.ndarray) -> dict[str, Any]:
    """Vectors as 32-bit floats in base64, for `unpack` of the page."""
    return _packed(vectors.astype("<f4"), vectors.shape)


def _packed(numbers: np.ndarray, shape: Sequence[int]) -> dict[str, Any]:
    return {
        "type": numbers.dtype.str[1:],
        "shape": list(shape),
        "data": base64.b64encode(np.ascontiguousarray(numbers).tobytes()).decode("ascii"),
    }


def curves(records: Sequence[Mapping[str, Any]], most: int) -> dict[str, dict[str, list]]:
    """Train and eval lines by column: kind -> quantity -> values."""
    train = [record for record in records if record["kind"] == "train"]
    # Few lines have a speed, so those are thinned on their own.
    timed = [record for record in train if "tokens_per_sec" in record]
    found = {
        "train": _columns(thinned(train, most), ("step", "loss", "lr", "grad_norm")),
        "speed": _columns(thinned(timed, most), ("step", "tokens_per_sec")),
        "eval": _columns(
            [record for record in records if record["kind"] == "eval"],
            ("step", "nll", "nll_other_source", "token_accuracy", "bleu", "chrf", "exact_match"),
        ),
    }
    found["train"]["of"] = len(train)
    return found


def _columns(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    return {name: rounded([record.get(name) for record in records]) for name in names}


def best_and_worst(translated: Sequence[Mapping[str, str]]) -> dict[str, list[dict[str, Any]]]:
    """The translations most and least like their references, by sentence chrF (0-100)."""
    if not translated:
        return {"best": [], "worst": []}
    from sacrebleu.metrics import CHRF

    chrf = CHRF()
    scored = [
        {key: line[key] for key in ("src", "reference", "hypothesis")}
        | {"chrf": chrf.sentence_score(line["hypothesis"], [line["reference"]]).score}
        for line in translated
    ]
    scored.sort(key=lambda line: line["chrf"])  # stable: equal ones in the order of the data
    worst = scored[:MOST_SAMPLES]
    best = [line for line in reversed(scored) if line not in worst][:MOST_SAMPLES]
    return {"best": best, "worst": worst}


def attention_content(results: ModelResults, detail: Detail) -> dict[str, Any]:
    """Maps of the finished model and over its training, and what is known of each head."""
    found, history = results.inspection, results.history
    sentences = [
        {
            "src": example.src,
            "tgt": example.tgt,
            "src_tokens": pieces.src,
            "inputs": pieces.inputs,
            "tgt_tokens": pieces.tgt,
            "gold": gold_links(pair, pieces),
        }
        for example, pieces, pair in zip(found.examples, found.pieces, results.pairs, strict=True)
    ][: detail.sentences]
    names = found.captured.attentions()
    finished = {
        name: [packed_map(found.captured.map_of(name, i)) for i in range(len(sentences))]
        for name in names
    }
    return {
        "sentences": sentences,
        "names": names,
        "finished": finished,
        "over_training": maps_over_training(history, sentences, detail) if history else [],
        "entropy": found.attention["entropy"].as_dict(),
        "alignment": results.alignment and results.alignment.as_dict(),
        "ablation": found.ablation and found.ablation.as_dict(),
        "statistics_over": found.num_sampled,
    }


def gold_links(pair: Pair | None, pieces: Pieces) -> list[list[Any]] | None:
    """Gold links token by token: [target token, source token, whether it is sure]."""
    if pair is None or not (pair.sure or pair.possible):
        return None
    sentence = AlignedSentence.of(pair, pieces.src, pieces.tgt)
    links = []
    for t, word in enumerate(sentence.tgt_words):
        for s, src_word in enumerate(sentence.src_words):
            if word >= 0 and src_word >= 0 and sentence.possible[word, src_word]:
                links.append([t, s, bool(sentence.sure[word, src_word])])
    return links


def maps_over_training(
    history: History, sentences: Sequence[Mapping[str, Any]], detail: Detail
) -> list[dict[str, Any]]:
    """What was mapped at each step: attention -> number of the sentence -> map.

    Only of sentences that the finished model was shown too, so that they can be compared.
    """
    shown = {(sentence["src"], sentence["tgt"]): i for i, sentence in enumerate(sentences)}
    places = [shown.get(pair) for pair in history.sentences[: len(history.src_pieces)]]
    last = history.last_cross_attention()
    found = []
    for step in thinned(list(history.maps), detail.mapped_steps):
        maps: dict[str, dict[str, Any]] = {}
        for name, of_sentences in history.maps[step].items():
            if detail.all_attentions or name == last:
                maps[name] = {
                    str(place): packed_map(weights)
                    for place, weights in zip(places, of_sentences, strict=True)
                    if place is not None
                }
        found.append({"step": step, "maps": maps})
    return found


def vectors_content(found: Inspection, detail: Detail) -> list[dict[str, Any]]:
    """Queries, keys and values of each attention, for each sentence."""
    captured = found.captured
    names = captured.attentions()
    if not detail.all_vectors:
        last = {stack: max(_layer(n) for n in names if n.startswith(stack)) for stack in STACKS}
        names = [name for name in names if _layer(name) == last[name.partition(".")[0]]]
    return [
        {
            name: {kind: packed_vectors(_rows(captured, f"{name}.{kind}", i)) for kind in "qkv"}
            for name in names
        }
        for i in range(min(detail.sentences, len(found.examples)))
    ]


def _layer(attention: str) -> int:
    return int(attention.split(".")[1])


def _rows(captured: Captured, name: str, sentence: int) -> np.ndarray:
    """The vectors of one sentence without padding, (H, T, E)."""
    return captured.tensors[name][sentence][:, captured.rows_are_real(name)[sentence]]


def followed_content(history: History | None) -> dict[str, Any] | None:
    """What was measured over training; None if nothing was."""
    if history is None:
        return None
    records = history.records
    found: dict[str, Any] = {
        group: {quantity: _plain(timeline(records, group, quantity)) for quantity in quantities}
        for group, quantities in FOLLOWED.items()
    }
    found["weights"] = {
        quantity: _plain(by_layer_and_site(records, quantity))
        for quantity in ("gradient_norm", "update_ratio")
    }
    return found


def _plain(result: Labelled) -> dict[str, Any]:
    return rounded(result.as_dict())


def inside_content(found: Inspection, history: History | None) -> dict[str, Any]:
    """Feed-forward networks, residual stream, logit lens and embeddings."""
    ways = {stack: part.as_dict() for stack, part in found.trajectories.items()}
    if history is not None and len(history.embeddings) > 1:
        ways["training"] = training_trajectories(history.embeddings, history.tokens).as_dict()
    return rounded(
        {
            "ffn": {key: part.as_dict() for key, part in found.ffn.items()},
            "neurons": [neuron.__dict__ for neuron in found.neurons],
            "lens": found.lens.as_dict(),
            "ways": ways,
            "neighbours": [part._asdict() for part in found.neighbours],
        }
    )
