"""Looking inside both models: every promised tensor, once, and the model left as it was."""

import copy
import dataclasses
import math
from contextlib import contextmanager, suppress

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import MarianConfig, MarianMTModel

from huggingface_version import model as huggingface
from pytorch_version import model as scratch
from tests.conftest import SHAPE, VOCAB_SIZE
from utils.capture import Point, capture
from utils.comparison import marian_side, scratch_side

B, H, S, T = 3, SHAPE["num_heads"], 7, 6  # as in the fixture `batch`
D, E, FFN = SHAPE["d_model"], SHAPE["d_model"] // SHAPE["num_heads"], SHAPE["d_ff"]
SITES = [
    (f"{stack}.{i}.{site}", queries, keys)
    for stack, site, queries, keys in (
        ("encoder", "self_attn", S, S),
        ("decoder", "self_attn", T, T),
        ("decoder", "cross_attn", T, S),
    )
    for i in range(SHAPE["num_layers"])
]


@pytest.fixture(params=["scratch", "marian"])
def side(request, twin, tiny_marian):
    """Either implementation; both hold the same weights."""
    if request.param == "scratch":
        return scratch_side(twin)
    return marian_side(copy.deepcopy(tiny_marian))


def captured(side, batch, points=None):
    with side.explicit_attention(side.model), capture(side.model, points or side.points) as found:
        side.logits_of(side.model, *batch)
    return found


def allowed(name, batch):
    """Which keys each query of a site may look at, (B, 1, Q or 1, K)."""
    if name.startswith("decoder") and name.endswith("self_attn"):
        return torch.ones(B, 1, T, T, dtype=torch.bool).tril()
    return (batch[0] != 0)[:, None, None, :]


def num_hooks(model):
    return sum(
        len(hooks)
        for module in model.modules()
        for name, hooks in vars(module).items()
        if name.endswith(("_hooks", "_pre_hooks"))
    )


def implementation(model):
    if isinstance(model, MarianMTModel):
        return model.config._attn_implementation
    return model.attn_implementation


def other_marian(**options):
    shape = {
        "vocab_size": VOCAB_SIZE, "d_model": D, "encoder_layers": 1, "decoder_layers": 1,
        "encoder_attention_heads": 2, "decoder_attention_heads": H, "encoder_ffn_dim": FFN,
        "decoder_ffn_dim": FFN, "max_position_embeddings": 16, "init_std": 0.2,
        "pad_token_id": 0, "decoder_start_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    return MarianMTModel(MarianConfig(**shape | options)).eval()


def test_both_tables_name_the_same_points_in_the_same_order(tiny_marian):
    ours = list(scratch.hook_points(SHAPE["num_layers"]))
    assert ours == list(huggingface.hook_points(tiny_marian.config))
    per_site = ("q", "k", "v", "scores", "weights", "context", "out", "add", "norm")
    ffn = ("ffn.pre", "ffn.act", "ffn.out", "ffn.add", "out")
    expected = []
    for stack, sites in (("encoder", ["self_attn"]), ("decoder", ["self_attn", "cross_attn"])):
        expected += [f"{stack}.lookup", f"{stack}.embed"]
        for i in range(SHAPE["num_layers"]):
            expected += [f"{stack}.{i}.{site}.{kind}" for site in sites for kind in per_site]
            expected += [f"{stack}.{i}.{kind}" for kind in ffn]
    assert ours == [*expected, "logits"]


def test_every_point_fires_with_the_promised_shape(side, batch):
    found = captured(side, batch)
    expected = {f"encoder.{kind}": (B, S, D) for kind in ("lookup", "embed")}
    expected |= {f"decoder.{kind}": (B, T, D) for kind in ("lookup", "embed")}
    expected["logits"] = (B, T, 40)
    for name, queries, keys in SITES:
        expected |= {f"{name}.q": (B, H, queries, E), f"{name}.context": (B, H, queries, E)}
        expected |= {f"{name}.k": (B, H, keys, E), f"{name}.v": (B, H, keys, E)}
        expected |= {f"{name}.{kind}": (B, H, queries, keys) for kind in ("scores", "weights")}
        expected |= {f"{name}.{kind}": (B, queries, D) for kind in ("out", "add", "norm")}
        layer = name.rpartition(".")[0]
        expected |= {f"{layer}.ffn.{kind}": (B, queries, FFN) for kind in ("pre", "act")}
        expected |= {f"{layer}.{kind}": (B, queries, D) for kind in ("ffn.out", "ffn.add", "out")}
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == expected


def test_every_point_fires_once(side, batch):
    times = dict.fromkeys(side.points, 0)
    with side.explicit_attention(side.model):
        for name, point in side.points.items():

            def count(*_, name=name):
                times[name] += 1

            module = side.model.get_submodule(point.module)
            if point.side == "input":
                module.register_forward_pre_hook(count)
            else:
                module.register_forward_hook(count)
        side.logits_of(side.model, *batch)
    assert set(times.values()) == {1}


def test_what_is_captured_is_detached_and_keeps_its_numbers(side, batch):
    found = captured(side, batch)
    assert not any(tensor.requires_grad for tensor in found.values())
    before = {name: tensor.clone() for name, tensor in found.items()}
    with torch.no_grad():
        for parameter in side.model.parameters():
            parameter.add_(1)
    side.logits_of(side.model, *batch)
    assert all(torch.equal(found[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize(("name", "queries", "keys"), SITES)
def test_attention_is_equation_1(side, batch, name, queries, keys):
    found = captured(side, batch)
    q, k, v, scores, weights, context = (
        found[f"{name}.{kind}"] for kind in ("q", "k", "v", "scores", "weights", "context")
    )
    by_hand = torch.einsum("bhqe,bhke->bhqk", q, k) / math.sqrt(E)
    torch.testing.assert_close(scores, by_hand, rtol=1e-5, atol=1e-6)
    mask = allowed(name, batch).expand_as(scores)
    masked = scores.masked_fill(~mask, -torch.inf)
    torch.testing.assert_close(weights, masked.softmax(dim=-1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(B, H, queries))
    assert (weights[~mask] == 0).all()
    assert (scores[~mask] != 0).any()  # before the mask
    torch.testing.assert_close(context, weights @ v, rtol=1e-5, atol=1e-6)


def test_the_residual_stream_comes_in_our_order(side, batch, twin):
    found = captured(side, batch)
    for stack, ids in zip(("encoder", "decoder"), batch, strict=True):
        embedded = twin.embedding.weight[ids] * math.sqrt(D) + twin.positions.table[: ids.size(1)]
        torch.testing.assert_close(found[f"{stack}.embed"], embedded, rtol=1e-5, atol=1e-6)
    layer = twin.decoder.layers[1]
    concatenated = found["decoder.1.cross_attn.context"].transpose(1, 2).reshape(B, T, D)
    by_hand = {
        "cross_attn.out": layer.cross_attn.w_o(concatenated),
        "cross_attn.norm": layer.add_norm_cross.norm(
            found["decoder.1.self_attn.norm"] + found["decoder.1.cross_attn.out"]
        ),
        "ffn.pre": layer.ffn.pre(found["decoder.1.cross_attn.norm"]),
        "ffn.act": found["decoder.1.ffn.pre"].clamp(min=0),
        "ffn.out": layer.ffn.out(found["decoder.1.ffn.act"]),
        "out": layer.add_norm_ffn.norm(
            found["decoder.1.cross_attn.norm"] + found["decoder.1.ffn.out"]
        ),
    }
    for kind, expected in by_hand.items():
        torch.testing.assert_close(found[f"decoder.1.{kind}"], expected, rtol=1e-5, atol=1e-5)
    logits = found["decoder.1.out"] @ twin.embedding.weight.T
    torch.testing.assert_close(found["logits"], logits, rtol=1e-5, atol=1e-5)


def test_training_mode_is_refused(side, batch):
    side.model.train()
    with pytest.raises(ValueError, match="eval"), capture(side.model, side.points):
        pytest.fail("capture began in training mode")
    assert num_hooks(side.model) == 0


def test_a_fused_kernel_is_found_out_in_the_scratch_model(twin, batch):
    twin.set_attn_implementation("sdpa")
    with pytest.raises(RuntimeError, match=r"encoder\.0\.self_attn\.scores.*fused"):
        with capture(twin, scratch.hook_points(2)):
            twin(*batch)


def test_a_fused_kernel_is_found_out_in_marian(marian, batch):
    @contextmanager
    def switched_back(marian):
        with huggingface.explicit_attention(marian):
            marian.set_attn_implementation("sdpa")
            yield

    side = dataclasses.replace(marian_side(marian), explicit_attention=switched_back)
    with pytest.raises(RuntimeError, match=r"encoder\.0\.self_attn\.q.*fused"):
        captured(side, batch)


def test_marians_attention_has_no_points_without_explicit_attention(marian, batch):
    with pytest.raises(RuntimeError, match="explicit_attention"):
        with capture(marian, huggingface.hook_points(marian.config)):
            pytest.fail("there is nothing to hook yet")
    assert num_hooks(marian) == 0


def test_points_outside_attention_need_no_explicit_attention(side, batch):
    outside = ("embed", "_attn.out", "norm", "ffn.pre", "ffn.act", "ffn.out", "logits")
    points = {name: point for name, point in side.points.items() if name.endswith(outside)}
    with capture(side.model, points) as found:
        side.logits_of(side.model, *batch)
    assert found.keys() == points.keys()


def test_one_point_alone_can_be_captured(side, batch):
    name = "decoder.1.cross_attn.weights"
    alone = captured(side, batch, {name: side.points[name]})
    assert alone.keys() == {name}
    assert torch.equal(alone[name], captured(side, batch)[name])


def test_two_forward_passes_are_refused(side, batch):
    def twice(model, src_ids, tgt_ids):
        return [side.logits_of(model, src_ids, tgt_ids) for _ in range(2)]

    with pytest.raises(RuntimeError, match="lookup was recorded twice"):
        captured(dataclasses.replace(side, logits_of=twice), batch)


def test_a_decoding_loop_is_refused(marian, batch):
    def translate(marian, src_ids, _):
        mask = (src_ids != 0).long()
        return marian.generate(input_ids=src_ids, attention_mask=mask, max_length=5)

    with pytest.raises(RuntimeError, match="recorded twice"):
        captured(dataclasses.replace(marian_side(marian), logits_of=translate), batch)


class Boom(Exception):
    pass


def test_no_hook_is_left_and_those_of_others_stay(side, batch):
    seen = []
    for module in (side.model, side.model.get_submodule(side.points["decoder.1.ffn.out"].module)):
        module.register_forward_hook(lambda *_: seen.append("after"))
        module.register_forward_pre_hook(lambda *_: seen.append("before"))
    assert num_hooks(side.model) == 4

    captured(side, batch)
    assert num_hooks(side.model) == 4

    with pytest.raises(Boom), side.explicit_attention(side.model):
        with capture(side.model, side.points):
            raise Boom
    assert num_hooks(side.model) == 4

    with pytest.raises(RuntimeError, match="never recorded"), side.explicit_attention(side.model):
        with capture(side.model, side.points):
            pass
    assert num_hooks(side.model) == 4

    unknown = side.points | {"nowhere": Point("no.such.module")}
    with pytest.raises(RuntimeError), side.explicit_attention(side.model):
        with capture(side.model, unknown):
            pytest.fail("an unknown module was hooked")
    assert num_hooks(side.model) == 4

    seen.clear()
    side.logits_of(side.model, *batch)
    assert sorted(seen) == ["after", "after", "before", "before"]


@pytest.mark.parametrize("before", ["sdpa", "eager"])
@pytest.mark.parametrize("error", [None, Boom])
def test_explicit_attention_leaves_the_model_as_it_was(side, batch, before, error):
    model = side.model
    model.set_attn_implementation(before)
    logits, keys = side.logits_of(model, *batch), list(model.state_dict())
    modules = [name for name, _ in model.named_modules()]
    with suppress(Boom), side.explicit_attention(model):
        side.logits_of(model, *batch)
        assert list(model.state_dict()) == keys  # it can be saved meanwhile
        if error:
            raise error
    assert implementation(model) == before
    assert [name for name, _ in model.named_modules()] == modules
    assert list(model.state_dict()) == keys
    assert torch.equal(side.logits_of(model, *batch), logits)
    for module in model.modules():
        if hasattr(module, "fused"):
            assert module.fused == (before == "sdpa")


def test_explicit_attention_is_the_models_own_step_by_step_path(side, batch):
    with side.explicit_attention(side.model):
        explicit = side.logits_of(side.model, *batch)
    side.model.set_attn_implementation("eager")
    assert torch.equal(explicit, side.logits_of(side.model, *batch))
    side.model.set_attn_implementation("sdpa")
    fused = side.logits_of(side.model, *batch)
    torch.testing.assert_close(explicit, fused, rtol=1e-5, atol=1e-5)


def test_one_marian_is_switched_without_the_other(marian, tiny_marian, batch):
    expected = huggingface.logits_of(tiny_marian, *batch)
    before = implementation(tiny_marian)
    with huggingface.explicit_attention(marian):
        assert implementation(marian) == huggingface.OBSERVED
        assert implementation(tiny_marian) == before
        assert torch.equal(huggingface.logits_of(tiny_marian, *batch), expected)


def test_one_scratch_model_is_switched_without_the_other(twin, batch):
    other = copy.deepcopy(twin)
    other.set_attn_implementation("sdpa")
    with scratch.explicit_attention(twin):
        assert implementation(other) == "sdpa"
        with pytest.raises(RuntimeError, match="never recorded"):
            with capture(other, scratch.hook_points(2)):
                other(*batch)


def test_capture_changes_no_number(side, batch):
    state = torch.get_rng_state()
    with side.explicit_attention(side.model):
        without = side.logits_of(side.model, *batch)
        with capture(side.model, side.points) as found:
            during = side.logits_of(side.model, *batch)
        after = side.logits_of(side.model, *batch)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(during, without)
    assert torch.equal(after, without)
    assert torch.equal(found["logits"], without)


def test_gradients_flow_through_hook_points(side, batch):
    gradients = []
    for look in (False, True):
        side.model.zero_grad()
        with side.explicit_attention(side.model):
            if look:
                with capture(side.model, side.points):
                    logits = side.logits_of(side.model, *batch)
            else:
                logits = side.logits_of(side.model, *batch)
            logits.square().mean().backward()
        parameters = [p for p in side.model.parameters() if p.requires_grad]
        gradients.append(torch.cat([p.grad.flatten() for p in parameters]))
    assert torch.equal(*gradients)
    assert gradients[0].abs().max() > 0


def backward(side, batch, gradients, points=None):
    """One pass with gradients of a loss in which every logit counts."""
    with side.explicit_attention(side.model):
        with capture(side.model, points or side.points, gradients) as found:
            logits = side.logits_of(side.model, *batch)
            logits.square().mean().backward()
    return found


def test_both_models_have_the_same_gradient_at_every_point(twin, tiny_marian, batch):
    ours, theirs = {}, {}
    backward(scratch_side(twin), batch, ours)
    backward(marian_side(tiny_marian), batch, theirs)
    assert list(ours) != []
    assert set(ours) == set(theirs) == set(scratch.hook_points(2))
    for name, gradient in ours.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-4, atol=1e-7, msg=name)


def slope_along(side, batch, name):
    """By how much the loss grows along a direction at a point, and what its gradient says."""
    side.model.double()
    gradients = {}
    found = backward(side, batch, gradients)
    direction, point = torch.randn_like(found[name]), side.points[name]
    losses = []
    with side.explicit_attention(side.model):
        module = side.model.get_submodule(point.module)
        for size in (-1e-5, 1e-5):
            moved = unpicked(point, size * direction)  # as the model lays it out
            if point.side == "input":
                hook = module.register_forward_pre_hook(
                    lambda module, inputs, moved=moved: (inputs[0] + moved, *inputs[1:])
                )
            else:
                hook = module.register_forward_hook(
                    lambda module, inputs, output, moved=moved: output + moved
                )
            losses.append(side.logits_of(side.model, *batch).square().mean().item())
            hook.remove()
    return (losses[1] - losses[0]) / 2e-5, (gradients[name] * direction).sum().item()


@pytest.mark.parametrize("name", ["encoder.embed", "encoder.1.out", "decoder.1.ffn.act"])
def test_a_gradient_is_what_the_loss_gains_by_a_small_step(side, batch, name):
    slope, expected = slope_along(side, batch, name)
    assert slope == pytest.approx(expected, rel=1e-4)


def test_the_gradient_of_scores_is_what_the_loss_gains_by_a_small_step(twin, batch):
    """MarianMT's cannot be moved: they are computed beside its own. It has the same gradient."""
    slope, expected = slope_along(scratch_side(twin), batch, "decoder.0.cross_attn.scores")
    assert slope == pytest.approx(expected, rel=1e-4)


def unpicked(point, tensor):
    """What ``point.pick`` turns into ``tensor``."""
    places = point.pick(torch.arange(tensor.size(-1)))
    return torch.empty_like(tensor).index_copy_(-1, places, tensor)


def test_capture_of_gradients_misses_nothing_and_leaves_nothing(side, batch):
    points = {"logits": side.points["logits"], "encoder.embed": side.points["encoder.embed"]}
    with pytest.raises(RuntimeError, match="no gradient reached logits, encoder.embed"):
        with capture(side.model, points, {}):
            side.logits_of(side.model, *batch)
    with torch.no_grad(), pytest.raises(RuntimeError, match="no gradient reached"):
        with capture(side.model, points, {}):
            side.logits_of(side.model, *batch)
    with capture(side.model, points, {}):
        loss = side.logits_of(side.model, *batch).square().mean()
        loss.backward(retain_graph=True)
        with pytest.raises(RuntimeError, match="twice"):
            loss.backward()
    gradients = {}
    with capture(side.model, points, gradients):
        loss = side.logits_of(side.model, *batch).square().mean()
        loss.backward(retain_graph=True)
    before = {name: gradient.clone() for name, gradient in gradients.items()}
    loss.backward()  # outside: nobody is listening any more
    assert all(torch.equal(gradients[name], before[name]) for name in before)


def test_a_pre_norm_model_is_captured_in_the_order_of_its_computation(model_config, batch):
    config = dataclasses.replace(model_config, norm="pre")
    side = scratch_side(scratch.Transformer(config, VOCAB_SIZE, 0, 32).eval())
    found = captured(side, batch)
    order = [name for name in found if not name.endswith((".q", ".k", ".v"))]  # K and V come first
    assert order == [name for name in side.points if not name.endswith((".q", ".k", ".v"))]
    assert torch.equal(found["encoder.0.ffn.add"], found["encoder.0.out"])
    norm = side.model.decoder.layers[1].add_norm_cross.norm
    torch.testing.assert_close(
        norm(found["decoder.1.self_attn.add"]), found["decoder.1.cross_attn.norm"]
    )
    torch.testing.assert_close(
        side.model.encoder.norm(found["encoder.1.out"]), found["encoder.norm"]
    )


def test_projecting_the_last_layer_gives_the_logits(side, batch):
    found = captured(side, batch)
    with torch.no_grad():
        logits = side.project(side.model, found["decoder.1.out"])
    torch.testing.assert_close(logits, found["logits"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "activation"),
    [
        ({"activation_function": "gelu"}, F.gelu),
        ({"activation_function": "swish"}, F.silu),
        ({"scale_embedding": False, "activation_function": "relu"}, F.relu),
        ({"encoder_layers": 1, "decoder_layers": 2}, F.gelu),
        ({"encoder_layers": 2, "decoder_layers": 1}, F.gelu),
    ],
)
def test_a_marian_that_the_scratch_model_cannot_be_is_captured_too(batch, options, activation):
    marian = other_marian(**options)
    found = captured(marian_side(marian), batch)
    layers = marian.config.encoder_layers, marian.config.decoder_layers
    assert len(found) == 5 + 14 * layers[0] + 23 * layers[1]
    for stack, count in zip(("encoder", "decoder"), layers, strict=True):
        for i in range(count):
            act = activation(found[f"{stack}.{i}.ffn.pre"])
            torch.testing.assert_close(found[f"{stack}.{i}.ffn.act"], act)
    scale = math.sqrt(D) if marian.config.scale_embedding else 1
    position = marian.model.encoder.embed_positions.weight[0, [0, D // 2]]  # sine, cosine
    first = marian.model.shared.weight[batch[0][0, 0], [0, D // 2]] * scale + position
    torch.testing.assert_close(found["encoder.embed"][0, 0, :2], first)


def test_a_point_is_picked_from_the_first_input_or_the_output():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.add = nn.Bilinear(2, 2, 2)

        def forward(self, x, y):
            return self.add(x, y)

    model, x, y = Two().eval(), torch.randn(3, 2), torch.randn(3, 2)
    points = {
        "in": Point("add", "input"),
        "out": Point("add"),
        "flipped": Point("add", pick=lambda tensor: tensor.flip(-1)),
    }
    with capture(model, points) as found:
        out = model(x, y)
    assert torch.equal(found["in"], x)
    assert torch.equal(found["out"], out)
    assert torch.equal(found["flipped"], out.flip(-1))
