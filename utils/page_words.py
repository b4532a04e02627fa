"""What a page says to a learner in each section: two or three sentences with this run's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from utils.evaluation import source_is_unused
from utils.language import Message, message
from utils.names import attention_in_full, layer_name

Model = Mapping[str, Any]  # `ModelResults.content`
SECTIONS = (
    "overview", "training", "attention", "qkv", "layer", "gradients", "trace", "parity",
)  # fmt: skip

GOOD_AER = 0.3  # above, a head cannot be said to find the words


def explanations(
    kind: str, model: Model, comparison: Mapping[str, Any] | None
) -> dict[str, list[Message]]:
    """Section -> its sentences; those without data say what would fill them.

    Args:
        kind: of the page: "training", "comparison" or "analysis".
        model: content of one of the page's models.
        comparison: content of ``comparison.json``, if the page is of one.
    """
    return {
        "overview": _overview(kind, model, comparison),
        "training": _training(model),
        "attention": _attention(model),
        "qkv": _qkv(model),
        "layer": _layer(model),
        "gradients": _gradients(model),
        "trace": _trace(model),
        "parity": _parity(comparison),
    }


def _overview(kind: str, model: Model, comparison: Mapping[str, Any] | None) -> list[Message]:
    if kind == "comparison" and comparison is not None:
        said = _compared(comparison)
    else:
        said = [*_subject(kind, model), *_score(model)]
    return [*said, *_undertrained(model)]


def _compared(comparison: Mapping[str, Any]) -> list[Message]:
    """What the two trainings were, and what came of them."""
    ours, theirs = (comparison["metrics"][name] for name in ("pytorch", "huggingface"))
    return [
        message("page.overview.both", parameters=f"{ours['parameters']:,}"),
        message(
            "page.overview.both_result",
            ours=f"{ours['exact_match']:.1%}",
            theirs=f"{theirs['exact_match']:.1%}",
            alike=f"{comparison['translated_alike']:.1%}",
        ),
    ]


def _subject(kind: str, model: Model) -> list[Message]:
    """Which model the page is about, and what it learnt from."""
    if kind == "analysis":
        return [
            message(
                "page.overview.analysis",
                checkpoint=model["name"],
                sentences=str(len(model["attention"]["sentences"])),
                sample=str(model["attention"]["statistics_over"]),
            )
        ]
    if (dataset := model["summary"].get("dataset")) is None:
        return []
    return [
        message(
            f"page.overview.{model['version']}",
            train=f"{dataset['train']:,}",
            dataset=dataset["name"],
            step=f"{_last(model['curves']['train']['step']) or 0:,}",
        )
    ]


def _score(model: Model) -> list[Message]:
    """How well it translates, as its run measured."""
    metrics, dataset = model["summary"].get("metrics"), model["summary"].get("dataset")
    if not metrics or not dataset:
        return []
    return [
        message(
            "page.overview.result",
            eval=f"{dataset['eval']:,}",
            exact=f"{metrics['exact_match']:.1%}",
            bleu=f"{metrics['bleu']:.1f}",
        )
    ]


def _undertrained(model: Model) -> list[Message]:
    """Said of a model that hardly uses the source."""
    metrics = model["summary"].get("metrics")
    if metrics is None or not source_is_unused(
        {"nll": metrics["eval_nll"], "nll_other_source": metrics["eval_nll_other_source"]}
    ):
        return []
    return [message("page.overview.undertrained", nll=f"{metrics['eval_nll']:.2f}")]


def _training(model: Model) -> list[Message]:
    train, evals = model["curves"]["train"], model["curves"]["eval"]
    if not train["step"]:
        return [message("page.training.none")]
    losses, rates = train["loss"], train["lr"]
    is_rising = int(np.argmax(rates)) == len(rates) - 1  # the run ended in its warm-up
    said = [
        message(
            f"page.training.{'rising' if is_rising else 'rate'}",
            peak=f"{max(rates):.2g}",
            step=f"{train['step'][int(np.argmax(rates))]:,}",
        )
    ]
    known = [loss for loss in losses if loss is not None]
    if known and evals["nll"]:
        metrics = model["summary"].get("metrics")
        best = metrics["eval_nll"] if metrics else min(evals["nll"])
        said.insert(
            0,
            message(
                "page.training.loss",
                first=f"{known[0]:.2f}",
                last=f"{known[-1]:.2f}",
                nll=f"{best:.3f}",
                ppl=f"{np.exp(best):,.2f}",
            ),
        )
    return said


def _attention(model: Model) -> list[Message]:
    attention = model["attention"]
    entropy = attention["entropy"]
    last = max(i for i, label in enumerate(entropy["axes"]["attention"]) if label.endswith("cross"))
    mean = float(np.mean([value for value in entropy["values"][last] if value is not None]))
    said = [
        message("page.attention.row"),
        message(
            "page.attention.entropy",
            entropy=f"{mean:.2f}",
            tokens=f"{np.exp(mean):.1f}",
            attention=attention_in_full(attention["names"][-1]),
        ),
    ]
    if attention["alignment"]:
        best = attention["alignment"]["best"]
        said.append(
            message(
                f"page.attention.{'aligned' if best['aer'] < GOOD_AER else 'unaligned'}",
                layer=str(best["layer"]),
                head=str(best["head"]),
                aer=f"{best['aer']:.3f}",
                sentences=f"{best['sentences']:,}",
            )
        )
    else:
        said.append(message("page.attention.no_gold"))
    return said


def _qkv(model: Model) -> list[Message]:
    width = next(iter(model["vectors"][0].values()))["q"]["shape"][-1]
    said = [message("page.qkv.arithmetic", width=str(width), root=f"{width**0.5:.2f}")]
    followed = model["followed"]
    if followed is None:
        return [*said, message("page.qkv.not_followed")]
    cosines = followed["qkv"]["cosine_to_first"]
    last = [row[-1] if row[-1] is not None else 1.0 for row in cosines["values"]]
    turned = int(np.argmin(last))
    attention, _, vector = cosines["axes"]["name"][turned].rpartition(".")
    return [
        *said,
        message(
            "page.qkv.turned",
            vector=vector.upper(),
            attention=attention_in_full(attention),
            cosine=f"{last[turned]:.2f}",
        ),
    ]


def _layer(model: Model) -> list[Message]:
    inside = model["inside"]
    sparsity = inside["ffn"]["sparsity"]
    most = int(np.argmax(sparsity["values"]))
    ranks = np.array(inside["lens"]["right_rank"]["values"])
    shares = (ranks == 1).mean(axis=1)
    return [
        message(
            "page.layer.ffn",
            layer=layer_name(sparsity["axes"]["layer"][most]),
            share=f"{sparsity['values'][most]:.0%}",
        ),
        message(
            "page.layer.lens",
            first=f"{shares[0]:.0%}",
            last=f"{shares[-1]:.0%}",
            layers=str(len(shares)),
        ),
    ]


def _gradients(model: Model) -> list[Message]:
    if model["followed"] is None:
        return [message("page.gradients.none")]
    ratios = model["followed"]["weights"]["update_ratio"]
    residual = model["followed"]["residual"]["gradient_norm"]
    names = residual["axes"]["name"]
    encoder = [i for i, name in enumerate(names) if name.startswith("encoder")]
    first, last = (residual["values"][i][-1] for i in (encoder[0], encoder[-1]))
    said = [
        message(
            "page.gradients.flow",
            first=f"{first or 0:.2g}",
            last=f"{last or 0:.2g}",
            step=f"{int(residual['axes']['step'][-1]):,}",
        )
    ]
    newest = [site[-1] for row in ratios["values"] for site in row if site[-1] is not None]
    if newest:
        said.append(message("page.gradients.update", ratio=f"{float(np.mean(newest)):.2g}"))
    return said


def _trace(model: Model) -> list[Message]:
    if model["trace"] is None:
        return [message("page.trace.none")]
    totals = model["trace"]["totals"]
    linear = sum(kind["operations"] for kind in totals["by_kind"].values() if kind["linear"])
    return [
        message(
            "page.trace.counted",
            operations=str(totals["operations"]),
            linear=str(linear),
            other=str(totals["operations"] - linear),
            flops=f"{totals['flops'] / 1e6:,.1f}",
        ),
        message("page.trace.loss", loss=f"{totals['loss']:.3f}", nll=f"{totals['nll']:.3f}"),
    ]


def _parity(comparison: Mapping[str, Any] | None) -> list[Message]:
    if comparison is None:
        return [message("page.parity.none")]
    rows, paired = comparison["parity"], comparison["paired_training"]
    differing = [row["point"] for row in rows if not row["ok"]]
    first = (
        message("page.parity.differs", point=differing[0])
        if differing
        else message(
            "page.parity.one",
            points=str(len(rows)),
            largest=f"{max(row['max_abs_fp64'] for row in rows):.0e}",
        )
    )
    return [
        first,
        message(
            "page.parity.paired",
            steps=str(paired["steps"]),
            difference=f"{paired['max_abs_loss_difference']:.0e}",
        ),
    ]


def _last(values: Sequence[Any]) -> Any:
    return values[-1] if values else None
