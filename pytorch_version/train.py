"""Training the scratch Transformer (section 5): the loop around its steps, a whole run."""

import contextlib
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pytorch_version.generate import translate
from pytorch_version.model import Transformer, inside
from pytorch_version.saved import build_model
from pytorch_version.state import TrainingState
from pytorch_version.step import autocast, train_step
from utils import checkpoint, collectives, distributed, evaluation
from utils.batching import TokenizedPairs, training_loader
from utils.blocks import blocks_of
from utils.config import Settings
from utils.data import PreparedData, prepare
from utils.environment import reset_peak_memory, select_device
from utils.experiment import Experiment
from utils.interrupt import SignalWatch, interrupted
from utils.memory import out_of_memory_explained
from utils.operations import Variant
from utils.progress import Stopwatch
from utils.recorder import Recorder
from utils.results import ResultsFolder, check_writable, log
from utils.subject import Subject
from utils.tracking import Tracker

# What writes a finished run's best model in another form: (checkpoint, results folder).
Export = Callable[[Path, Path], None]


class Run:
    """One training run, from data to summary; of several processes, the main one writes it.

    Args:
        experiment: options, data and batches.
        export: called with the best checkpoint and the results folder, before the summary.
        resumed: the checkpoint to go on from, if any.

    Raises:
        UserError: the device cannot be used, or the checkpoint is of other data.
    """

    def __init__(
        self, experiment: Experiment, export: Export, resumed: dict[str, Any] | None = None
    ) -> None:
        self.experiment, self.resumed = experiment, resumed
        self.settings, self.data = experiment.settings, experiment.data
        self.config, self.num_steps = experiment.settings.train, experiment.num_steps
        self.sampler, self.decoding = experiment.sampler, experiment.decoding
        self.export = export
        self.folder = ResultsFolder.of(self.settings.run.output_dir, "pytorch")
        # Only one process writes, and looks inside.
        self.recorder: Recorder | None = None
        self.tracker: Tracker | None = None
        device = select_device(self.settings.run.device)
        self.state = TrainingState.start(initial_model(experiment).to(device), self.config)
        if distributed.rank():  # the same weights, but not the same dropout
            torch.manual_seed(self.settings.run.seed + distributed.rank())
        if resumed is not None:
            self._take_up(resumed)

    def execute(self) -> None:
        """Train, evaluate and write the results folder.

        Raises:
            Interrupted: a signal came; the state was saved.
            RunFailed: training diverged.
        """
        reset_peak_memory(self.state.model.device)
        if distributed.is_main():
            self._open_folder()
        with out_of_memory_explained(self.settings, self.folder.checkpoints):
            with SignalWatch(collectives.largest) as watch:
                self._train(watch)
            if self.config.average_checkpoints:
                self._average()
            self._finish()
        collectives.wait_for_all()

    def _open_folder(self) -> None:
        output_dir, model = Path(self.settings.run.output_dir), self.state.model
        self.folder = ResultsFolder.create(output_dir, "pytorch", keep=self.resumed is not None)
        self.folder.checkpoints.mkdir(exist_ok=True)
        self.folder.drop_metrics_after(self.state.progress.step)
        self.recorder = Recorder(self.folder, self.settings, self.data, "pytorch", self.num_steps)
        self.tracker = self.experiment.tracker(inside(model), self.recorder.probed)
        if self.resumed:
            self.tracker.load_state_dict(self.resumed["tracking"])
            self._drop_old_checkpoints()
            # The newest state may be an epoch's, where last.pt is damaged or was not yet written.
            checkpoint.save(self.folder.checkpoints / "last.pt", self.resumed)
        self.recorder.announce(model, model.device)
        if self.resumed:
            log.info(f"Going on after step {self.state.progress.step:,}")

    def is_finished(self) -> bool:
        """Whether all steps planned have been made, or training has stopped early."""
        progress = self.state.progress
        return (
            progress.step >= self.num_steps
            or progress.epoch >= self.config.epochs
            or self._is_out_of_patience()
        )

    def _is_out_of_patience(self) -> bool:
        patience = self.config.patience
        return bool(patience) and self.state.progress.evaluations_since_best >= patience

    def _train(self, watch: SignalWatch) -> None:
        """The loop over epochs and optimizer steps."""
        progress, config, model = self.state.progress, self.config, self.state.model
        forward = torch.compile(model, dynamic=True) if config.compile else model
        forward = collectives.data_parallel(forward)
        loader = training_loader(
            self.data.train,
            self.sampler,
            self.settings.data.num_workers,
            pin_memory=model.device.type == "cuda",
        )
        with self._progress_bar() as bar:
            self._probe_before_training()
            while not self.is_finished():
                self.sampler.set_epoch(progress.epoch, skip=progress.batches)
                batches_in_epoch = progress.batches + len(self.sampler)
                with Stopwatch(progress) as stopwatch:
                    # The batches of one optimizer step; at the end of an epoch perhaps fewer.
                    for batches in blocks_of(loader, config.gradient_accumulation_steps):
                        self._before_step()
                        line = train_step(self.state, forward, batches, config)
                        self._after_step(line, stopwatch, bar)
                        if watch.check() or progress.step >= self.num_steps:
                            break
                        # An epoch's end is saved after its evaluation, never before.
                        is_due = progress.step % checkpoint.SAVE_EVERY == 0
                        if is_due and progress.batches < batches_in_epoch:
                            stopwatch.update()
                            self._save("last.pt", with_training=True)
                epoch_is_over = progress.batches == batches_in_epoch
                if epoch_is_over or progress.step >= self.num_steps:
                    self._end_epoch(epoch_is_over)
                if watch.check():
                    self._save("last.pt", with_training=True)
                    raise interrupted(watch.signum, self.settings, progress.step)
                if self._is_out_of_patience():
                    log.info(f"No better NLL in {config.patience} evaluations: stopping early")

    def _progress_bar(self) -> contextlib.AbstractContextManager:
        """A bar in the one process that prints; in others something that is none."""
        if self.recorder is None:
            return contextlib.nullcontext()
        return self.recorder.progress_bar(self.state.progress.step)

    def _probe_before_training(self) -> None:
        if self.tracker and self.state.progress.step == 0:
            with Stopwatch(self.state.progress):
                self.tracker.after_step(self.state.model, 0, epoch=1)

    def _before_step(self) -> None:
        if self.tracker:
            self.tracker.before_step(self.state.model, self.state.progress.step + 1)

    def _after_step(self, line: dict[str, Any], stopwatch: Stopwatch, bar: Any) -> None:
        """Record a step, and look inside the model if it is time to."""
        if self.recorder is None:
            return
        if newest := self.recorder.step(line):
            bar.set_postfix_str(self.recorder.bar_text(newest, stopwatch.tokens_per_sec()))
        bar.update()
        self.tracker.after_step(self.state.model, line["step"], line["epoch"])

    def _end_epoch(self, is_over: bool) -> None:
        """Evaluate and save; count the epoch if all its batches were used."""
        progress = self.state.progress
        number = progress.epoch + 1
        if self.recorder:
            self.recorder.flush_steps()
        scores, translations = self._score_tokens(self.data.eval), self._translate()
        if self.recorder:
            self.recorder.evaluated(progress.step, number, scores, translations)
        progress.evaluations_since_best += 1
        if is_best := scores["nll"] < progress.best_nll:
            progress.best_nll, progress.evaluations_since_best = scores["nll"], 0
        if is_over:
            progress.epoch, progress.batches = number, 0
        if is_best:
            self._save("best_model.pt")
        self._save(f"checkpoint_epoch_{number}.pt", with_training=True)
        self._save("last.pt", with_training=True)
        self._drop_old_checkpoints()

    def _drop_old_checkpoints(self) -> None:
        if self.recorder:
            keep = max(self.config.keep_checkpoints, self.config.average_checkpoints)
            checkpoint.drop_old(self.folder.checkpoints, keep)

    def _score_tokens(self, pairs: TokenizedPairs) -> dict[str, float]:
        """Evaluate under teacher forcing, in the precision of the training."""
        model = self.state.model.eval()

        def logits_of(src_ids: Tensor, tgt_ids: Tensor) -> Tensor:
            with autocast(model.device, self.config.precision):
                return model(src_ids, tgt_ids)

        return evaluation.score_tokens(logits_of, pairs, model.device)

    def _translate(self) -> evaluation.Translations:
        """Translate the evaluation sentences, as the options say."""
        model = self.state.model.eval()
        translator = partial(translate, model, self.data.tokenizer, decoding=self.decoding)
        return evaluation.score_translations(translator, self.data.eval)

    def _average(self) -> None:
        """Average the weights of the last epochs; keep the result if it is the best model."""
        count = self.config.average_checkpoints

        def mean_of_the_last() -> tuple[dict[str, Tensor], int]:
            files = checkpoint.by_epoch(self.folder.checkpoints)[-count:]
            return checkpoint.mean(checkpoint.load(file)["model"] for file in files), len(files)

        weights, num_epochs = collectives.from_main(mean_of_the_last)
        self.state.model.load_state_dict(weights)
        nll = self._score_tokens(self.data.eval)["nll"]
        better = nll < self.state.progress.best_nll
        verdict = "the new best model" if better else "no better than the best epoch"
        log.info(f"Average of the last {num_epochs} epochs: NLL {nll:.4f}, {verdict}")
        if better:
            self.state.progress.best_nll = nll
            self._save("best_model.pt")

    def _finish(self) -> None:
        """Evaluate the best model and write the summary."""
        model, best_file = self.state.model, self.folder.checkpoints / "best_model.pt"
        best = collectives.from_main(lambda: checkpoint.load(best_file))
        model.load_state_dict(best["model"])
        translations = self._translate()
        metrics = evaluation.final_metrics(
            train=self._score_tokens(self.data.train_sample),
            evaluated=self._score_tokens(self.data.eval),
            translations=translations,
        )
        if self.recorder is None:
            return
        self.export(best_file, self.folder.path)
        self.recorder.finish(
            self.state.progress,
            best["step"],
            metrics,
            translations,
            Subject(
                name=str(best_file),
                model=model.eval(),
                inside=inside(model),
                variant=Variant(),
                vocabulary=self.data.tokenizer,
                step=best["step"],
            ),
            self.tracker,
        )

    def _save(self, name: str, with_training: bool = False) -> None:
        """Write a checkpoint that needs nothing else to be used, or to be trained on."""
        training = self.state.state_dict() if with_training else None
        if self.recorder is None:
            return
        self.recorder.flush_steps()
        content = {
            "version": "pytorch",
            "config": self.settings.flat(),
            "model": self.state.model.state_dict(),
            "tokenizer": self.data.tokenizer.to_json(),
            "fingerprint": self.data.corpus.fingerprint(),
            "step": self.state.progress.step,
            "best_nll": self.state.progress.best_nll,
        }
        if with_training:
            content["training"] = training
            content["tracking"] = self.tracker.state_dict()
        checkpoint.save(self.folder.checkpoints / name, content)

    def _take_up(self, saved: dict[str, Any]) -> None:
        """Go on from a checkpoint with training state."""
        self.experiment.require_same_data(saved["fingerprint"])
        self.state.model.load_state_dict(saved["model"])
        self.state.load_state_dict(saved["training"])


def run(settings: Settings, export: Export, data: PreparedData | None = None) -> None:
    """Train the scratch Transformer as ``--version pytorch`` does.

    Args:
        settings: all options.
        export: see `Run`.
        data: prepared by the same settings; None prepares it here.

    Raises:
        UserError: the user's input is wrong.
        Interrupted: a signal came; the state was saved.
        RunFailed: training diverged.
    """
    resumed = None
    folder = ResultsFolder.of(settings.run.output_dir, "pytorch")
    if settings.run.resume:
        resumed = collectives.from_main(lambda: checkpoint.newest_intact(folder.checkpoints))
        if resumed is None:
            log.warning(f"--resume: nothing to go on from in {folder.path}; starting anew")
        else:
            settings = settings.resumed_from(resumed["config"])
    select_device(settings.run.device)
    check_writable(Path(settings.run.output_dir))
    data = data or prepare(settings.data, settings.run.seed)
    experiment = Experiment.plan(settings, data, distributed.rank(), distributed.world_size())
    this_run = Run(experiment, export, resumed)
    is_complete = resumed and this_run.is_finished()
    if is_complete and collectives.from_main(folder.has_summary):
        log.warning(
            f"--resume: this run is finished ({resumed['step']:,} steps); "
            "a larger --epochs or --max_steps would go on"
        )
        return
    this_run.execute()


def initial_model(experiment: Experiment) -> Transformer:
    """The untrained model of an experiment; seeds torch's random numbers."""
    settings = experiment.settings
    torch.manual_seed(settings.run.seed)
    return build_model(settings.model, experiment.data.tokenizer, settings.data.max_length)


def short_run(
    experiment: Experiment, num_steps: int, dtype: torch.dtype, attention: str
) -> tuple[list[float], Transformer]:
    """Train from the initial weights for a few steps, and write nothing.

    Args:
        experiment: options, data and batches.
        num_steps: optimizer steps.
        dtype: of the weights and all arithmetic.
        attention: "sdpa" or "eager".

    Returns:
        The loss of each step, and the model after the last.
    """
    settings, sampler = experiment.settings, experiment.sampler
    model = initial_model(experiment).to(select_device(settings.run.device), dtype)
    model.set_attn_implementation(attention)
    state = TrainingState.start(model, settings.train)
    loader = training_loader(experiment.data.train, sampler, num_workers=0, pin_memory=False)
    losses: list[float] = []
    while len(losses) < num_steps:
        sampler.set_epoch(state.progress.epoch)
        steps = blocks_of(loader, settings.train.gradient_accumulation_steps)
        for batches in islice(steps, num_steps - len(losses)):
            losses.append(train_step(state, model, batches, settings.train)["loss"].item())
        state.progress.epoch += 1
    return losses, model
