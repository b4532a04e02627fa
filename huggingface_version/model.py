"""MarianMT as the paper's Transformer: configuration, weights both ways, and where to look inside.

This is the only place where our names meet Hugging Face's. MarianMT is the same function as the
scratch model with the features of the residual stream in another order: its position table has
all sines first, where the paper alternates sine and cosine, and it recomputes that table whenever
a model is loaded. So a conversion reorders the features in every weight that touches the stream.

Letters used in shapes: B sentences, S source positions, T target positions, D width of the
model (d_model), V vocabulary entries.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import MarianConfig, MarianMTModel
from transformers.utils import logging as transformers_logging

from huggingface_version.generate import generation_config
from huggingface_version.observed_attention import KINDS, OBSERVED, explicit_attention
from utils import disk
from utils.capture import Inside, Point, unchanged
from utils.config import ModelConfig, UserError
from utils.decoding import Decoding
from utils.operations import Variant
from utils.tokenizer import BOS_ID, EOS_ID, PAD_ID, Tokenizer

# Parts of weight names: the scratch model's -> MarianMT's.
_NAMES = (
    (".add_norm_self.norm.", ".self_attn_layer_norm."),
    (".add_norm_cross.norm.", ".encoder_attn_layer_norm."),
    (".add_norm_ffn.norm.", ".final_layer_norm."),
    (".cross_attn.", ".encoder_attn."),
    (".w_q.", ".q_proj."),
    (".w_k.", ".k_proj."),
    (".w_v.", ".v_proj."),
    (".w_o.", ".out_proj."),
    (".ffn.pre.", ".fc1."),
    (".ffn.out.", ".fc2."),
)
_EMBEDDING = ("embedding.weight", "model.shared.weight")
# MarianMT's copies of the embedding, its recomputed tables, and a bias that the paper lacks.
_WITHOUT_COUNTERPART = ("embed_tokens.", "embed_positions.", "lm_head.", "final_logits_bias")


def marian_config(config: ModelConfig, vocab_size: int, max_length: int) -> MarianConfig:
    """MarianMT's configuration for the paper's Transformer.

    Marian's own defaults are another model (GELU, embeddings not scaled) with ids of another
    vocabulary, so everything is said here.

    Args:
        config: shape of the model; post-norm.
        vocab_size: V, entries of the joint vocabulary.
        max_length: longest sentence in tokens, </s> included.
    """
    return MarianConfig(
        vocab_size=vocab_size,
        max_position_embeddings=max_length,
        d_model=config.d_model,
        encoder_layers=config.num_layers,
        decoder_layers=config.num_layers,
        encoder_attention_heads=config.num_heads,
        decoder_attention_heads=config.num_heads,
        encoder_ffn_dim=config.d_ff,
        decoder_ffn_dim=config.d_ff,
        activation_function="relu",  # equation 2
        scale_embedding=True,  # section 3.4
        share_encoder_decoder_embeddings=True,  # section 3.4
        tie_word_embeddings=True,
        dropout=config.dropout,  # section 5.4: sublayer outputs, embeddings plus positions
        attention_dropout=0.0,
        activation_dropout=0.0,
        encoder_layerdrop=0.0,
        decoder_layerdrop=0.0,
        pad_token_id=PAD_ID,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
        decoder_start_token_id=BOS_ID,
        forced_eos_token_id=None,
        attn_implementation=config.attention,
    )


def build_model(
    config: ModelConfig,
    vocab_size: int,
    decoding: Decoding,
    weights: Mapping[str, Tensor],
) -> MarianMTModel:
    """MarianMT with the weights of a scratch model.

    Args:
        config: shape of the model.
        vocab_size: V, entries of the joint vocabulary.
        decoding: settings of the search; its ``max_length`` is the longest sentence.
        weights: state dict of the scratch Transformer.

    Raises:
        UserError: the model is pre-norm, which MarianMT is not.
    """
    require_post_norm(config)
    marian = MarianMTModel(marian_config(config, vocab_size, decoding.max_length))
    marian.generation_config = generation_config(decoding)
    load_weights(marian, to_marian(weights))
    return marian


def require_post_norm(config: ModelConfig) -> None:
    """Refuse a shape that MarianMT cannot have.

    Raises:
        UserError: the model is pre-norm.
    """
    if config.norm == "pre":
        raise UserError("--norm pre: MarianMT has no pre-norm variant; use --version pytorch")


def inside(marian: MarianMTModel) -> Inside:
    """How to look into a MarianMT model."""
    return Inside(
        points=hook_points(marian.config),
        explicit_attention=explicit_attention,
        logits_of=partial(logits_of, pad_id=marian.config.pad_token_id),
        project=_project,
        in_common_names=from_marian,
        common_name=_common_name,
    )


def variant(config: MarianConfig) -> Variant:
    """How a MarianMT model differs from the paper's."""
    return Variant(activation=config.activation_function, scaled=config.scale_embedding)


def load(folder: Path | str, device: torch.device | str = "cpu") -> MarianMTModel:
    """Load a MarianMT folder, in eval mode; position tables stay fixed.

    ``from_pretrained`` would leave the tables to be trained, which Marian's constructor does not.
    """
    silence_progress_bars()
    marian = MarianMTModel.from_pretrained(folder)
    for stack in (marian.model.encoder, marian.model.decoder):
        stack.embed_positions.weight.requires_grad_(False)
    return marian.to(device).eval()


def save(marian: MarianMTModel, tokenizer: Tokenizer, folder: Path) -> None:
    """Write a folder that ``from_pretrained`` reads: model, decoding settings, tokenizer."""
    silence_progress_bars()
    with disk.filling(folder) as new:
        marian.save_pretrained(new)
        tokenizer.save(new, marian.config.max_position_embeddings)


def silence_progress_bars() -> None:
    """Keep transformers from drawing a bar for every file that it reads or writes."""
    transformers_logging.disable_progress_bar()


def load_weights(marian: MarianMTModel, state: Mapping[str, Tensor]) -> None:
    """Load what `to_marian` gave; the embedding's three uses stay one matrix.

    Raises:
        ValueError: a weight is missing or unknown.
    """
    result = marian.load_state_dict(state, strict=False)
    missing = [name for name in result.missing_keys if _has_counterpart(name)]
    if missing or result.unexpected_keys:
        raise ValueError(f"missing weights {missing}, unknown weights {result.unexpected_keys}")


def to_marian(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and reorder a scratch model's weights, or gradients, for MarianMT.

    Args:
        state: by the scratch model's names; post-norm.

    Raises:
        ValueError: MarianMT has no place for one of them.
    """
    converted = {}
    for name, tensor in state.items():
        order = _sines_first(_width(name, tensor)) if _stream_axis(name) is not None else None
        converted[_renamed(name, to_theirs=True)] = _reordered(name, tensor, order)
    return converted


def from_marian(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reverse of `to_marian`: MarianMT's weights, or gradients, for the scratch model.

    Args:
        state: by MarianMT's names. Its copies of the embedding, its position tables and its final
            bias are left out; `require_convertible` tells whether that is right.

    Raises:
        ValueError: the scratch model has no place for one of them.
    """
    converted = {}
    for theirs, tensor in state.items():
        if not _has_counterpart(theirs):
            continue
        name = _renamed(theirs, to_theirs=False)
        order = _interleaved(_width(name, tensor)) if _stream_axis(name) is not None else None
        converted[name] = _reordered(name, tensor, order)
    return converted


def _common_name(theirs: str) -> str | None:
    return _renamed(theirs, to_theirs=False) if _has_counterpart(theirs) else None


def _has_counterpart(name: str) -> bool:
    return not any(part in name for part in _WITHOUT_COUNTERPART)


def _renamed(name: str, to_theirs: bool) -> str:
    """A weight's name in the other model."""
    source, target = (0, 1) if to_theirs else (1, 0)
    if name == _EMBEDDING[source]:
        return _EMBEDDING[target]
    if not to_theirs:
        name = name.removeprefix("model.")
    renamed = name
    for names in _NAMES:
        renamed = renamed.replace(names[source], names[target])
    if renamed == name:
        raise ValueError(f"the other model has no place for the weight {name}")
    return f"model.{renamed}" if to_theirs else renamed


def _stream_axis(name: str) -> int | None:
    """Which axis of a weight, by our name, runs along the residual stream; None if none does."""
    module, _, kind = name.rpartition(".")
    part = module.rpartition(".")[2]
    if part in ("w_o", "norm") or module.endswith("ffn.out"):
        return 0  # writes to the stream, its bias too
    return -1 if kind == "weight" else None  # reads from it; its bias lives elsewhere


def _width(name: str, tensor: Tensor) -> int:
    return tensor.size(_stream_axis(name))


def _reordered(name: str, tensor: Tensor, order: Tensor | None) -> Tensor:
    if order is None:
        return tensor.clone()
    return tensor.index_select(_stream_axis(name) % tensor.dim(), order.to(tensor.device))


def _sines_first(d_model: int) -> Tensor:
    """Indices that put our alternating features into MarianMT's order."""
    return torch.cat([torch.arange(0, d_model, 2), torch.arange(1, d_model, 2)])


def _interleaved(d_model: int) -> Tensor:
    """Indices that put MarianMT's features into our order, sine and cosine alternating."""
    return _sines_first(d_model).argsort()


def position_tables(marian: MarianMTModel) -> list[Tensor]:
    """The tables of encoder and decoder, (max_positions, D) each, features in our order."""
    stacks = (marian.model.encoder, marian.model.decoder)
    order = _interleaved(marian.config.d_model).to(marian.device)
    return [stack.embed_positions.weight.detach()[:, order] for stack in stacks]


def require_convertible(marian: MarianMTModel, name: str) -> None:
    """Make sure that a MarianMT model is one that the scratch Transformer can be.

    Args:
        marian: any MarianMT model.
        name: what the user called it.

    Raises:
        UserError: it is not; the message says why.
    """
    config = marian.config
    reasons = []
    if config.activation_function != "relu":
        reasons.append(f"its activation is {config.activation_function}, not relu")
    if not config.scale_embedding:
        reasons.append("its embeddings are not scaled by sqrt(d_model)")
    if marian.final_logits_bias.count_nonzero():
        reasons.append("its final_logits_bias is not zero")
    if not (config.share_encoder_decoder_embeddings and config.tie_word_embeddings):
        reasons.append("its embeddings are not one shared matrix")
    for what, ours, theirs in (
        ("layers", config.encoder_layers, config.decoder_layers),
        ("heads", config.encoder_attention_heads, config.decoder_attention_heads),
        ("FFN width", config.encoder_ffn_dim, config.decoder_ffn_dim),
    ):
        if ours != theirs:
            reasons.append(f"encoder and decoder differ in {what} ({ours} and {theirs})")
    if config.d_model % 2:
        reasons.append(f"its width {config.d_model} is odd")
    if reasons:
        raise UserError(
            f"{name}: the scratch Transformer cannot be this MarianMT model: {'; '.join(reasons)}"
        )


def scratch_config(config: MarianConfig) -> ModelConfig:
    """The shape of a convertible MarianMT model, for the scratch model."""
    return ModelConfig(
        d_model=config.d_model,
        num_layers=config.encoder_layers,
        num_heads=config.encoder_attention_heads,
        d_ff=config.encoder_ffn_dim,
        dropout=config.dropout,
    )


def hook_points(config: MarianConfig) -> dict[str, Point]:
    """Where each quantity can be read, in the order of computation; see `utils.capture`.

    Features of the residual stream come in our order. The points inside attention only exist
    under `explicit_attention`.
    """
    interleave = partial(_pick_features, order=_interleaved(config.d_model))
    layers = {"encoder": config.encoder_layers, "decoder": config.decoder_layers}
    sites = {  # our names of a stack's attentions -> MarianMT's
        "encoder": {"self_attn": "self_attn"},
        "decoder": {"self_attn": "self_attn", "cross_attn": "encoder_attn"},
    }
    points = {}
    for stack, num_layers in layers.items():
        first = f"model.{stack}.layers.0"
        points[f"{stack}.lookup"] = Point(f"model.{stack}.embed_tokens", pick=interleave)
        points[f"{stack}.embed"] = Point(first, "input", interleave)
        for i in range(num_layers):
            name, path = f"{stack}.{i}", f"model.{stack}.layers.{i}"
            for site, theirs in sites[stack].items():
                for kind in KINDS:
                    points[f"{name}.{site}.{kind}"] = Point(f"{path}.{theirs}.{OBSERVED}.{kind}")
                out, norm = f"{path}.{theirs}.out_proj", f"{path}.{theirs}_layer_norm"
                points[f"{name}.{site}.out"] = Point(out, pick=interleave)
                points[f"{name}.{site}.add"] = Point(norm, "input", interleave)
                points[f"{name}.{site}.norm"] = Point(norm, pick=interleave)
            for kind, module, pick in (
                ("pre", "fc1", unchanged),
                ("act", "activation_fn", unchanged),
                ("out", "fc2", interleave),
            ):
                points[f"{name}.ffn.{kind}"] = Point(f"{path}.{module}", pick=pick)
            points[f"{name}.ffn.add"] = Point(f"{path}.final_layer_norm", "input", interleave)
            points[f"{name}.out"] = Point(path, pick=interleave)
    points["logits"] = Point("lm_head")
    return points


def _pick_features(tensor: Tensor, order: Tensor) -> Tensor:
    return tensor[..., order.to(tensor.device)]


def logits_of(
    marian: nn.Module, src_ids: Tensor, decoder_input_ids: Tensor, pad_id: int = PAD_ID
) -> Tensor:
    """Score every next token of a given target (teacher forcing).

    Args:
        marian: a MarianMT model, or one wrapped for distributed training.
        src_ids: (B, S) source tokens, padded on the right.
        decoder_input_ids: (B, T).
        pad_id: the id of padding in the sources; another one in other people's models.

    Returns:
        Logits, (B, T, V).
    """
    return marian(
        input_ids=src_ids,
        attention_mask=(src_ids != pad_id).long(),  # never inferred for an encoder-decoder
        decoder_input_ids=decoder_input_ids,
        use_cache=False,
    ).logits


def _project(marian: MarianMTModel, x: Tensor) -> Tensor:
    """Score the vocabulary for the output of any decoder layer, (..., D), features in our order."""
    x = x[..., _sines_first(marian.config.d_model).to(x.device)]
    return marian.lm_head(x) + marian.final_logits_bias
