"""MarianMT's attention step by step, so that its q, k, v, scores, weights and context can be read.

Letters used in shapes: B sentences, H heads, Q/K query/key positions, E width of a head.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, MarianMTModel
from transformers.masking_utils import eager_mask
from transformers.models.marian.modeling_marian import MarianAttention, eager_attention_forward

OBSERVED = "observed"  # name of our attention function among transformers' implementations
KINDS = ("q", "k", "v", "scores", "weights", "context")  # what can be read, in order of computation


@contextmanager
def explicit_attention(marian: MarianMTModel) -> Iterator[None]:
    """Let MarianMT's attention run step by step, past modules that can be hooked.

    Its own step-by-step function computes the result; see `_observed_attention`.
    """
    before = marian.config._attn_implementation
    if before == OBSERVED:  # entered already
        yield
        return
    AttentionInterface.register(OBSERVED, _observed_attention)
    AttentionMaskInterface.register(OBSERVED, eager_mask)  # else the mask is silently None
    attentions = [m for m in marian.modules() if isinstance(m, MarianAttention)]
    try:
        for attention in attentions:
            observed = nn.ModuleDict({kind: nn.Identity() for kind in KINDS})
            attention.add_module(OBSERVED, observed.train(attention.training))
        marian.set_attn_implementation(OBSERVED)
        yield
    finally:
        marian.set_attn_implementation(before)
        for attention in attentions:
            if hasattr(attention, OBSERVED):
                delattr(attention, OBSERVED)


def _observed_attention(
    module: MarianAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """MarianMT's eager attention, its tensors passed through hook points on the way.

    Scores are the one thing that it does not hand out: they are computed here once more, from
    its own q, k and scale. What is added to them, zero, is there for their gradient alone.
    """
    points = module.get_submodule(OBSERVED)
    query, key, value = points["q"](query), points["k"](key), points["v"](value)
    scores = query.detach() @ key.detach().mT * scaling
    scores = points["scores"](scores.requires_grad_(query.requires_grad))
    if query.requires_grad:
        zero = scores - scores.detach()
        attention_mask = zero if attention_mask is None else attention_mask + zero
    context, weights = eager_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, **options
    )  # context (B, Q, H, E), weights (B, H, Q, K)
    points["weights"](weights)
    context = points["context"](context.transpose(1, 2)).transpose(1, 2)
    return context, weights
