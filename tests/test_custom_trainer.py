"""The Trainer, changed: its loss, its record of every step, its batches, its evaluation."""

import dataclasses
import gc
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from transformers.trainer_pt_utils import LabelSmoother

import main
from huggingface_version import generate, model
from huggingface_version import train as huggingface_train
from huggingface_version.custom_trainer import ExperimentTrainer, collate_inputs, epoch_number
from pytorch_version import train as scratch_train
from utils import evaluation
from utils.data import prepare
from utils.experiment import Experiment
from utils.objective import learning_rate

OPTIONS = (
    "--version huggingface --dataset copy --hidden_size 16 --num_layers 1 --num_heads 2 "
    "--train_size 96 --eval_size 16 --batch_size 15 --max_length 16 --dropout 0 --device cpu "
    "--epochs 10 --learning_rate 0.01 --warmup_steps 8 --label_smoothing 0.1"
).split()
BATCHES = 7  # in an epoch: 96 pairs by 15


@pytest.fixture(scope="module", autouse=True)
def _frozen():
    # The Trainer collects garbage after every training; what is imported need not be searched.
    gc.collect()
    gc.freeze()


def experiment_for(*options):
    settings = main.parse([*OPTIONS, *options])
    return Experiment.plan(settings, prepare(settings.data, settings.run.seed))


def untrained(experiment, dtype=torch.float32):
    """MarianMT with the weights that both versions begin with."""
    weights = scratch_train.initial_model(experiment).state_dict()
    vocab_size = experiment.data.tokenizer.vocab_size
    marian = model.build_model(experiment.settings.model, vocab_size, experiment.decoding, weights)
    return marian.to(dtype)


def trainer_for(experiment, folder, lines, evaluate=None, dtype=torch.float32, **changes):
    no_files = {"save_strategy": "no", "load_best_model_at_end": False, "eval_strategy": "no"}
    return ExperimentTrainer(
        untrained(experiment, dtype),
        huggingface_train.training_arguments(experiment, folder, **no_files | changes),
        experiment.data.tokenizer.to_huggingface(16),
        experiment,
        on_step=lines.append,
        evaluate=evaluate,
    )


def trained(experiment, folder, **changes):
    """Lines of all steps, and the trainer afterwards."""
    lines = []
    trainer = trainer_for(experiment, folder, lines, **changes)
    trainer.train()
    return lines, trainer


class Fixed:
    """A sampler whose epochs are all the same."""

    def __init__(self, batches):
        self.batches = batches

    def set_epoch(self, epoch, skip=0):
        pass

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


def apart(one, two):
    """Largest difference of two state dicts, key biases left out: they walk on rounding errors."""
    names = [name for name in one if not name.endswith(("k_proj.bias", "w_k.bias"))]
    assert len(names) > 20
    return max((one[name] - two[name]).abs().max().item() for name in names)


def in_fixed_batches(experiment, size, accumulated):
    """The same pairs in every step, whatever the size of the batches."""
    batches = [list(range(start, start + size)) for start in range(0, 96, size)]
    settings = experiment.settings
    train = dataclasses.replace(settings.train, gradient_accumulation_steps=accumulated)
    return dataclasses.replace(
        experiment,
        settings=dataclasses.replace(settings, train=train),
        sampler=Fixed(batches),
        num_steps=9,
    )


def test_one_batch_of_32_equals_four_of_8(tmp_path):
    experiment = experiment_for("--label_smoothing", "0.1")
    runs = [
        trained(in_fixed_batches(experiment, size, number), tmp_path, dtype=torch.float64)
        for size, number in ((32, 1), (8, 4))
    ]
    lengths = experiment.data.train.lengths[:, 1].reshape(-1, 8).sum(axis=1)
    assert len(set(lengths)) > 3  # batches of unequal numbers of tokens
    (one_lines, one), (four_lines, four) = runs
    assert len(one_lines) == len(four_lines) == 9
    for a, b in zip(one_lines, four_lines, strict=True):
        assert a["loss"].item() == pytest.approx(b["loss"].item(), rel=0, abs=1e-12)
        assert a["grad_norm"].item() == pytest.approx(b["grad_norm"].item(), rel=0, abs=1e-12)
        assert a["tokens"] == b["tokens"]
    assert apart(one.model.state_dict(), four.model.state_dict()) < 1e-12
    assert one_lines[0]["loss"] - one_lines[-1]["loss"] > 0.1


@pytest.mark.parametrize("accumulated", [1, 3])
def test_the_recorded_loss_is_the_mean_over_the_tokens_of_the_step(tmp_path, accumulated):
    accumulation = ["--gradient_accumulation_steps", str(accumulated)]
    experiment = experiment_for(*accumulation, "--label_smoothing", "0.1")
    lines, _ = trained(experiment, tmp_path, dtype=torch.float64, max_steps=1)
    experiment.sampler.set_epoch(0)
    indices = [i for batch in list(experiment.sampler)[:accumulated] for i in batch]
    inputs = collate_inputs([experiment.data.train[i] for i in indices])
    marian = untrained(experiment, torch.float64).eval()
    with torch.no_grad():
        logits = marian(
            input_ids=inputs["input_ids"],
            attention_mask=(inputs["input_ids"] != marian.config.pad_token_id).long(),
            decoder_input_ids=inputs["decoder_input_ids"],
        ).logits
    labels = inputs["labels"]
    real = labels >= 0
    assert not real.all()
    assert real.sum() == experiment.data.train.lengths[indices, 1].sum()
    by_torch = F.cross_entropy(logits[real], labels[real], label_smoothing=0.1)
    by_transformers = LabelSmoother(epsilon=0.1)({"logits": logits}, labels)
    (line,) = lines
    assert line["loss"].item() == pytest.approx(by_torch.item(), rel=0, abs=1e-12)
    assert line["loss"].item() == pytest.approx(by_transformers.item(), rel=1e-6)
    assert line["tokens"] == experiment.data.train.lengths[indices].sum()


def test_labels_are_shifted_by_the_start_token():
    inputs = collate_inputs([([5, 6, 2], [7, 8, 9, 2]), ([5, 2], [7, 2])])
    assert inputs["input_ids"].tolist() == [[5, 6, 2], [5, 2, 0]]
    assert inputs["decoder_input_ids"].tolist() == [[1, 7, 8, 9], [1, 7, 0, 0]]
    assert inputs["labels"].tolist() == [[7, 8, 9, 2], [7, 2, -100, -100]]
    assert inputs["num_tokens"] == 11


@pytest.mark.parametrize("accumulated", [1, 3])
def test_every_step_is_recorded_as_it_was(tmp_path, accumulated):
    experiment = experiment_for("--gradient_accumulation_steps", str(accumulated))
    lines = []
    trainer = trainer_for(experiment, tmp_path, lines, max_steps=16)
    used = []
    trainer.optimizer.register_step_pre_hook(
        lambda optimizer, *_: used.append(optimizer.param_groups[0]["lr"])
    )
    trainer.train()
    per_epoch = -(-BATCHES // accumulated)
    lengths = experiment.data.train.lengths.sum(axis=1)
    groups = []
    for epoch in range(-(-16 // per_epoch)):
        experiment.sampler.set_epoch(epoch)
        batches = list(experiment.sampler)
        groups += [batches[i : i + accumulated] for i in range(0, BATCHES, accumulated)]
    for step, (line, group) in enumerate(zip(lines, groups, strict=False), start=1):
        assert line["kind"] == "train"
        assert line["step"] == step
        assert line["epoch"] == (step - 1) // per_epoch + 1
        assert line["lr"] == used[step - 1]
        assert line["lr"] == pytest.approx(learning_rate(step, 0.01, 8), rel=1e-12)
        assert line["tokens"] == sum(lengths[batch].sum() for batch in group)
    assert len(lines) == len(used) == 16


def test_clipping_limits_the_step_and_reports_the_norm_before(tmp_path):
    gradients = []
    for norm in ("0", "0.001"):
        lines, seen = [], []
        experiment = experiment_for("--max_grad_norm", norm)
        trainer = trainer_for(experiment, tmp_path, lines, max_steps=1)
        trainer.optimizer.register_step_pre_hook(
            lambda optimizer, *_, seen=seen: seen.extend(
                p.grad.norm()
                for g in optimizer.param_groups
                for p in g["params"]
                if p.grad is not None
            )
        )
        trainer.train()
        gradients.append((lines[0]["grad_norm"].item(), torch.stack(seen).norm().item()))
    (norm, unclipped), (norm_again, clipped) = gradients
    assert norm == pytest.approx(norm_again) == pytest.approx(unclipped, rel=1e-5)
    assert clipped == pytest.approx(1e-3, rel=1e-2)
    assert norm > 0.1


def test_evaluation_draws_no_random_number(tmp_path):
    experiment = experiment_for("--dropout", "0.3", "--epochs", "2")
    evaluated = []

    def evaluate(step, epoch):
        before = torch.get_rng_state()
        scores = evaluation.score_tokens(
            partial(model.logits_of, trainer.model.eval()), experiment.data.eval, "cpu"
        )
        generate.translate(trainer.model, experiment.data.tokenizer, ["ba di", "ge"])
        evaluated.append((step, epoch, torch.equal(before, torch.get_rng_state())))
        return {"eval_nll": scores["nll"]}

    losses = []
    for strategy in ("epoch", "no"):
        lines = []
        trainer = trainer_for(experiment, tmp_path, lines, evaluate, eval_strategy=strategy)
        trainer.train()
        losses.append([line["loss"].item() for line in lines])
    assert len(losses[0]) == 2 * BATCHES
    assert losses[0] == losses[1]
    assert evaluated == [(BATCHES, 1, True), (2 * BATCHES, 2, True)]

    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert trainer.evaluate()["eval_nll"] > 0
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_is_on_while_training(tmp_path):
    # else the test above could not fail
    one, two = (
        trained(experiment_for("--dropout", rate), tmp_path, max_steps=2)[0]
        for rate in ("0", "0.3")
    )
    assert one[0]["loss"] != two[0]["loss"]


def test_each_process_weighs_its_loss_by_their_number(tmp_path, monkeypatch):
    experiment = experiment_for()
    trainer = trainer_for(experiment, tmp_path, [])
    inputs = collate_inputs([experiment.data.train[i] for i in range(8)])
    alone, outputs = trainer.compute_loss(trainer.model, inputs, True, num_items_in_batch=100)
    assert outputs["logits"].shape[:2] == inputs["labels"].shape
    monkeypatch.setattr(type(trainer.accelerator), "num_processes", property(lambda self: 3))
    together = trainer.compute_loss(trainer.model, inputs, num_items_in_batch=100)
    assert together.item() == pytest.approx(3 * alone.item(), rel=1e-6)


def test_without_a_count_the_loss_is_the_mean_of_its_batch(tmp_path):
    experiment = experiment_for()
    trainer = trainer_for(experiment, tmp_path, [])
    inputs = collate_inputs([experiment.data.train[i] for i in range(8)])
    num_items = int(experiment.data.train.lengths[:8, 1].sum())
    counted = trainer.compute_loss(trainer.model, inputs, num_items_in_batch=num_items)
    assert trainer.compute_loss(trainer.model, inputs).item() == counted.item()


def test_the_epoch_under_way_is_counted_from_one():
    steps = {0.001: 1, 1 / 7: 1, 6 / 7: 1, 1.0: 1, 1 + 1 / 7: 2, 2.0: 2, 2 + 6 / 7: 3}
    assert {epoch: epoch_number(epoch) for epoch in steps} == steps


@pytest.mark.parametrize(
    "options",
    [
        "",
        "--gradient_accumulation_steps 3",
        "--max_grad_norm 0.5",
        "--gradient_accumulation_steps 3 --max_grad_norm 0.5",
        "--max_tokens 100 --label_smoothing 0",
    ],
)
def test_both_versions_train_as_one(options):
    experiment = experiment_for(*options.split())
    weights = scratch_train.initial_model(experiment).state_dict()
    ours, scratch = scratch_train.short_run(experiment, 25, torch.float64, "sdpa")
    theirs, marian = huggingface_train.short_run(experiment, weights, 25, torch.float64)
    assert len(ours) == len(theirs) == 25
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < 1e-12
    assert apart(scratch.state_dict(), model.from_marian(marian.state_dict())) < 1e-12
    assert ours[0] - ours[-1] > 0.1


@pytest.mark.parametrize(("max_tokens", "num_steps"), [("30", 70), ("40", 130)])
def test_both_versions_train_as_one_for_several_epochs_of_a_token_budget(max_tokens, num_steps):
    # The Trainer takes every epoch to have as many batches as the first.
    experiment = experiment_for("--max_tokens", max_tokens)
    weights = scratch_train.initial_model(experiment).state_dict()
    ours, _ = scratch_train.short_run(experiment, num_steps, torch.float64, "sdpa")
    theirs, _ = huggingface_train.short_run(experiment, weights, num_steps, torch.float64)
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < 1e-10


def test_options_of_the_step_reach_both_versions():
    # else two versions that both ignored an option would train as one
    losses = {}
    for options in ("", "--gradient_accumulation_steps 3", "--max_grad_norm 0.05", "--seed 7"):
        experiment = experiment_for(*options.split())
        weights = scratch_train.initial_model(experiment).state_dict()
        losses[options], _ = huggingface_train.short_run(experiment, weights, 4, torch.float64)
    assert len({tuple(found) for found in losses.values()}) == 4


def test_training_goes_through_the_data_in_the_order_of_the_sampler(tmp_path, monkeypatch):
    experiment = experiment_for()
    seen = []
    original = ExperimentTrainer.compute_loss

    def recording(self, model, inputs, *args, **options):
        seen.append(inputs["labels"].tolist())
        return original(self, model, inputs, *args, **options)

    monkeypatch.setattr(ExperimentTrainer, "compute_loss", recording)
    trained(experiment, tmp_path, max_steps=2 * BATCHES + 3)
    expected = []
    for epoch in range(3):
        experiment.sampler.set_epoch(epoch)
        for batch in experiment.sampler:
            inputs = collate_inputs([experiment.data.train[i] for i in batch])
            expected.append(inputs["labels"].tolist())
    assert seen == expected[: len(seen)]
    assert len(seen) == 2 * BATCHES + 3
