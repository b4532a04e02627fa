"""Section 5: the loss, the schedule and the optimizer."""

import math

import pytest
import torch
import torch.nn.functional as F

from utils.config import TrainConfig
from utils.objective import (
    IGNORED_LABEL,
    learning_rate,
    make_optimizer,
    make_schedule,
    paper_peak,
    smoothed_loss_sum,
    with_schedule,
)


def test_smoothed_loss_by_hand():
    # p = (1/2, 1/4, 1/8, 1/16, 1/16), label 1, eps 0.1: q = 0.02 everywhere, 0.92 at the label.
    logits = torch.tensor([[[1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 16]]]).log()
    bits = 0.02 * 1 + 0.92 * 2 + 0.02 * 3 + 0.02 * 4 + 0.02 * 4
    loss = smoothed_loss_sum(logits, torch.tensor([[1]]), 0.1)
    assert loss.item() == pytest.approx(bits * math.log(2), rel=1e-5)


def test_without_smoothing_it_is_cross_entropy():
    logits, labels = torch.randn(2, 3, 7), torch.randint(0, 7, (2, 3))
    expected = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
    torch.testing.assert_close(smoothed_loss_sum(logits, labels, 0.0), expected)


def test_ignored_labels_count_nothing():
    logits = torch.randn(2, 3, 7, requires_grad=True)
    labels = torch.tensor([[4, 5, IGNORED_LABEL], [IGNORED_LABEL] * 3])
    loss = smoothed_loss_sum(logits, labels, 0.1)
    torch.testing.assert_close(loss, smoothed_loss_sum(logits[:1, :2], labels[:1, :2], 0.1))
    loss.backward()
    assert (logits.grad[0, 2] == 0).all()
    assert (logits.grad[1] == 0).all()
    assert (logits.grad[0, :2] != 0).all()


def test_all_labels_ignored_gives_zero_and_no_nan():
    logits = torch.randn(1, 2, 7, requires_grad=True)
    loss = smoothed_loss_sum(logits, torch.full((1, 2), IGNORED_LABEL), 0.1)
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_extreme_logits_stay_finite():
    logits = torch.tensor([[[1e4, -1e4, 0.0]]], requires_grad=True)
    loss = smoothed_loss_sum(logits, torch.tensor([[1]]), 0.1)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_schedule_is_equation_3():
    d_model, warmup = 512, 4000
    peak = paper_peak(d_model, warmup)
    for step in (1, 100, 4000, 16000, 100_000):
        paper = d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)
        assert learning_rate(step, peak, warmup) == pytest.approx(paper, rel=1e-12)


def test_schedule_peaks_at_warmup_and_is_finite_at_zero():
    rates = [learning_rate(step, 1e-3, 50) for step in range(201)]
    assert max(rates) == rates[50] == 1e-3
    assert rates[200] == pytest.approx(5e-4)
    assert 0 < rates[0] < 1e-4


def test_optimizer_makes_each_step_at_the_scheduled_rate():
    config = TrainConfig(learning_rate=1e-2, warmup_steps=3)
    model = torch.nn.Linear(2, 2)
    optimizer = make_optimizer(model, config)
    schedule = make_schedule(optimizer, config)
    assert optimizer.defaults["betas"] == (0.9, 0.98)
    assert optimizer.defaults["eps"] == 1e-9
    for step in range(1, 12):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(learning_rate(step, 1e-2, 3))
        optimizer.step()
        schedule.step()


def test_what_the_user_left_open_is_filled_in():
    filled = with_schedule(TrainConfig(), d_model=128, steps_per_epoch=300)
    assert filled.epochs == 10
    assert filled.warmup_steps == 150
    assert filled.learning_rate == pytest.approx(128**-0.5 * 2000**-0.5)
    long = with_schedule(TrainConfig(epochs=1000), d_model=512, steps_per_epoch=1000)
    assert long.warmup_steps == 4000
    assert long.learning_rate == pytest.approx(512**-0.5 * 4000**-0.5)
    by_steps = with_schedule(TrainConfig(max_steps=650), d_model=128, steps_per_epoch=300)
    assert by_steps.epochs == 3
    assert by_steps.warmup_steps == 100
    short = with_schedule(TrainConfig(epochs=1), d_model=128, steps_per_epoch=16)
    assert short.warmup_steps == 5
    assert with_schedule(TrainConfig(epochs=1), 128, steps_per_epoch=1).warmup_steps == 1
    given = TrainConfig(epochs=2, learning_rate=0.005, warmup_steps=7)
    assert with_schedule(given, d_model=128, steps_per_epoch=300) == given
