"""Low-level statistics, on numbers that a reader can check by hand."""

import json
import math

import numpy as np
import pytest

from utils.analysis import (
    Captured,
    Labelled,
    attention_entropy,
    attention_label,
    dead_share,
    diagonality,
    effective_rank,
    head_similarity,
    mean_cosine,
    mean_norm,
    mean_similarity_to_others,
)


def maps(*heads):
    """Weights of one sentence, (1, H, Q, K)."""
    return np.array([heads], dtype=float)


def real(*sentences):
    """Which positions are real, (B, T), from strings such as "110"."""
    return np.array([[c == "1" for c in sentence] for sentence in sentences])


# Labelled, Captured


def labelled(shape=(2, 3)):
    return Labelled(
        values=np.arange(math.prod(shape), dtype=float).reshape(shape),
        name="entropy",
        unit="nats",
        axes={"attention": ["encoder 1 self", "decoder 1 self"], "head": ["1", "2", "3"]},
    )


def test_labels_must_fit_the_values():
    with pytest.raises(ValueError, match=r"entropy: values \(3, 2\), labels \(2, 3\)"):
        labelled((3, 2))


def test_a_result_survives_json():
    assert json.loads(json.dumps(labelled().as_dict())) == {
        "name": "entropy",
        "unit": "nats",
        "axes": {"attention": ["encoder 1 self", "decoder 1 self"], "head": ["1", "2", "3"]},
        "values": [[0, 1, 2], [3, 4, 5]],
    }


@pytest.fixture
def captured():
    """Sources of 3 and 2 tokens, targets of 1 and 2."""
    return Captured(
        tensors={
            "encoder.0.self_attn.q": np.arange(24.0).reshape(2, 2, 3, 2),
            "encoder.0.self_attn.weights": np.zeros((2, 2, 3, 3)),
            "decoder.0.cross_attn.weights": np.zeros((2, 2, 2, 3)),
            "decoder.0.out": np.arange(8.0).reshape(2, 2, 2),
        },
        src_is_real=real("111", "110"),
        tgt_is_real=real("10", "11"),
    )


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("encoder.embed", "src"),
        ("encoder.0.self_attn.weights", "src"),
        ("encoder.0.self_attn.k", "src"),
        ("decoder.0.self_attn.k", "tgt"),
        ("decoder.0.cross_attn.q", "tgt"),
        ("decoder.0.cross_attn.weights", "tgt"),
        ("decoder.0.cross_attn.k", "src"),
        ("decoder.0.cross_attn.v", "src"),
        ("decoder.0.ffn.act", "tgt"),
        ("logits", "tgt"),
    ],
)
def test_keys_and_values_of_cross_attention_are_of_the_source(captured, name, side):
    assert captured.rows_are_real(name) is getattr(captured, f"{side}_is_real")


def test_vectors_of_padding_are_left_out(captured):
    vectors = captured.vectors("encoder.0.self_attn.q")  # (H, N, E)
    first_head = [[0, 1], [2, 3], [4, 5], [12, 13], [14, 15]]  # all of sentence 1, two of 2
    assert vectors.tolist() == [first_head, (np.array(first_head) + 6).tolist()]
    assert captured.vectors("decoder.0.out").tolist() == [[[0, 1], [4, 5], [6, 7]]]


def test_attentions_are_those_whose_weights_were_captured(captured):
    assert captured.attentions() == ["encoder.0.self_attn", "decoder.0.cross_attn"]


def test_readers_count_layers_from_one():
    assert attention_label("decoder.0.cross_attn") == "decoder 1 cross"
    assert attention_label("encoder.11.self_attn") == "encoder 12 self"


# Vectors


def test_mean_norm_of_lengths_5_and_13_is_9():
    assert mean_norm(np.array([[[3.0, 4], [5, 12]], [[0, 1], [0, 1]]])).tolist() == [9, 1]


def test_mean_cosine_is_1_along_0_across_and_minus_1_against():
    one = np.array([[[1.0, 0], [1, 0]], [[1, 0], [1, 0]], [[1, 0], [1, 0]]])
    two = np.array([[[3.0, 0], [9, 0]], [[0, 2], [5, 0]], [[-1, 0], [-7, 0]]])
    assert mean_cosine(one, two).tolist() == [1, 0.5, -1]


def test_mean_cosine_with_nothing_is_0():
    assert mean_cosine(np.zeros((1, 1, 2)), np.ones((1, 1, 2))).tolist() == [0]


def test_effective_rank_counts_directions_used_alike():
    line = [[1.0, 2, 3], [2, 4, 6], [-1, -2, -3]]
    all_alike = np.eye(3) * 7
    nothing = np.zeros((3, 3))
    ranks = effective_rank(np.array([line, all_alike, nothing]))
    assert ranks == pytest.approx([1, 3, 0])


def test_effective_rank_lies_between_for_unequal_directions():
    # Singular values 3 and 1: shares 3/4 and 1/4.
    expected = math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert effective_rank(np.array([[[3.0, 0], [0, 1]]])) == pytest.approx(expected)


def test_effective_rank_is_that_of_the_rotated_and_scaled_vectors():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2, 9, 4))
    rotation, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    assert effective_rank(5 * vectors @ rotation) == pytest.approx(effective_rank(vectors))


# Attention


def test_uniform_attention_has_entropy_ln_k():
    weights = np.full((2, 3, 4, 5), 1 / 5)
    entropy = attention_entropy(weights, np.ones((2, 4), dtype=bool))
    assert entropy == pytest.approx(np.full(3, math.log(5)))


def test_attention_to_one_token_has_entropy_0():
    assert attention_entropy(maps(np.eye(3)), real("111")) == pytest.approx(0, abs=1e-9)


def test_entropy_of_a_half_and_two_quarters_is_one_and_a_half_ln_2():
    weights = maps([[0.5, 0.25, 0.25]])
    assert attention_entropy(weights, real("1")) == pytest.approx(1.5 * math.log(2))


def test_entropy_is_the_mean_over_real_queries_of_all_sentences():
    half = [0.5, 0.5]
    weights = np.array([[[half, [1, 0]]], [[[1, 0], half]]])  # (2, 1, 2, 2)
    entropy = attention_entropy(weights, real("11", "10"))  # entropies ln 2, 0, 0
    assert entropy == pytest.approx(math.log(2) / 3)


def test_the_identity_has_diagonality_1():
    assert diagonality(maps(np.eye(4)), real("1111"), real("1111")) == pytest.approx(1)


def test_attention_from_end_to_end_has_diagonality_0():
    assert diagonality(maps([[0, 1], [1, 0]]), real("11"), real("11")) == pytest.approx(0)


def test_diagonality_of_uniform_attention_over_three_tokens_is_five_ninths():
    # Mean distances of the rows: (0 + 1/2 + 1)/3, (1/2 + 0 + 1/2)/3, (1 + 1/2 + 0)/3.
    weights = maps(np.full((3, 3), 1 / 3))
    expected = 1 - (1 / 2 + 1 / 3 + 1 / 2) / 3
    assert diagonality(weights, real("111"), real("111")) == pytest.approx(expected)


def test_diagonality_measures_sentences_by_their_own_length():
    # Three queries straight across five keys; a padded query, which must not count, across none.
    weights = maps(np.zeros((4, 6)))
    weights[0, 0, [0, 1, 2, 3], [0, 2, 4, 0]] = 1
    assert diagonality(weights, real("1110"), real("111110")) == pytest.approx(1)


def test_diagonality_of_a_single_token_is_1():
    assert diagonality(maps([[1.0]]), real("1"), real("1")) == pytest.approx(1)


def test_each_head_is_like_itself_and_unlike_one_that_looks_elsewhere():
    similarity = head_similarity(maps(np.eye(2), np.eye(2), np.eye(2)[::-1]), real("11"))
    assert similarity == pytest.approx(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]]))


def test_similarity_is_the_mean_cosine_of_the_rows():
    # First rows at 45 degrees, second rows alike.
    weights = maps([[1, 0], [0, 1]], [[0.5, 0.5], [0, 1]])
    assert head_similarity(weights, real("11"))[0, 1] == pytest.approx((math.sqrt(0.5) + 1) / 2)


def test_padded_queries_do_not_make_heads_alike():
    weights = maps([[1, 0], [0.5, 0.5]], [[0, 1], [0.5, 0.5]])
    assert head_similarity(weights, real("10"))[0, 1] == 0


def test_similarity_to_others_leaves_the_head_itself_out():
    similarity = np.array([[1, 0.2, 0.4], [0.2, 1, 0.8], [0.4, 0.8, 1]])
    assert mean_similarity_to_others(similarity) == pytest.approx([0.3, 0.5, 0.6])


def test_a_single_head_has_no_other():
    with np.errstate(all="raise"):
        assert np.isnan(mean_similarity_to_others(np.array([[1.0]]))).tolist() == [True]


# Feed-forward


def test_a_unit_is_dead_if_no_token_activates_it():
    activations = np.array([[0, 1.0, 0, 2], [0, 0, 0, 3]])
    assert dead_share(activations) == 0.5
