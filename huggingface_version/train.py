"""Training MarianMT with the Trainer: the same experiment as the scratch side, the same results."""

import math
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from torch import Tensor
from transformers import MarianMTModel, Seq2SeqTrainingArguments
from transformers.utils import WEIGHTS_NAME

from huggingface_version import checkpoints, model
from huggingface_version.custom_trainer import ExperimentTrainer
from huggingface_version.follower import Follower, Patience, is_out_of_patience
from huggingface_version.generate import generation_config, translate
from utils import checkpoint, collectives, disk, distributed, evaluation
from utils.batching import TokenizedPairs
from utils.config import Settings, UserError
from utils.data import PreparedData, prepare
from utils.environment import reset_peak_memory, select_device
from utils.experiment import Experiment
from utils.interrupt import SignalWatch, interrupted
from utils.memory import out_of_memory_explained
from utils.progress import Progress
from utils.recorder import Recorder
from utils.results import ResultsFolder, check_writable, log
from utils.subject import Subject
from utils.tracking import Tracker

# Makes the weights to begin with, by the scratch model's names.
InitialWeights = Callable[[Experiment], Mapping[str, Tensor]]


class Run:
    """One training run, from data to summary; of several processes, the main one writes it.

    Several machines need one folder that all of them see, as the Trainer does.

    Args:
        experiment: options, data and batches.
        initial_weights: so that both versions begin with the same.
        resumed: the checkpoint to go on from, if any.

    Raises:
        UserError: the checkpoint is of other data.
    """

    def __init__(
        self,
        experiment: Experiment,
        initial_weights: InitialWeights,
        resumed: checkpoints.Saved | None = None,
    ) -> None:
        self.experiment, self.resumed = experiment, resumed
        self.settings, self.data = experiment.settings, experiment.data
        self.progress = resumed.progress if resumed else Progress()
        if resumed:
            experiment.require_same_data(resumed.fingerprint)
        self.folder = ResultsFolder.of(self.settings.run.output_dir, "huggingface")
        self.arguments = training_arguments(experiment, self.folder.checkpoints)
        self.marian = model.build_model(
            self.settings.model,
            self.data.tokenizer.vocab_size,
            experiment.decoding,
            initial_weights(experiment),
        ).to(self.arguments.device)
        # Only one process writes, and looks inside.
        self.recorder: Recorder | None = None
        self.tracker: Tracker | None = None

    def is_finished(self) -> bool:
        """Whether all steps planned have been made, or training has stopped early."""
        patience = self.settings.train.patience
        evaluations = [r for r in self._evaluations() if r["step"] <= self.progress.step]
        return self.progress.step >= self.experiment.num_steps or is_out_of_patience(
            patience, [record["nll"] for record in evaluations]
        )

    def execute(self) -> None:
        """Train, evaluate and write the results folder.

        Raises:
            Interrupted: a signal came; the state was saved.
            RunFailed: training diverged.
        """
        reset_peak_memory(self.arguments.device)
        if distributed.is_main():
            self._open_folder()
        collectives.wait_for_all()
        with out_of_memory_explained(self.settings, self.folder.checkpoints):
            with SignalWatch(collectives.largest) as watch:
                trainer = self._train(watch)
            if self.settings.train.average_checkpoints:
                self._average()
            self._finish(trainer)
        collectives.wait_for_all()

    def _open_folder(self) -> None:
        output_dir = Path(self.settings.run.output_dir)
        keep = self.resumed is not None
        self.folder = ResultsFolder.create(output_dir, "huggingface", keep)
        self.folder.drop_metrics_after(self.progress.step)
        self.recorder = Recorder(
            self.folder, self.settings, self.data, "huggingface", self.experiment.num_steps
        )
        self.tracker = self.experiment.tracker(model.inside(self.marian), self.recorder.probed)
        if self.resumed:
            self.tracker.load_state_dict(self.resumed.tracking)
            checkpoints.drop_unfinished(self.folder.checkpoints)
            self._drop_old_checkpoints(self.resumed.folder)
        self.recorder.announce(self.marian, self.arguments.device)
        if self.resumed:
            log.info(f"Going on after step {self.progress.step:,}")

    def _train(self, watch: SignalWatch) -> ExperimentTrainer:
        """Train; afterwards the model has its best weights."""
        config = self.settings.train
        follower = Follower(
            self.recorder,
            self.progress,
            self.experiment.num_steps,
            watch,
            self._complete,
            self.marian,
            self.tracker,
        )
        nlls = [record["nll"] for record in self._evaluations()]
        trainer = ExperimentTrainer(
            self.marian,
            self.arguments,
            self.data.tokenizer.to_huggingface(self.settings.data.max_length),
            self.experiment,
            on_step=follower.step,
            evaluate=self._evaluate,
            callbacks=[follower, Patience(config.patience, nlls)],
        )
        if not self.is_finished():
            with follower:
                trainer.train(resume_from_checkpoint=self.resumed and str(self.resumed.folder))
        elif best := self._best_checkpoint():
            model.load_weights(self.marian, checkpoints.weights(best))
        if watch.signum:
            raise interrupted(watch.signum, self.settings, self.progress.step)
        return trainer

    def _complete(self, folder: Path) -> None:
        """Add to a checkpoint folder of the Trainer what `run` needs to go on from it."""
        fingerprint = self.data.corpus.fingerprint()
        checkpoints.complete(
            folder,
            self.settings.flat(),
            fingerprint,
            self.progress,
            self.tracker.state_dict(),
        )
        self._drop_old_checkpoints(folder)

    def _drop_old_checkpoints(self, last: Path) -> None:
        """Keep the newest epochs, the best one, and the folder that was written last.

        The Trainer would drop some before that one is whole, and would count the best, and states
        that an interruption saved, as if they were the newest epochs.
        """
        config = self.settings.train
        keep = max(config.keep_checkpoints, config.average_checkpoints)
        newest = self._epoch_checkpoints()[-keep:]
        checkpoints.drop_all_but(self.folder.checkpoints, {last, self._best_checkpoint(), *newest})

    def _evaluate(self, step: int, epoch: int) -> dict[str, float]:
        """Evaluate; every process gets the metrics."""
        if self.recorder:
            self.recorder.flush_steps()
        scores, translations = self._score_tokens(self.data.eval), self._translate()
        if self.recorder:
            self.recorder.evaluated(step, epoch, scores, translations)
        return {f"eval_{name}": score for name, score in scores.items()}

    def _score_tokens(self, pairs: TokenizedPairs) -> dict[str, float]:
        logits_of = partial(model.logits_of, self.marian.eval())
        return evaluation.score_tokens(logits_of, pairs, self.marian.device)

    def _translate(self) -> evaluation.Translations:
        translator = partial(translate, self.marian.eval(), self.data.tokenizer)
        return evaluation.score_translations(translator, self.data.eval)

    def _evaluations(self) -> list[dict[str, Any]]:
        return self.folder.read_metrics("eval")

    def _epoch_checkpoints(self) -> list[Path]:
        """The checkpoints that were evaluated, by step."""
        steps = {record["step"] for record in self._evaluations()}
        folders = checkpoints.by_step(self.folder.checkpoints)
        return [folder for folder in folders if checkpoints.step_of(folder) in steps]

    def _best_checkpoint(self) -> Path | None:
        """The checkpoint with the lowest evaluation NLL that is still there."""
        nlls = {record["step"]: record["nll"] for record in self._evaluations()}
        folders = self._epoch_checkpoints()
        return min(folders, key=lambda f: nlls[checkpoints.step_of(f)], default=None)

    def _average(self) -> None:
        """Average the weights of the last epochs; keep the result if it is the best model."""
        folders = self._epoch_checkpoints()[-self.settings.train.average_checkpoints :]
        best = {name: weight.clone() for name, weight in self.marian.state_dict().items()}
        best_nll = self._score_tokens(self.data.eval)["nll"]
        model.load_weights(self.marian, checkpoint.mean(map(checkpoints.weights, folders)))
        nll = self._score_tokens(self.data.eval)["nll"]
        better = nll < best_nll
        verdict = "the new best model" if better else "no better than the best epoch"
        if not better:
            self.marian.load_state_dict(best)
        log.info(f"Average of the last {len(folders)} epochs: NLL {nll:.4f}, {verdict}")

    def _finish(self, trainer: ExperimentTrainer) -> None:
        """Save the best model, and evaluate what was saved."""
        # The Trainer of transformers before 5.20 writes its ids anew, in another form.
        self.marian.generation_config = generation_config(self.experiment.decoding)
        if self.recorder:
            with disk.filling(self.folder.path) as new:
                trainer.save_model(str(new))
                # transformers 5 writes safetensors alone; others still look for this file.
                torch.save(checkpoints.weights(new), new / WEIGHTS_NAME)
        collectives.wait_for_all()
        # The saved folder is what users load, so it is what the results speak of.
        self.marian = model.load(self.folder.path, self.arguments.device)
        translations = self._translate()
        metrics = evaluation.final_metrics(
            train=self._score_tokens(self.data.train_sample),
            evaluated=self._score_tokens(self.data.eval),
            translations=translations,
        )
        if self.recorder is None:
            return
        best_step = min(self._evaluations(), key=lambda record: record["nll"])["step"]
        self.recorder.finish(
            self.progress,
            best_step,
            metrics,
            translations,
            Subject(
                name=str(self.folder.path),
                model=self.marian,
                inside=model.inside(self.marian),
                variant=model.variant(self.marian.config),
                vocabulary=self.data.tokenizer,
                step=best_step,
            ),
            self.tracker,
        )


def training_arguments(
    experiment: Experiment, folder: Path, **changes: Any
) -> Seq2SeqTrainingArguments:
    """The Trainer's own options.

    Args:
        experiment: options and steps planned.
        folder: where ``checkpoint-N`` go.
        **changes: what is to be different.
    """
    settings, config = experiment.settings, experiment.settings.train
    options: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": experiment.num_steps,
        "per_device_train_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "learning_rate": config.learning_rate,
        "max_grad_norm": config.max_grad_norm or math.inf,  # infinite: measured, never clipped
        "bf16": config.precision == "bf16",
        "fp16": config.precision == "fp16",
        "torch_compile": config.compile,
        "use_cpu": select_device(settings.run.device).type == "cpu",
        "seed": settings.run.seed,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "load_best_model_at_end": True,
        "metric_for_best_model": "nll",
        "greater_is_better": False,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # a loss that is not finite must be seen
        "log_level_replica": "error",
        "log_level": "error",  # the Trainer warns of what is meant to be: tied weights, say
        "report_to": "none",
        "disable_tqdm": True,  # the recorder's bar is shown instead
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "dataloader_num_workers": settings.data.num_workers,
        "use_cache": True,  # of the saved model: decoding keeps keys and values
        "ddp_find_unused_parameters": False,
    }
    arguments = Seq2SeqTrainingArguments(**options | changes)
    # Several GPUs in one process would be one batch torn apart; torchrun gives each a process.
    _ = arguments.device
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def short_run(
    experiment: Experiment, weights: Mapping[str, Tensor], num_steps: int, dtype: torch.dtype
) -> tuple[list[float], MarianMTModel]:
    """Train for a few steps with the Trainer, and keep nothing on disk.

    Args:
        experiment: options, data and batches.
        weights: to begin with, by the scratch model's names.
        num_steps: optimizer steps.
        dtype: of the weights and all arithmetic.

    Returns:
        The loss of each step, and the model after the last.
    """
    settings, lines = experiment.settings, []
    with tempfile.TemporaryDirectory() as folder:
        arguments = training_arguments(
            experiment,
            Path(folder),
            max_steps=num_steps,
            eval_strategy="no",
            save_strategy="no",
            load_best_model_at_end=False,
            dataloader_num_workers=0,
        )
        vocab_size = experiment.data.tokenizer.vocab_size
        marian = model.build_model(settings.model, vocab_size, experiment.decoding, weights)
        trainer = ExperimentTrainer(
            marian.to(arguments.device, dtype),
            arguments,
            experiment.data.tokenizer.to_huggingface(settings.data.max_length),
            experiment,
            on_step=lines.append,
        )
        trainer.train()
    return [line["loss"].item() for line in lines], marian


def run(
    settings: Settings, initial_weights: InitialWeights, data: PreparedData | None = None
) -> None:
    """Train MarianMT as ``--version huggingface`` does.

    Args:
        settings: all options.
        initial_weights: see `Run`.
        data: prepared by the same settings; None prepares it here.

    Raises:
        UserError: the user's input is wrong.
        Interrupted: a signal came; the state was saved.
        RunFailed: training diverged.
    """
    resumed = None
    folder = ResultsFolder.of(settings.run.output_dir, "huggingface")
    if settings.run.resume:
        resumed = checkpoints.newest_intact(folder.checkpoints)
        if resumed is None:
            log.warning(f"--resume: nothing to go on from in {folder.path}; starting anew")
        else:
            settings = settings.resumed_from(resumed.config)
            distributed.require_as_many(resumed.world_size)
    require_supported(settings)
    model.silence_progress_bars()
    check_writable(Path(settings.run.output_dir))
    data = data or prepare(settings.data, settings.run.seed)
    experiment = Experiment.plan(settings, data, distributed.rank(), distributed.world_size())
    this_run = Run(experiment, initial_weights, resumed)
    if resumed and this_run.is_finished() and folder.has_summary():
        log.warning(
            f"--resume: this run is finished ({resumed.progress.step:,} steps); "
            "a larger --epochs or --max_steps would go on"
        )
        return
    this_run.execute()


def forget_processes() -> None:
    """After several processes trained: let the next Trainer of this one train alone.

    accelerate keeps what it once found in the environment.
    """
    AcceleratorState._reset_state(reset_partial_state=True)


def require_supported(settings: Settings) -> None:
    """Refuse what MarianMT and its Trainer cannot do, before any long work.

    Raises:
        UserError: an option or the device.
    """
    device = select_device(settings.run.device)
    model.require_post_norm(settings.model)
    if settings.train.precision == "fp16" and device.type == "cpu":
        raise UserError("--precision fp16: the Trainer needs a GPU for it; use bf16 or fp32")
