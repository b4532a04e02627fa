"""The paper's model put together from ``torch.nn.Transformer``, as one would by hand.

A peer for the scratch model: the same function, in PyTorch's own layers.

Letters used in shapes: B sentences, S source positions, T target positions, D width of the model,
V vocabulary entries.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pytorch_version.layers import SinusoidalPositions
from utils.config import ModelConfig

# Parts of weight names: ours -> those of PyTorch's layers.
_NAMES = (
    ("cross_attn.w_o", "multihead_attn.out_proj"),
    ("self_attn.w_o", "self_attn.out_proj"),
    ("ffn.pre", "linear1"),
    ("ffn.out", "linear2"),
    ("add_norm_self.norm", "norm1"),
)
# PyTorch numbers a layer's norms: the last is the second of an encoder, the third of a decoder.
_NUMBERED_NORMS = {
    "encoder": (("add_norm_ffn.norm", "norm2"),),
    "decoder": (("add_norm_cross.norm", "norm2"), ("add_norm_ffn.norm", "norm3")),
}


class TorchTransformer(nn.Module):
    """``torch.nn.Transformer`` with one embedding matrix for its three uses.

    Left as it comes, PyTorch's module is another model than the paper's: it has a LayerNorm after
    each stack and dropout within attention and feed-forward. Both are taken out, which also makes
    it faster.

    Args:
        config: shape of the model; post-norm.
        vocab_size: V.
        pad_id: the id that fills up shorter sentences.
        max_positions: longest source or target, in tokens.
    """

    def __init__(
        self, config: ModelConfig, vocab_size: int, pad_id: int, max_positions: int
    ) -> None:
        super().__init__()
        self.pad_id = pad_id
        self.embedding = nn.Embedding(vocab_size, config.d_model, padding_idx=pad_id)
        self.positions = SinusoidalPositions(max_positions, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.transformer = nn.Transformer(
            config.d_model,
            config.num_heads,
            config.num_layers,
            config.num_layers,
            config.d_ff,
            config.dropout,
            batch_first=True,
        )
        self.transformer.encoder.norm = self.transformer.decoder.norm = None
        for module in self.transformer.modules():
            if isinstance(module, nn.MultiheadAttention):
                module.dropout = 0.0
            elif isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
                module.dropout = nn.Identity()

    def forward(self, src_ids: Tensor, tgt_ids: Tensor) -> Tensor:
        """Score every next token of ``tgt_ids`` (B, T) given ``src_ids`` (B, S): (B, T, V)."""
        is_pad = src_ids == self.pad_id
        causal = nn.Transformer.generate_square_subsequent_mask(
            tgt_ids.size(1), device=tgt_ids.device, dtype=torch.bool
        )
        x = self.transformer(
            self._embed(src_ids),
            self._embed(tgt_ids),
            tgt_mask=causal,
            src_key_padding_mask=is_pad,
            memory_key_padding_mask=is_pad,
            tgt_is_causal=True,
        )
        return nn.functional.linear(x, self.embedding.weight)

    def _embed(self, ids: Tensor) -> Tensor:
        scaled = self.embedding(ids) * math.sqrt(self.embedding.embedding_dim)
        return self.dropout(scaled + self.positions(ids.size(1)))


def from_scratch(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a scratch model as that of a `TorchTransformer`."""
    converted = {"embedding.weight": weights["embedding.weight"]}
    for name, tensor in weights.items():
        if ".w_q." in name:  # PyTorch has W_Q, W_K and W_V in one matrix
            parts = [weights[name.replace(".w_q.", f".{w}.")] for w in ("w_q", "w_k", "w_v")]
            site, kind = name.replace("cross_attn", "multihead_attn").split(".w_q.")
            converted[f"transformer.{site}.in_proj_{kind}"] = torch.cat(parts)
        elif name.startswith(("encoder.", "decoder.")) and not (".w_k." in name or ".w_v." in name):
            for ours, theirs in (*_NAMES, *_NUMBERED_NORMS[name.partition(".")[0]]):
                name = name.replace(ours, theirs)
            converted[f"transformer.{name}"] = tensor
    return converted
