"""Steps that are not finite are skipped, counted and, in a row, too many."""

import math

import pytest
import torch
from torch import nn

import main
import pytorch_version.step as scratch_step
from huggingface_version import custom_trainer
from tests.test_train import SMALL, metrics_of
from utils.config import TrainConfig
from utils.divergence import MOST_IN_A_ROW, SkippedSteps
from utils.objective import make_optimizer, skip_if_not_finite, smoothed_loss_sum
from utils.results import RunFailed

VERSIONS = ("pytorch", "huggingface")
NAN = float("nan")


def config(**options):
    return TrainConfig(**{"learning_rate": 0.01, "warmup_steps": 7} | options)


def line(step, loss=1.0, grad_norm=1.0):
    return {"step": step, "loss": loss, "grad_norm": grad_norm}


@pytest.mark.parametrize("bad", [NAN, math.inf, -math.inf])
def test_a_step_that_is_not_finite_changes_nothing(bad):
    model = nn.Linear(3, 2)
    optimizer = make_optimizer(model, config())

    def step(grad):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, grad)
        skip_if_not_finite(optimizer, nn.utils.get_total_norm(p.grad for p in model.parameters()))
        optimizer.step()

    step(0.5)
    weights = [p.detach().clone() for p in model.parameters()]
    moments = [{k: v.clone() for k, v in optimizer.state[p].items()} for p in model.parameters()]
    step(bad)
    for parameter, weight, moment in zip(model.parameters(), weights, moments, strict=True):
        assert torch.equal(parameter, weight)
        assert all(torch.equal(optimizer.state[parameter][k], v) for k, v in moment.items())
    step(0.5)  # and the next one is made again
    assert not any(torch.equal(p, w) for p, w in zip(model.parameters(), weights, strict=True))


def disturbed(bad_calls, monkeypatch):
    """Let these losses, counted from 1, be no number."""
    calls = []

    def loss_sum(*args):
        calls.append(1)
        return smoothed_loss_sum(*args) * (NAN if len(calls) in bad_calls else 1.0)

    monkeypatch.setattr(scratch_step, "smoothed_loss_sum", loss_sum)
    monkeypatch.setattr(custom_trainer, "smoothed_loss_sum", loss_sum)


def run(version, output_dir, code=0):
    options = ["--version", version, "--epochs", "2", "--quiet", "--no_visualize"]
    assert main.main([*SMALL, *options, "--output_dir", str(output_dir)]) == code
    return output_dir / f"results_{version}"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_run_goes_on_after_a_skipped_step(tmp_path, monkeypatch, capsys, version):
    disturbed({4, 8, 9}, monkeypatch)
    losses = [x["loss"] for x in metrics_of(run(version, tmp_path), ("train",))]
    assert [number for number, loss in enumerate(losses, 1) if loss is None] == [4, 8, 9]
    assert len(losses) == 12
    notes = [x for x in capsys.readouterr().out.splitlines() if "skipped" in x]
    assert len(notes) == 3
    assert "step 9 was skipped (3 so far): its loss is nan" in notes[2]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_run_that_diverges_ends_with_one_line(tmp_path, monkeypatch, capsys, version):
    disturbed(set(range(3, 100)), monkeypatch)
    folder = run(version, tmp_path, code=1)
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "5 steps in a row, from step 3 on" in message
    assert metrics_of(folder, ("train",))[1]["loss"] > 0
    assert not (folder / "summary.json").exists()


def test_only_steps_in_a_row_are_too_many(capsys):
    skipped = SkippedSteps(config())
    for step in range(1, 41):
        skipped.take(line(step, *((NAN, NAN) if step % MOST_IN_A_ROW else (1.0, 1.0))))
    for step in range(41, 40 + MOST_IN_A_ROW):
        skipped.take(line(step, NAN, NAN))
    with pytest.raises(RunFailed, match="from step 41 on"):
        skipped.take(line(40 + MOST_IN_A_ROW, NAN, NAN))


def failure(options, norm_before=1.0):
    skipped = SkippedSteps(config(**options))
    skipped.take(line(1, grad_norm=norm_before))
    for step in range(2, 1 + MOST_IN_A_ROW):
        skipped.take(line(step, NAN, NAN))
    with pytest.raises(RunFailed) as found:
        skipped.take(line(1 + MOST_IN_A_ROW, NAN, NAN))
    return str(found.value)


@pytest.mark.parametrize(
    ("options", "norm_before", "named"),
    [
        ({}, 1.0, "--learning_rate below 1.00e-02"),
        ({}, 1.0, "--warmup_steps 7"),
        ({}, 5000.0, "norm of 5000 before"),
        ({}, 5000.0, "--max_grad_norm 1"),
        ({"max_grad_norm": 1.0}, 5000.0, "--warmup_steps 7"),
        ({"precision": "fp16"}, 1.0, "--precision bf16 or fp32"),
    ],
)
def test_the_likely_cause_is_named(options, norm_before, named):
    assert named in failure(options, norm_before)


def test_fp16_may_scale_its_loss_too_much():
    skipped = SkippedSteps(config(precision="fp16"))
    for step in range(1, 3 * MOST_IN_A_ROW):
        skipped.take(line(step, 1.0, math.inf))
    for step in range(1, MOST_IN_A_ROW):
        skipped.take(line(step, NAN, NAN))
    with pytest.raises(RunFailed):
        skipped.take(line(MOST_IN_A_ROW, NAN, NAN))
