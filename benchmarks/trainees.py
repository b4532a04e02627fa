"""Who takes part in `train_throughput`: models in training loops, ours and other people's.

All but the stock Trainer are given the very same batches in the same order, the same weights to
begin with, the same loss, optimizer and schedule.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import (
    DataCollatorForSeq2Seq,
    MarianMTModel,
    PrinterCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)

from benchmarks.torch_transformer import TorchTransformer, from_scratch
from huggingface_version import model as huggingface
from huggingface_version.custom_trainer import ExperimentTrainer
from huggingface_version.train import training_arguments
from pytorch_version.model import Transformer
from pytorch_version.state import TrainingState
from pytorch_version.step import autocast, train_step
from utils.batching import LengthBatches, training_loader
from utils.experiment import Experiment
from utils.objective import IGNORED_LABEL, make_optimizer, make_schedule
from utils.tokenizer import PAD_ID

OnStep = Callable[[Tensor | None], None]  # takes the loss, where the loop tells it


class FixedBatches:
    """A batch sampler that gives the same batches every epoch.

    Args:
        batches: indices of the pairs of each.
    """

    def __init__(self, batches: Sequence[list[int]]) -> None:
        self._batches = batches

    @classmethod
    def first(cls, count: int, sampler: LengthBatches) -> "FixedBatches":
        """The ``count`` batches that a run would begin with, over as many epochs as they take."""
        batches: list[list[int]] = []
        epoch = 0
        while len(batches) < count:
            sampler.set_epoch(epoch)
            batches += sampler
            epoch += 1
        return cls(batches[:count])

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        """The batches stay as they are."""

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches)


@dataclasses.dataclass(frozen=True)
class Setup:
    """What all are given.

    Attributes:
        experiment: options and data; its sampler is a `FixedBatches`.
        vocab_size: V of the models, which may be more than the data have tokens.
        weights: to begin with, by the scratch model's names.
        device: where to train.
    """

    experiment: Experiment
    vocab_size: int
    weights: Mapping[str, Tensor]
    device: torch.device

    def lengths(self) -> list[np.ndarray]:
        """Of each batch the tokens of its sentence pairs, source and target, (N, 2)."""
        lengths = self.experiment.data.train.lengths
        return [lengths[indices] for indices in self.experiment.sampler]

    def loader(self) -> DataLoader:
        """The batches."""
        on_gpu = self.device.type == "cuda"
        return training_loader(self.experiment.data.train, self.experiment.sampler, 0, on_gpu)

    def scratch(self, attention: str) -> Transformer:
        """The scratch model."""
        config, longest = self.experiment.settings.model, self.experiment.decoding.max_length
        model = Transformer(config, self.vocab_size, PAD_ID, longest)
        model.load_state_dict(self.weights)
        model.set_attn_implementation(attention)
        return model.to(self.device)

    def marian(self, attention: str) -> MarianMTModel:
        """MarianMT with the same weights."""
        config = dataclasses.replace(self.experiment.settings.model, attention=attention)
        decoding = self.experiment.decoding
        marian = huggingface.build_model(config, self.vocab_size, decoding, self.weights)
        return marian.to(self.device)

    def torch_transformer(self) -> TorchTransformer:
        """PyTorch's Transformer with the same weights."""
        config, longest = self.experiment.settings.model, self.experiment.decoding.max_length
        model = TorchTransformer(config, self.vocab_size, PAD_ID, longest)
        model.load_state_dict(from_scratch(self.weights))
        return model.to(self.device)


class Trainee(Protocol):
    """A model in its training loop."""

    def train(self, on_step: OnStep) -> list[np.ndarray]:
        """Make as many steps as there are batches; goes on with the weights of the call before.

        Returns:
            Of each step the tokens of its sentence pairs, source and target, (N, 2).
        """


class Scratch:
    """Ours: `pytorch_version.step.train_step`.

    Args:
        setup: what all are given.
        attention: "sdpa" or "eager".
        compiled: as with ``--compile``.
    """

    def __init__(self, setup: Setup, attention: str, compiled: bool = False) -> None:
        self._setup = setup
        model = setup.scratch(attention)
        self._state = TrainingState.start(model, setup.experiment.settings.train)
        self._forward = torch.compile(model, dynamic=True) if compiled else model

    def train(self, on_step: OnStep) -> list[np.ndarray]:
        """See `Trainee`."""
        config = self._setup.experiment.settings.train
        for batch in self._setup.loader():
            on_step(train_step(self._state, self._forward, [batch], config)["loss"])
        return self._setup.lengths()


class PlainLoop:
    """The shortest training loop that does the same: PyTorch's loss, no gradient norm, no record.

    Args:
        setup: what all are given.
        model: what is trained.
        logits_of: (model, source ids, decoder inputs) -> logits.
    """

    def __init__(
        self, setup: Setup, model: nn.Module, logits_of: Callable[..., Tensor] = nn.Module.__call__
    ) -> None:
        self._setup, self._model, self._logits_of = setup, model.train(), logits_of
        config = setup.experiment.settings.train
        self._optimizer = make_optimizer(model, config)
        self._schedule = make_schedule(self._optimizer, config)

    def train(self, on_step: OnStep) -> list[np.ndarray]:
        """See `Trainee`."""
        config = self._setup.experiment.settings.train
        for batch in self._setup.loader():
            batch = batch.to(self._setup.device)
            self._optimizer.zero_grad()
            with autocast(self._setup.device, config.precision):
                logits = self._logits_of(self._model, batch.src_ids, batch.decoder_input_ids)
            loss = F.cross_entropy(
                logits.float().flatten(0, 1),
                batch.labels.flatten(),
                ignore_index=IGNORED_LABEL,
                label_smoothing=config.label_smoothing,
            )
            loss.backward()
            self._optimizer.step()
            self._schedule.step()
            on_step(loss.detach())
        return self._setup.lengths()


class ExperimentLoop:
    """MarianMT under our `ExperimentTrainer`, as ``--version huggingface`` trains it.

    Args:
        setup: what all are given.
        attention: "sdpa" or "eager".
    """

    def __init__(self, setup: Setup, attention: str) -> None:
        self._setup, self._marian = setup, setup.marian(attention)

    def train(self, on_step: OnStep) -> list[np.ndarray]:
        """See `Trainee`."""
        experiment = self._setup.experiment
        with tempfile.TemporaryDirectory() as folder:
            arguments = training_arguments(
                experiment,
                Path(folder),
                eval_strategy="no",
                save_strategy="no",
                load_best_model_at_end=False,
                torch_compile=False,
            )
            tokenizer = experiment.data.tokenizer.to_huggingface(experiment.decoding.max_length)
            trainer = ExperimentTrainer(
                self._marian,
                arguments,
                tokenizer,
                experiment,
                on_step=lambda line: on_step(line["loss"]),
            )
            trainer.train()
        return self._setup.lengths()


class StockTrainer:
    """MarianMT under `Seq2SeqTrainer` as it comes.

    Its own loss (MarianMT's, without label smoothing), optimizer (AdamW), schedule and collator;
    its batches are so many sentences drawn at random, as many as ours hold on average.

    Args:
        setup: what all are given.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup, self._marian = setup, setup.marian("sdpa")
        self._pairs = [
            {"input_ids": src, "attention_mask": [1] * len(src), "labels": tgt}
            for src, tgt in setup.experiment.data.train
        ]
        sizes = [len(batch) for batch in setup.experiment.sampler]
        self._batch_size = round(sum(sizes) / len(sizes))

    def train(self, on_step: OnStep) -> list[np.ndarray]:
        """See `Trainee`."""
        experiment = self._setup.experiment
        tokenizer = experiment.data.tokenizer.to_huggingface(experiment.decoding.max_length)
        collate = DataCollatorForSeq2Seq(tokenizer, model=self._marian)
        lengths: list[np.ndarray] = []

        def noting_lengths(examples: Sequence[Mapping[str, list[int]]]) -> Any:
            lengths.append(np.array([(len(e["input_ids"]), len(e["labels"])) for e in examples]))
            return collate(examples)

        with tempfile.TemporaryDirectory() as folder:
            arguments = Seq2SeqTrainingArguments(
                output_dir=folder,
                max_steps=len(experiment.sampler),
                per_device_train_batch_size=self._batch_size,
                bf16=experiment.settings.train.precision == "bf16",
                use_cpu=self._setup.device.type == "cpu",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                log_level="error",
            )
            _ = arguments.device
            arguments._n_gpu = min(arguments.n_gpu, 1)  # as `training_arguments` does
            trainer = Seq2SeqTrainer(
                self._marian,
                arguments,
                data_collator=noting_lengths,
                train_dataset=self._pairs,
                processing_class=tokenizer,
                callbacks=[_AfterStep(on_step)],
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        return lengths[: len(experiment.sampler)]  # the loader is a batch ahead

    def loss(self, src_ids: Tensor, labels: Tensor) -> Tensor:
        """The loss that it minimises, of source ids (B, S) and labels (B, T), without dropout."""
        allowed = (src_ids != PAD_ID).long()
        marian = self._marian.eval()
        with torch.no_grad():
            return marian(input_ids=src_ids, attention_mask=allowed, labels=labels).loss


class _AfterStep(TrainerCallback):
    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step

    def on_step_end(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        self._on_step(None)
