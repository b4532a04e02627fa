"""Training the scratch Transformer (section 5): one step, the loop around it, a whole run."""

import contextlib
import dataclasses
import math
import shlex
import time
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from pytorch_version.generate import Decoding, translate
from pytorch_version.model import Transformer, count_parameters
from utils import checkpoint, evaluation
from utils.config import ModelConfig, RunConfig, Settings, TrainConfig, UserError, build
from utils.data import Batch, LengthBatches, TokenizedPairs, prepare, training_loader
from utils.environment import (
    describe_device,
    describe_environment,
    peak_memory_mb,
    select_device,
)
from utils.interrupt import Interrupted, SignalWatch
from utils.objective import make_optimizer, make_schedule, smoothed_loss_sum, with_schedule
from utils.results import RESULT, ResultsFolder, RunFailed, check_writable, log
from utils.tokenizer import PAD_ID, Tokenizer
from utils.visualization import training_curves

SAVE_EVERY = 500  # steps between two writes of last.pt within an epoch
LOG_EVERY = 10  # steps whose loss is fetched from the device together


@dataclasses.dataclass
class Progress:
    """Where a run stands, in plain numbers; saved in every checkpoint.

    Attributes:
        step: optimizer steps made.
        epoch: epochs finished.
        batches: batches used of the epoch under way.
        tokens: real tokens trained on, source and target.
        seconds: time spent training, evaluation left out.
        best_nll: lowest evaluation NLL so far.
        evaluations_since_best: evaluations since then.
    """

    step: int = 0
    epoch: int = 0
    batches: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best_nll: float = math.inf
    evaluations_since_best: int = 0


@dataclasses.dataclass
class TrainingState:
    """A model in training and all that changes with it from step to step.

    Attributes:
        model: on its device.
        optimizer: Adam.
        schedule: of the learning rate.
        scaler: of fp16 losses; does nothing in other precisions.
        progress: where the run stands.
    """

    model: Transformer
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    scaler: torch.amp.GradScaler
    progress: Progress

    @classmethod
    def start(cls, model: Transformer, config: TrainConfig) -> "TrainingState":
        """The state before the first step.

        Args:
            model: on its device.
            config: filled in by `with_schedule`.
        """
        optimizer = make_optimizer(model, config)
        scaler = torch.amp.GradScaler(model.device.type, enabled=config.precision == "fp16")
        return cls(model, optimizer, make_schedule(optimizer, config), scaler, Progress())

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs: tensors and plain values."""
        rng = {"cpu": torch.get_rng_state()}
        if self.model.device.type == "cuda":
            rng["cuda"] = torch.cuda.get_rng_state(self.model.device)
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "progress": dataclasses.asdict(self.progress),
            "rng": rng,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where `state_dict` was called; the weights are loaded apart."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self.progress = Progress(**state["progress"])
        torch.set_rng_state(state["rng"]["cpu"].cpu())
        if "cuda" in state["rng"]:
            torch.cuda.set_rng_state(state["rng"]["cuda"].cpu(), self.model.device)


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
    loss_sum = torch.zeros((), device=device)
    for batch in batches:
        batch = batch.to(device)
        with autocast(device, config.precision):
            logits = forward(batch.src_ids, batch.decoder_input_ids)
        loss = smoothed_loss_sum(logits, batch.labels, config.label_smoothing)
        state.scaler.scale(loss / num_target_tokens).backward()
        loss_sum += loss.detach()
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


class StepLog:
    """Collects the lines of training steps and fetches their tensors from the device in one go.

    Args:
        folder: whose ``metrics.jsonl`` gets the lines.
    """

    def __init__(self, folder: ResultsFolder) -> None:
        self._folder = folder
        self._lines: list[dict[str, Any]] = []

    def add(self, line: dict[str, Any]) -> dict[str, Any] | None:
        """Add a line; once in a while returns the newest one with numbers for tensors."""
        self._lines.append(line)
        return self.flush() if len(self._lines) >= LOG_EVERY else None

    def flush(self) -> dict[str, Any] | None:
        """Write what was collected; returns the newest line, if any.

        Raises:
            RunFailed: a loss was not finite.
        """
        if not self._lines:
            return None
        lines, self._lines = self._lines, []
        values = torch.stack([torch.stack([x["loss"], x["grad_norm"]]) for x in lines]).tolist()
        for line, (loss, grad_norm) in zip(lines, values, strict=True):
            line.update(loss=loss, grad_norm=grad_norm)
            log.debug("step %(step)d  loss %(loss).4f  lr %(lr).2e  grad %(grad_norm).3f", line)
        self._folder.append_metrics(lines)
        for line in lines:
            if not math.isfinite(line["loss"]):
                raise RunFailed(
                    f"the loss is {line['loss']} at step {line['step']}: training has diverged; "
                    "lower --learning_rate, raise --warmup_steps, or set --max_grad_norm 1"
                )
        return lines[-1]


class Run:
    """One training run, from data to summary.

    Args:
        settings: all options.
        resumed: the checkpoint to go on from, if any.

    Attributes:
        settings: with nothing left open.
        num_steps: optimizer steps planned.

    Raises:
        UserError: the data, the device or the output folder cannot be used.
    """

    def __init__(self, settings: Settings, resumed: dict[str, Any] | None = None) -> None:
        device = select_device(settings.run.device)
        check_writable(Path(settings.run.output_dir))
        self.data = prepare(settings.data, settings.run.seed)
        self.sampler = LengthBatches(
            self.data.train.lengths,
            settings.train.batch_size,
            settings.train.max_tokens,
            settings.run.seed,
        )
        per_step = settings.train.gradient_accumulation_steps
        steps_per_epoch = math.ceil(len(self.sampler) / per_step)
        self.config = with_schedule(settings.train, settings.model.d_model, steps_per_epoch)
        self.settings = dataclasses.replace(settings, train=self.config)
        self.num_steps = self.config.epochs * steps_per_epoch
        if self.config.max_steps is not None:
            self.num_steps = min(self.num_steps, self.config.max_steps)
        self.decoding = Decoding(
            settings.data.max_length, self.config.beam_size, self.config.length_penalty
        )
        torch.manual_seed(settings.run.seed)
        model = build_model(settings.model, self.data.tokenizer, settings.data.max_length)
        self.state = TrainingState.start(model.to(device), self.config)
        self.resumed = resumed is not None
        if resumed is not None:
            self._take_up(resumed)

    def execute(self) -> None:
        """Train, evaluate and write the results folder.

        Raises:
            Interrupted: a signal came; the state was saved.
            RunFailed: training diverged.
        """
        output_dir = Path(self.settings.run.output_dir)
        self.folder = ResultsFolder.create(output_dir, "pytorch", keep=self.resumed)
        self.folder.drop_metrics_after(self.state.progress.step)
        self._announce()
        with SignalWatch() as watch:
            self._train(watch)
        if self.config.average_checkpoints:
            self._average()
        self._finish()

    def _train(self, watch: SignalWatch) -> None:
        """The loop over epochs and steps (section 5)."""
        progress, config = self.state.progress, self.config
        forward = (
            torch.compile(self.state.model, dynamic=True) if config.compile else self.state.model
        )
        loader = training_loader(
            self.data.train,
            self.sampler,
            self.settings.data.num_workers,
            pin_memory=self.state.model.device.type == "cuda",
        )
        steps = StepLog(self.folder)
        with self._progress_bar() as bar:
            while progress.epoch < config.epochs and progress.step < self.num_steps:
                self.sampler.set_epoch(progress.epoch, skip=progress.batches)
                batches_in_epoch = progress.batches + len(self.sampler)
                started, tokens_before = time.perf_counter(), progress.tokens
                for batches in groups_of(loader, config.gradient_accumulation_steps):
                    newest = steps.add(train_step(self.state, forward, batches, config))
                    bar.update()
                    if newest:
                        elapsed = time.perf_counter() - started
                        bar.set_postfix(
                            loss=f"{newest['loss']:.3f}",
                            lr=f"{newest['lr']:.1e}",
                            tokens_s=f"{(progress.tokens - tokens_before) / elapsed:,.0f}",
                        )
                    if progress.step % SAVE_EVERY == 0:
                        steps.flush()
                        self._save("last.pt", with_training=True)
                    if watch.signum or progress.step >= self.num_steps:
                        break
                steps.flush()
                progress.seconds += time.perf_counter() - started
                if progress.batches == batches_in_epoch or progress.step >= self.num_steps:
                    self._end_epoch(finished=progress.batches == batches_in_epoch)
                if watch.signum:
                    self._save("last.pt", with_training=True)
                    raise Interrupted(watch.signum, self._how_to_resume())
                if config.patience and progress.evaluations_since_best >= config.patience:
                    log.info("No better NLL in %d evaluations: stopping early", config.patience)
                    break

    def _end_epoch(self, finished: bool) -> None:
        """Evaluate, save, and count the epoch if all its batches were used."""
        progress = self.state.progress
        number = progress.epoch + 1
        scores = self._score_tokens(self.data.eval)
        translated = self._translate()
        record = {"kind": "eval", "step": progress.step, "epoch": number}
        self.folder.append_metrics([record | scores | translated.scores])
        log.info(
            "Epoch %d  step %d  NLL %.4f  token acc. %.1f %%  BLEU %.2f  chrF %.2f  exact %.1f %%",
            number, progress.step, scores["nll"], 100 * scores["token_accuracy"],
            translated.scores["bleu"], translated.scores["chrf"],
            100 * translated.scores["exact_match"],
        )  # fmt: skip
        self._warn_of_plateau(scores)
        progress.evaluations_since_best += 1
        is_best = scores["nll"] < progress.best_nll
        if is_best:
            progress.best_nll, progress.evaluations_since_best = scores["nll"], 0
        if finished:
            progress.epoch, progress.batches = number, 0
        if is_best:
            self._save("best_model.pt")
        self._save(f"checkpoint_epoch_{number}.pt", with_training=True)
        self._save("last.pt", with_training=True)
        keep = max(self.config.keep_checkpoints, self.config.average_checkpoints)
        for old in epoch_checkpoints(self.folder.checkpoints)[:-keep]:
            old.unlink()

    def _warn_of_plateau(self, scores: dict[str, float]) -> None:
        """Say so when the decoder has learnt target phrases but no cross-attention."""
        if not evaluation.source_is_unused(scores):
            return
        warm = self.state.progress.step > 2 * self.config.warmup_steps
        log.info(
            "  The decoder does not use the source yet: with another sentence's source the NLL is "
            "as low (%.4f). %s",
            scores["nll_other_source"],
            "If this stays, lower --learning_rate or raise --warmup_steps."
            if warm
            else "Normal this early; it takes more steps.",
        )

    def _score_tokens(self, pairs: TokenizedPairs) -> dict[str, float]:
        model = self.state.model.eval()

        def logits_of(src_ids: Tensor, tgt_ids: Tensor) -> Tensor:
            with autocast(model.device, self.config.precision):
                return model(src_ids, tgt_ids)

        return evaluation.score_tokens(logits_of, pairs, model.device)

    def _translate(self) -> evaluation.Translations:
        model = self.state.model.eval()
        translator = partial(translate, model, self.data.tokenizer, decoding=self.decoding)
        return evaluation.score_translations(translator, self.data.eval)

    def _save(self, name: str, with_training: bool = False) -> None:
        """Write a checkpoint that needs nothing else to be used."""
        content = {
            "version": "pytorch",
            "config": self.settings.flat(),
            "model": self.state.model.state_dict(),
            "tokenizer": self.data.tokenizer.to_json(),
            "fingerprint": self.data.corpus.fingerprint(),
            "step": self.state.progress.step,
            "eval_nll": self.state.progress.best_nll if name == "best_model.pt" else None,
        }
        if with_training:
            content["training"] = self.state.state_dict()
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

    def _average(self) -> None:
        """Average the weights of the last epochs; keep the result if it is the best model."""
        files = epoch_checkpoints(self.folder.checkpoints)[-self.config.average_checkpoints :]
        average_weights(self.state.model, files)
        scores = self._score_tokens(self.data.eval)
        better = scores["nll"] < self.state.progress.best_nll
        log.info(
            "Average of %s: NLL %.4f, %s",
            ", ".join(file.stem.removeprefix("checkpoint_") for file in files),
            scores["nll"],
            "the new best model" if better else "no better than the best epoch",
        )
        if better:
            self.state.progress.best_nll = scores["nll"]
            self._save("best_model.pt")

    def _finish(self) -> None:
        """Evaluate the best model and write summary and figures."""
        model, progress, run = self.state.model, self.state.progress, self.settings.run
        best = checkpoint.load(self.folder.checkpoints / "best_model.pt", model.device)
        model.load_state_dict(best["model"])
        evaluated = self._score_tokens(self.data.eval)
        translated = self._translate()
        train_scores = self._score_tokens(self.data.train_sample)
        metrics = evaluation.final_metrics(train_scores, evaluated, translated)
        shown = evaluation.samples(self.data.eval, translated.hypotheses)
        if run.visualize is not False:
            self._draw_curves()
        corpus = self.data.corpus
        self.folder.write_summary(
            {
                "version": "pytorch",
                "config": self.settings.flat(),
                "environment": describe_environment(model.device),
                "dataset": {
                    "name": corpus.name,
                    "train": len(self.data.train),
                    "eval": len(self.data.eval),
                    "fingerprint": corpus.fingerprint(),
                },
                "metrics": metrics,
                "speed": {
                    "train_tokens_per_sec": progress.tokens / progress.seconds,
                    "train_seconds": progress.seconds,
                    "decode_sentences_per_sec": len(self.data.eval) / translated.seconds,
                    "peak_memory_mb": peak_memory_mb(model.device),
                    "tracking_overhead": 0.0,
                },
                "samples": shown,
            }
        )
        log.log(
            RESULT,
            "\nBest model (step %d), on %d evaluation pairs:",
            best["step"],
            len(self.data.eval),
        )
        for line in evaluation.result_lines(metrics, shown):
            log.log(RESULT, line)
        log.info("\n%s", self.folder.path / "summary.json")

    def _draw_curves(self) -> None:
        name = self.data.corpus.name
        records = self.folder.read_metrics()
        self.folder.save_figure(
            training_curves(records, f"Scratch Transformer on {name}"),
            "training_curves",
            self.settings.run.figure_format,
            {
                "shows": "loss, NLL, translation quality, learning rate and gradient norm",
                "step": self.state.progress.step,
                "axes": {"x": "optimizer step", "y": "nats, score 0-100, rate, norm"},
                "checkpoint": "checkpoints/last.pt",
            },
        )

    def _announce(self) -> None:
        """Say what is about to be trained on what."""
        data, config, model = self.data, self.config, self.settings.model
        for note in data.notes:
            log.warning("Note: %s", note)
        log.info(
            "Data: %s, %s training and %s evaluation pairs, vocabulary %s",
            data.corpus.name, f"{len(data.train):,}", f"{len(data.eval):,}",
            f"{data.tokenizer.vocab_size:,}",
        )  # fmt: skip
        log.info(
            "Model: %d+%d layers, width %d, %d heads, FFN %d, %s parameters, on %s",
            model.num_layers, model.num_layers, model.d_model, model.num_heads, model.d_ff,
            f"{count_parameters(model, data.tokenizer.vocab_size):,}",
            describe_device(self.state.model.device),
        )  # fmt: skip
        log.info(
            "Training: %d epochs, %s steps, peak learning rate %.2e after %d warm-up steps",
            config.epochs, f"{self.num_steps:,}", config.learning_rate, config.warmup_steps,
        )  # fmt: skip
        if self.resumed:
            log.info("Resuming after step %d", self.state.progress.step)
        for name, parameter in self.state.model.named_parameters():
            log.debug("  %-45s %-14s %9s", name, tuple(parameter.shape), f"{parameter.numel():,}")
        for pair, (src, tgt) in zip(data.train.pairs[:3], data.train, strict=False):
            for text, ids in ((pair.src, src), (pair.tgt, tgt)):
                log.debug("  %s\n    %s\n    %s", text, " ".join(data.tokenizer.pieces(ids)), ids)

    def _progress_bar(self) -> tqdm:
        """A bar on a terminal, nothing elsewhere."""
        return tqdm(
            total=self.num_steps,
            initial=self.state.progress.step,
            unit="step",
            dynamic_ncols=True,
            disable=True if self.settings.run.quiet else None,  # None: off unless on a terminal
        )

    def is_finished(self) -> bool:
        """Whether all steps planned have been made."""
        progress = self.state.progress
        return progress.step >= self.num_steps or progress.epoch >= self.config.epochs

    def _how_to_resume(self) -> str:
        command = ["python", "main.py", "--version", "pytorch", "--resume"]
        if (output_dir := self.settings.run.output_dir) != RunConfig.output_dir:
            command += ["--output_dir", output_dir]
        step = self.state.progress.step
        return f"Interrupted after step {step}; state saved. Go on with: {shlex.join(command)}"


def run(settings: Settings) -> None:
    """Train the scratch Transformer as ``--version pytorch`` does.

    Raises:
        UserError: the user's input is wrong.
        Interrupted: a signal came; the state was saved.
        RunFailed: training diverged.
    """
    resumed = None
    if settings.run.resume:
        folder = ResultsFolder(Path(settings.run.output_dir) / "results_pytorch")
        resumed = checkpoint.newest_intact(epoch_checkpoints(folder.checkpoints, last=True))
        if resumed is None:
            log.warning("--resume: nothing to go on from in %s; starting anew", folder.path)
        else:
            settings = settings.resumed_from(resumed["config"])
    this_run = Run(settings, resumed)
    if resumed and this_run.is_finished():
        log.warning(
            "--resume: this run is finished (%d steps). A larger --epochs or --max_steps goes on",
            this_run.state.progress.step,
        )
        return
    this_run.execute()


def build_model(config: ModelConfig, tokenizer: Tokenizer, max_length: int) -> Transformer:
    """The scratch model for a vocabulary and longest sentence."""
    return Transformer(config, tokenizer.vocab_size, PAD_ID, max_length)


def load_model(path: Path, device: torch.device | str = "cpu") -> tuple[Transformer, Tokenizer]:
    """Rebuild a trained model, in eval mode, and its tokenizer from a ``.pt`` file alone.

    Raises:
        CheckpointError: the file is no intact checkpoint.
    """
    saved = checkpoint.load(path, device)
    tokenizer = Tokenizer.from_json(saved["tokenizer"])
    config = build(ModelConfig, saved["config"])
    model = build_model(config, tokenizer, saved["config"]["max_length"])
    model.load_state_dict(saved["model"])
    return model.to(device).eval(), tokenizer


def epoch_checkpoints(folder: Path, last: bool = False) -> list[Path]:
    """``checkpoint_epoch_N.pt`` by N, and ``last.pt`` behind them if wanted and there."""
    files = sorted(
        folder.glob("checkpoint_epoch_*.pt"), key=lambda file: int(file.stem.rpartition("_")[2])
    )
    newest = folder / "last.pt"
    return [*files, newest] if last and newest.exists() else files


def average_weights(model: Transformer, files: list[Path]) -> None:
    """Set the weights of ``model`` to the mean of those in ``files`` (section 6.1)."""
    sums: dict[str, Tensor] = {}
    for file in files:
        for name, weight in checkpoint.load(file)["model"].items():
            sums[name] = sums.get(name, 0) + weight.double()
    model.load_state_dict({name: total / len(files) for name, total in sums.items()})
