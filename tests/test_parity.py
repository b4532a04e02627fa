"""The proof that two implementations are one: it must name exactly what differs."""

import copy
import dataclasses
import math
import textwrap

import pytest
import torch

from huggingface_version import model as huggingface
from pytorch_version import model as scratch
from tests.conftest import MAX_POSITIONS, VOCAB_SIZE
from utils import paired, parity, side_by_side
from utils.batching import collate
from utils.capture import Point
from utils.comparison import marian_side, scratch_side
from utils.config import ModelConfig, TrainConfig
from utils.decoding import Decoding
from utils.objective import smoothed_loss_sum
from utils.paired import PairedTraining, ShortRun
from utils.parity import Row

CONFIG = ModelConfig(d_model=16, num_layers=1, num_heads=2, d_ff=24, dropout=0.0)
TRAIN = TrainConfig(learning_rate=1e-3, warmup_steps=1)
POINTS = scratch.hook_points(1)
BATCH = collate([([5, 6, 7, 8, 2], [9, 4, 2]), ([11, 7, 2], [9, 4, 3, 20, 2])])


@pytest.fixture(autouse=True)
def _one_thread():
    """Many times quicker for models so small, where other work shares the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def random_scratch():
    model = scratch.Transformer(CONFIG, VOCAB_SIZE, 0, MAX_POSITIONS)
    for parameter in model.parameters():
        if parameter.dim() == 1:  # biases and norms would hide mistakes at 0 and 1
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def twin_of(model):
    return huggingface.build_model(CONFIG, VOCAB_SIZE, Decoding(MAX_POSITIONS), model.state_dict())


@pytest.fixture
def sides():
    model = random_scratch()
    return scratch_side(model), marian_side(twin_of(model).eval())


def compare(one, two):
    return parity.compare(one, two, BATCH, TRAIN)


def named(rows):
    """What the comparison says: the first difference, and all the points that are not ok."""
    return parity.first_difference(rows), [row.point for row in rows if not row.ok]


# One model


def test_twins_agree_at_every_point(sides):
    rows = compare(*sides)
    assert [row.point for row in rows if not row.ok] == []
    assert parity.first_difference(rows) is None
    assert "one model" in parity.verdict(rows).text()
    assert "NOT" not in parity.verdict(rows).text()


def test_points_come_in_the_order_of_computation(sides):
    points = [row.point for row in compare(*sides)]
    gradients = sorted(f"gradient.{name}" for name, _ in sides[0].model.named_parameters())
    # Queries, keys and values wait for nothing but their input.
    alike = {"q": "qkv", "k": "qkv", "v": "qkv"}

    def step(point):
        before, _, kind = point.rpartition(".")
        return before, alike.get(kind, kind)

    assert [step(point) for point in points] == [
        step(point) for point in (*POINTS, "loss", *gradients, "step", "step.key_biases")
    ]
    assert set(points[: len(POINTS)]) == set(POINTS)


def test_comparing_leaves_both_models_as_they_were(sides):
    for side in sides:
        side.model.train()
    before = [copy.deepcopy(side.model.state_dict()) for side in sides]
    compare(*sides)
    for side, state in zip(sides, before, strict=True):
        assert side.model.training
        assert all(torch.equal(side.model.state_dict()[n], t) for n, t in state.items())
        assert all(p.grad is None and p.dtype == torch.float32 for p in side.model.parameters())


def test_the_differences_are_what_they_say(sides):
    one, two = sides
    row = {row.point: row for row in compare(one, two)}["logits"]
    for dtype, found in ((torch.float32, row.max_abs_fp32), (torch.float64, row.max_abs_fp64)):
        logits = []
        for side in sides:
            model = copy.deepcopy(side.model).to(dtype)
            with side.explicit_attention(model):
                logits.append(side.logits_of(model, BATCH.src_ids, BATCH.decoder_input_ids))
        assert found == (logits[0] - logits[1]).abs().max().item()


def test_the_loss_is_that_of_the_real_tokens(sides, monkeypatch):
    losses = []
    monkeypatch.setattr(
        parity, "smoothed_loss_sum", lambda *args: losses.append(args) or smoothed_loss_sum(*args)
    )
    compare(*sides)
    assert len(losses) == 4
    assert {smoothing for _, _, smoothing in losses} == {TRAIN.label_smoothing}
    assert {logits.dtype for logits, _, _ in losses} == {torch.float32, torch.float64}


def test_the_step_is_adams_first(sides):
    one, two = sides
    renamed = []

    def recording(weights):
        renamed.append({name: weight.double().clone() for name, weight in weights.items()})
        return weights

    compare(dataclasses.replace(one, in_common_names=recording), two)
    gradients, weights = renamed[2:]  # in double precision
    for name, before in one.model.named_parameters():
        # The moments are bias-corrected, so the first step is g / (|g| + epsilon) times the rate.
        step = parity.STEP_RATE * gradients[name] / (gradients[name].abs() + 1e-9)
        torch.testing.assert_close(weights[name], before.double() - step, rtol=0, atol=1e-12)
    assert (
        weights["embedding.weight"] - one.model.embedding.weight
    ).abs().max() > 0.9 * parity.STEP_RATE


# Two models: each way to differ is named


@pytest.mark.parametrize("point", POINTS)
def test_a_disturbed_point_is_named(sides, point):
    one, two = sides
    module = one.model.get_submodule(one.points[point].module)
    module.register_forward_hook(lambda module, inputs, output: output * 1.01)
    first, different = named(compare(one, two))
    assert first == point
    after = list(POINTS)[list(POINTS).index(point) :]
    assert set(different) & set(POINTS) <= set(after)


def test_a_point_disturbed_in_marian_is_named(sides):
    one, two = sides
    module = two.model.get_submodule(two.points["decoder.0.cross_attn.out"].module)
    module.register_forward_hook(lambda module, inputs, output: output + 1e-3)
    assert named(compare(one, two))[0] == "decoder.0.cross_attn.out"


def test_a_difference_too_small_for_single_precision_is_named(sides):
    one, two = sides
    module = one.model.get_submodule(one.points["encoder.0.ffn.pre"].module)
    module.register_forward_hook(lambda module, inputs, output: output + 1e-9)
    assert named(compare(one, two))[0] == "encoder.0.ffn.pre"


def test_a_difference_in_single_precision_alone_is_named(sides):
    one, two = sides

    def disturb(module, inputs, output):
        return output + 1e-3 if output.dtype == torch.float32 else output

    one.model.get_submodule(one.points["encoder.0.ffn.pre"].module).register_forward_hook(disturb)
    assert named(compare(one, two))[0] == "encoder.0.ffn.pre"


def test_not_a_number_is_named(sides):
    one, two = sides
    for side in sides:  # alike on both sides, and still no proof
        module = side.model.get_submodule(side.points["decoder.0.ffn.act"].module)
        module.register_forward_hook(lambda module, inputs, output: output * torch.nan)
    assert named(compare(one, two))[0] == "decoder.0.ffn.act"


def test_another_loss_is_named(sides, monkeypatch):
    calls = []

    def uneven(logits, labels, label_smoothing):
        calls.append(1)
        return smoothed_loss_sum(logits, labels, label_smoothing + 0.1 * (len(calls) % 2))

    monkeypatch.setattr(parity, "smoothed_loss_sum", uneven)
    assert named(compare(*sides))[0] == "loss"


def disturbed(side, call, name, change):
    """``side`` with one weight changed where it is renamed: call 0 gradients, call 1 weights."""
    calls = []

    def in_common_names(weights):
        calls.append(1)
        renamed = dict(side.in_common_names(weights))
        if (len(calls) - 1) % 2 == call:
            renamed[name] = change(renamed[name])
        return renamed

    return dataclasses.replace(side, in_common_names=in_common_names)


@pytest.mark.parametrize(
    "name",
    [
        "embedding.weight",
        "encoder.layers.0.self_attn.w_q.bias",
        "decoder.layers.0.cross_attn.w_k.weight",
        "decoder.layers.0.add_norm_ffn.norm.weight",
    ],
)
def test_one_disturbed_gradient_is_named_and_nothing_else(sides, name):
    one, two = sides
    rows = compare(disturbed(one, 0, name, lambda gradient: gradient * 1.01), two)
    assert named(rows) == (f"gradient.{name}", [f"gradient.{name}"])


def test_a_disturbed_optimizer_step_is_named_and_nothing_else(sides):
    one, two = sides
    name = "decoder.layers.0.ffn.out.weight"
    rows = compare(one, disturbed(two, 1, name, lambda weight: weight + 1e-6))
    assert named(rows) == ("step", ["step"])


def test_disturbed_key_biases_are_told_from_the_step(sides):
    one, two = sides
    name = "encoder.layers.0.self_attn.w_k.bias"
    rows = compare(one, disturbed(two, 1, name, lambda weight: weight + 1e-6))
    assert named(rows) == ("step.key_biases", ["step.key_biases"])


@pytest.mark.parametrize("also_where_it_is_read", [False, True])
def test_features_in_marians_order_are_named(monkeypatch, also_where_it_is_read):
    model = random_scratch()
    with monkeypatch.context() as patch:
        patch.setattr(huggingface, "_sines_first", torch.arange)
        marian = twin_of(model)
        if also_where_it_is_read:
            rows = compare(scratch_side(model), marian_side(marian))
    if not also_where_it_is_read:
        rows = compare(scratch_side(model), marian_side(marian))
    # Read in the wrong order too, the embeddings look right until positions are added.
    first = "encoder.embed" if also_where_it_is_read else "encoder.lookup"
    assert parity.first_difference(rows) == first


def test_another_scale_of_the_scores_is_named(sides):
    one, two = sides
    two.model.model.encoder.layers[0].self_attn.scaling *= 1.1
    assert parity.first_difference(compare(one, two)) == "encoder.0.self_attn.scores"


def test_another_activation_is_named(sides):
    one, two = sides
    two.model.model.decoder.layers[0].activation_fn = torch.nn.GELU()
    assert parity.first_difference(compare(one, two)) == "decoder.0.ffn.act"


def test_sides_with_different_points_are_refused(sides):
    one, two = sides
    fewer = {name: point for name, point in two.points.items() if name != "encoder.0.out"}
    with pytest.raises(ValueError, match=r"encoder\.0\.out"):
        compare(one, dataclasses.replace(two, points=fewer))
    more = dict(two.points) | {"surplus": Point("lm_head")}
    with pytest.raises(ValueError, match="surplus"):
        compare(one, dataclasses.replace(two, points=more))


def test_sides_with_different_weights_are_refused(sides):
    one, two = sides

    def fewer(weights):
        return {n: w for n, w in weights.items() if n != "encoder.layers.0.ffn.pre.bias"}

    with pytest.raises(ValueError, match=r"gradient\.encoder\.layers\.0\.ffn\.pre\.bias"):
        compare(dataclasses.replace(one, in_common_names=fewer), two)


# Rows and the table


def test_a_row_is_ok_within_both_tolerances():
    assert Row("x", 1e-5, 1e-10, 1e-5).ok
    assert not Row("x", 1.1e-5, 0.0, 1e-5).ok
    assert not Row("x", 0.0, 1.1e-10, 1e-5).ok
    assert not Row("x", math.nan, 0.0, 1e-5).ok
    assert not Row("x", 0.0, math.nan, 1e-5).ok
    assert not Row("x", math.inf, 0.0, 1e-5).ok


def test_without_a_tolerance_single_precision_is_only_reported():
    assert Row("step", 5.0, 0.0, None).ok
    assert not Row("step", 0.0, 1e-3, None).ok


def test_the_tolerance_grows_with_the_largest_value(sides):
    one, two = sides
    before = {row.point: row.tolerance for row in compare(one, two)}
    for side in sides:
        module = side.model.get_submodule(side.points["logits"].module)
        module.register_forward_hook(lambda module, inputs, output: output * 100)
    after = {row.point: row.tolerance for row in compare(one, two)}
    assert before["logits"] > 1e-5
    assert after["logits"] == pytest.approx(100 * before["logits"], rel=1e-5)
    assert before["decoder.0.out"] == after["decoder.0.out"]
    assert before["encoder.0.self_attn.weights"] == 1e-5  # of values below 1
    assert before["step"] is before["step.key_biases"] is None


@pytest.mark.parametrize(
    ("point", "stage"),
    [
        ("decoder.lookup", "embedding lookup"),
        ("encoder.embed", "embedding + positions"),
        ("decoder.11.self_attn.q", "Q, K, V"),
        ("encoder.0.self_attn.k", "Q, K, V"),
        ("encoder.0.self_attn.v", "Q, K, V"),
        ("encoder.0.self_attn.scores", "scores"),
        ("decoder.1.self_attn.weights", "attention weights"),
        ("decoder.1.self_attn.context", "context"),
        ("decoder.1.self_attn.out", "output projection"),
        ("decoder.1.cross_attn.add", "residual sum"),
        ("encoder.0.ffn.add", "residual sum"),
        ("encoder.1.self_attn.norm", "LayerNorm"),
        ("decoder.1.cross_attn.norm", "LayerNorm"),
        ("decoder.1.cross_attn.q", "cross-attention"),
        ("decoder.1.cross_attn.weights", "cross-attention"),
        ("decoder.1.cross_attn.out", "cross-attention"),
        ("encoder.0.ffn.pre", "feed-forward"),
        ("encoder.0.ffn.act", "feed-forward"),
        ("encoder.0.ffn.out", "feed-forward"),
        ("encoder.0.out", "layer outputs"),
        ("logits", "logits"),
        ("loss", "loss"),
        ("gradient.embedding.weight", "gradients"),
        ("gradient.encoder.layers.0.ffn.out.weight", "gradients"),
        ("step", "one optimizer step"),
        ("step.key_biases", "its key biases"),
    ],
)
def test_every_point_belongs_to_a_stage(point, stage):
    assert parity.stage(point).text().strip() == stage


def test_the_table_counts_every_row_once(sides):
    rows = compare(*sides)
    header, *lines = parity.table(rows)
    assert header.split() == ["points", "fp64", "fp32"]
    counts = [int(line[26:].split()[0]) for line in lines]
    assert sum(counts) == len(rows)
    assert len(lines) == len({parity.stage(row.point).key for row in rows}) == 17
    assert not any("DIFFERS" in line for line in lines)
    assert [line.endswith("ok (fp64)") for line in lines] == [False] * 15 + [True] * 2


def test_the_table_shows_the_largest_difference_and_what_differs():
    rows = [
        Row("encoder.embed", 1e-7, 1e-16, 1e-5),
        Row("encoder.0.ffn.pre", 2e-7, 3e-15, 1e-5),
        Row("encoder.0.ffn.act", 1e-7, 4e-3, 1e-5),
        Row("encoder.0.ffn.out", 5e-7, 1e-15, 1e-5),
        Row("step", 3e-1, 2e-5, None),
    ]
    _, embed, ffn, step = parity.table(rows)
    assert embed.split() == ["embedding", "+", "positions", "1", "1.0e-16", "1.0e-07", "ok"]
    assert ffn.split() == ["feed-forward", "3", "4.0e-03", "5.0e-07", "DIFFERS"]
    assert step.split()[-4:] == ["1", "2.0e-05", "3.0e-01", "DIFFERS"]
    expected = "NOT one model: the two first differ at encoder.0.ffn.act"
    assert parity.verdict(rows).text() == expected


# Paired training

WEIGHTS = {"a.w_q.bias": torch.zeros(3), "a.w_k.bias": torch.zeros(3), "b": torch.ones(2, 2)}
STEPS = 12


def run(**changes):
    """A short run; ``s3=1.5`` gives the loss of step 3."""
    losses = [3.0 - 0.1 * step for step in range(STEPS)]
    for step, loss in changes.items():
        losses[int(step[1:])] = loss
    return ShortRun(losses, WEIGHTS)


def training(**changes):
    same = ("ours_fp64", "theirs_fp64", "ours_fp32", "theirs_fp32", "other_path_fp32")
    return PairedTraining(**{name: run() for name in same} | {"tables_equal": True} | changes)


def test_gaps_are_absolute_differences_step_by_step():
    assert paired.gaps([1.0, 2.0, 4.0], [1.5, 2.0, 3.0]) == [0.5, 0.0, 1.0]
    with pytest.raises(ValueError, match="shorter|longer"):
        paired.gaps([1.0], [1.0, 2.0])


def test_key_biases_are_apart_from_the_other_weights():
    other = WEIGHTS | {"a.w_k.bias": torch.tensor([0.0, -0.5, 0.25]), "b": torch.ones(2, 2) + 0.125}
    one, two = ShortRun([1.0], WEIGHTS), ShortRun([1.0], other)
    assert paired.weight_differences(one, two) == (0.125, 0.5)
    assert paired.weight_differences(one, one) == (0.0, 0.0)
    reordered = dict(reversed(WEIGHTS.items()))
    assert paired.weight_differences(one, ShortRun([1.0], reordered)) == (0.0, 0.0)


def test_one_training_is_ok():
    assert training().ok
    assert not any("NOT" in line or "DIFFER" in line for line in training().lines())
    assert training(theirs_fp64=run(s11=run().losses[11] + 1e-13)).ok
    assert training(theirs_fp32=run(s9=run().losses[9] + 5e-6)).ok
    assert training(theirs_fp32=run(s10=run().losses[10] + 1e-2)).ok  # after the first ten
    assert training(other_path_fp32=run(s0=7.0)).ok  # only reported


@pytest.mark.parametrize("step", [0, STEPS - 1])
@pytest.mark.parametrize("gap", [1e-11, -1e-11])
def test_a_loss_that_differs_in_double_precision_is_not_ok(step, gap):
    other = training(theirs_fp64=run(**{f"s{step}": run().losses[step] + gap}))
    assert not other.ok
    assert "NOT one training" in other.lines()[0]
    assert other.summary()["ok"] is False
    assert other.summary()["max_abs_loss_difference"] == pytest.approx(1e-11, rel=1e-3)


@pytest.mark.parametrize("step", [0, 9])
def test_an_early_gap_in_single_precision_is_reported(step):
    other = training(theirs_fp32=run(**{f"s{step}": run().losses[step] + 2e-5}))
    assert other.ok
    assert other.summary()["fp32"]["max_abs_loss_difference_early"] == pytest.approx(2e-5, rel=1e-3)
    assert "2e-05 in the first 10 steps (1e-05 expected)" in "\n".join(other.lines())


def test_another_position_table_is_not_ok():
    other = training(tables_equal=False)
    assert not other.ok
    assert "NOT one training" in other.lines()[0]
    assert "DIFFER" in other.lines()[0]
    assert other.summary()["position_tables_equal"] is False


@pytest.mark.parametrize("step", [1, 9])
@pytest.mark.parametrize("name", ["theirs_fp64", "theirs_fp32", "ours_fp64", "ours_fp32"])
def test_a_loss_that_is_not_a_number_is_not_ok(step, name):
    assert not training(**{name: run(**{f"s{step}": math.nan})}).ok


def test_the_summary_of_a_paired_training_holds_its_numbers():
    other = WEIGHTS | {"a.w_k.bias": torch.full((3,), 0.5), "b": torch.ones(2, 2) + 0.25}
    found = training(theirs_fp64=ShortRun(run().losses, other)).summary()
    assert found["steps"] == STEPS
    assert found["max_abs_weight_difference"] == 0.5
    assert found["max_abs_weight_difference_without_key_biases"] == 0.25
    assert found["max_abs_key_bias_difference"] == 0.5
    assert found["fp32"]["max_abs_key_bias_difference"] == 0
    assert found["fp32"]["early_steps"] == 10


def test_what_is_no_rounding_is_not_called_so():
    far = training(theirs_fp32=run(s11=5.0), other_path_fp32=run(s11=run().losses[11] + 1e-6))
    assert "more than the rounding" in far.lines()[1]
    near = training(theirs_fp32=run(s11=run().losses[11] + 1e-6), other_path_fp32=run(s11=5.0))
    assert "the difference is rounding" in near.lines()[1]


# Side by side

SOURCE = '''
"""A module docstring
of two lines."""

import os  # 1

# a comment
TEXT = """first

third"""  # a string that is a value: 2 to 4

CALL = dict(  # 5
    # a comment within
    a=1,  # 6

    b=2,  # 7
)  # 8


@os.fspath  # 9
class Thing:  # 10
    """Of one line."""

    size: int  # 11
    """An attribute's docstring,
    of two lines."""

    def method(self):  # 12
        """Docstring.

        More.
        """
        if self:  # 13
            return f"""a {self}
            b"""  # 14 and 15
        else:  # 16
            return \\
                1  # 17 and 18

    def stub(self): ...  # 19
'''


def test_lines_of_code_are_those_that_a_reader_counts(tmp_path):
    files = [tmp_path / name for name in ("one.py", "two.py", "empty.py")]
    for file, text in zip(files, (SOURCE, "x = 1; y = '한글'\n", "\n# nothing\n"), strict=True):
        file.write_text(text, "utf-8")
    assert side_by_side.code_lines(files[:1]) == 19
    assert side_by_side.code_lines(files[1:2]) == 1
    assert side_by_side.code_lines(files[2:]) == 0
    assert side_by_side.code_lines(files) == 20


def test_code_without_layout_is_as_long_as_its_statements(tmp_path):
    source = textwrap.dedent('''
        def f(x):
            """Doc."""
            # comment

            return (x
                    + 1)
    ''')
    (tmp_path / "a.py").write_text(source, "utf-8")
    assert side_by_side.code_lines([tmp_path / "a.py"]) == 3


def test_share_alike_is_the_share_of_equal_entries():
    assert side_by_side.share_alike(["a", "b", "c", ""], ["a", "B", "c", ""]) == 0.75
    assert side_by_side.share_alike(["a"], ["b"]) == 0
    with pytest.raises(ValueError, match="shorter|longer"):
        side_by_side.share_alike(["a"], ["a", "b"])


def summary(factor, dropout=0.0, memory=100.0):
    return {
        "config": {"dropout": dropout},
        "metrics": {
            "eval_nll": 1.5 * factor, "bleu": 20.0 * factor, "chrf": 30.0, "exact_match": 0.25,
        },
        "speed": {
            "train_tokens_per_sec": 1000.0 * factor,
            "decode_sentences_per_sec": 50.0,
            "peak_memory_mb": memory,
        },
        "parameters": 1234567,
        "code_lines": int(1000 * factor),
        "library_lines": 23456,
        "alike": 0.875,
    }  # fmt: skip


def test_quantities_hold_both_runs():
    rows = side_by_side.quantities({"pytorch": summary(1.0), "huggingface": summary(0.5)})
    cells = {row.name.text(): row.cells()[1:] for row in rows}
    assert cells == {
        "NLL, nats per token": ("1.5000", "0.7500"),
        "BLEU": ("20.00", "10.00"),
        "chrF": ("30.00", "30.00"),
        "exact match": ("25.0%", "25.0%"),
        "training, tokens/s": ("1,000", "500"),
        "decoding, sentences/s": ("50", "50"),
        "peak memory, MiB": ("100", "100"),
        "parameters": ("1,234,567", "1,234,567"),
        "lines of code": ("1,000", "500"),
    }
    remarks = {row.name.text(): row.remark.text() for row in rows}
    assert all(remarks.values())
    assert "2.00 times" in remarks["training, tokens/s"]
    assert "88%" in remarks["BLEU"]
    assert "23,456" in remarks["lines of code"]


def test_the_order_of_the_summaries_does_not_matter():
    summaries = {"huggingface": summary(0.5), "pytorch": summary(1.0)}
    rows = side_by_side.quantities(summaries)
    assert (rows[0].pytorch, rows[0].huggingface) == (1.5, 0.75)


def test_the_remark_on_the_nll_depends_on_dropout():
    def remark(dropout):
        summaries = {name: summary(1.0, dropout) for name in side_by_side.VERSIONS}
        return side_by_side.quantities(summaries)[0].remark.text()

    assert "no dropout" in remark(0.0)
    assert "dropout 0.1" in remark(0.1)
    assert "no dropout" not in remark(0.1)


@pytest.mark.parametrize("missing", side_by_side.VERSIONS)
def test_memory_that_was_not_measured_is_left_out(missing):
    summaries = {
        name: summary(1.0, memory=None if name == missing else 100.0)
        for name in side_by_side.VERSIONS
    }
    names = [row.name.text() for row in side_by_side.quantities(summaries)]
    assert len(names) == 8
    assert not any("memory" in name for name in names)


def test_the_columns_of_the_table_align():
    rows = side_by_side.quantities({"pytorch": summary(1.0), "huggingface": summary(123.0)})
    lines = side_by_side.table(rows)
    cells, remarks = lines[: len(rows) + 1], lines[len(rows) + 2 :]
    assert lines[len(rows) + 1] == ""
    assert len({len(line) for line in cells}) == 1  # numbers end where the others end
    end = cells[0].index("PyTorch") + len("PyTorch")
    for line, row in zip(cells[1:], rows, strict=True):
        assert line.startswith(f"  {row.name.text()}")
        assert line[:end].endswith(row.cells()[1])
        assert line.endswith(row.cells()[2])
    assert remarks == [f"  {row.name.text()}: {row.remark.text()}" for row in rows]
