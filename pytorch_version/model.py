"""The whole model: figure 1 of "Attention Is All You Need" (Vaswani et al. 2017).

Letters used in shapes: B sentences, S source positions, T target positions, D width of the
model (d_model), V vocabulary entries.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pytorch_version.attention import ScaledDotProductAttention, causal_mask, padding_mask
from pytorch_version.layers import (
    LAYER_NORM_EPSILON,
    DecoderLayer,
    EncoderLayer,
    SinusoidalPositions,
)
from utils.capture import Inside, Point
from utils.config import ModelConfig


class Stack(nn.Module):
    """N identical layers (section 3.1), the encoder's or the decoder's.

    Args:
        layer_type: `EncoderLayer` or `DecoderLayer`.
        config: shape of the model.

    Attributes:
        lookup: hook point: the embedding of each token, (B, T, D), before it is scaled.
        embed: hook point: the sum of embedding and position, (B, T, D), with the dropout of
            section 5.4.
        norm: the last LayerNorm of the pre-norm variant; the identity in the paper's post-norm,
            where every layer ends in one already.
    """

    def __init__(self, layer_type: type[EncoderLayer | DecoderLayer], config: ModelConfig) -> None:
        super().__init__()
        self.lookup = nn.Identity()
        self.embed = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(
            layer_type(config.d_model, config.num_heads, config.d_ff, config.dropout, config.norm)
            for _ in range(config.num_layers)
        )
        self.norm = (
            nn.LayerNorm(config.d_model, eps=LAYER_NORM_EPSILON)
            if config.norm == "pre"
            else nn.Identity()
        )

    def forward(self, embedded: Tensor, *others: Tensor) -> Tensor:
        """Pass ``embedded`` (B, T, D) through all layers.

        Args:
            embedded: token embeddings plus positions.
            *others: what each layer takes besides: masks and, in the decoder, the memory.
        """
        x = self.embed(embedded)
        for layer in self.layers:
            x = layer(x, *others)
        return self.norm(x)


class Transformer(nn.Module):
    """Encoder-decoder Transformer (section 3, figure 1).

    One matrix serves as source embedding, target embedding and output projection (section 3.4).
    There is no output bias.

    Args:
        config: shape of the model.
        vocab_size: V, entries of the joint vocabulary.
        pad_id: the id that fills up shorter sentences.
        max_positions: longest source or target, in tokens.

    Attributes:
        norm: "post" or "pre".
        logits: hook point, (B, T, V).
    """

    def __init__(
        self, config: ModelConfig, vocab_size: int, pad_id: int, max_positions: int
    ) -> None:
        super().__init__()
        self.pad_id = pad_id
        self.norm = config.norm
        self.embedding = nn.Embedding(vocab_size, config.d_model, padding_idx=pad_id)
        self.positions = SinusoidalPositions(max_positions, config.d_model)
        self.encoder = Stack(EncoderLayer, config)
        self.decoder = Stack(DecoderLayer, config)
        self.logits = nn.Identity()
        self._initialise()
        self.set_attn_implementation(config.attention)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embedding.weight.device

    def forward(self, src_ids: Tensor, tgt_ids: Tensor) -> Tensor:
        """Score every next token of a given target (teacher forcing).

        Args:
            src_ids: (B, S) source tokens, padded on the right.
            tgt_ids: (B, T) decoder inputs: the start token, then the target, padded on the right.

        Returns:
            Logits, (B, T, V): row j scores the token after ``tgt_ids[:, j]``.
        """
        return self.decode(tgt_ids, self.encode(src_ids), self.source_allowed(src_ids))

    def encode(self, src_ids: Tensor) -> Tensor:
        """Read the source (B, S); returns the memory (B, S, D)."""
        return self.encoder(self.embed(src_ids, self.encoder), self.source_allowed(src_ids))

    def decode(self, tgt_ids: Tensor, memory: Tensor, allowed: Tensor) -> Tensor:
        """Score every next token of ``tgt_ids`` (B, T) given the memory (B, S, D).

        Args:
            tgt_ids: decoder inputs.
            memory: the encoder's output.
            allowed: (B, 1, 1, S), True at real source tokens.

        Returns:
            Logits, (B, T, V).
        """
        causal = causal_mask(tgt_ids.size(1), tgt_ids.device)
        embedded = self.embed(tgt_ids, self.decoder)
        return self.project(self.decoder(embedded, memory, causal, allowed))

    def source_allowed(self, src_ids: Tensor) -> Tensor:
        """Where attention to the source (B, S) is allowed: (B, 1, 1, S), True at real tokens."""
        return padding_mask(src_ids, self.pad_id)

    def embed(self, ids: Tensor, stack: Stack, first_position: int = 0) -> Tensor:
        """Embed tokens (section 3.4) and add their positions (section 3.5).

            Embedding(ids) * sqrt(d_model) + PE(position)

        Args:
            ids: (B, T) tokens.
            stack: the encoder or decoder, whichever reads them.
            first_position: position of ``ids[:, 0]``; above 0 while decoding step by step.

        Returns:
            (B, T, D), before dropout.
        """
        scale = math.sqrt(self.embedding.embedding_dim)
        looked_up = stack.lookup(self.embedding(ids))
        return looked_up * scale + self.positions(ids.size(1), first_position)

    def project(self, x: Tensor) -> Tensor:
        """Score the vocabulary for ``x`` (..., D) with the embedding matrix: (..., V)."""
        return self.logits(F.linear(x, self.embedding.weight))

    def set_attn_implementation(self, name: str) -> None:
        """Choose "sdpa" (one fused kernel) or "eager" (step by step, hook points fire).

        The method is named as in Hugging Face's models, so that both can be switched alike.

        Raises:
            ValueError: another name.
        """
        if name not in ("sdpa", "eager"):
            raise ValueError(f"attention is 'sdpa' or 'eager', not {name!r}")
        self.attn_implementation = name
        for module in self.modules():
            if isinstance(module, ScaledDotProductAttention):
                module.fused = name == "sdpa"

    def _initialise(self) -> None:
        """Draw the weights.

        The paper names no initialisation; these are those of its reference code:

        ============ =======================================================================
        embedding    normal, standard deviation d_model^-0.5: entries of size 1 after scaling
        weights      Xavier uniform
        biases       0
        LayerNorm    weight 1, bias 0
        ============ =======================================================================
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.embedding.weight, std=self.embedding.embedding_dim**-0.5)
        nn.init.zeros_(self.embedding.weight[self.pad_id])


# Where a sublayer holds what is called so.
ATTENTION_POINTS = {
    "q": "q", "k": "k", "v": "v", "scores": "attention.scores", "weights": "attention.weights",
    "context": "context", "out": "w_o",
}  # fmt: skip
FFN_POINTS = {"pre": "pre", "act": "act", "out": "out"}


def hook_points(num_layers: int, norm: Literal["post", "pre"] = "post") -> dict[str, Point]:
    """Where each quantity can be read, in the order of computation; see `utils.capture`.

    Scores and weights only fire under `explicit_attention`.
    """
    points = {}
    for stack, sites in (("encoder", ("self_attn",)), ("decoder", ("self_attn", "cross_attn"))):
        for name in ("lookup", "embed"):
            points[f"{stack}.{name}"] = Point(f"{stack}.{name}")
        for i in range(num_layers):
            for site in (*sites, "ffn"):
                points |= _sublayer_points(f"{stack}.{i}.{site}", f"{stack}.layers.{i}", norm)
            points[f"{stack}.{i}.out"] = Point(f"{stack}.layers.{i}")
        if norm == "pre":
            points[f"{stack}.norm"] = Point(f"{stack}.norm")
    points["logits"] = Point("logits")
    return points


def _sublayer_points(name: str, layer: str, norm: str) -> dict[str, Point]:
    """The points of an attention or feed-forward network with the norm and sum around it.

    Args:
        name: of the sublayer, canonical.
        layer: path of the layer that holds it.
        norm: "post" or "pre".
    """
    site = name.rpartition(".")[2]
    modules = FFN_POINTS if site == "ffn" else ATTENTION_POINTS
    inner = {kind: f"{site}.{module}" for kind, module in modules.items()}
    add_norm = f"add_norm_{site.removesuffix('_attn')}"
    add, layer_norm = {"add": f"{add_norm}.add"}, {"norm": f"{add_norm}.norm"}
    if norm == "pre":
        kinds = layer_norm | inner | add
    else:  # the norm of the last sublayer is the layer's output
        kinds = inner | add | ({} if site == "ffn" else layer_norm)
    return {f"{name}.{kind}": Point(f"{layer}.{path}") for kind, path in kinds.items()}


@contextmanager
def explicit_attention(model: Transformer) -> Iterator[None]:
    """Let attention run step by step, so that scores and weights can be captured."""
    before = model.attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def inside(model: Transformer) -> Inside:
    """How to look into the scratch model."""
    return Inside(
        points=hook_points(len(model.encoder.layers), model.norm),
        explicit_attention=explicit_attention,
        logits_of=lambda model, src_ids, tgt_ids: model(src_ids, tgt_ids),
        project=lambda model, x: model.project(model.decoder.norm(x)),
        in_common_names=dict,
        common_name=str,
    )


def count_parameters(config: ModelConfig, vocab_size: int) -> int:
    """Number of trained parameters by the closed formula, without building the model.

    Per attention 4 D^2 + 4 D, per feed-forward 2 D F + F + D, per LayerNorm 2 D, and one
    V x D embedding for all three uses.
    """
    d, f = config.d_model, config.d_ff
    attention, ffn, norm = 4 * d * d + 4 * d, 2 * d * f + f + d, 2 * d
    encoder_layer = attention + ffn + 2 * norm
    decoder_layer = 2 * attention + ffn + 3 * norm
    final_norms = 2 * norm if config.norm == "pre" else 0
    return vocab_size * d + config.num_layers * (encoder_layer + decoder_layer) + final_norms
