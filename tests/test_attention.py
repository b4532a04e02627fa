"""Section 3.2: scaled dot-product and multi-head attention."""

import math

import pytest
import torch
from torch import nn

from pytorch_version.attention import (
    MultiHeadAttention,
    ScaledDotProductAttention,
    causal_mask,
    padding_mask,
)
from tests.oracles import attention_with_weights_of


@pytest.fixture
def attention():
    return MultiHeadAttention(d_model=16, num_heads=4)


def test_a_score_by_hand():
    attend = ScaledDotProductAttention()
    attend.fused = False
    seen = {}
    attend.scores.register_forward_hook(lambda m, i, out: seen.update(scores=out))
    attend.weights.register_forward_hook(lambda m, i, out: seen.update(weights=out))
    q = torch.tensor([[[[1.0, 2.0, 0.0, 0.0]]]])
    k = torch.tensor([[[[3.0, 1.0, 0.0, 0.0], [0.0, 0.0, 5.0, 5.0]]]])
    v = torch.tensor([[[[10.0], [20.0]]]])
    context = attend(q, k, v, None)
    # (1*3 + 2*1) / sqrt(4) = 2.5 and 0 / 2 = 0
    assert seen["scores"].flatten().tolist() == pytest.approx([2.5, 0.0])
    first = math.exp(2.5) / (math.exp(2.5) + 1)
    assert seen["weights"].flatten().tolist() == pytest.approx([first, 1 - first])
    assert context.item() == pytest.approx(10 * first + 20 * (1 - first))


@pytest.mark.parametrize("fused", [True, False])
def test_matches_torch_multihead_attention(fused):
    theirs = nn.MultiheadAttention(16, 4, batch_first=True).eval()
    nn.init.normal_(theirs.in_proj_bias)
    nn.init.normal_(theirs.out_proj.bias)
    ours = attention_with_weights_of(theirs)
    ours.attention.fused = fused
    query, memory = torch.randn(3, 5, 16), torch.randn(3, 7, 16)
    is_pad = torch.zeros(3, 7, dtype=torch.bool)
    is_pad[1, 4:] = True
    expected, _ = theirs(query, memory, memory, key_padding_mask=is_pad)
    actual = ours(query, memory, ~is_pad[:, None, None, :])
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)
    # The comparison can fail: without the mask the results differ.
    assert (ours(query, memory, None) - expected).abs().max() > 1e-3


def test_fused_and_explicit_agree_forward_and_backward(attention):
    x, allowed = torch.randn(2, 6, 16, requires_grad=True), causal_mask(6)
    results = []
    for fused in (True, False):
        attention.attention.fused = fused
        out = attention(x, x, allowed)
        results.append((out, *torch.autograd.grad(out.square().sum(), [x, attention.w_q.weight])))
    for fused, explicit in zip(*results, strict=True):
        torch.testing.assert_close(fused, explicit, rtol=1e-4, atol=1e-5)


def test_weights_are_a_distribution_over_allowed_keys(attention):
    attention.attention.fused = False
    seen = {}
    attention.attention.weights.register_forward_hook(lambda m, i, out: seen.update(w=out))
    allowed = padding_mask(torch.tensor([[5, 6, 0, 0], [5, 6, 7, 8]]), pad_id=0)
    x = torch.randn(2, 4, 16)
    attention.train()(x, x, allowed)
    assert seen["w"].shape == (2, 4, 4, 4)
    torch.testing.assert_close(seen["w"].sum(-1), torch.ones(2, 4, 4))
    assert (seen["w"][0, :, :, 2:] == 0).all()
    assert (seen["w"][1] > 0).all()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_query_with_no_key_allowed_stays_finite(attention, fused, dtype):
    attention = attention.to(dtype)
    attention.attention.fused = fused
    x = torch.randn(2, 3, 16, dtype=dtype, requires_grad=True)
    allowed = torch.ones(2, 1, 3, 3, dtype=torch.bool)
    allowed[0] = False
    out = attention(x, x, allowed)
    out.sum().backward()
    assert out.isfinite().all()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in attention.parameters())


def test_masks_have_the_right_direction():
    assert causal_mask(3)[0, 0].tolist() == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]
    mask = padding_mask(torch.tensor([[7, 8, 0]]), pad_id=0)
    assert mask.shape == (1, 1, 1, 3)  # keys last: every query sees the same
    assert mask.flatten().tolist() == [True, True, False]


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match=r"num_heads=3.*d_model=16"):
        MultiHeadAttention(16, 3)
