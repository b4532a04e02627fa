"""Where attention goes: statistics of heads, rollout, and value-weighted attention."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pytorch_version.model import explicit_attention, inside
from utils import flow
from utils.analysis import Captured
from utils.capture import capture

HALF = np.array([[0.5, 0.5], [0.5, 0.5]])
CAUSAL = np.array([[1.0, 0], [0.5, 0.5]])


def captured(tensors, num_src=2, num_tgt=2):
    """One sentence without padding; ``tensors`` are (H, ...) each."""
    return Captured(
        tensors={name: np.asarray(tensor, dtype=float)[None] for name, tensor in tensors.items()},
        src_is_real=np.ones((1, num_src), dtype=bool),
        tgt_is_real=np.ones((1, num_tgt), dtype=bool),
    )


def layers(num_layers, encoder=HALF, decoder=CAUSAL, cross=HALF):
    """The same one-headed attention in each layer."""
    tensors = {}
    for i in range(num_layers):
        tensors[f"encoder.{i}.self_attn.weights"] = [encoder]
        tensors[f"decoder.{i}.self_attn.weights"] = [decoder]
        tensors[f"decoder.{i}.cross_attn.weights"] = [cross]
    return captured(tensors, len(encoder), len(decoder))


def rolled(found, sentence=0):
    """Both rollouts with numbers for tokens."""
    num_src, num_tgt = found.src_is_real[sentence].sum(), found.tgt_is_real[sentence].sum()
    tgt = [str(i) for i in range(num_tgt)]
    return flow.rollout(found, sentence, [str(i) for i in range(num_src)], tgt, tgt)


def captured_from(model, src_ids, tgt_ids):
    """What a real model leaves behind."""
    with torch.no_grad(), explicit_attention(model):
        with capture(model, inside(model).points) as found:
            model(src_ids, tgt_ids)
    return Captured(
        tensors={name: tensor.numpy() for name, tensor in found.items()},
        src_is_real=(src_ids != 0).numpy(),
        tgt_is_real=(tgt_ids != 0).numpy(),
    )


@pytest.fixture
def of_batch(twin, batch):
    return captured_from(twin, *batch)


# Statistics by attention and head


def test_statistics_are_those_of_each_head():
    one = captured({"encoder.1.self_attn.weights": [np.eye(2), HALF, HALF]})
    stats = flow.attention_statistics(one)
    assert {key: (s.unit, dict(s.axes)) for key, s in stats.items()} == {
        key: (unit, {"attention": ["encoder 2 self"], "head": ["1", "2", "3"]})
        for key, unit in (("entropy", "nats"), ("diagonality", "0 to 1"), ("similarity", "cosine"))
    }
    assert stats["entropy"].values == pytest.approx(np.array([[0, math.log(2), math.log(2)]]))
    assert stats["diagonality"].values == pytest.approx(np.array([[1, 0.5, 0.5]]))
    across = math.sqrt(0.5)  # cosine of a half and a half with one alone
    expected = np.array([[across, (across + 1) / 2, (across + 1) / 2]])
    assert stats["similarity"].values == pytest.approx(expected)


def test_a_head_that_an_attention_lacks_is_nan():
    found = captured(
        {"encoder.0.self_attn.weights": [HALF], "decoder.0.self_attn.weights": [HALF, HALF]}
    )
    stats = flow.attention_statistics(found)
    assert np.isnan(stats["entropy"].values).tolist() == [[False, True], [False, False]]
    # The single head has no other to be similar to.
    assert np.isnan(stats["similarity"].values).tolist() == [[True, True], [False, False]]


def test_a_cross_attention_is_straight_when_the_longer_source_is_read_evenly():
    weights = np.zeros((1, 2, 3))
    weights[0, [0, 1], [0, 2]] = 1  # first to first, last of two to last of three
    found = captured({"decoder.0.cross_attn.weights": weights}, num_src=3, num_tgt=2)
    assert flow.attention_statistics(found)["diagonality"].values == pytest.approx(1)


def test_padding_changes_no_statistic(twin, batch, of_batch):
    src_ids, tgt_ids = batch
    alone = [
        captured_from(twin, src[None, src != 0], tgt[None, tgt != 0])
        for src, tgt in zip(src_ids, tgt_ids, strict=True)
    ]
    sizes = {"src": [c.src_is_real.size for c in alone], "tgt": [c.tgt_is_real.size for c in alone]}
    assert len(set(sizes["src"])) == len(set(sizes["tgt"])) == 3
    for key, together in flow.attention_statistics(of_batch).items():
        apart = np.stack([flow.attention_statistics(one)[key].values for one in alone])
        for row, label in enumerate(together.axes["attention"]):
            queries = sizes["src" if label.startswith("encoder") else "tgt"]
            mean = np.average(apart[:, row], axis=0, weights=queries)
            np.testing.assert_allclose(together.values[row], mean, rtol=1e-4, err_msg=key)


def test_without_weights_there_are_no_statistics():
    with pytest.raises(ValueError, match="nothing of any attention was captured"):
        flow.attention_statistics(captured({"encoder.embed": np.zeros((2, 4))}))


# Queries, keys, values


def test_norm_std_and_rank_of_each_vector():
    line = np.array([[3.0, 4], [6, 8]])  # lengths 5 and 10
    found = captured(
        {
            "decoder.0.cross_attn.k": [line],
            "decoder.0.cross_attn.v": [np.eye(2)],
            "decoder.0.cross_attn.q": [np.full((3, 2), 7.0)],
        },
        num_tgt=3,
    )
    stats = flow.qkv_by_layer(found)
    axes = {"vector": ["Q", "K", "V"], "attention": ["decoder 1 cross"], "head": ["1"]}
    for result in stats.values():
        assert {name: list(labels) for name, labels in result.axes.items()} == axes
    assert stats["norm"].values.ravel() == pytest.approx([7 * math.sqrt(2), 7.5, 1])
    # Entries 3, 4, 6, 8 lie 2.25, 1.25, 0.75 and 2.75 from their mean.
    spread = math.sqrt((2.25**2 + 1.25**2 + 0.75**2 + 2.75**2) / 4)
    assert stats["std"].values.ravel() == pytest.approx([0, spread, 0.5])
    assert stats["effective_rank"].values.ravel() == pytest.approx([1, 1, 2])
    assert stats["effective_rank"].name == "effective rank, at most 2"


def test_every_attention_of_a_model_is_there_in_order(of_batch):
    names = ["encoder 1 self", "encoder 2 self", "decoder 1 self", "decoder 1 cross",
             "decoder 2 self", "decoder 2 cross"]  # fmt: skip
    for stats in (flow.attention_statistics(of_batch), flow.qkv_by_layer(of_batch)):
        for result in stats.values():
            assert result.axes["attention"] == names
            assert result.axes["head"] == ["1", "2", "3", "4"]
            assert np.isfinite(result.values).all()


def test_vectors_of_padding_do_not_count(of_batch):
    before = flow.qkv_by_layer(of_batch)["norm"].values
    for name, tensor in of_batch.tensors.items():
        if name.endswith((".q", ".k", ".v")):
            tensor.transpose(0, 2, 1, 3)[~of_batch.rows_are_real(name)] = 1e6
    assert np.array_equal(flow.qkv_by_layer(of_batch)["norm"].values, before)


def test_without_vectors_there_are_no_norms():
    with pytest.raises(ValueError, match="captured"):
        flow.qkv_by_layer(captured({"encoder.0.self_attn.weights": [HALF]}))


# Rollout


def test_one_encoder_layer_keeps_half_and_mixes_half():
    encoder, _ = rolled(layers(1))
    assert encoder.values == pytest.approx(np.array([[0.75, 0.25], [0.25, 0.75]]))


def test_two_encoder_layers_mix_twice():
    encoder, _ = rolled(layers(2))
    assert encoder.values == pytest.approx(np.array([[0.625, 0.375], [0.375, 0.625]]))


def test_one_decoder_layer_by_hand():
    _, decoder = rolled(layers(1, cross=np.eye(2)))
    # Self-attention leaves 1, 0 and 1/4, 3/4 of the inputs; cross-attention halves that and adds
    # half of one row each of the encoder's rollout.
    expected = [[0.375, 0.125, 0.5, 0], [0.125, 0.375, 0.125, 0.375]]
    assert decoder.values == pytest.approx(np.array(expected))


def test_later_layers_come_after_earlier_ones():
    found = layers(2, encoder=np.eye(2))
    swap = np.eye(2)[::-1]
    found.tensors["encoder.0.self_attn.weights"][0, 0] = swap
    found.tensors["encoder.1.self_attn.weights"][0, 0] = [[1, 0], [1, 0]]
    encoder, _ = rolled(found)
    # Layer 1 gives halves; layer 2 keeps row 1 and averages row 2 with it.
    assert encoder.values == pytest.approx(HALF)
    found.tensors["encoder.0.self_attn.weights"][0, 0] = [[1, 0], [1, 0]]
    found.tensors["encoder.1.self_attn.weights"][0, 0] = swap
    encoder, _ = rolled(found)
    assert encoder.values == pytest.approx(np.array([[0.75, 0.25], [0.75, 0.25]]))


def test_attention_to_oneself_moves_nothing():
    encoder, _ = rolled(layers(5, encoder=np.eye(3), cross=np.full((2, 3), 1 / 3)))
    assert encoder.values == pytest.approx(np.eye(3))


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_the_share_of_the_source_depends_on_depth_alone(num_layers):
    rng = np.random.default_rng(num_layers)
    encoder, cross = rng.dirichlet(np.ones(3), size=3), rng.dirichlet(np.ones(3), size=4)
    decoder = np.tril(rng.uniform(size=(4, 4)))
    decoder /= decoder.sum(axis=1, keepdims=True)
    _, rollout = rolled(layers(num_layers, encoder, decoder, cross))
    share = rollout.values[:, :3].sum(axis=1)
    assert share == pytest.approx(np.full(4, 1 - 0.5**num_layers))


def test_rollout_averages_the_heads():
    found = layers(1)
    found.tensors["encoder.0.self_attn.weights"] = np.stack([np.eye(2), np.eye(2)[::-1]])[None]
    encoder, _ = rolled(found)
    assert encoder.values == pytest.approx(np.array([[0.75, 0.25], [0.25, 0.75]]))


def test_rollout_of_a_model_is_a_distribution_that_sees_no_later_input(of_batch):
    for sentence in range(3):
        encoder, decoder = rolled(of_batch, sentence)
        for result in (encoder, decoder):
            assert result.values.min() >= 0
            np.testing.assert_allclose(result.values.sum(axis=1), 1, atol=1e-12)
        inputs = decoder.values[:, len(encoder.values) :]
        assert (inputs[np.triu_indices(len(inputs), k=1)] == 0).all()
        assert (inputs[np.tril_indices(len(inputs))] > 0).all()


def test_rollout_of_a_sentence_is_that_of_the_sentence_alone(twin, batch, of_batch):
    src_ids, tgt_ids = batch[0][1:2, :4], batch[1][1:2, :3]  # the second one without padding
    alone = rolled(captured_from(twin, src_ids, tgt_ids))
    for one, padded in zip(alone, rolled(of_batch, sentence=1), strict=True):
        np.testing.assert_allclose(one.values, padded.values, atol=1e-5)


def test_rows_are_predicted_tokens_and_columns_the_inputs():
    found = layers(1)
    encoder, decoder = flow.rollout(found, 0, ["▁I", "</s>"], ["<s>", "▁나"], ["▁나", "</s>"])
    assert list(encoder.axes.values()) == [["▁I", "</s>"]] * 2
    assert list(decoder.axes.values()) == [["▁나", "</s>"], ["▁I", "</s>", "<s>", "▁나"]]
    with pytest.raises(ValueError, match="labels"):
        flow.rollout(found, 0, ["▁I"], ["<s>", "▁나"], ["▁나", "</s>"])


def test_rollout_refuses_weights_on_padding():
    found = layers(1)
    found.src_is_real[0, 1] = False
    with pytest.raises(ValueError, match=r"encoder.0.self_attn.*0\.500.*padding"):
        rolled(found)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("encoder.0.self_attn", "encoder.0.self_attn were not"),
        ("encoder", "of the encoder"),
        ("decoder", "of the decoder"),
        ("decoder.1.cross_attn", "decoder.1.cross_attn were not"),
    ],
)
def test_rollout_needs_every_layer(missing, message):
    found = layers(2)
    for name in [name for name in found.tensors if name.startswith(missing)]:
        del found.tensors[name]
    with pytest.raises(ValueError, match=message):
        rolled(found)


# Value-weighted attention


def test_a_key_counts_by_the_length_of_its_value():
    weights = np.array([[[[0.5, 0.5]]]])
    values = np.array([[[[1.0], [3.0]]]])
    weighted = flow.value_weighted(weights, values, np.array([[1.0]]))
    assert weighted.tolist() == [[[[0.25, 0.75]]]]


def test_what_w_o_drops_does_not_count():
    weights = np.array([[[[0.5, 0.5]]]])
    values = np.array([[[[3.0, 4.0], [5.0, 0.0]]]])  # equally long before W_O
    w_o = np.array([[1.0, 0], [0, 0]])  # drops the second feature
    weighted = flow.value_weighted(weights, values, w_o)
    assert weighted == pytest.approx(np.array([[[[3 / 8, 5 / 8]]]]))


def test_each_head_has_its_own_columns_of_w_o():
    weights = np.full((1, 2, 1, 2), 0.5)
    values = np.array([[[[1.0, 0], [0, 1]], [[1, 0], [0, 1]]]])
    w_o = np.array([[1.0, 3, 1, 1]])  # (out, in): head 1 has 1 and 3, head 2 has 1 and 1
    weighted = flow.value_weighted(weights, values, w_o)
    assert weighted.tolist() == [[[[0.25, 0.75]], [[0.5, 0.5]]]]


def test_value_weighted_is_what_the_models_own_w_o_makes_of_each_key(twin, of_batch):
    name = "decoder.1.cross_attn"
    weights, values = (of_batch.tensors[f"{name}.{kind}"] for kind in ("weights", "v"))
    w_o = twin.get_submodule("decoder.layers.1.cross_attn.w_o").weight.detach()
    weighted = flow.value_weighted(weights, values, w_o.numpy())
    num_heads, d_head = values.shape[1], values.shape[3]
    for head in range(num_heads):
        # One head's weighted values alone, all other inputs of W_O being 0.
        alone = torch.zeros(*weights[:, head].shape, num_heads, d_head)
        parts = weights[:, head, :, :, None] * values[:, head, None]  # (B, Q, K, E)
        alone[..., head, :] = torch.from_numpy(parts)
        lengths = F.linear(alone.flatten(-2), w_o).norm(dim=-1)
        expected = lengths / lengths.sum(dim=-1, keepdim=True)
        np.testing.assert_allclose(weighted[:, head], expected, atol=1e-5)


def test_values_of_nothing_contribute_nothing():
    weighted = flow.value_weighted(HALF[None, None], np.zeros((1, 1, 2, 3)), np.ones((3, 3)))
    assert weighted.tolist() == [[[[0, 0], [0, 0]]]]


def test_w_o_must_take_the_values_of_all_heads():
    with pytest.raises(ValueError, match="takes 3 features, not 2 heads of 2"):
        flow.value_weighted(np.ones((1, 2, 1, 1)), np.ones((1, 2, 1, 2)), np.ones((4, 3)))


def test_equal_maps_overlap_fully_and_disjoint_ones_not_at_all():
    one = np.stack([np.eye(2), np.eye(2)])[None]
    two = np.stack([np.eye(2), np.eye(2)[::-1]])[None]
    assert flow.overlap(one, two, np.ones((1, 2), dtype=bool)).tolist() == [1, 0]


def test_overlap_is_the_share_that_need_not_move():
    one, two = np.array([[[[0.5, 0.3, 0.2]]]]), np.array([[[[0.2, 0.3, 0.5]]]])
    assert flow.overlap(one, two, np.array([[True]])) == pytest.approx(0.7)


def test_overlap_leaves_padded_queries_out():
    one, two = CAUSAL[None, None], np.array([[[[1.0, 0], [0, 1]]]])
    assert flow.overlap(one, two, np.array([[True, True]])) == pytest.approx(0.75)
    assert flow.overlap(one, two, np.array([[True, False]])) == pytest.approx(1)


def test_value_weighting_compares_every_head_with_its_own_projection():
    found = captured(
        {
            "encoder.0.self_attn.weights": [HALF, HALF],
            "encoder.0.self_attn.v": [[[1.0], [3.0]], [[2.0], [2.0]]],
            "decoder.0.cross_attn.weights": [HALF],
            "decoder.0.cross_attn.v": [[[1.0, 0], [0, 1.0]]],
        }
    )
    w_o = {"encoder.0.self_attn": np.eye(2), "decoder.0.cross_attn": np.diag([9.0, 1])}
    result = flow.value_weighting(found, w_o)
    assert result.axes["attention"] == ["encoder 1 self", "decoder 1 cross"]
    expected = np.array([[0.75, 1], [0.6, np.nan]])  # halves against quarters, tenths
    np.testing.assert_allclose(result.values, expected)
