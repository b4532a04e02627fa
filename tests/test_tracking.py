"""Following a model in training: when, what is measured, and that training never notices."""

import copy
import json
import math

import numpy as np
import pytest
import torch

import main
from huggingface_version import model as huggingface
from pytorch_version import model as scratch
from tests.conftest import VOCAB_SIZE
from tests.outcomes import comparable, numbers_in
from utils import analysis, checkpoint
from utils.batching import TokenizedPairs, collate
from utils.config import ModelConfig
from utils.corpus import generate
from utils.history import MOST_MAPPED_STEPS, MOST_RECORDS, History, Spread, thinned
from utils.objective import smoothed_loss_sum
from utils.probe import site_of
from utils.tokenizer import Tokenizer
from utils.tracking import ProbePlan, Tracker, probe_pairs

RUN = (
    "--dataset copy --hidden_size 16 --num_layers 1 --num_heads 2 --train_size 96 --eval_size 16 "
    "--batch_size 16 --max_length 40 --dropout 0.1 --device cpu --average_checkpoints 0 "
    "--epochs 2 --quiet --no_visualize"
).split()


# When


def test_the_default_plan_probes_early_steps_more_often():
    plan = ProbePlan(1000, None, 10)
    due = [step for step in range(1001) if plan.is_due(step)]
    assert due == [0, 10, 40, 90, 160, 250, 360, 490, 640, 810, 1000]


def test_a_given_distance_is_kept_and_both_ends_are_probed():
    plan = ProbePlan(25, 10, 4)
    assert [step for step in range(26) if plan.is_due(step)] == [0, 10, 20, 25]


@pytest.mark.parametrize("num_steps", [1, 2, 5, 33])
def test_a_short_run_is_probed_at_both_ends(num_steps):
    plan = ProbePlan(num_steps, None, 12)
    due = [step for step in range(num_steps + 1) if plan.is_due(step)]
    assert due[0] == 0
    assert due[-1] == num_steps
    assert len(due) <= 13


# What


@pytest.fixture(scope="module")
def pairs():
    pairs = generate("copy", "eval", 12, 1)
    tokenizer = Tokenizer.train([pair.src for pair in pairs], 300)
    return TokenizedPairs(pairs, tokenizer, 64), tokenizer


@pytest.fixture(params=["scratch", "marian", "pre-norm"])
def followed(request, pairs):
    """A model with what is needed to look into it."""
    tokenized, tokenizer = pairs
    torch.manual_seed(3)
    config = ModelConfig(d_model=16, num_layers=2, num_heads=4, d_ff=24, dropout=0.3,
                         norm="pre" if request.param == "pre-norm" else "post")  # fmt: skip
    model = scratch.Transformer(config, tokenizer.vocab_size, 0, 64)
    if request.param == "marian":
        from utils.decoding import Decoding

        model = huggingface.build_model(
            config, tokenizer.vocab_size, Decoding(64), model.state_dict()
        )
        return model, huggingface.inside(model)
    return model, scratch.inside(model)


def tracker_of(inside, pairs, closely=True, plan=None, report=None):
    tokenized, tokenizer = pairs
    plan = plan or ProbePlan(100, 1, 4)
    return Tracker(inside, tokenized, tokenizer, 0.1, plan, closely, report or (lambda *_: None))


def trained_step(model, batch, optimizer):
    logits = (
        model(batch.src_ids, batch.decoder_input_ids)
        if isinstance(model, scratch.Transformer)
        else huggingface.logits_of(model, batch.src_ids, batch.decoder_input_ids)
    )
    loss = smoothed_loss_sum(logits, batch.labels, 0.1) / batch.num_target_tokens
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def test_training_does_not_notice(followed, pairs):
    model, inside = followed
    batch = collate([pairs[0][i] for i in range(12)])
    losses = []
    for follow in (False, True):
        trained = copy.deepcopy(model).train()
        optimizer = torch.optim.Adam(trained.parameters(), 1e-2)
        tracker = tracker_of(inside, pairs)
        torch.manual_seed(0)
        of_run = []
        for step in range(1, 6):
            if follow:
                tracker.before_step(trained, step)
            of_run.append(trained_step(trained, batch, optimizer))
            if follow:
                tracker.after_step(trained, step, 1)
                assert trained.training
                assert all(p.grad is None for p in trained.parameters())
        losses.append(of_run)
    assert losses[0] == losses[1]
    assert len(tracker.history().records) == 5


@pytest.mark.parametrize("mode", [True, False])
def test_the_model_stays_in_its_mode(followed, pairs, mode):
    model, inside = followed
    tracker_of(inside, pairs).probe(model.train(mode), 0, 1)
    assert model.training is mode


def test_gradients_that_wait_for_their_step_are_left_alone(followed, pairs):
    model, inside = followed
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    tracker_of(inside, pairs).probe(model, 0, 1)
    assert all((p.grad == 1).all() for p in model.parameters())


def test_a_probe_says_what_a_reader_finds_by_hand(followed, pairs):
    model, inside = followed
    tracker = tracker_of(inside, pairs)
    line = tracker.probe(model, 0, 1)
    tokenized, _ = pairs
    batch = collate([tokenized[i] for i in range(8)])
    model.eval()
    with torch.no_grad(), inside.explicit_attention(model):
        from utils.capture import capture

        with capture(model, inside.points) as found:
            logits = inside.logits_of(model, batch.src_ids, batch.decoder_input_ids)
    loss = smoothed_loss_sum(logits, batch.labels, 0.1) / batch.num_target_tokens
    assert line["loss"] == pytest.approx(loss.item(), rel=1e-6)

    real = batch.labels != -100
    q = found["decoder.1.cross_attn.q"][:, 2][real]  # head 3, (N, E)
    of_q = {name: values[2] for name, values in line["qkv"]["decoder.1.cross_attn.q"].items()}
    assert of_q["norm"] == pytest.approx(q.norm(dim=-1).mean().item(), rel=1e-5)
    assert of_q["mean"] == pytest.approx(q.mean().item(), rel=1e-4, abs=1e-6)
    assert of_q["std"] == pytest.approx(q.std(correction=0).item(), rel=1e-5)
    assert of_q["cosine_to_first"] == pytest.approx(1)
    assert 1 < of_q["effective_rank"] <= 4

    is_source = (batch.src_ids != 0).numpy()
    weights = found["encoder.0.self_attn.weights"].numpy()
    entropy = analysis.attention_entropy(weights, is_source)
    assert line["attention"]["encoder.0.self_attn"]["entropy"] == pytest.approx(entropy, rel=1e-5)

    act = found["decoder.0.ffn.act"][real]
    of_ffn = line["ffn"]["decoder.0.ffn"]
    assert of_ffn["zero_share"] == pytest.approx((act == 0).float().mean().item())
    assert of_ffn["dead_share"] == pytest.approx((act == 0).all(dim=0).float().mean().item())
    norm = found["encoder.1.out"][batch.src_ids != 0].norm(dim=-1).mean().item()
    assert line["residual"]["encoder.1.out"]["norm"] == pytest.approx(norm, rel=1e-5)


def test_gradients_and_updates_are_those_of_the_step(followed, pairs):
    model, inside = followed
    tokenized, _ = pairs
    batch = collate([tokenized[i] for i in range(8)])  # the very sentences that are probed
    tracker = tracker_of(inside, pairs)
    model.eval()  # without dropout the gradient of training is that of the probe
    logits = inside.logits_of(model, batch.src_ids, batch.decoder_input_ids)
    (smoothed_loss_sum(logits, batch.labels, 0.1) / batch.num_target_tokens).backward()
    of_site, before = {}, {}
    for name, parameter in model.named_parameters():
        common = inside.common_name(name)
        if parameter.grad is not None and common:
            of_site.setdefault(site_of(common), []).append(parameter.grad.flatten().clone())
            before[name] = parameter.detach().clone()
    line = tracker.probe(model, 0, 1)
    assert set(line["weights"]) == set(of_site)
    for site, gradients in of_site.items():
        norm = torch.cat(gradients).norm().item()
        assert line["weights"][site]["gradient_norm"] == pytest.approx(norm, rel=1e-4), site
        assert line["weights"][site]["update_ratio"] is None

    tracker.before_step(model, 1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter *= 1.25
    line = tracker.probe(model, 1, 1)
    for site in of_site:  # everything grew by a quarter
        expected = 0.25 if line["weights"][site]["norm"] > 0 else 0
        assert line["weights"][site]["update_ratio"] == pytest.approx(expected, rel=1e-4)


def test_both_models_are_followed_by_the_same_numbers(pairs, tiny_marian, twin):
    tokenized, tokenizer = pairs
    few = TokenizedPairs(tokenized.pairs, tokenizer, 64)
    few._ids = [tuple([3 + i % (VOCAB_SIZE - 3) for i in ids] for ids in pair) for pair in few._ids]
    lines = []
    for model, inside in (
        (twin, scratch.inside(twin)),
        (copy.deepcopy(tiny_marian), huggingface.inside(tiny_marian)),
    ):
        lines.append(tracker_of(inside, (few, tokenizer)).probe(model, 0, 1))
    ours, theirs = (dict(numbers_in(line)) for line in lines)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert value == pytest.approx(theirs[name], rel=2e-3, abs=1e-5), name


def test_cosines_compare_with_the_start_and_the_previous_probe(followed, pairs):
    model, inside = followed
    tracker = tracker_of(inside, pairs)
    tracker.probe(model, 0, 1)
    weight = next(p for n, p in model.named_parameters() if "decoder.layers.0.self_attn.w_q" in n
                  or "decoder.layers.0.self_attn.q_proj" in n)  # fmt: skip
    with torch.no_grad():
        weight.neg_()  # the biases are zero: every q turns round
    turned = tracker.probe(model, 1, 1)["qkv"]["decoder.0.self_attn.q"]
    assert turned["cosine_to_first"] == pytest.approx([-1] * 4, abs=1e-5)
    same = tracker.probe(model, 2, 1)["qkv"]["decoder.0.self_attn.q"]
    assert same["cosine_to_first"] == pytest.approx([-1] * 4, abs=1e-5)
    assert same["cosine_to_previous"] == pytest.approx([1] * 4, abs=1e-5)


@pytest.mark.parametrize(
    ("weight", "site"),
    [
        ("embedding.weight", "embedding"),
        ("encoder.layers.0.self_attn.w_q.weight", "encoder.0.self_attn.q"),
        ("decoder.layers.11.cross_attn.w_o.bias", "decoder.11.cross_attn.o"),
        ("decoder.layers.1.ffn.pre.weight", "decoder.1.ffn1"),
        ("decoder.layers.1.ffn.out.bias", "decoder.1.ffn2"),
        ("encoder.layers.1.add_norm_ffn.norm.weight", "encoder.1.norm"),
        ("encoder.norm.bias", "encoder.norm"),
    ],
)
def test_every_weight_has_its_site(weight, site):
    assert site_of(weight) == site


def test_long_sentences_are_probed_only_if_there_are_no_others(pairs):
    tokenized, _ = pairs
    some = tokenized.first(len(tokenized))
    some.lengths = np.array([[90, 5], [5, 5], [5, 41], [40, 40]] + [[3, 3]] * 8)
    assert probe_pairs(some) == [1, 3, 4, 5, 6, 7, 8, 9]
    some.lengths = np.array([[90, 5], [5, 50], [5, 5]])
    assert probe_pairs(some) == [2, 0, 1]


# How much is kept


def test_memory_stays_bounded(followed, pairs):
    model, inside = followed
    tracker = tracker_of(inside, pairs)
    steps = range(2 * MOST_RECORDS + 7)
    line = tracker.probe(model, 0, 1)
    captured, *_ = tracker._pass(model, tracker._weights(model))
    for step in steps[1:]:  # without the cost of probing
        tracker._remember(step, line | {"step": step}, captured, tracker._weights(model))
        history = tracker.history()
        assert len(history.maps) <= MOST_MAPPED_STEPS
        assert history.maps.keys() == history.embeddings.keys()
        assert len(history.records) <= MOST_RECORDS
    kept = [record["step"] for record in history.records]
    for found in (kept, list(history.maps)):
        assert found[0] == 0
        assert found[-1] == steps[-1]
        assert found == sorted(found)
        assert max(np.diff(found)) < 2.1 * steps[-1] / len(found)  # spread over the whole run


def test_thinning_keeps_both_ends():
    assert thinned(range(5), 9) == [0, 1, 2, 3, 4]
    assert thinned(range(101), 5) == [0, 25, 50, 75, 100]
    spread, kept = Spread(4), []
    for step in range(10):
        spread.add(step, None)
        kept.append(list(spread.entries))
    assert kept == [
        [0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 2, 4], [0, 2, 4, 5], [0, 2, 4, 6],
        [0, 4, 7], [0, 4, 8], [0, 4, 8, 9],
    ]  # fmt: skip


def test_a_spread_goes_on_where_another_stopped():
    whole, first, second = Spread(4), Spread(4), Spread(4)
    for step in range(20):
        whole.add(step, {"a": step})
        (first if step < 7 else second).add(step, {"a": step})
        if step == 6:
            second.load_state_dict(first.state_dict())
    assert second.entries == whole.entries


def test_maps_have_no_padding_and_rows_that_sum_to_one(followed, pairs):
    model, inside = followed
    for closely in (False, True):
        tracker = tracker_of(inside, pairs, closely)
        tracker.probe(model, 0, 1)
        history = tracker.history()
        attentions = {n.removesuffix(".weights") for n in inside.points if n.endswith(".weights")}
        assert set(history.maps[0]) == (attentions if closely else {"decoder.1.cross_attn"})
        assert history.last_cross_attention() == "decoder.1.cross_attn"
        for sentence in range(2):
            weights = history.maps[0]["decoder.1.cross_attn"][sentence]
            src, tgt = history.src_pieces[sentence], history.tgt_pieces[sentence]
            assert weights.shape == (4, len(tgt), len(src))
            np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-5)


def test_a_history_reads_as_it_was_written(followed, pairs, tmp_path):
    model, inside = followed
    tracker = tracker_of(inside, pairs)
    (tmp_path / "logs").mkdir()
    for step in (0, 3, 10):
        tracker.probe(model, step, 1)
    history = tracker.history()
    history.save(tmp_path)
    read = History.load(tmp_path, history.records)
    assert read.tokens == history.tokens
    assert read.sentences == [tuple(pair) for pair in history.sentences]
    assert len(read.sentences) == 8
    assert (read.src_pieces, read.tgt_pieces) == (history.src_pieces, history.tgt_pieces)
    assert list(read.maps) == list(history.maps) == [0, 3, 10]
    for step, maps in history.maps.items():
        assert list(read.maps[step]) == list(maps)
        for name, sentences in maps.items():
            for ours, theirs in zip(sentences, read.maps[step][name], strict=True):
                assert np.array_equal(ours, theirs)
        assert np.array_equal(history.embeddings[step], read.embeddings[step])
    assert History.load(tmp_path / "nowhere", history.records) is None
    assert not list((tmp_path / "logs").glob("*.partial"))


def test_a_tracker_goes_on_where_another_stopped(followed, pairs, tmp_path):
    model, inside = followed
    whole, first, second = (tracker_of(inside, pairs) for _ in range(3))
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter += 0.1
    half = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in half.parameters():
            parameter *= 1 + 0.1 * torch.rand_like(parameter)
    for tracker in (whole, first):
        tracker.probe(model, 0, 1)
        tracker.probe(half, 3, 1)
    expected = whole.probe(changed, 5, 1)
    checkpoint.save(tmp_path / "state.pt", first.state_dict())  # tensors and plain values
    second.load_state_dict(checkpoint.load(tmp_path / "state.pt"))
    assert second.probe(changed, 5, 1) == expected
    assert list(second.history().maps) == [0, 3, 5]


# In a run


def probes_of(folder):
    lines = (folder / "logs" / "metrics.jsonl").read_text("utf-8").splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == "probe"], lines


@pytest.mark.parametrize("version", ["pytorch", "huggingface"])
def test_a_run_writes_its_probes_among_its_steps(version, tmp_path, capsys):
    options = [*RUN, "--version", version, "--output_dir", str(tmp_path), "--track_every", "5"]
    assert main.main(options) == 0
    folder = tmp_path / f"results_{version}"
    probes, lines = probes_of(folder)
    assert [probe["step"] for probe in probes] == [0, 5, 10, 12]
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == sorted(steps)
    assert all(probe["weights"]["embedding"]["update_ratio"] > 0 for probe in probes[1:])
    speed = json.loads((folder / "summary.json").read_text("utf-8"))["speed"]
    assert 0 < speed["tracking_overhead"] < math.inf
    assert History.load(folder, probes) is not None
    assert "no effect" not in capsys.readouterr().out


@pytest.mark.parametrize("version", ["pytorch", "huggingface"])
def test_losses_are_the_same_however_closely_a_run_is_followed(version, tmp_path):
    found = []
    for name, every in (("rarely", "1000"), ("often", "1")):
        options = ["--version", version, "--output_dir", str(tmp_path / name)]
        assert main.main([*RUN, *options, "--track_every", every, "--track_internals"]) == 0
        probes, lines = probes_of(tmp_path / name / f"results_{version}")
        records = [json.loads(line) for line in lines]
        found.append(comparable([r for r in records if r["kind"] == "train"]))
        assert len(probes) == {"rarely": 2, "often": 13}[name]
    assert found[0] == found[1]
