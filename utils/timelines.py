"""From the probes of a run to numbers over its steps. No torch, no matplotlib."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from utils.analysis import Labelled, layer_label

Records = Sequence[Mapping[str, Any]]

UNITS = {
    "norm": "length",
    "mean": "",
    "std": "",
    "cosine_to_first": "cosine, -1 to 1",
    "cosine_to_previous": "cosine, -1 to 1",
    "effective_rank": "directions",
    "entropy": "nats",
    "diagonality": "0 to 1",
    "similarity": "cosine, 0 to 1",
    "zero_share": "share of values",
    "dead_share": "share of units",
    "pre_mean": "",
    "pre_std": "",
    "act_mean": "",
    "act_std": "",
    "gradient_norm": "length",
    "update_ratio": "length / length",
}
# Sites of a layer at which gradients are counted, in the order of computation.
SITES = (
    *(f"self_attn.{kind}" for kind in "qkvo"),
    *(f"cross_attn.{kind}" for kind in "qkvo"),
    "ffn1",
    "ffn2",
    "norm",
)


def timeline(records: Records, group: str, quantity: str) -> Labelled:
    """One quantity of everything in a group, over the steps of a run.

    Args:
        records: probe lines of ``metrics.jsonl``; see `utils.tracking.Tracker.probe`.
        group: "qkv", "attention", "ffn", "residual" or "weights".
        quantity: of that group, e.g. "norm".

    Returns:
        Axes ``name`` and ``step``; of several heads the mean. NaN where nothing was measured.
    """
    names = list(records[0][group])
    values = [[_mean(record[group][name][quantity]) for record in records] for name in names]
    return Labelled(
        values=np.array(values, dtype=float),
        name=f"{group}: {quantity}",
        unit=UNITS[quantity],
        axes={"name": names, "step": [str(record["step"]) for record in records]},
    )


def by_layer_and_site(records: Records, quantity: str) -> Labelled:
    """Gradient norm or update ratio of every weight, over the steps of a run.

    Args:
        records: probe lines of ``metrics.jsonl``.
        quantity: "norm", "gradient_norm" or "update_ratio".

    Returns:
        Axes ``layer`` (encoder 1, ..., decoder N), ``site`` (see `SITES`) and ``step``; NaN where
        a layer has no such site. The embedding has no layer: see `timeline`.
    """
    of_name = timeline(records, "weights", quantity)
    names = of_name.axes["name"]
    layers = list(dict.fromkeys(n.rpartition(f".{s}")[0] for n in names for s in SITES
                                if n.endswith(f".{s}") and n.count(".") > 1))  # fmt: skip
    values = np.full((len(layers), len(SITES), len(records)), np.nan)
    for i, layer in enumerate(layers):
        for j, site in enumerate(SITES):
            if (name := f"{layer}.{site}") in names:
                values[i, j] = of_name.values[names.index(name)]
    return Labelled(
        values=values,
        name=f"weights: {quantity}",
        unit=UNITS[quantity],
        axes={
            "layer": [layer_label(layer) for layer in layers],
            "site": list(SITES),
            "step": of_name.axes["step"],
        },
    )


def in_words(record: Mapping[str, Any]) -> str:
    """One probe in a few words, to stand beside a progress bar."""
    crosses = [n for n in record["attention"] if n.endswith("cross_attn")]
    entropy = _mean(record["attention"][crosses[-1]]["entropy"])
    turned = np.mean([_mean(v["cosine_to_first"]) for v in record["qkv"].values()])
    dead = np.mean([layer["dead_share"] for layer in record["ffn"].values()])
    ratio = record["weights"].get("embedding", {}).get("update_ratio")
    update = "" if ratio is None else f", update/weight {ratio:.0e}"
    return f"cross entropy {entropy:.2f} nats, QKV cos {turned:.2f}, dead {dead:.0%}{update}"


def _mean(value: float | Sequence[float | None] | None) -> float:
    """The mean over heads; NaN of nothing."""
    values = value if isinstance(value, list) else [value]
    known = [number for number in values if number is not None]
    return float(np.mean(known)) if known else float("nan")
