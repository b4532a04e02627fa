"""Training the scratch Transformer (section 5): one step, the loop around it, a whole run."""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pytorch_version.generate import translate
from pytorch_version.model import Transformer, inside
from pytorch_version.saved import build_model
from pytorch_version.state import TrainingState
from utils import checkpoint, evaluation
from utils.batching import Batch, TokenizedPairs, training_loader
from utils.config import Settings, TrainConfig, UserError
from utils.data import PreparedData, prepare
from utils.environment import reset_peak_memory, select_device
from utils.experiment import Experiment
from utils.interrupt import SignalWatch, interrupted
from utils.objective import smoothed_loss_sum
from utils.operations import Variant
from utils.progress import Stopwatch
from utils.recorder import Recorder
from utils.results import ResultsFolder, check_writable, log
from utils.subject import Subject

SAVE_EVERY = 500  # steps between two writes of last.pt within an epoch


def train_step(
    state: TrainingState, forward: nn.Module, batches: list[Batch], config: TrainConfig
) -> dict[str, Any]:
    """Make one optimizer step on the mean loss over all target tokens of ``batches``.

    Args:
        state: changed in place.
        forward: the model of ``state``, or its compiled form.
        batches: one, or several whose gradients are accumulated; every token weighs the same.
        config: training options.

    Returns:
        The step's line for ``metrics.jsonl``. ``loss`` and ``grad_norm`` are still tensors, so
        that a GPU need not be waited for.
    """
    device, progress = state.model.device, state.progress
    state.model.train()
    num_target_tokens = sum(batch.num_target_tokens for batch in batches)
    loss_sum = 0.0
    for batch in batches:
        batch = batch.to(device)
        with autocast(device, config.precision):
            logits = forward(batch.src_ids, batch.decoder_input_ids)
        loss = smoothed_loss_sum(logits, batch.labels, config.label_smoothing)
        state.scaler.scale(loss / num_target_tokens).backward()
        loss_sum = loss_sum + loss.detach()
    state.scaler.unscale_(state.optimizer)
    grad_norm = nn.utils.clip_grad_norm_(state.model.parameters(), config.max_grad_norm or math.inf)
    rate = state.schedule.get_last_lr()[0]
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.schedule.step()
    state.optimizer.zero_grad()

    num_tokens = sum(batch.num_tokens for batch in batches)
    progress.step += 1
    progress.batches += len(batches)
    progress.tokens += num_tokens
    return {
        "kind": "train",
        "step": progress.step,
        "epoch": progress.epoch + 1,
        "loss": loss_sum / num_target_tokens,
        "lr": rate,
        "grad_norm": grad_norm,
        "tokens": num_tokens,
    }


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Run a forward pass in "fp32", "bf16" or "fp16" where that is safe."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


def groups_of(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """The batches of each optimizer step; the last step of an epoch may have fewer."""
    batches = iter(batches)
    while group := list(islice(batches, size)):
        yield group


# What writes a finished run's best model in another form: (checkpoint, results folder).
Export = Callable[[Path, Path], None]


class Run:
    """One training run, from data to summary.

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
        device = select_device(self.settings.run.device)
        self.state = TrainingState.start(initial_model(experiment).to(device), self.config)
        if resumed is not None:
            self._take_up(resumed)

    def execute(self) -> None:
        """Train, evaluate and write the results folder.

        Raises:
            Interrupted: a signal came; the state was saved.
            RunFailed: training diverged.
        """
        reset_peak_memory(self.state.model.device)
        output_dir = Path(self.settings.run.output_dir)
        self.folder = ResultsFolder.create(output_dir, "pytorch", keep=self.resumed is not None)
        self.folder.checkpoints.mkdir(exist_ok=True)
        self.folder.drop_metrics_after(self.state.progress.step)
        self.recorder = Recorder(self.folder, self.settings, self.data, "pytorch", self.num_steps)
        self.tracker = self.experiment.tracker(inside(self.state.model), self.recorder.probed)
        if self.resumed:
            self.tracker.load_state_dict(self.resumed["tracking"])
        self.recorder.announce(self.state.model, self.state.model.device)
        if self.resumed:
            log.info(f"Going on after step {self.state.progress.step:,}")
        with SignalWatch() as watch:
            self._train(watch)
        if self.config.average_checkpoints:
            self._average()
        self._finish()

    def is_finished(self) -> bool:
        """Whether all steps planned have been made."""
        progress = self.state.progress
        return progress.step >= self.num_steps or progress.epoch >= self.config.epochs

    def _train(self, watch: SignalWatch) -> None:
        """The loop over epochs and optimizer steps."""
        progress, config, model = self.state.progress, self.config, self.state.model
        forward = torch.compile(model, dynamic=True) if config.compile else model
        loader = training_loader(
            self.data.train,
            self.sampler,
            self.settings.data.num_workers,
            pin_memory=model.device.type == "cuda",
        )
        if progress.step == 0:
            with Stopwatch(progress):
                self.tracker.after_step(model, 0, epoch=1)
        with self.recorder.progress_bar(progress.step) as bar:
            while not self.is_finished():
                self.sampler.set_epoch(progress.epoch, skip=progress.batches)
                batches_in_epoch = progress.batches + len(self.sampler)
                with Stopwatch(progress) as stopwatch:
                    for batches in groups_of(loader, config.gradient_accumulation_steps):
                        self.tracker.before_step(model, progress.step + 1)
                        line = train_step(self.state, forward, batches, config)
                        if newest := self.recorder.step(line):
                            speed = stopwatch.tokens_per_sec()
                            bar.set_postfix_str(self.recorder.bar_text(newest, speed))
                        bar.update()
                        self.tracker.after_step(model, progress.step, line["epoch"])
                        if progress.step % SAVE_EVERY == 0:
                            self.recorder.flush_steps()
                            stopwatch.update()
                            self._save("last.pt", with_training=True)
                        if watch.signum or progress.step >= self.num_steps:
                            break
                    self.recorder.flush_steps()
                epoch_is_over = progress.batches == batches_in_epoch
                if epoch_is_over or progress.step >= self.num_steps:
                    self._end_epoch(epoch_is_over)
                if watch.signum:
                    self._save("last.pt", with_training=True)
                    raise interrupted(watch.signum, self.settings, progress.step)
                if config.patience and progress.evaluations_since_best >= config.patience:
                    log.info(f"No better NLL in {config.patience} evaluations: stopping early")
                    break

    def _end_epoch(self, is_over: bool) -> None:
        """Evaluate and save; count the epoch if all its batches were used."""
        progress = self.state.progress
        number = progress.epoch + 1
        scores = self._score_tokens(self.data.eval)
        self.recorder.evaluated(progress.step, number, scores, self._translate())
        progress.evaluations_since_best += 1
        if is_best := scores["nll"] < progress.best_nll:
            progress.best_nll, progress.evaluations_since_best = scores["nll"], 0
        if is_over:
            progress.epoch, progress.batches = number, 0
        if is_best:
            self._save("best_model.pt")
        self._save(f"checkpoint_epoch_{number}.pt", with_training=True)
        self._save("last.pt", with_training=True)
        keep = max(self.config.keep_checkpoints, self.config.average_checkpoints)
        for old in checkpoint.by_epoch(self.folder.checkpoints)[:-keep]:
            old.unlink()

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
        files = checkpoint.by_epoch(self.folder.checkpoints)[-self.config.average_checkpoints :]
        weights = checkpoint.mean(checkpoint.load(file)["model"] for file in files)
        self.state.model.load_state_dict(weights)
        nll = self._score_tokens(self.data.eval)["nll"]
        better = nll < self.state.progress.best_nll
        verdict = "the new best model" if better else "no better than the best epoch"
        log.info(f"Average of the last {len(files)} epochs: NLL {nll:.4f}, {verdict}")
        if better:
            self.state.progress.best_nll = nll
            self._save("best_model.pt")

    def _finish(self) -> None:
        """Evaluate the best model and write the summary."""
        model, progress = self.state.model, self.state.progress
        best = checkpoint.load(self.folder.checkpoints / "best_model.pt", model.device)
        model.load_state_dict(best["model"])
        translations = self._translate()
        metrics = evaluation.final_metrics(
            train=self._score_tokens(self.data.train_sample),
            evaluated=self._score_tokens(self.data.eval),
            translations=translations,
        )
        self.export(self.folder.checkpoints / "best_model.pt", self.folder.path)
        self.recorder.finish(
            progress,
            best["step"],
            metrics,
            translations,
            Subject(
                name=str(self.folder.checkpoints / "best_model.pt"),
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
            content["training"] = self.state.state_dict()
            content["tracking"] = self.tracker.state_dict()
        checkpoint.save(self.folder.checkpoints / name, content)

    def _take_up(self, saved: dict[str, Any]) -> None:
        """Go on from a checkpoint with training state."""
        if saved["fingerprint"] != self.data.corpus.fingerprint():
            raise UserError(
                "--resume: the dataset is not the one that the interrupted run trained on; "
                "restore it, or start anew without --resume"
            )
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
    folder = ResultsFolder(Path(settings.run.output_dir) / "results_pytorch")
    if settings.run.resume:
        resumed = checkpoint.newest_intact(folder.checkpoints)
        if resumed is None:
            log.warning(f"--resume: nothing to go on from in {folder.path}; starting anew")
        else:
            settings = settings.resumed_from(resumed["config"])
    select_device(settings.run.device)
    check_writable(Path(settings.run.output_dir))
    data = data or prepare(settings.data, settings.run.seed)
    this_run = Run(Experiment.plan(settings, data), export, resumed)
    if resumed and this_run.is_finished() and folder.has_summary():
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
        steps = groups_of(loader, settings.train.gradient_accumulation_steps)
        for batches in islice(steps, num_steps - len(losses)):
            losses.append(train_step(state, model, batches, settings.train)["loss"].item())
        state.progress.epoch += 1
    return losses, model
