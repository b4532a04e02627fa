"""Other people's implementations to compare with, and how their weights fit ours."""

import re

import torch
from torch import Tensor, nn
from transformers import MarianMTModel

from pytorch_version.attention import MultiHeadAttention
from pytorch_version.model import Transformer
from utils.config import ModelConfig

# MarianMT's names -> ours.
_RENAMED = (
    (r"^model\.shared\.weight$", "embedding.weight"),
    (r"^model\.", ""),
    (r"\.encoder_attn_layer_norm\.", ".add_norm_cross.norm."),
    (r"\.self_attn_layer_norm\.", ".add_norm_self.norm."),
    (r"\.final_layer_norm\.", ".add_norm_ffn.norm."),
    (r"\.encoder_attn\.", ".cross_attn."),
    (r"_attn\.([qkv])_proj\.", r"_attn.w_\1."),
    (r"_attn\.out_proj\.", "_attn.w_o."),
    (r"\.fc1\.", ".ffn.pre."),
    (r"\.fc2\.", ".ffn.out."),
)


def feature_order(d_model: int) -> Tensor:
    """Where each of our features stands in MarianMT's residual stream.

    Ours alternate sine and cosine; MarianMT has all sines first.
    """
    half = d_model // 2
    return torch.stack([torch.arange(half), half + torch.arange(half)], dim=1).flatten()


def transformer_with_weights_of(marian: MarianMTModel, permute: bool = True) -> Transformer:
    """The scratch model computing what ``marian`` computes.

    Args:
        marian: post-norm, ReLU, scaled embeddings.
        permute: False leaves out the reordering of features, a mistake that must show.
    """
    theirs = marian.config
    config = ModelConfig(
        d_model=theirs.d_model,
        num_layers=theirs.encoder_layers,
        num_heads=theirs.encoder_attention_heads,
        d_ff=theirs.encoder_ffn_dim,
        dropout=0.0,
    )
    ours = Transformer(
        config, theirs.vocab_size, theirs.pad_token_id, theirs.max_position_embeddings
    )
    order = feature_order(theirs.d_model) if permute else torch.arange(theirs.d_model)
    state = {}
    for name, weight in marian.state_dict().items():
        if "embed_" in name or name.startswith(("lm_head", "final_logits_bias")):
            continue  # tied to model.shared, fixed tables, or zero
        new_name = name
        for pattern, replacement in _RENAMED:
            new_name = re.sub(pattern, replacement, new_name)
        if "norm" in new_name or re.search(r"(w_o|ffn\.out)\.", new_name):
            weight = weight[order]  # writes to the residual stream
        elif weight.dim() == 2:
            weight = weight[:, order]  # reads from it
        state[new_name] = weight
    ours.load_state_dict(state)
    return ours


def attention_with_weights_of(theirs: nn.MultiheadAttention) -> MultiHeadAttention:
    """Our attention with the weights of torch's."""
    ours = MultiHeadAttention(theirs.embed_dim, theirs.num_heads)
    weights, biases = theirs.in_proj_weight.chunk(3), theirs.in_proj_bias.chunk(3)
    for linear, weight, bias in zip((ours.w_q, ours.w_k, ours.w_v), weights, biases, strict=True):
        linear.weight.data.copy_(weight)
        linear.bias.data.copy_(bias)
    ours.w_o.load_state_dict(theirs.out_proj.state_dict())
    return ours
