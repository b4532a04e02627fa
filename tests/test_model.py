"""The whole model: against MarianMT, by hand, and by the laws it must obey."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding

from pytorch_version.layers import AddAndNorm, EncoderLayer, SinusoidalPositions
from pytorch_version.model import Transformer, count_parameters
from tests.conftest import MAX_POSITIONS, VOCAB_SIZE
from tests.oracles import feature_order, transformer_with_weights_of
from utils.config import PRESETS, ModelConfig


def test_logits_equal_marian_given_its_weights(twin, tiny_marian, batch):
    src_ids, tgt_ids = batch
    expected = tiny_marian(
        input_ids=src_ids, attention_mask=(src_ids != 0).long(), decoder_input_ids=tgt_ids
    ).logits
    for implementation in ("sdpa", "eager"):
        twin.set_attn_implementation(implementation)
        torch.testing.assert_close(twin(src_ids, tgt_ids), expected, rtol=1e-5, atol=1e-5)


def test_the_comparison_with_marian_can_fail(tiny_marian, batch):
    src_ids, tgt_ids = batch
    expected = tiny_marian(
        input_ids=src_ids, attention_mask=(src_ids != 0).long(), decoder_input_ids=tgt_ids
    ).logits
    unpermuted = transformer_with_weights_of(tiny_marian, permute=False).eval()
    assert (unpermuted(src_ids, tgt_ids) - expected).abs().max() > 0.01


def test_gradients_equal_marian(twin, tiny_marian, batch):
    src_ids, tgt_ids = batch
    marian = copy.deepcopy(tiny_marian)
    theirs = marian(
        input_ids=src_ids, attention_mask=(src_ids != 0).long(), decoder_input_ids=tgt_ids
    ).logits
    theirs.square().sum().backward()
    twin(src_ids, tgt_ids).square().sum().backward()
    # One matrix, three uses: its gradient is their sum.
    order = feature_order(16)
    torch.testing.assert_close(
        twin.embedding.weight.grad,
        marian.model.shared.weight.grad[:, order],
        rtol=1e-4,
        atol=1e-3,
    )


def test_position_table_is_the_papers_formula():
    table = SinusoidalPositions(50, 16).table
    for pos, i in ((0, 0), (1, 0), (7, 3), (49, 7)):
        angle = pos / 10000 ** (2 * i / 16)
        assert table[pos, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-7)
        assert table[pos, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-7)


@pytest.mark.parametrize(("positions", "width"), [(128, 16), (300, 128), (64, 512)])
def test_position_table_is_marians_bit_for_bit(positions, width):
    marian = MarianSinusoidalPositionalEmbedding(positions, width)
    theirs = marian.create_weight() if hasattr(marian, "create_weight") else marian.weight
    ours = SinusoidalPositions(positions, width).table
    assert torch.equal(ours, theirs.detach()[:, feature_order(width)])


def test_position_table_keeps_its_numbers_in_double_precision():
    positions = SinusoidalPositions(20, 16)
    rounded = positions.table.clone()
    assert torch.equal(positions.double().table, rounded.double())


def test_a_position_beyond_the_table_is_refused(model):
    with pytest.raises(ValueError, match=str(MAX_POSITIONS)):
        model(torch.ones(1, MAX_POSITIONS + 1, dtype=torch.long), torch.ones(1, 1).long())


def test_positions_are_no_parameters_and_survive_a_round_trip(model, batch, tmp_path):
    expected = model(*batch)
    assert not [name for name in model.state_dict() if "positions" in name]
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    config = ModelConfig(d_model=16, num_layers=2, num_heads=4, d_ff=24, dropout=0.0)
    fresh = Transformer(config, VOCAB_SIZE, 0, MAX_POSITIONS).eval()
    fresh.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(fresh(*batch), expected)
    there_and_back = fresh.double().float()
    assert torch.equal(there_and_back(*batch), expected)


def test_embedding_is_scaled_once_and_positions_added(model):
    ids = torch.tensor([[5, 9]])
    by_hand = model.embedding.weight[ids] * math.sqrt(16) + model.positions.table[:2]
    torch.testing.assert_close(model.embed(ids, model.encoder), by_hand)


def test_one_matrix_has_three_uses(model, batch):
    model.load_state_dict(copy.deepcopy(model.state_dict()))
    matrices = [p for p in model.parameters() if p.shape == (VOCAB_SIZE, 16)]
    assert len(matrices) == 1
    before = model(*batch)
    model.embedding.weight.data[7] += 1  # a word of the sources changes every output
    src_ids, tgt_ids = batch
    src_ids[:, 0] = 7
    memory = model.encode(src_ids)
    assert model.project(memory[:, :1]).shape[-1] == VOCAB_SIZE
    assert (model(src_ids, tgt_ids) - before).abs().max() > 0


def test_gradient_of_the_shared_matrix_is_the_sum_of_its_uses(model, batch):
    src_ids, tgt_ids = batch
    uses = [model.embedding.weight.detach().clone().requires_grad_() for _ in range(3)]
    scale, table = math.sqrt(16), model.positions.table
    memory = model.encoder(uses[0][src_ids] * scale + table[:7], model.source_allowed(src_ids))
    causal = torch.ones(6, 6, dtype=torch.bool).tril()[None, None]
    out = model.decoder(
        uses[1][tgt_ids] * scale + table[:6], memory, causal, model.source_allowed(src_ids)
    )
    (out @ uses[2].T).square().mean().backward()
    total = uses[0].grad + uses[1].grad + uses[2].grad
    total[0] = uses[2].grad[0]  # padding is never an input that learns
    model(src_ids, tgt_ids).square().mean().backward()
    torch.testing.assert_close(model.embedding.weight.grad, total, rtol=1e-4, atol=1e-6)


def test_future_tokens_do_not_change_past_logits(model, batch):
    model, (src_ids, tgt_ids) = model.double(), batch
    before = model(src_ids, tgt_ids)
    changed = tgt_ids.clone()
    changed[:, 4:] = 11
    after = model(src_ids, changed)
    torch.testing.assert_close(after[:, :4], before[:, :4], rtol=0, atol=1e-12)
    assert (after[:, 4:] - before[:, 4:]).abs().max() > 1e-3


def test_future_tokens_get_no_gradient(model, batch):
    src_ids, tgt_ids = batch
    embedded = model.embed(tgt_ids, model.decoder).detach().requires_grad_()
    causal = torch.ones(6, 6, dtype=torch.bool).tril()[None, None]
    memory, allowed = model.encode(src_ids), model.source_allowed(src_ids)
    model.decoder(embedded, memory, causal, allowed)[:, 2].square().sum().backward()
    assert (embedded.grad[:, 3:] == 0).all()
    assert (embedded.grad[:, :3] != 0).any(dim=-1).all()


def test_padding_changes_nothing(model, batch):
    model, (src_ids, tgt_ids) = model.double(), batch
    together = model(src_ids, tgt_ids)
    for row in range(3):
        src, tgt = src_ids[row], tgt_ids[row]
        alone = model(src[src != 0][None], tgt[tgt != 0][None])[0]
        torch.testing.assert_close(together[row, : len(alone)], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_an_all_padding_sentence_stays_finite(model, batch, implementation):
    src_ids, tgt_ids = batch
    src_ids[0], tgt_ids[0] = 0, 0
    model.set_attn_implementation(implementation)
    logits = model(src_ids, tgt_ids)
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_the_start_token_sees_itself_even_if_it_is_padding(model_config):
    model = Transformer(model_config, VOCAB_SIZE, pad_id=0, max_positions=8).eval().double()
    src_ids = torch.tensor([[5, 6]])
    first = model(src_ids, torch.tensor([[0]]))
    longer = model(src_ids, torch.tensor([[0, 7, 8]]))[:, :1]
    torch.testing.assert_close(first, longer, rtol=0, atol=1e-12)


def test_post_norm_layer_by_hand(model_config):
    layer = EncoderLayer(16, 4, 24, dropout=0.0, norm="post")
    x, allowed = torch.randn(2, 5, 16), torch.ones(2, 1, 1, 5, dtype=torch.bool)

    def norm(module, y):
        return F.layer_norm(y, (16,), module.norm.weight, module.norm.bias, 1e-5)

    after_attention = norm(layer.add_norm_self, x + layer.self_attn(x, x, allowed))
    inner = F.relu(after_attention @ layer.ffn.pre.weight.T + layer.ffn.pre.bias)
    ffn = inner @ layer.ffn.out.weight.T + layer.ffn.out.bias
    expected = norm(layer.add_norm_ffn, after_attention + ffn)
    torch.testing.assert_close(layer(x, allowed), expected)


def test_pre_norm_by_hand():
    block = AddAndNorm(16, 0.0, "pre")
    x = torch.randn(2, 5, 16)
    torch.testing.assert_close(block(x, lambda y: 3 * y), x + 3 * F.layer_norm(x, (16,)))
    constant = torch.full((1, 1, 16), 4.0)  # no variance: epsilon must keep this finite
    torch.testing.assert_close(AddAndNorm(16, 0.0, "post")(constant, lambda y: y), 0 * constant)


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_parameter_count_is_the_closed_formula(preset, norm):
    config = ModelConfig(**PRESETS[preset] | {"norm": norm})
    with torch.device("meta"):
        model = Transformer(config, vocab_size=1000, pad_id=0, max_positions=8)
    assert sum(p.numel() for p in model.parameters()) == count_parameters(config, 1000)


def test_base_has_the_papers_parameter_count():
    # Table 3: 65 million with the 37,000 entries of section 5.1; big: 213 million.
    assert count_parameters(ModelConfig(**PRESETS["base"]), 37000) == pytest.approx(63e6, rel=0.03)
    assert count_parameters(ModelConfig(**PRESETS["big"]), 37000) == pytest.approx(213e6, rel=0.03)


def test_only_pre_norm_has_final_norms(model_config):
    post = Transformer(model_config, 10, 0, 8)
    pre = Transformer(dataclasses.replace(model_config, norm="pre"), 10, 0, 8)
    extra = set(pre.state_dict()) - set(post.state_dict())
    assert extra == {f"{s}.norm.{p}" for s in ("encoder", "decoder") for p in ("weight", "bias")}


def test_initial_loss_is_near_that_of_guessing():
    model = Transformer(ModelConfig(), 1000, 0, 32).eval()
    src_ids, tgt_ids = torch.randint(3, 1000, (2, 32, 10))
    logits = model(src_ids, tgt_ids)
    loss = F.cross_entropy(logits.flatten(0, 1), torch.randint(3, 1000, (320,)))
    assert loss.item() == pytest.approx(math.log(1000), abs=1.0)
    assert 0.3 < logits.std() < 3


def test_dropout_acts_where_the_paper_has_it(model_config):
    model = Transformer(dataclasses.replace(model_config, dropout=0.5), VOCAB_SIZE, 0, 16)
    dropouts = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Dropout)]
    per_layer = {"encoder": ("self", "ffn"), "decoder": ("self", "cross", "ffn")}
    assert sorted(dropouts) == sorted(
        [f"{stack}.embed" for stack in per_layer]
        + [
            f"{stack}.layers.{i}.add_norm_{site}.dropout"
            for stack, sites in per_layer.items()
            for i in range(2)
            for site in sites
        ]
    )
    dropped = model.train().encoder.embed(torch.ones(1000, 16))
    assert (dropped == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert set(dropped.unique().tolist()) == {0.0, 2.0}


def test_unknown_attention_is_refused(model):
    with pytest.raises(ValueError, match="flash"):
        model.set_attn_implementation("flash")


def test_same_seed_same_weights(model_config):
    def weights(seed):
        torch.manual_seed(seed)
        model = Transformer(model_config, VOCAB_SIZE, 0, 8)
        return np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])

    assert np.array_equal(weights(1), weights(1))
    assert not np.array_equal(weights(1), weights(2))
