"""Seq2SeqTrainer, changed only where the experiment needs it.

Ours are the loss, the batches, the evaluation and the record of every step. Optimizer and schedule
are handed to the Trainer. Mixed precision, gradient accumulation and clipping, several processes,
checkpoints and resuming are its own.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import (
    MarianMTModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)

from huggingface_version import checkpoints
from huggingface_version.model import logits_of
from utils import collectives
from utils.batching import collate, training_loader
from utils.experiment import Experiment
from utils.objective import (
    IGNORED_LABEL,
    make_optimizer,
    make_schedule,
    skip_if_not_finite,
    smoothed_loss_sum,
)

OnStep = Callable[[dict[str, Any]], None]  # takes a step's line for ``metrics.jsonl``
Evaluate = Callable[[int, int], dict[str, float]]  # (step, epoch) -> metrics


def collate_inputs(examples: Sequence[tuple[list[int], list[int]]]) -> dict[str, Any]:
    """The batch of `utils.batching.collate` as a dictionary, which the Trainer wants.

    The padding mask is left to the model; the number of real tokens is carried along.
    """
    batch = collate(examples)
    return {
        "input_ids": batch.src_ids,
        "decoder_input_ids": batch.decoder_input_ids,
        "labels": batch.labels,
        "num_tokens": batch.num_tokens,
    }


class ExperimentTrainer(Seq2SeqTrainer):
    """Trains MarianMT as the scratch model is trained.

    Args:
        model: on its device.
        arguments: the Trainer's own options; ``logging_steps`` 1.
        tokenizer: saved beside the model.
        experiment: data, batches and objective.
        on_step: takes each step's line for ``metrics.jsonl``.
        evaluate: evaluates the model; returns metrics with ``eval_nll`` among them. None where the
            arguments ask for no evaluation.
        callbacks: the caller's.
    """

    # Our loss is divided by the tokens of all accumulated batches, so not again by their number.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: MarianMTModel,
        arguments: Seq2SeqTrainingArguments,
        tokenizer: PreTrainedTokenizerBase,
        experiment: Experiment,
        on_step: OnStep,
        evaluate: Evaluate | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        config = experiment.settings.train
        optimizer = make_optimizer(model, config)
        super().__init__(
            model=model,
            args=arguments,
            processing_class=tokenizer,
            train_dataset=experiment.data.train,
            eval_dataset=experiment.data.eval,
            optimizers=(optimizer, make_schedule(optimizer, config)),
            callbacks=[
                BatchOrder(experiment.sampler.set_epoch),
                FiniteSteps(optimizer),
                *callbacks,
            ],
        )
        self.remove_callback(PrinterCallback)
        # So that the Trainer counts the target tokens of a step, over all processes.
        self.model_accepts_loss_kwargs = True
        self._experiment = experiment
        self._on_step, self._evaluate_model = on_step, evaluate
        self._start_sums()

    def get_train_dataloader(self) -> DataLoader:
        """The batches of the scratch side, in its order.

        They are already shared among the processes, so the loader is not handed to accelerate,
        which would share them once more.
        """
        return training_loader(
            self._experiment.data.train,
            self._experiment.sampler,
            self.args.dataloader_num_workers,
            self.args.device.type == "cuda",
            collate_inputs,
        )

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Label-smoothed cross-entropy over the target tokens of one optimizer step.

        Args:
            model: MarianMT, wrapped if several processes train.
            inputs: as `collate_inputs` gives them, on the device.
            return_outputs: whether the logits are wanted too.
            num_items_in_batch: target tokens of the step, over all its batches and processes.

        Returns:
            This batch's share of the mean loss, and with ``return_outputs`` the logits.
        """
        labels = inputs["labels"]
        logits = logits_of(model, inputs["input_ids"], inputs["decoder_input_ids"])
        loss_sum = smoothed_loss_sum(
            logits, labels, self._experiment.settings.train.label_smoothing
        )
        if num_items_in_batch is None:
            num_items_in_batch = (labels != IGNORED_LABEL).sum()
        self._loss_sum = self._loss_sum + loss_sum.detach()
        self._num_tokens += inputs["num_tokens"]
        self._num_items = num_items_in_batch
        self._rate = self.lr_scheduler.get_last_lr()[0]
        # Several processes' gradients are averaged; times their number it is the sum again.
        loss = loss_sum / num_items_in_batch * self.accelerator.num_processes
        return (loss, {"logits": logits}) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Hand each step's line on; the Trainer would log a loss summed in float32."""
        if "grad_norm" not in logs:
            return  # the Trainer's summary of the whole training; ours is summary.json
        loss_sum, num_tokens = self._loss_sum, torch.tensor(self._num_tokens)
        if self.accelerator.num_processes > 1:
            loss_sum = self.accelerator.reduce(loss_sum, "sum")
            num_tokens = self.accelerator.reduce(num_tokens.to(loss_sum.device), "sum")
        self._on_step(
            {
                "kind": "train",
                "step": self.state.global_step,
                "epoch": epoch_number(self.state.epoch),
                "loss": loss_sum / self._num_items,
                "lr": self._rate,
                "grad_norm": torch.as_tensor(logs["grad_norm"]).to(loss_sum),
                "tokens": int(num_tokens),
            }
        )
        self._start_sums()

    def evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
        """Evaluate as the scratch side does; draws no random number, so dropout goes on as if not.

        The Trainer's own evaluation would use the model's loss, which is another one.
        """
        metrics = self._evaluate_model(self.state.global_step, epoch_number(self.state.epoch))
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _save_checkpoint(self, *args: Any, **options: Any) -> None:
        """Write a checkpoint folder as the Trainer does; nothing of it is left if that fails.

        Raises:
            WriteError: the disk is full or cannot be written.
        """
        folder = checkpoints.folder_of(Path(self.args.output_dir), self.state.global_step)
        with checkpoints.being_written(folder):
            super()._save_checkpoint(*args, **options)
        collectives.wait_for_all()  # each process adds its random numbers

    def _start_sums(self) -> None:
        """Begin to sum over the batches of one optimizer step."""
        self._loss_sum: Tensor | float = 0.0
        self._num_tokens = 0


class BatchOrder(TrainerCallback):
    """Plans the batches of each epoch; the Trainer does so only for loaders of its own kind.

    Args:
        set_epoch: takes the epoch about to begin, from 0.
    """

    def __init__(self, set_epoch: Callable[[int], None]) -> None:
        self._set_epoch = set_epoch

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        """Called by the Trainer."""
        self._set_epoch(int(state.epoch or 0))


class FiniteSteps(TrainerCallback):
    """Skips a step whose gradient is not finite; the Trainer would spoil the weights with it.

    Args:
        optimizer: made by `utils.objective.make_optimizer`.
    """

    def __init__(self, optimizer: torch.optim.Adam) -> None:
        self._optimizer = optimizer

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        """Called by the Trainer, which keeps the norm of the gradient to itself."""
        parameters = (p for group in self._optimizer.param_groups for p in group["params"])
        grads = [p.grad for p in parameters if p.grad is not None]
        skip_if_not_finite(self._optimizer, nn.utils.get_total_norm(grads))


def epoch_number(epoch: float) -> int:
    """The epoch under way, from 1, of the Trainer's fraction: 1 until 1.0 is reached."""
    return math.ceil(epoch)
