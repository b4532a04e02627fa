"""The trace of a sentence: complete, in order, and every number that of the very pass."""

import copy
import dataclasses
import json
import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import MarianConfig, MarianMTModel

from huggingface_version.model import from_marian
from pytorch_version.model import Transformer, count_parameters
from tests.conftest import MAX_POSITIONS, SHAPE, VOCAB_SIZE
from tests.oracles import transformer_with_weights_of
from tests.outcomes import leaves
from utils.batching import collate
from utils.capture import capture
from utils.comparison import marian_side, scratch_side
from utils.config import ModelConfig
from utils.objective import smoothed_loss_sum
from utils.operations import BIASED_LOGITS, Kind, Variant, operations
from utils.trace import Statistics, trace
from utils.trace_listing import WIDTH, _short, display_width, lines

S, T, V = 7, 5, VOCAB_SIZE
D, H, E, FFN = SHAPE["d_model"], SHAPE["num_heads"], 4, SHAPE["d_ff"]
EPS = 0.1
SIDES = ["scratch", "marian", "pre-norm", "gelu"]


def other_marian(**options):
    """A MarianMT model that the scratch model cannot be."""
    shape = {
        "vocab_size": V, "d_model": D, "encoder_layers": 1, "decoder_layers": 2,
        "encoder_attention_heads": H, "decoder_attention_heads": H, "encoder_ffn_dim": FFN,
        "decoder_ffn_dim": FFN, "max_position_embeddings": 16, "init_std": 0.2,
        "pad_token_id": 0, "decoder_start_token_id": 1, "eos_token_id": 2,
        "activation_function": "relu", "scale_embedding": True, "decoder_vocab_size": V,
    }  # fmt: skip
    return MarianMTModel(MarianConfig(**shape | options)).eval()


@pytest.fixture(scope="module")
def pair():
    """One sentence: 7 source and 5 target tokens."""
    return collate([([5, 8, 30, 8, 11, 7, 2], [9, 4, 39, 4, 2])])


@pytest.fixture(scope="module")
def sides(tiny_marian):
    """Implementations by name, to be read only; the first two hold the same weights."""
    config = ModelConfig(dropout=0.0, norm="pre", **SHAPE)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        pre_norm = Transformer(config, V, 0, MAX_POSITIONS).eval()
        gelu = other_marian(activation_function="gelu", scale_embedding=False)
        for model in (pre_norm, gelu):
            for parameter in model.parameters():
                if parameter.dim() == 1:  # biases and norms would hide mistakes at 0 and 1
                    parameter.data += 0.1 * torch.randn_like(parameter)
    return {
        "scratch": scratch_side(transformer_with_weights_of(tiny_marian).eval()),
        "marian": marian_side(tiny_marian),
        "pre-norm": scratch_side(pre_norm),
        "gelu": marian_side(gelu),
    }


@pytest.fixture(scope="module")
def traces(sides, pair):
    return {name: follow(side, pair) for name, side in sides.items()}


@pytest.fixture
def make(sides):
    """From a name to a copy of that implementation, to be changed."""
    return lambda name: dataclasses.replace(sides[name], model=copy.deepcopy(sides[name].model))


@pytest.fixture(params=SIDES)
def name(request):
    return request.param


@pytest.fixture
def side(sides, name):
    return sides[name]


@pytest.fixture
def each(traces, name):
    """The trace of ``side``."""
    return traces[name]


@pytest.fixture
def traced(traces):
    return traces["scratch"]


def follow(side, pair, label_smoothing=EPS, **options):
    options.setdefault("variant", variant_of(side))
    return trace(side.model, side, pair, label_smoothing, **options)


def variant_of(side):
    if isinstance(side.model, MarianMTModel):
        config = side.model.config
        return Variant(activation=config.activation_function, scaled=config.scale_embedding)
    return Variant()


def look(side, pair):
    """Tensors and gradients of one pass of a copy, captured without a trace."""
    model, gradients = copy.deepcopy(side.model), {}
    with side.explicit_attention(model), capture(model, side.points, gradients) as found:
        logits = side.logits_of(model, pair.src_ids, pair.decoder_input_ids)
        loss = smoothed_loss_sum(logits, pair.labels, EPS) / pair.num_target_tokens
        loss.backward()
    return found, gradients, loss.item(), model


def step_of(traced, name):
    return next(step for step in traced.steps if step.name == name)


# What is described ------------------------------------------------------------------------------


def test_every_point_is_one_operation_in_the_order_of_computation(side, each):
    names = [step.name for step in each.steps]
    assert names == [*side.points, "loss"]


def test_every_input_is_there_before_it_is_read_and_every_output_is_read(each):
    known = {"src_ids", "decoder_input_ids", "labels"}
    read = set()
    for step in each.steps:
        assert set(step.operation.inputs) <= known, step.name
        known.add(step.name)
        read |= set(step.operation.inputs)
    assert known - read == {"loss"}


def test_each_operation_is_its_formula_of_its_inputs(make, pair, name):
    side = make(name)
    side.model.double()
    found, _, _, model = look(side, pair)
    found |= batch_tensors(pair)
    weights = common_weights(side, model)
    positions = position_table()
    for operation in operations(side.points, variant_of(side), EPS)[:-1]:
        inputs = [found[name] for name in operation.inputs]
        expected = evaluate(operation, inputs, [weights[w] for w in operation.weights], positions)
        torch.testing.assert_close(
            found[operation.name], expected, rtol=1e-8, atol=1e-8, msg=operation.name
        )


def test_each_gradient_is_the_sum_of_what_the_readers_send_back(make, pair, name):
    side = make(name)
    side.model.double()
    found, gradients, _, model = look(side, pair)
    found |= batch_tensors(pair)
    weights = common_weights(side, model)
    sums = {name: torch.zeros_like(tensor) for name, tensor in found.items()}
    described = operations(side.points, variant_of(side), EPS)
    for operation in described:
        inputs = [found[name] for name in operation.inputs]
        inputs = [x.requires_grad_() if x.is_floating_point() else x for x in inputs]
        output = evaluate(
            operation, inputs, [weights[w] for w in operation.weights], position_table()
        )
        gradient = gradients.get(operation.name, torch.ones_like(output))
        wanted = [x for x in inputs if x.is_floating_point()]
        if not wanted:
            continue  # a lookup: ids have no gradient
        for x, sent in zip(wanted, torch.autograd.grad(output, wanted, gradient), strict=True):
            sums[next(n for n in operation.inputs if found[n] is x)] += sent
    for operation in described[:-1]:
        torch.testing.assert_close(
            gradients[operation.name], sums[operation.name], rtol=1e-7, atol=1e-10,
            msg=operation.name,
        )  # fmt: skip


def evaluate(operation, inputs, weights, positions):
    """What an operation gives by the paper, from its declared inputs and weights alone."""
    *_, site, what = ("", *operation.name.split("."))
    x = inputs[0]
    if operation.kind is Kind.LOSS:
        return smoothed_loss_sum(x, inputs[1], EPS) / inputs[1].numel()
    if operation.kind is Kind.LOOKUP:
        return weights[0][x]
    if operation.kind is Kind.NORMALISATION:
        return F.layer_norm(x, x.shape[-1:], *weights)
    if what == "embed":
        scale = math.sqrt(D) if "sqrt(d_model)" in operation.formula else 1
        return x * scale + positions[: x.size(1)]
    if what == "weights":
        if "keys <= query" in operation.formula:
            x = x.masked_fill(~torch.ones(x.shape[-2:], dtype=torch.bool).tril(), -torch.inf)
        return x.softmax(-1)
    if what == "act":
        return F.gelu(x) if operation.formula == "gelu(pre)" else x.clamp(min=0)
    if operation.kind is Kind.LINEAR:
        if what == "out" and site != "ffn":
            x = x.transpose(1, 2).flatten(2)
        y = F.linear(x, *weights)
        return y.unflatten(-1, (H, E)).transpose(1, 2) if what in ("q", "k", "v") else y
    return {
        "scores": lambda: x @ inputs[1].mT / math.sqrt(E),
        "context": lambda: x @ inputs[1],
        "add": lambda: sum(inputs),
        "out": lambda: x.clone(),
    }[what]()


def batch_tensors(pair):
    return {name: getattr(pair, name) for name in ("src_ids", "decoder_input_ids", "labels")}


def common_weights(side, model):
    state = {name: p.detach() for name, p in model.state_dict().items()}
    return from_marian(state) if isinstance(model, MarianMTModel) else state


def position_table():
    """Section 3.5, rounded to single precision as both models hold it."""
    position = torch.arange(S, dtype=torch.double)[:, None]
    angle = position / 10000 ** (torch.arange(0, D, 2, dtype=torch.double) / D)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).float().double()


KINDS = {
    "encoder.lookup": "lookup", "encoder.embed": "sum", "encoder.0.self_attn.q": "linear",
    "encoder.0.self_attn.k": "linear", "encoder.0.self_attn.v": "linear",
    "encoder.0.self_attn.scores": "product", "encoder.0.self_attn.weights": "non-linear",
    "encoder.0.self_attn.context": "product", "encoder.0.self_attn.out": "linear",
    "encoder.0.self_attn.add": "sum", "encoder.0.self_attn.norm": "normalisation",
    "encoder.0.ffn.pre": "linear", "encoder.0.ffn.act": "non-linear",
    "encoder.0.ffn.out": "linear", "encoder.0.ffn.add": "sum", "encoder.0.out": "normalisation",
    "logits": "linear", "loss": "loss",
}  # fmt: skip


def test_it_is_said_where_linear_and_nonlinear_transformations_happen(traced):
    found = {entry["name"]: entry for entry in traced.as_dict()["forward"]}
    assert {name: found[name]["kind"] for name in KINDS} == KINDS
    linear = {name for name in KINDS if found[name]["linear"]}
    assert linear == {n for n, kind in KINDS.items() if kind in ("lookup", "sum", "linear")}


def test_only_what_is_called_linear_is_linear(make, pair):
    """Adding two inputs adds the outputs, once the constant is taken off."""
    side = make("scratch")
    found, _, _, model = look(side, pair)
    weights = common_weights(side, model)
    for operation in operations(side.points, Variant(), EPS)[:-1]:
        if operation.kind is Kind.LOOKUP:
            continue
        used = [weights[w] for w in operation.weights]
        one = [found[name] for name in operation.inputs]
        two = [torch.randn_like(x) for x in one]

        def f(inputs, operation=operation, used=used):
            table = position_table().float()
            return evaluate(operation, inputs, used, table)

        zero = f([torch.zeros_like(x) for x in one])
        both = f([a + b for a, b in zip(one, two, strict=True)])
        additive = torch.allclose(both + zero, f(one) + f(two), atol=1e-4)
        assert additive == operation.kind.is_linear, operation.name


def test_a_masked_attention_says_so_and_no_other(traced):
    masked = {s.name for s in traced.steps if "keys <= query" in s.operation.formula}
    assert masked == {f"decoder.{i}.self_attn.weights" for i in range(2)}


def test_cross_attention_reads_the_memory(traces):
    for name, memory, x in (
        ("scratch", "encoder.1.out", "decoder.0.self_attn.norm"),
        ("pre-norm", "encoder.norm", "decoder.0.cross_attn.norm"),
    ):
        inputs = {s.name: s.operation.inputs for s in traces[name].steps}
        assert inputs["decoder.0.cross_attn.k"] == inputs["decoder.0.cross_attn.v"] == (memory,)
        assert inputs["decoder.0.cross_attn.q"] == (x,)


def test_another_activation_and_unscaled_embeddings_are_named_as_they_are(traces):
    formulas = {s.name: s.operation.formula for s in traces["gelu"].steps}
    assert formulas["encoder.0.ffn.act"] == "gelu(pre)"
    assert formulas["decoder.embed"] == "lookup + PE"
    formulas = {s.name: s.operation.formula for s in traces["marian"].steps}
    assert formulas["encoder.0.ffn.act"] == "max(0, pre)"
    assert formulas["decoder.embed"] == "lookup * sqrt(d_model) + PE"


def test_points_of_another_architecture_are_refused():
    with pytest.raises(ValueError, match="decoder.0.adapter"):
        operations(["encoder.lookup", "decoder.0.adapter"], Variant(), EPS)


# Size and cost ----------------------------------------------------------------------------------


def test_all_parameters_are_counted_once(side, each, name):
    totals = each.totals()
    trained = sum(p.numel() for p in side.model.parameters() if p.requires_grad)
    assert totals["parameters"] == trained
    assert sum(row["parameters"] for row in totals["by_kind"].values()) == trained
    if name != "gelu":
        config = ModelConfig(norm="pre" if name == "pre-norm" else "post", **SHAPE)
        assert trained == count_parameters(config, V)


def test_weights_are_those_of_the_model_by_common_name(sides, traces):
    shapes = {n: tuple(p.shape) for n, p in sides["scratch"].model.named_parameters()}
    for name in ("scratch", "marian"):
        assert {w.name: w.shape for step in traces[name].steps for w in step.weights} == shapes


def test_embeddings_that_are_not_shared_are_all_counted(pair):
    options = {"share_encoder_decoder_embeddings": False, "tie_word_embeddings": False}
    side = marian_side(other_marian(**options))
    traced = follow(side, pair)
    used = {name: step_of(traced, name).weights[0].name for name in ("encoder.lookup", "logits")}
    assert used == {
        "encoder.lookup": "model.encoder.embed_tokens.weight",
        "logits": "lm_head.weight",
    }
    trained = sum(p.numel() for p in side.model.parameters() if p.requires_grad)
    assert traced.totals()["parameters"] == trained


def test_flops_are_those_counted_by_hand(traced):
    """7 source and 5 target tokens, width 16, 4 heads of 4, inner width 24, 40 words."""
    flops = {step.name: step.flops for step in traced.steps}
    by_hand = {
        "encoder.lookup": 0,
        "encoder.embed": 224,  # 112 entries, times the scale, plus the position
        "encoder.0.self_attn.q": 3584,  # 112 sums of 16 products, a bias each
        "encoder.0.self_attn.scores": 1764,  # 4 x 7 x 7 sums of 4 products, a division each
        "encoder.0.self_attn.weights": 980,  # 196 entries, 5 each
        "encoder.0.self_attn.context": 1568,  # 112 sums of 7 products
        "encoder.0.self_attn.out": 3584,
        "encoder.0.self_attn.add": 112,
        "encoder.0.self_attn.norm": 784,  # 112 entries, 7 each
        "encoder.0.ffn.pre": 5376,  # 7 x 24 sums of 16 products
        "encoder.0.ffn.act": 168,
        "encoder.0.ffn.out": 5376,  # 112 sums of 24 products
        "encoder.0.out": 784,
        "decoder.0.self_attn.q": 2560,  # 80 sums of 16 products
        "decoder.0.cross_attn.k": 3584,  # of the source
        "decoder.0.cross_attn.scores": 1260,  # 4 x 5 x 7 sums of 4 products, a division each
        "decoder.0.cross_attn.context": 1120,  # 80 sums of 7 products
        "logits": 6400,  # 200 sums of 16 products
        "loss": 1400,  # 200 logits, 7 each
    }
    assert {name: flops[name] for name in by_hand} == by_hand
    assert traced.totals()["flops"] == sum(flops.values())


def test_without_smoothing_the_loss_costs_and_says_less(make, pair):
    loss = follow(make("scratch"), pair, 0.0).steps[-1]
    assert loss.flops == 1000  # 200 logits, 5 each
    assert "[label]" in loss.operation.formula


def test_matrix_products_cost_what_torch_counts(sides, traces, pair):
    for name in ("scratch", "pre-norm"):
        side, steps = sides[name], traces[name].steps
        with side.explicit_attention(side.model), FlopCounterMode(display=False) as counter:
            side.logits_of(side.model, pair.src_ids, pair.decoder_input_ids)
        products = [s for s in steps if s.operation.kind in (Kind.LINEAR, Kind.PRODUCT)]
        divisions = sum(math.prod(s.shape) for s in steps if s.name.endswith(".scores"))
        assert sum(s.flops for s in products) - divisions == counter.get_total_flops()


def test_totals_by_kind_add_up(side, each):
    totals = each.totals()
    for key in ("operations", "parameters", "flops"):
        assert sum(row[key] for row in totals["by_kind"].values()) == totals[key]
    assert totals["operations"] == len(side.points) + 1


# Numbers ----------------------------------------------------------------------------------------


def test_statistics_of_four_numbers():
    found = Statistics.of(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    expected = {
        "mean": 3, "std": math.sqrt(3.5), "min": 1, "max": 6,
        "norm": math.sqrt(50), "rms": math.sqrt(12.5),
    }  # fmt: skip
    assert dataclasses.asdict(found) == pytest.approx(expected, abs=1e-12)
    alone = Statistics.of(torch.tensor(-2.0))
    assert (alone.mean, alone.std, alone.norm, alone.rms) == (-2, 0, 2, 2)


def test_shapes_and_statistics_are_those_of_the_tensors(side, each, pair):
    found, gradients, loss, _ = look(side, pair)
    for step in each.steps[:-1]:
        for statistics, tensor in (
            (step.values, found[step.name].numpy()),
            (step.gradient, gradients[step.name].numpy()),
        ):
            assert step.shape == tensor.shape
            expected = (tensor.mean(), tensor.std(), tensor.min(), tensor.max())
            measured = (statistics.mean, statistics.std, statistics.min, statistics.max)
            assert measured == pytest.approx([float(x) for x in expected], rel=1e-4, abs=1e-6)
            assert statistics.norm == pytest.approx((tensor**2).sum() ** 0.5, rel=1e-4)
    shapes = {step.name: step.shape for step in each.steps}
    shapes |= {"src_ids": (1, S), "decoder_input_ids": (1, T), "labels": (1, T)}
    for step in each.steps:
        assert step.input_shapes == tuple(shapes[name] for name in step.operation.inputs)
    assert each.loss == pytest.approx(loss, abs=1e-6)


def test_shapes_of_a_tiny_model(traced):
    shapes = {step.name: step.shape for step in traced.steps}
    by_hand = {
        "encoder.embed": (1, S, D), "decoder.embed": (1, T, D), "encoder.1.ffn.act": (1, S, FFN),
        "decoder.0.self_attn.scores": (1, H, T, T), "decoder.1.cross_attn.weights": (1, H, T, S),
        "decoder.1.cross_attn.v": (1, H, S, E), "logits": (1, T, V), "loss": (),
    }  # fmt: skip
    assert {name: shapes[name] for name in by_hand} == by_hand


def test_gradients_of_weights_are_those_of_a_backward_pass(side, each, pair):
    *_, model = look(side, pair)
    expected = {
        side.common_name(name): p.grad.norm().item()
        for name, p in model.named_parameters()
        if side.common_name(name)
    }
    found = {w.name: w.gradient_norm for step in each.steps for w in step.weights}
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-8)
    total = math.sqrt(sum(norm**2 for norm in expected.values()))
    assert each.totals()["gradient_norm"] == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize(
    "weight",
    ["embedding.weight", "encoder.layers.0.self_attn.w_q.weight", "decoder.layers.1.ffn.pre.bias"],
)
def test_a_weights_gradient_norm_is_the_steepest_slope_of_the_loss(make, pair, weight):
    side = make("scratch")
    side.model.double()
    *_, model = look(side, pair)
    gradient = dict(model.named_parameters())[weight].grad
    direction, losses = gradient / gradient.norm(), []
    for size in (1e-5, -1e-5):
        moved = copy.deepcopy(side.model)
        with torch.no_grad():
            dict(moved.named_parameters())[weight].add_(size * direction)
        losses.append(follow(dataclasses.replace(side, model=moved), pair).loss)
    slope = (losses[0] - losses[1]) / 2e-5
    weights = [w for step in follow(side, pair).steps for w in step.weights if w.name == weight]
    assert [w.gradient_norm for w in weights] == pytest.approx([slope] * len(weights), rel=1e-5)
    assert len(weights) == (3 if weight == "embedding.weight" else 1)


def test_the_way_back_begins_at_the_loss_with_gradient_1(traced):
    content = traced.as_dict()
    forward = [entry["name"] for entry in content["forward"]]
    assert [entry["name"] for entry in content["backward"]] == forward[::-1]
    first = content["backward"][0]
    assert (first["name"], first["mean"], first["norm"], first["std"]) == ("loss", 1, 1, 0)


def test_both_implementations_give_the_same_trace(traces):
    ours, theirs = (dict(leaves(traces[name].as_dict())) for name in ("scratch", "marian"))
    assert ours.keys() == theirs.keys()
    numbers = {path: value for path, value in ours.items() if isinstance(value, float)}
    assert len(numbers) > 900
    for path, value in numbers.items():
        assert theirs[path] == pytest.approx(value, rel=1e-5, abs=1e-5), path
    assert all(theirs[path] == value for path, value in ours.items() if path not in numbers)


def test_a_trace_is_plain_values(traced):
    content = traced.as_dict()
    assert json.loads(json.dumps(content)) == content
    assert list(content) == ["sentence", "forward", "backward", "totals"]


def test_the_sentence_is_told_with_what_the_model_makes_of_it(make, pair):
    side = make("scratch")
    traced = follow(side, pair, 0.0, pieces=lambda ids: [f"<{i}>" for i in ids])
    logits = side.model(pair.src_ids, pair.decoder_input_ids)[0].detach()
    sentence = traced.sentence
    assert sentence.src == ["<5>", "<8>", "<30>", "<8>", "<11>", "<7>", "<2>"]
    assert sentence.decoder_inputs == ["<1>", "<9>", "<4>", "<39>", "<4>"]
    assert sentence.labels == [9, 4, 39, 4, 2]
    assert sentence.predicted_ids == [int(row.argmax()) for row in logits]
    by_hand = [
        float(row.exp()[i] / row.exp().sum())
        for row, i in zip(logits, [9, 4, 39, 4, 2], strict=True)
    ]
    assert sentence.label_probabilities == pytest.approx(by_hand, rel=1e-4)
    nll = -sum(map(math.log, by_hand)) / T
    assert traced.nll == pytest.approx(nll, rel=1e-4)
    assert traced.loss == pytest.approx(nll, rel=1e-4)  # without smoothing they are one


def test_a_fixed_bias_on_the_logits_is_an_operation_of_its_own(pair):
    side = marian_side(other_marian())
    without = follow(side, pair)
    assert BIASED_LOGITS not in [step.name for step in without.steps]
    side.model.final_logits_bias += torch.randn(V)
    traced = follow(side, pair)
    assert [s.name for s in traced.steps] == [*side.points, BIASED_LOGITS, "loss"]
    added = step_of(traced, BIASED_LOGITS)
    assert traced.steps[-1].operation.inputs == (BIASED_LOGITS, "labels")
    mean = side.model.final_logits_bias.mean().item()
    assert added.values.mean - step_of(traced, "logits").values.mean == pytest.approx(
        mean, abs=1e-5
    )
    logits = side.logits_of(side.model, pair.src_ids, pair.decoder_input_ids)
    expected = smoothed_loss_sum(logits, pair.labels, EPS).item() / T
    assert traced.loss == pytest.approx(expected, rel=1e-6)
    assert traced.loss != pytest.approx(without.loss, abs=1e-3)


# The model stays as it was ----------------------------------------------------------------------


def state_of(model):
    return {
        "weights": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "gradients": [(id(p.grad), None if p.grad is None else p.grad.clone())
                      for p in model.parameters()],
        "trained": [p.requires_grad for p in model.parameters()],
        "modules": [name for name, _ in model.named_modules()],
        "hooks": sum(
            len(hooks) for m in model.modules() for n, hooks in vars(m).items()
            if n.endswith("_hooks")
        ),
        "random": torch.get_rng_state(),
    }  # fmt: skip


def assert_same_state(one, two):
    for key in ("trained", "modules", "hooks"):
        assert one[key] == two[key]
    assert torch.equal(one["random"], two["random"])
    for name, tensor in one["weights"].items():
        assert torch.equal(tensor, two["weights"][name]), name
    for (place, before), (place_after, after) in zip(
        one["gradients"], two["gradients"], strict=True
    ):
        assert place == place_after
        assert before is None or torch.equal(before, after)


@pytest.fixture(params=["scratch", "marian"])
def used(request, make):
    """A model in the middle of something: gradients here, none there, one weight frozen."""
    side = make(request.param)
    parameters = [p for p in side.model.parameters() if p.requires_grad]
    for parameter in parameters[::2]:
        parameter.grad = torch.randn_like(parameter)
    parameters[3].requires_grad_(False)
    return side


def test_a_trace_changes_nothing_in_the_model(used, pair):
    before = state_of(used.model)
    follow(used, pair)
    assert_same_state(before, state_of(used.model))


@pytest.mark.parametrize("place", ["logits_of", "loss"])
def test_nor_does_one_that_fails(used, pair, place, monkeypatch):
    class Boom(Exception):
        pass

    def fail(*_):
        raise Boom

    side = used
    if place == "loss":
        monkeypatch.setattr("utils.trace.smoothed_loss_sum", fail)
    else:
        side = dataclasses.replace(used, logits_of=fail)
    before = state_of(used.model)
    with pytest.raises(Boom):
        follow(side, pair)
    assert_same_state(before, state_of(used.model))


def test_old_gradients_frozen_weights_and_no_grad_do_not_count(used, make, pair):
    fresh = copy.deepcopy(used)
    for parameter in fresh.model.parameters():
        parameter.grad = None
        parameter.requires_grad_(True)
    expected = follow(fresh, pair)
    with torch.no_grad():
        assert follow(used, pair) == expected
    used.model.requires_grad_(False)
    assert follow(used, pair) == expected


def test_training_mode_is_refused(make, pair):
    side = make("scratch")
    side.model.train()
    with pytest.raises(ValueError, match="eval"):
        follow(side, pair)


@pytest.mark.parametrize("pairs", [[([5, 2], [9, 2]), ([5, 2], [9, 2])], [([5, 0, 2, 0], [9, 2])]])
def test_only_one_sentence_without_padding_is_followed(make, pairs):
    batch = collate(pairs)
    if len(pairs) == 1:
        batch = batch._replace(num_tokens=batch.num_tokens - 1)  # one of them is padding
    with pytest.raises(ValueError, match="one sentence without padding"):
        follow(make("scratch"), batch)


# The listing ------------------------------------------------------------------------------------

HANGUL = [
    "▁학생은",
    "▁도서관",
    "에서",
    "▁책을",
    "a",
    "▁" + "가" * 60,
    ".",
]


def korean(ids):
    return [HANGUL[i % len(HANGUL)] for i in ids]


def rows_naming(listing, name):
    return [line for line in listing if line[2:].split(" ")[0] == name]


def test_unfolded_every_operation_has_a_row_there_and_one_back_in_order(each):
    listing = iter(lines(each, fold=False))
    for steps, text in ((each.steps, "formula"), (each.steps[::-1], "backward")):
        for step in steps:
            *_, last = parts = step.name.split(".")
            name = f"  {last}" if len(parts) == 4 else step.name
            row = f"{step.operation.kind.mark} {name:<15}{getattr(step.operation, text)} "
            assert any(line.startswith(row) for line in listing), step.name


def test_a_row_shows_the_numbers_of_its_operation(traced):
    step = step_of(traced, "encoder.embed")
    there, back = rows_naming(lines(traced), "encoder.embed")
    numbers = [_short(x) for x in (step.values.mean, step.values.std, step.values.min,
                                   step.values.max)]  # fmt: skip
    assert there.split()[-6:] == ["1x7x16", *numbers, "224"]
    gradient = step.gradient
    numbers = (gradient.norm, gradient.mean, gradient.std, gradient.min, gradient.max)
    assert back.split()[-5:] == [_short(x) for x in numbers]


def test_a_row_back_ends_with_the_gradient_of_its_weights(traced):
    listing = lines(traced)
    for name in ("encoder.0.out", "logits"):
        norms = [weight.gradient_norm for weight in step_of(traced, name).weights]
        back = rows_naming(listing, name)[1]
        assert back.split()[-1] == _short(math.sqrt(sum(norm**2 for norm in norms)))


def test_a_shared_weight_is_counted_where_it_is_used_first(traced):
    listing = lines(traced)
    counts = [rows_naming(listing, name)[0].split()[-2] for name in
              ("encoder.lookup", "decoder.lookup", "logits")]  # fmt: skip
    assert counts == ["640", "shared", "shared"]


def test_headings_say_which_layer_it_is_and_what_x_and_memory_are(traces):
    listing = lines(traces["scratch"], fold=False)
    for heading in (
        "DECODER LAYER 2 of 2 (decoder.1): 3.08k parameters, ",
        "  cross-attention to the source; x = decoder.1.self_attn.norm, memory = encoder.1.out",
        "  feed-forward network: each position alone; x = decoder.1.cross_attn.norm",
    ):
        assert any(line.startswith(heading) for line in listing), heading
    pre_norm = lines(traces["pre-norm"])
    assert any(line.endswith("x = decoder.0.self_attn.add, memory = encoder.norm")
               for line in pre_norm)  # fmt: skip
    assert [any("pre-norm" in line for line in text) for text in (listing, pre_norm)] == [0, 1]


def test_the_loss_is_told_with_and_without_smoothing(traced):
    told = next(line for line in lines(traced) if line.startswith("Loss "))
    loss, nll = f"{traced.loss:.4f}", f"{traced.nll:.4f}"
    assert told == f"Loss {loss} nats per target token with label smoothing 0.1, {nll} without."
    assert loss != nll


def test_folded_later_layers_are_one_line_each_way(traced):
    folded, unfolded = lines(traced), lines(traced, fold=False)
    for stack, count in (("encoder", 14), ("decoder", 23)):
        there, back = rows_naming(folded, f"{stack}.1")
        out = step_of(traced, f"{stack}.1.out")
        assert f"{count} operations, rms {_short(out.values.rms)} " in there
        assert f"{count} operations " in back
        layer = [s for s in traced.steps if s.name.startswith(f"{stack}.1.")]
        parameters = sum(weight.count for step in layer for weight in step.weights)
        assert there.split()[-2:] == [_short(parameters), _short(sum(s.flops for s in layer))]
        assert rows_naming(unfolded, f"{stack}.1") == []
    count = [sum(line.startswith("N   weights ") for line in text) for text in (folded, unfolded)]
    assert count == [2 * 3, 2 * 6]  # there and back, in one or both layers


def test_the_listing_goes_from_ids_to_loss_and_back(traces):
    for name in ("scratch", "pre-norm"):
        listing = lines(traces[name])
        landmarks = (
            "src_ids", "FORWARD", "i encoder.lookup", "ENCODER LAYER 1 of 2", "  encoder.1 ",
            "i decoder.lookup", "DECODER LAYER 1 of 2", "  decoder.1 ", "L logits", "! loss",
            "labels", "Loss ", "BACKWARD", "! loss", "L logits", "  decoder.1 ", "i decoder.lookup",
            "  encoder.1 ", "i encoder.lookup", "TOTALS",
        )  # fmt: skip
        position = -1
        for landmark in landmarks:
            position = next(
                (i for i in range(position + 1, len(listing)) if listing[i].startswith(landmark)),
                None,
            )
            assert position is not None, landmark


@pytest.mark.parametrize("length", [2, 30])
def test_the_listing_fits_its_width(side, length):
    ids = [3 + i for i in range(length - 1)]
    room = side.model.config.max_position_embeddings if hasattr(side.model, "config") else 32
    ids = ids[: room - 1]
    traced = follow(side, collate([([*ids, 2], [*ids[::-1], 2])]), pieces=korean)
    for fold in (True, False):
        listing = lines(traced, fold)
        assert max(map(display_width, listing)) <= WIDTH
        assert not any("\n" in line for line in listing)


def test_hangul_takes_two_columns():
    assert display_width("a책▁b") == 5
    assert display_width("e\u0301") == 1
    assert display_width("Ａ") == 2


def test_each_id_stands_below_its_token(make):
    ids = list(range(3, 28))
    traced = follow(make("scratch"), collate([([*ids, 2], [9, 2])]), pieces=korean)
    listing = lines(traced)
    blocks = [i for i, line in enumerate(listing) if line.startswith("src_ids ")]
    assert len(blocks) > 1  # they do not all fit beside each other
    shown = []
    for i in blocks:
        pieces, below = listing[i].removeprefix("src_ids"), listing[i + 1]
        assert ends_of_words(pieces, len("src_ids")) == ends_of_words(below, 0)
        shown += list(map(int, below.split()))
    assert shown == [*ids, 2]


def ends_of_words(line, start):
    """Columns of a terminal at which words end."""
    ends, column = [], start
    for character, following in zip(line, line[1:] + " ", strict=True):
        column += display_width(character)
        if character != " " and following == " ":
            ends.append(column)
    return ends


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"), (999, "999"), (1000, "1.00k"), (12345, "12.3k"), (999_999, "1.00M"),
        (1_234_567, "1.23M"), (0.5, "0.5"), (-12.345, "-12.3"), (-0.0123, "-0.012"),
        (-0.0004, "-4e-4"), (1.234e-5, "1.2e-5"), (-1.234e-10, "-1e-10"), (1e9 + 0.5, "1e9"),
        (math.nan, "nan"), (-math.inf, "-inf"),
    ],
)  # fmt: skip
def test_a_number_takes_six_characters(number, text):
    assert _short(number) == text
    assert len(text) <= 6


def test_totals_are_listed_by_kind(traced):
    listing = lines(traced)
    totals = traced.totals()
    table = listing[next(i for i, line in enumerate(listing) if line.startswith("TOTALS")) :]
    for kind, row in totals["by_kind"].items():
        line = next(line for line in table if line[2:].startswith(f"{kind} "))
        numbers = [f"{row[key]:,}" for key in ("operations", "parameters", "flops")]
        assert line[2 + len(kind) :].split()[:3] == numbers
    where = "6 q, 6 k, 6 v, 6 out, 4 ffn.pre, 4 ffn.out".split()
    linear = next(i for i, line in enumerate(table) if line.startswith("L linear"))
    assert table[linear].split()[-len(where) :] == where
    assert table[linear + 1].split() == ["1", "logits"]
    share = sum(s.flops for s in traced.steps if s.operation.kind.is_linear) / totals["flops"]
    assert any(line.startswith(f"Linear operations take {share:.1%} of the") for line in table)
    everything = next(line for line in table if line.startswith("  all"))
    assert f"{totals['parameters']:,}" in everything
    assert f"{totals['flops']:,}" in everything
