"""What one probe measures: from captured tensors and weights to plain numbers.

Letters used in shapes: H heads, N tokens, E width of a head.
"""

import re
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from utils import analysis
from utils.analysis import Captured

# Parts of a weight's common name -> the site that its gradient and update are counted at.
_SITES = (
    (r"(?:encoder|decoder)\.layers\.\d+\.\w+_attn\.w_[qkvo]", r"\.w_", "."),
    (r"(?:encoder|decoder)\.layers\.\d+\.ffn\.pre", r"ffn\.pre", "ffn1"),
    (r"(?:encoder|decoder)\.layers\.\d+\.ffn\.out", r"ffn\.out", "ffn2"),
    (r"(?:encoder|decoder)\.layers\.\d+\.add_norm_\w+\.norm", r"add_norm_\w+\.norm", "norm"),
)


def site_of(common_name: str) -> str:
    """The site that a weight is counted at.

    ``encoder.0.self_attn.q`` (or ``k``, ``v``, ``o``), ``decoder.1.ffn1`` and ``ffn2``,
    ``encoder.0.norm`` (all of a layer together), ``embedding``, and ``encoder.norm`` of pre-norm.
    """
    module = common_name.rpartition(".")[0]
    for pattern, part, replacement in _SITES:
        if re.fullmatch(pattern, module):
            return re.sub(part, replacement, module).replace(".layers.", ".")
    return module


def vector_numbers(
    vectors: np.ndarray, first: np.ndarray, previous: np.ndarray
) -> dict[str, list[float]]:
    """Of q, k or v: one number for each head.

    Args:
        vectors: (H, N, E).
        first: the same tokens' vectors before training.
        previous: those of the previous probe.
    """
    return {
        "norm": analysis.mean_norm(vectors).tolist(),
        "mean": vectors.mean(axis=(1, 2)).tolist(),
        "std": vectors.std(axis=(1, 2)).tolist(),
        "cosine_to_first": analysis.mean_cosine(vectors, first).tolist(),
        "cosine_to_previous": analysis.mean_cosine(vectors, previous).tolist(),
        "effective_rank": analysis.effective_rank(vectors).tolist(),
    }


def attention_numbers(captured: Captured, name: str) -> dict[str, list[float]]:
    """Of the attention ``name``: one number for each head."""
    statistics = analysis.statistics_of_heads(captured, name)
    return {key: by_head.tolist() for key, by_head in statistics.items()}


def ffn_numbers(captured: Captured) -> dict[str, dict[str, float]]:
    """Of every feed-forward network that was captured, by name."""
    numbers = {}
    for name in captured.tensors:
        if not name.endswith(".ffn.pre"):
            continue
        before = captured.vectors(name)[0]
        after = captured.vectors(name.replace(".pre", ".act"))[0]
        numbers[name.removesuffix(".pre")] = {
            "pre_mean": float(before.mean()),
            "pre_std": float(before.std()),
            "act_mean": float(after.mean()),
            "act_std": float(after.std()),
            "zero_share": float((after <= 0).mean()),
            "dead_share": analysis.dead_share(after),
        }
    return numbers


def weight_numbers(
    weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor], before: Mapping[str, Tensor]
) -> dict[str, dict[str, float | None]]:
    """Norms of weights, gradients and updates, joined by site.

    Args:
        weights: by common names, after the step.
        gradients: of the loss with respect to each.
        before: the weights before the step; empty if unknown, the ratio of the update then None.
    """
    squares = [
        _squares(weights[name].detach(), gradients[name], before.get(name)) for name in weights
    ]
    by_weight = torch.stack(squares).double().cpu().numpy()  # fetched together
    sites: dict[str, np.ndarray] = {}
    for name, numbers in zip(weights, by_weight, strict=True):
        sites[site_of(name)] = sites.get(site_of(name), 0) + numbers
    return {
        site: {
            "norm": float(weight**0.5),
            "gradient_norm": float(gradient**0.5),
            "update_ratio": float((update / max(old, analysis.TINY)) ** 0.5) if before else None,
        }
        for site, (weight, gradient, update, old) in sites.items()
    }


def _squares(weight: Tensor, gradient: Tensor, before: Tensor | None) -> Tensor:
    """Sums of squares: weight, gradient, update, weight before it; (4,)."""
    before = weight if before is None else before.to(weight.device)
    tensors = (weight, gradient, weight - before, before)
    return torch.stack([tensor.float().square().sum() for tensor in tensors])
