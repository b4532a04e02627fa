"""What vectors stand for: on cases that can be computed by hand."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from pytorch_version.model import Transformer, inside
from tests.conftest import VOCAB_SIZE
from utils.analysis import Captured
from utils.capture import capture
from utils.neurons import ffn_activity, lifetime_sparseness, top_tokens
from utils.representations import (
    layer_trajectories,
    logit_lens,
    nearest_neighbours,
    pca,
    training_trajectories,
)


def relu(values):
    return np.maximum(values, 0)


def gelu(values):
    return values * np.vectorize(math.erf)(values / math.sqrt(2)) / 2 + values / 2


def of_layers(*layers, activation=relu):
    """Encoder layers of one sentence; ``layers`` are (tokens, F) before the activation function.

    A padded token with values beyond all others follows.
    """
    tensors = {}
    for i, pre in enumerate(layers):
        pre = np.array([[*pre, [1e6] * len(pre[0])]], dtype=np.float64)
        tensors |= {f"encoder.{i}.ffn.pre": pre, f"encoder.{i}.ffn.act": activation(pre)}
    is_real = np.array([[True] * len(layers[0]) + [False]])
    return Captured(tensors=tensors, src_is_real=is_real, tgt_is_real=is_real)


def captured(model, batch):
    look = inside(model)
    with torch.no_grad(), look.explicit_attention(model), capture(model, look.points) as found:
        look.logits_of(model, *batch)
    return Captured(
        tensors={name: tensor.numpy() for name, tensor in found.items()},
        src_is_real=(batch[0] != 0).numpy(),
        tgt_is_real=(batch[1] != 0).numpy(),
    )


def numbered(is_real):
    """Names for the real tokens of each sentence."""
    return [[f"{row}.{n}" for n in range(count)] for row, count in enumerate(is_real.sum(axis=1))]


# Feed-forward networks


def test_activity_by_hand():
    found = ffn_activity(of_layers([[-1.25, 0.55, -0.15], [3.75, -0.05, -0.25]]))
    histogram = found["activation"]
    shares = dict(zip(histogram.axes["bin"], histogram.values[0], strict=True))
    filled = {label: share for label, share in shares.items() if share}
    assert filled == pytest.approx({  # from -1.25 to 3.75: a fiftieth of that is 0.1
        "-1.3 to -1.2": 1 / 6, "-0.3 to -0.2": 1 / 6, "-0.2 to -0.1": 1 / 6, "-0.1 to 0": 1 / 6,
        "0.5 to 0.6": 1 / 6, "3.7 to 3.8": 1 / 6,
    })  # fmt: skip
    assert list(shares)[0] == "-1.3 to -1.2"
    assert list(shares)[-1] == "3.7 to 3.8"
    assert found["sparsity"].values.tolist() == [4 / 6]
    assert found["dead"].values.tolist() == [pytest.approx(1 / 3)]
    assert found["tokens"].values.tolist() == [2]
    assert {key: found[key].unit for key in found} == {
        "activation": "share of values", "sparsity": "share of values",
        "dead": "share of units", "tokens": "tokens",
    }  # fmt: skip


def test_layers_share_their_bins():
    found = ffn_activity(of_layers([[-1.0], [0.5]], [[-40.0], [0.3]]))["activation"]
    assert found.axes["layer"] == ["encoder 1", "encoder 2"]
    small, large = found.values
    assert found.axes["bin"][0].startswith("-40 ")
    assert small[0] == 0
    assert large[0] == 0.5
    assert (small > 0).argmax() > (large > 0).argmax()


@pytest.mark.parametrize("scale", [1e-6, 0.37, 1, 3, 1e5])
@pytest.mark.parametrize("sign", [-1, 0, 1])
def test_bins_have_round_edges_zero_among_them_and_lose_no_value(scale, sign):
    values = scale * np.random.default_rng(0).normal(9 * sign, 1, (50, 30)).astype(np.float32)
    histogram = ffn_activity(of_layers(values))["activation"]
    edges = [float(label.split(" to ")[0]) for label in histogram.axes["bin"]]
    ends = [float(label.split(" to ")[1]) for label in histogram.axes["bin"]]
    assert ends[:-1] == edges[1:]
    assert 0 in [*edges, ends[-1]]
    width = ends[0] - edges[0]
    assert f"{width:e}"[0] in "125" or f"{width:e}".startswith(("9.99", "1.99", "4.99"))
    assert 50 <= len(edges) <= 130
    assert histogram.values.sum() == pytest.approx(1)
    below = sum(s for s, edge in zip(histogram.values[0], edges, strict=True) if edge < 0)
    assert below == pytest.approx((values < 0).mean())


def test_units_that_are_all_zero_have_a_histogram_too():
    found = ffn_activity(of_layers([[0.0, 0.0]]))
    assert found["activation"].values.tolist() == [[1.0]]
    assert found["sparsity"].values.tolist() == found["dead"].values.tolist() == [1.0]


def test_without_relu_silent_means_not_above_zero_and_says_so():
    layer = [[-1.0, 1.0], [2.0, -0.5]]
    smooth, sharp = of_layers(layer, activation=gelu), of_layers(layer)
    assert ffn_activity(smooth)["sparsity"].values.tolist() == [0.5]
    assert ffn_activity(smooth)["sparsity"].name == "activations that are not above zero"
    assert ffn_activity(sharp)["sparsity"].name == "activations that are zero"


def test_in_a_model_sparsity_is_the_share_below_zero(twin, batch):
    found = ffn_activity(captured(twin, batch))
    assert found["sparsity"].axes["layer"] == ["encoder 1", "encoder 2", "decoder 1", "decoder 2"]
    negative = [label.startswith("-") for label in found["activation"].axes["bin"]]
    below = found["activation"].values[:, negative].sum(axis=1)
    assert below == pytest.approx(found["sparsity"].values)
    assert found["tokens"].values.tolist() == [17, 17, 14, 14]


def test_without_feed_forward_networks_there_is_no_activity():
    nothing = Captured(tensors={}, src_is_real=np.ones((1, 1)), tgt_is_real=np.ones((1, 1)))
    with pytest.raises(ValueError, match="feed-forward"):
        ffn_activity(nothing)


def test_lifetime_sparseness_by_hand():
    columns = [[1, 1, 1, 1], [0, 5, 0, 0], [3, 3, 0, 0], [0, 0, 0, 0], [2, -9, -9, -9]]
    # Half of four tokens: (1 - (1/2)^2 / (1/2)) / (1 - 1/4).
    assert lifetime_sparseness(np.array(columns).T) == pytest.approx([0, 1, 2 / 3, 0, 1])
    assert lifetime_sparseness(np.array([[7.0, 0.0]])).tolist() == [0, 0]


NEURONS = np.array(
    # on two tokens alike, on one alone, on all alike, on none, on two of unequal strength
    [[4, 0, 2, -1, 4], [0, 6, 2, -1, 0], [3, 0, 2, -1, 1], [0, 0, 2, -2, 0], [1, 1, 2, -1, 1]]
)
PIECES = {"encoder": [["a", "b", "c", "</s>", "a"]]}


def test_top_tokens_by_hand():
    two, unequal, *others = top_tokens(of_layers(NEURONS), PIECES, per_layer=5, k=2)
    assert (two.layer, two.unit) == ("encoder 1", 0)
    assert two.tokens == [("a", 4.0), ("c", 3.0)]
    # Mean 8/5 and mean square 26/5 of the unit; its second token reaches 3/4 of the first.
    assert two.selectivity == pytest.approx((1 - (64 / 25) / (26 / 5)) / 0.8 * 3 / 4)
    assert unequal.unit == 4
    assert unequal.selectivity == pytest.approx((1 - (36 / 25) / (18 / 5)) / 0.8 / 4)
    assert [neuron.unit for neuron in others] == [1, 2]  # none of the unit that never fires
    assert others[0].tokens == [("b", 6.0), ("a", 1.0)]
    assert others[1].selectivity == 0


def test_no_more_units_and_tokens_than_asked_for():
    layers = of_layers(NEURONS, NEURONS)
    neurons = top_tokens(layers, PIECES, per_layer=1, k=1)
    assert [(n.layer, len(n.tokens)) for n in neurons] == [("encoder 1", 1), ("encoder 2", 1)]
    most = top_tokens(layers, PIECES, per_layer=9, k=9)
    assert [len(n.tokens) for n in most if n.layer == "encoder 1"] == [2, 2, 4, 2]


def test_tokens_stand_beside_their_own_activations(twin, batch):
    found = captured(twin, batch)
    pieces = {
        "encoder": numbered(found.src_is_real),
        "decoder": numbered(found.tgt_is_real),
    }
    neurons = top_tokens(found, pieces, per_layer=3, k=3)
    assert [n.layer for n in neurons[::3]] == ["encoder 1", "encoder 2", "decoder 1", "decoder 2"]
    for neuron in neurons:
        stack, layer = neuron.layer.split(" ")
        act = found.tensors[f"{stack}.{int(layer) - 1}.ffn.act"]
        for token, value in neuron.tokens:
            row, place = map(int, token.split("."))
            assert value == act[row, place, neuron.unit] > 0


def test_pieces_of_other_sentences_are_refused():
    with pytest.raises(ValueError, match="5 tokens captured, 4 pieces"):
        top_tokens(of_layers(NEURONS), {"encoder": [["a", "b", "c", "d"]]}, 1, 1)


# Principal components


def test_the_components_of_a_rectangle_are_its_sides():
    corners = np.array([[3, 1], [3, -1], [-3, 1], [-3, -1]])
    coordinates, shares = pca(corners + [10, -20])
    assert coordinates == pytest.approx(corners)
    assert shares == pytest.approx([0.9, 0.1])


def test_points_on_a_line_have_one_component():
    line = np.outer([0, 1, 3], [3, 4])
    coordinates, shares = pca(line)
    assert shares == pytest.approx([1, 0])
    assert coordinates[:, 0] == pytest.approx([-20 / 3, -5 / 3, 25 / 3])
    assert coordinates[:, 1] == pytest.approx([0, 0, 0], abs=1e-12)


def test_components_are_those_of_the_covariance_matrix():
    points = np.random.default_rng(0).normal(size=(30, 5)) @ np.diag([5, 4, 3, 2, 1])
    values, vectors = np.linalg.eigh(np.cov(points.T))
    coordinates, shares = pca(points)
    assert shares == pytest.approx(values[::-1][:2] / values.sum())
    by_hand = (points - points.mean(axis=0)) @ vectors[:, ::-1][:, :2]
    assert np.abs(coordinates) == pytest.approx(np.abs(by_hand))


def test_all_components_keep_all_distances():
    points = np.random.default_rng(0).normal(size=(6, 4))
    coordinates, shares = pca(points, 4)
    assert shares.sum() == pytest.approx(1)
    for one, two in ((0, 1), (2, 5)):
        assert np.linalg.norm(coordinates[one] - coordinates[two]) == pytest.approx(
            np.linalg.norm(points[one] - points[two])
        )


def test_signs_do_not_depend_on_the_order_of_the_points():
    points = np.random.default_rng(0).normal(size=(8, 3))
    assert pca(points[::-1])[0][::-1] == pytest.approx(pca(points)[0])
    assert pca(-points)[0] == pytest.approx(-pca(points)[0])


@pytest.mark.parametrize("points", [[[1.0, 2.0, 3.0]], [[5.0], [5.0]]])
def test_points_without_a_direction_have_no_variance(points):
    coordinates, shares = pca(np.array(points))
    assert coordinates.tolist() == [[0, 0]] * len(points)
    assert shares.tolist() == [0, 0]


# Trajectories


def test_the_ways_of_a_sentence_are_seen_in_one_plane():
    states = np.random.default_rng(0).normal(size=(3, 2, 5, 2))  # step, sentence, token, D
    names = ("encoder.embed", "encoder.0.out", "encoder.1.out")
    is_real = np.array([[True] * 5, [True] * 4 + [False]])
    found = Captured(
        tensors=dict(zip(names, states, strict=True)) | {"encoder.0.ffn.out": None},
        src_is_real=is_real,
        tgt_is_real=is_real,
    )
    ways = layer_trajectories(found, 1, {"encoder": list("abcd")})["encoder"]
    assert ways.steps == ["embedding", "layer 1", "layer 2"]
    assert ways.tokens == list("abcd")
    assert ways.coordinates.shape == (4, 3, 2)
    assert ways.shares.sum() == pytest.approx(1)  # D is 2: the plane is all there is
    for token, step in ((0, 2), (3, 1)):
        assert np.linalg.norm(ways.coordinates[token, step] - ways.coordinates[1, 0]) == (
            pytest.approx(np.linalg.norm(states[step, 1, token] - states[0, 1, 1]))
        )


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_the_ways_go_through_every_layer_of_a_model(model_config, batch, norm):
    config = dataclasses.replace(model_config, norm=norm)
    found = captured(Transformer(config, VOCAB_SIZE, 0, 32).eval(), batch)
    pieces = {"encoder": numbered(found.src_is_real)[1], "decoder": numbered(found.tgt_is_real)[1]}
    ways = layer_trajectories(found, 1, pieces)
    steps = ["embedding", "layer 1", "layer 2"] + ["last norm"] * (norm == "pre")
    for stack, tokens in (("encoder", 4), ("decoder", 3)):
        assert ways[stack].steps == steps
        assert ways[stack].coordinates.shape == (tokens, len(steps), 2)
        assert 0 < ways[stack].shares.sum() < 1
    content = json.loads(json.dumps(ways["decoder"].as_dict()))
    assert content["tokens"] == ["1.0", "1.1", "1.2"]
    assert content["coordinates"][2][1] == ways["decoder"].coordinates[2, 1].tolist()


def test_tokens_of_another_sentence_have_no_way(twin, batch):
    with pytest.raises(ValueError, match="encoder: 4 tokens captured, 2 pieces"):
        layer_trajectories(captured(twin, batch), 1, {"encoder": ["a", "b"]})


def test_training_goes_from_the_first_step_to_the_last():
    snapshots = {200: np.array([[4, 0], [0, 0]]), 0: np.array([[0, 0], [0, 0]]),
                 50: np.array([[1, 0], [0, 0]])}  # fmt: skip
    ways = training_trajectories(snapshots, ["개", "</s>"])
    assert ways.steps == ["step 0", "step 50", "step 200"]
    assert ways.shares == pytest.approx([1, 0])
    moved, still = ways.coordinates[..., 0]
    assert np.diff(moved) == pytest.approx([1, 3])
    assert np.diff(still) == pytest.approx([0, 0])


# Neighbours


def test_nearest_neighbours_by_hand():
    embedding = np.array([[0, 0], [2, 0], [0.5, math.sqrt(0.75)], [0, 3], [-1, 0]])
    pieces = ["<pad>", "a", "b", "c", "d"]
    a, c = nearest_neighbours(embedding, [1, 3], pieces, 2)
    assert (a.token, c.token) == ("a", "c")
    assert [token for token, _ in a.nearest] == ["b", "c"]
    assert [cosine for _, cosine in a.nearest] == pytest.approx([0.5, 0])
    assert [token for token, _ in c.nearest] == ["b", "a"]
    assert [cosine for _, cosine in c.nearest] == pytest.approx([math.sqrt(0.75), 0])
    (everyone,) = nearest_neighbours(embedding, [1], pieces, 9)
    assert [token for token, _ in everyone.nearest] == ["b", "c", "d"]  # not itself, not padding
    assert everyone.nearest[-1][1] == pytest.approx(-1)


# Logit lens


def names_of(ids):
    return ["wxyz"[i] for i in ids]


def test_the_logit_lens_by_hand():
    probabilities = np.array([
        [[0.5, 0.25, 0.125, 0.125], [0.1, 0.2, 0.3, 0.4]],
        [[0.25, 0.5, 0.125, 0.125], [0.7, 0.1, 0.1, 0.1]],
    ])  # fmt: skip
    lens = logit_lens(np.log(probabilities) + 1000, [1, 0], names_of)
    assert lens.tokens == [["w", "z"], ["x", "w"]]
    assert lens.probability.values == pytest.approx(np.array([[0.5, 0.4], [0.5, 0.7]]))
    assert lens.right_probability.values == pytest.approx(np.array([[0.25, 0.1], [0.5, 0.7]]))
    assert lens.right_rank.values.tolist() == [[2, 4], [1, 1]]
    assert lens.share_right.tolist() == [0, 1]
    for labelled in (lens.probability, lens.right_probability, lens.right_rank):
        assert labelled.axes == {"layer": ["decoder 1", "decoder 2"], "position": ["x", "w"]}
    content = json.loads(json.dumps(lens.as_dict()))
    assert content["right_rank"]["values"] == [[2, 4], [1, 1]]
    assert content["tokens"] == lens.tokens


def test_all_tokens_alike_have_probability_one_over_v():
    lens = logit_lens(np.zeros((1, 3, 4), dtype=np.float32), [0, 1, 3], names_of)
    assert lens.right_probability.values == pytest.approx(np.full((1, 3), 0.25))
    assert lens.right_rank.values.tolist() == [[1, 1, 1]]


def test_the_last_layer_says_what_the_model_says(twin, batch):
    found = captured(twin, batch)
    states = torch.stack([torch.from_numpy(found.tensors[f"decoder.{i}.out"])[2] for i in range(2)])
    with torch.no_grad():
        logits = inside(twin).project(twin, states).numpy()
    labels = [5, 7, 2, 9, 11, 2]
    lens = logit_lens(logits, labels, lambda ids: [str(i) for i in ids])
    said = torch.from_numpy(found.tensors["logits"])[2].softmax(dim=-1).numpy()
    assert lens.tokens[1] == [str(i) for i in said.argmax(axis=-1)]
    assert lens.right_probability.values[1] == pytest.approx(said[range(6), labels], rel=1e-4)
    assert lens.tokens[0] != lens.tokens[1]
