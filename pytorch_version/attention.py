"""Attention as in section 3.2 of "Attention Is All You Need" (Vaswani et al. 2017).

Letters used in shapes: B sentences, H heads, Q query positions, K key positions,
D width of the model (d_model), E width of one head (d_k = d_v = D / H).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ScaledDotProductAttention(nn.Module):
    """Scaled dot-product attention (section 3.2.1, figure 2 left).

        Attention(Q, K, V) = softmax(Q K^T / sqrt(d_k)) V                    (equation 1)

    Two ways to the same numbers: step by step, where every intermediate result passes a hook
    point, or in one fused kernel, which keeps none of them.

    Attributes:
        fused: True runs the fused kernel.
        scores: hook point, (B, H, Q, K): scaled, before the mask. Only when not ``fused``.
        weights: hook point, (B, H, Q, K): after the softmax, rows sum to 1. Only when not
            ``fused``. The paper has no dropout here, so these are the weights that are used.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fused = True
        self.scores = nn.Identity()
        self.weights = nn.Identity()

    def forward(self, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None) -> Tensor:
        """Average ``v`` (B, H, K, E) by how well ``q`` (B, H, Q, E) fits ``k`` (B, H, K, E).

        Args:
            q: queries.
            k: keys.
            v: values.
            allowed: bool, broadcastable to (B, H, Q, K), True where a query may look at a key;
                None allows everything. A query with no key allowed stays finite, forward and
                backward.

        Returns:
            The context of each query, (B, H, Q, E).
        """
        if self.fused:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        scores = self.scores(q @ k.mT / math.sqrt(q.size(-1)))  # (B, H, Q, K)
        if allowed is not None:
            # The lowest finite number, not -inf: a row of -inf alone would become NaN.
            scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
        return self.weights(scores.softmax(dim=-1)) @ v


class MultiHeadAttention(nn.Module):
    """Multi-head attention (section 3.2.2, figure 2 right).

        MultiHead(Q, K, V) = Concat(head_1, ..., head_h) W_O
        head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V)

    The h small projections of each kind stand side by side in one (D, D) matrix.

    Args:
        d_model: width D of input and output.
        num_heads: number of heads H; must divide ``d_model``.

    Attributes:
        q, k, v: hook points, (B, H, position, E), unscaled.
        context: hook point, (B, H, Q, E): each head's output, before W_O.

    Raises:
        ValueError: ``num_heads`` does not divide ``d_model``.
    """

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        if d_model % num_heads:
            raise ValueError(f"num_heads={num_heads} does not divide d_model={d_model}")
        self.num_heads = num_heads
        # paper: plain matrices; here: with a bias, as in MarianMT and most code since.
        self.w_q = nn.Linear(d_model, d_model)
        self.w_k = nn.Linear(d_model, d_model)
        self.w_v = nn.Linear(d_model, d_model)
        self.w_o = nn.Linear(d_model, d_model)
        self.attention = ScaledDotProductAttention()
        self.q, self.k, self.v = nn.Identity(), nn.Identity(), nn.Identity()
        self.context = nn.Identity()

    def forward(self, query: Tensor, memory: Tensor, allowed: Tensor | None) -> Tensor:
        """Let every position of ``query`` look at the positions of ``memory``.

        Self-attention passes the same tensor twice; cross-attention (section 3.2.3) passes the
        decoder's positions and the encoder's output.

        Args:
            query: (B, Q, D).
            memory: (B, K, D).
            allowed: as in `ScaledDotProductAttention.forward`.

        Returns:
            (B, Q, D).
        """
        k, v = self.keys_and_values(memory)
        return self.attend_to(query, k, v, allowed)

    def keys_and_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Project ``memory`` (B, K, D) to keys and values, (B, H, K, E) each."""
        k = self.k(self._split_heads(self.w_k(memory)))
        v = self.v(self._split_heads(self.w_v(memory)))
        return k, v

    def attend_to(self, query: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None) -> Tensor:
        """Attend from ``query`` (B, Q, D) to projected keys and values; returns (B, Q, D).

        Apart from `keys_and_values`, so that decoding can keep those of earlier positions.
        """
        q = self.q(self._split_heads(self.w_q(query)))  # (B, H, Q, E)
        context = self.context(self.attention(q, k, v, allowed))  # (B, H, Q, E)
        return self.w_o(context.transpose(1, 2).flatten(2))  # Concat(head_1, ..., head_h) W_O

    def _split_heads(self, x: Tensor) -> Tensor:
        """(B, position, D) -> (B, H, position, E)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def causal_mask(num_positions: int, device: torch.device | None = None) -> Tensor:
    """Allow each target position to look at itself and earlier ones (section 3.2.3).

    Sentences are padded on the right, so this also hides padding from every real position.

    Returns:
        Bool, (1, 1, T, T): True on and below the diagonal.
    """
    ones = torch.ones(num_positions, num_positions, dtype=torch.bool, device=device)
    return ones.tril()[None, None]


def padding_mask(ids: Tensor, pad_id: int) -> Tensor:
    """Allow every query to look at the real tokens among the keys ``ids`` (B, K).

    The mask is on the key side: what a padded *query* computes is never used.

    Returns:
        Bool, (B, 1, 1, K): True where the key is no padding.
    """
    return (ids != pad_id)[:, None, None, :]
