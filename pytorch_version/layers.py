"""Everything in a layer besides attention: sections 3.1, 3.3, 3.4, 3.5 and figure 1.

Letters used in shapes: B sentences, S source positions, T target positions, D width of the
model (d_model), F inner width of the feed-forward network (d_ff).
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from pytorch_version.attention import MultiHeadAttention

LAYER_NORM_EPSILON = 1e-5  # the paper names none; this is torch's and MarianMT's


class FeedForward(nn.Module):
    """Position-wise feed-forward network (section 3.3).

        FFN(x) = max(0, x W_1 + b_1) W_2 + b_2                               (equation 2)

    Args:
        d_model: width D of input and output.
        d_ff: inner width F.

    Attributes:
        pre: hook point and first linear map; its output (B, T, F) is before the ReLU.
        act: hook point and ReLU, (B, T, F).
        out: hook point and second linear map, (B, T, D).
    """

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.pre = nn.Linear(d_model, d_ff)
        self.act = nn.ReLU()
        self.out = nn.Linear(d_ff, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Transform every position of ``x`` (B, T, D) alike; returns (B, T, D)."""
        return self.out(self.act(self.pre(x)))


class SinusoidalPositions(nn.Module):
    """Positional encoding (section 3.5), a fixed table.

        PE(pos, 2i)   = sin(pos / 10000^(2i / d_model))
        PE(pos, 2i+1) = cos(pos / 10000^(2i / d_model))

    Sines and cosines alternate, as in the paper; MarianMT holds the same numbers with all sines
    first.

    Args:
        max_positions: number of positions in the table.
        d_model: width D; even.
    """

    def __init__(self, max_positions: int, d_model: int) -> None:
        super().__init__()
        position = torch.arange(max_positions, dtype=torch.float64)[:, None]
        pair = torch.arange(0, d_model, 2, dtype=torch.float64)  # 2i
        angle = position / 10000 ** (pair / d_model)  # (max_positions, D / 2)
        table = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)
        # Computed in float64 and rounded once, so that a float64 copy of the model still holds
        # the very numbers of the float32 one. Never trained, so not in the state dict.
        self.register_buffer("table", table.float(), persistent=False)

    def forward(self, num_positions: int, first: int = 0) -> Tensor:
        """Encode positions ``first`` to ``first + num_positions - 1``; returns (positions, D).

        Raises:
            ValueError: the table ends before.
        """
        if first + num_positions > len(self.table):
            raise ValueError(
                f"position {first + num_positions} is beyond the table of {len(self.table)}"
            )
        return self.table[first : first + num_positions]


class AddAndNorm(nn.Module):
    """Residual connection and layer normalisation around a sublayer (sections 3.1 and 5.4).

        post:  LayerNorm(x + Dropout(Sublayer(x)))                           (the paper)
        pre:   x + Dropout(Sublayer(LayerNorm(x)))

    Args:
        d_model: width D.
        dropout: rate in [0, 1), applied to the sublayer's output before it is added.
        norm: "post" or "pre".

    Attributes:
        add: hook point, (B, T, D): the residual sum.
        norm: hook point and LayerNorm, (B, T, D).
    """

    def __init__(self, d_model: int, dropout: float, norm: Literal["post", "pre"]) -> None:
        super().__init__()
        self.add = nn.Identity()
        self.norm = nn.LayerNorm(d_model, eps=LAYER_NORM_EPSILON)
        self.dropout = nn.Dropout(dropout)
        self.norm_first = norm == "pre"

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply ``sublayer`` to ``x`` (B, T, D); returns (B, T, D)."""
        if self.norm_first:
            return self.add(x + self.dropout(sublayer(self.norm(x))))
        return self.norm(self.add(x + self.dropout(sublayer(x))))


class EncoderLayer(nn.Module):
    """One layer of the encoder (section 3.1, figure 1 left): self-attention, feed-forward.

    Args:
        d_model: width D.
        num_heads: attention heads; must divide D.
        d_ff: inner width of the feed-forward network.
        dropout: rate in [0, 1).
        norm: "post" or "pre".
    """

    def __init__(
        self, d_model: int, num_heads: int, d_ff: int, dropout: float, norm: Literal["post", "pre"]
    ) -> None:
        super().__init__()
        self.self_attn = MultiHeadAttention(d_model, num_heads)
        self.add_norm_self = AddAndNorm(d_model, dropout, norm)
        self.ffn = FeedForward(d_model, d_ff)
        self.add_norm_ffn = AddAndNorm(d_model, dropout, norm)

    def forward(self, x: Tensor, allowed: Tensor) -> Tensor:
        """Transform ``x`` (B, S, D); ``allowed`` (B, 1, 1, S) is True at real source tokens."""
        x = self.add_norm_self(x, lambda y: self.self_attn(y, y, allowed))
        return self.add_norm_ffn(x, self.ffn)


class DecoderLayer(nn.Module):
    """One layer of the decoder (section 3.1, figure 1 right).

    Masked self-attention, attention to the encoder's output, feed-forward. The arguments are
    those of `EncoderLayer`.
    """

    def __init__(
        self, d_model: int, num_heads: int, d_ff: int, dropout: float, norm: Literal["post", "pre"]
    ) -> None:
        super().__init__()
        self.self_attn = MultiHeadAttention(d_model, num_heads)
        self.add_norm_self = AddAndNorm(d_model, dropout, norm)
        self.cross_attn = MultiHeadAttention(d_model, num_heads)
        self.add_norm_cross = AddAndNorm(d_model, dropout, norm)
        self.ffn = FeedForward(d_model, d_ff)
        self.add_norm_ffn = AddAndNorm(d_model, dropout, norm)

    def forward(self, x: Tensor, memory: Tensor, causal: Tensor, allowed: Tensor) -> Tensor:
        """Transform ``x`` (B, T, D).

        Args:
            x: the target so far.
            memory: the encoder's output, (B, S, D).
            causal: (1, 1, T, T), True where a target position may look at a target position.
            allowed: (B, 1, 1, S), True at real source tokens.
        """
        x = self.add_norm_self(x, lambda y: self.self_attn(y, y, causal))
        x = self.add_norm_cross(x, lambda y: self.cross_attn(y, memory, allowed))
        return self.add_norm_ffn(x, self.ffn)
