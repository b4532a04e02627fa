"""Training speed of both versions beside other people's code, in real tokens per second.

    python -m benchmarks.train_throughput --steps 20 --rounds 5
    python -m benchmarks.train_throughput --dataset DATA_DIR --src_lang en --tgt_lang de
    python -m benchmarks.train_throughput --device cuda --precision bf16 --preset base --compile

Everybody trains the same model from the same weights, on the same batches in the same order; the
stock Trainer alone makes batches of its own. Options of data, model and training are those of
``main.py``; ``--compile`` adds our compiled step, ``--peak`` the share of a GPU's peak.
"""

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

import main as tool
from benchmarks.command import exit_status, make_parser
from benchmarks.flops import PEAKS, peak_flops, training_flops
from benchmarks.measure import Figures, comparison_table, heading, interleaved
from benchmarks.trainees import (
    ExperimentLoop,
    FixedBatches,
    PlainLoop,
    Scratch,
    Setup,
    StockTrainer,
    Trainee,
)
from huggingface_version.model import logits_of
from pytorch_version.model import Transformer
from utils.batching import collate
from utils.config import Settings, TrainConfig, UserError
from utils.data import prepare
from utils.environment import select_device
from utils.experiment import Experiment
from utils.results import RunFailed
from utils.tokenizer import PAD_ID

REFERENCE = "ours, sdpa"
STOCK = "MarianMT sdpa, stock Seq2SeqTrainer"
# Each round begins with steps that do not count: optimizer states are made, kernels chosen.
WARM_UP_STEPS = 3
DEFAULTS = (
    "--version pytorch --preset tiny --vocab_size 8000 --max_tokens 4096 --dropout 0.1 "
    "--train_size 20000"
).split()
LARGEST_DIFFERENCE = 1e-4  # of two losses in single precision, relative


def main(argv: Sequence[str] | None) -> None:
    """Compare, print.

    Raises:
        UserError: the user's input is wrong.
        RunFailed: two who should compute the same loss do not.
    """
    options, settings = _parse(argv)
    peak = peak_flops(options.peak, settings.train.precision)
    setup = prepare_setup(settings, options.steps)
    check_losses(setup)
    rounds = {name: Round(trainee, setup) for name, trainee in trainees(setup).items()}
    figures = interleaved(rounds, options.rounds)
    print(heading(f"Training throughput, {settings.train.precision}", setup.device))
    print(description(setup), end="\n\n")
    more = {}
    if peak is not None:
        more["model FLOPs utilisation"] = utilisation(figures, rounds, peak)
    print(comparison_table(figures, REFERENCE, "tokens/s", more=more))


def _parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, Settings]:
    parser = make_parser("train_throughput", __doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=20, help="timed in a round")
    parser.add_argument("--rounds", type=int, default=5, help="that count")
    parser.add_argument(
        "--peak", metavar="CARD", help=f"{', '.join(PEAKS)}, or TFLOP/s: adds the share of it"
    )
    options, further = parser.parse_known_args(argv)
    if options.steps < 1 or options.rounds < 1:
        raise UserError("--steps and --rounds must be at least 1")
    settings = tool.parse([*DEFAULTS, *further])
    if settings.train.precision == "fp16" or settings.model.norm == "pre":
        raise UserError("--precision fp16 and --norm pre: not everybody here can; leave them out")
    if settings.train.gradient_accumulation_steps > 1:
        raise UserError("--gradient_accumulation_steps: every batch is one step here; leave it out")
    return options, settings


def prepare_setup(settings: Settings, num_steps: int) -> Setup:
    """Data, batches and weights for rounds of ``num_steps`` timed steps."""
    device = select_device(settings.run.device)
    experiment = Experiment.plan(settings, prepare(settings.data, settings.run.seed))
    batches = FixedBatches.first(WARM_UP_STEPS + num_steps, experiment.sampler)
    experiment = dataclasses.replace(experiment, sampler=batches, num_steps=len(batches))
    # As large a vocabulary as was asked for, though the embedded data have fewer tokens: the
    # projection to it is a large part of the work.
    vocab_size = max(settings.data.vocab_size, experiment.data.tokenizer.vocab_size)
    torch.manual_seed(settings.run.seed)
    model = Transformer(settings.model, vocab_size, PAD_ID, settings.data.max_length)
    return Setup(experiment, vocab_size, model.state_dict(), device)


def trainees(setup: Setup) -> dict[str, Trainee]:
    """Who takes part, by name, the stock Trainer last."""
    ours = {
        REFERENCE: Scratch(setup, "sdpa"),
        "ours, eager": Scratch(setup, "eager"),
    }
    if setup.experiment.settings.train.compile:
        ours["ours, sdpa, compiled"] = Scratch(setup, "sdpa", compiled=True)
    return ours | {
        "torch.nn.Transformer, plain loop": PlainLoop(setup, setup.torch_transformer()),
        "MarianMT sdpa, plain loop": PlainLoop(setup, setup.marian("sdpa"), logits_of),
        "MarianMT sdpa, our Trainer": ExperimentLoop(setup, "sdpa"),
        "MarianMT eager, our Trainer": ExperimentLoop(setup, "eager"),
        STOCK: StockTrainer(setup),
    }


def check_losses(setup: Setup) -> None:
    """Make sure that everybody computes the same on the first batch, in single precision.

    Each makes one real training step of its own, without dropout. The stock Trainer's loss is
    another one by design: MarianMT's must be ours without label smoothing.

    Raises:
        RunFailed: somebody computes another loss.
    """
    first = FixedBatches(list(setup.experiment.sampler)[:1])
    config = dataclasses.replace(setup.experiment.settings.train, precision="fp32")
    losses: dict[str, float] = {}
    for name, trainee in trainees(_changed(setup, first, config)).items():
        if name != STOCK:
            trainee.train(lambda loss, name=name: losses.setdefault(name, float(loss)))
    expected = losses[REFERENCE]

    unsmoothed = _changed(setup, first, dataclasses.replace(config, label_smoothing=0.0))
    ours: list[float] = []
    Scratch(unsmoothed, "sdpa").train(lambda loss: ours.append(float(loss)))
    pairs = setup.experiment.data.train
    batch = collate([pairs[i] for i in next(iter(first))]).to(setup.device)
    theirs = float(StockTrainer(unsmoothed).loss(batch.src_ids, batch.labels))

    wrong = [
        f"{name}: {loss:.6f} instead of {right:.6f}"
        for name, loss, right in (
            *((name, loss, expected) for name, loss in losses.items()),
            (STOCK, theirs, ours[0]),
        )
        if not abs(loss - right) <= LARGEST_DIFFERENCE * right
    ]
    if wrong:
        raise RunFailed(f"not the same loss on the first batch, so not timed: {'; '.join(wrong)}")
    print(f"all compute the same loss on the first batch, {expected:.4f}", file=sys.stderr)


def _changed(setup: Setup, batches: FixedBatches, config: TrainConfig) -> Setup:
    """The same without dropout, on other batches, with other training options."""
    settings = setup.experiment.settings
    without_dropout = dataclasses.replace(settings.model, dropout=0.0)
    settings = dataclasses.replace(settings, model=without_dropout, train=config)
    experiment = dataclasses.replace(
        setup.experiment, settings=settings, sampler=batches, num_steps=len(batches)
    )
    return dataclasses.replace(setup, experiment=experiment)


class StepTimer:
    """Takes the time of all steps but the first few of a round.

    Args:
        device: a GPU is waited for at both ends.
        num_steps: steps that count.

    Attributes:
        seconds: from the end of the last warm-up step to the end of the last one.
    """

    def __init__(self, device: torch.device, num_steps: int) -> None:
        self._device = device
        self._steps, self._last = 0, WARM_UP_STEPS + num_steps

    def __call__(self, loss: Tensor | None) -> None:
        """Count a step."""
        self._steps += 1
        if self._steps == WARM_UP_STEPS:
            self._started = self._now()
        elif self._steps == self._last:
            self.seconds = self._now() - self._started

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


class Round:
    """One trainee's rounds; a contender for `benchmarks.measure.interleaved`.

    Args:
        trainee: who trains.
        setup: what it was given.

    Attributes:
        flops_per_token: operations needed for each real token of the newest round.
    """

    def __init__(self, trainee: Trainee, setup: Setup) -> None:
        self._trainee, self._setup = trainee, setup

    def __call__(self) -> float:
        """Train for a round; returns real tokens per second, source and target."""
        setup = self._setup
        timer = StepTimer(setup.device, setup.experiment.num_steps - WARM_UP_STEPS)
        lengths = np.concatenate(self._trainee.train(timer)[WARM_UP_STEPS:])
        shape = setup.experiment.settings.model
        flops = training_flops(shape, setup.vocab_size, lengths)
        self.flops_per_token = flops / lengths.sum()
        return float(lengths.sum()) / timer.seconds


def utilisation(figures: Figures, rounds: Mapping[str, Round], peak: float) -> dict[str, str]:
    """The share of a device's peak that each contender puts to use, as text.

    Args:
        figures: real tokens/s.
        rounds: the contenders.
        peak: FLOP/s.
    """
    return {
        name: f"{statistics.median(speeds) * rounds[name].flops_per_token / peak:.1%}"
        for name, speeds in figures.items()
    }


def description(setup: Setup) -> str:
    """What was trained on what, in a sentence."""
    settings, lengths = setup.experiment.settings, setup.lengths()[WARM_UP_STEPS:]
    shape = settings.model
    sentences = sum(map(len, lengths)) / len(lengths)
    tokens = sum(int(part.sum()) for part in lengths) / len(lengths)
    return (
        f"{shape.num_layers}+{shape.num_layers} layers, width {shape.d_model}, "
        f"{shape.num_heads} heads, FFN {shape.d_ff}, vocabulary {setup.vocab_size:,}, dropout "
        f"{shape.dropout:g}; {setup.experiment.data.corpus.name}, {sentences:.0f} sentence pairs "
        f"and {tokens:,.0f} real tokens a batch; {len(lengths)} steps a round"
    )


if __name__ == "__main__":
    sys.exit(exit_status(main))
