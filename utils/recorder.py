"""Tells the user and the results folder how a run goes; the same for every version."""

from typing import Any

import torch
from tqdm import tqdm

from utils import evaluation, language, wandb_log
from utils.config import Settings
from utils.data import PreparedData
from utils.divergence import SkippedSteps
from utils.environment import describe_device, describe_environment, peak_memory_mb
from utils.evaluation import Translations
from utils.history import History
from utils.insight import look_inside
from utils.live_drawing import CLOSE_LEAST_WORK, LEAST_WORK, LiveDrawing, draw_followed
from utils.page import Page, plotly_script
from utils.page import write as write_page
from utils.page_data import ModelResults
from utils.progress import Progress, Speedometer
from utils.results import RESULT, SUMMARY, TRANSLATIONS, ResultsFolder, log
from utils.subject import Subject
from utils.timelines import in_words
from utils.tracking import Tracker
from utils.visualization import training_curves

EARLY_STEPS = 1000  # before, a decoder that ignores the source is no cause for concern
NUM_SAMPLES = 8  # translations in the summary
LOG_EVERY = 10  # steps whose losses are fetched from the device together


class Recorder:
    """Keeps the log, the metrics and the summary of one run.

    Args:
        folder: where they go.
        settings: all options, nothing left open.
        data: what the run learns from.
        version: which of the two implementations it trains.
        num_steps: optimizer steps planned.
    """

    def __init__(
        self,
        folder: ResultsFolder,
        settings: Settings,
        data: PreparedData,
        version: str,
        num_steps: int,
    ) -> None:
        plotly_script()  # were it missing, better now than after the training
        self.folder = folder
        self._version = version
        self._settings = settings
        self._data = data
        self._steps: list[dict[str, Any]] = []
        self._skipped = SkippedSteps(settings.train)
        self._title = language.text("figure.title", version=version, data=data.corpus.name)
        self._newest_probe = ""
        self._speed = Speedometer()
        self._num_steps = num_steps
        self._num_parameters = 0
        run = settings.run
        self._drawing = LiveDrawing(
            folder.path,
            version,
            self._title,
            run.figure_format,
            CLOSE_LEAST_WORK if run.track_internals else LEAST_WORK,
        )
        self._wandb = wandb_log.begin(folder, settings, version)

    def announce(self, model: torch.nn.Module, device: torch.device) -> None:
        """Say what is about to be trained on what."""
        data, shape, train = self._data, self._settings.model, self._settings.train
        for note in data.notes:
            log.warning("Note: %s", note)
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._num_parameters = sum(parameter.numel() for parameter in trained.values())
        log.info(
            f"Data: {data.corpus.name}, {len(data.train):,} training and {len(data.eval):,} "
            f"evaluation pairs, vocabulary of {data.tokenizer.vocab_size:,}"
        )
        log.info(
            f"Model: {shape.num_layers}+{shape.num_layers} layers, width {shape.d_model}, "
            f"{shape.num_heads} heads, FFN {shape.d_ff}, {self._num_parameters:,} parameters, "
            f"on {describe_device(device)}"
        )
        log.info(
            f"Training: {train.epochs} epochs, {self._num_steps:,} steps, learning rate up to "
            f"{train.learning_rate:.2e} after {train.warmup_steps:,} warm-up steps"
        )
        for name, parameter in trained.items():
            log.debug(f"  {name:45s} {tuple(parameter.shape)!s:14s} {parameter.numel():9,}")
        for pair, sides in zip(data.train.pairs[:3], data.train, strict=False):
            for text, ids in zip((pair.src, pair.tgt), sides, strict=True):
                log.debug(f"  {text}\n    {' '.join(data.tokenizer.pieces(ids))}\n    {ids}")

    def progress_bar(self, done: int) -> tqdm:
        """A bar over the optimizer steps on a terminal, nothing elsewhere."""
        return tqdm(
            total=self._num_steps,
            initial=done,
            unit="step",
            dynamic_ncols=True,
            disable=True if self._settings.run.quiet else None,  # None: off unless on a terminal
        )

    def bar_text(self, newest: dict[str, Any], tokens_per_sec: float) -> str:
        """What stands beside the progress bar.

        Args:
            newest: a line that `step` returned.
            tokens_per_sec: real tokens trained on.
        """
        text = f"loss {newest['loss']:.3f}, lr {newest['lr']:.1e}, {tokens_per_sec:,.0f} tokens/s"
        return f"{text}, {self._newest_probe}" if self._newest_probe else text

    def step(self, line: dict[str, Any]) -> dict[str, Any] | None:
        """Take the line of a training step, whose loss and gradient norm may still be tensors.

        They are fetched from the device several steps at a time, so that a GPU need not be
        waited for in every step.

        Returns:
            The newest line with numbers in it whenever some were fetched, else None.
        """
        self._steps.append(line)
        self._speed.add(line["tokens"])
        self._drawing.trained(self._num_parameters, line["tokens"])
        return self.flush_steps() if len(self._steps) >= LOG_EVERY else None

    def flush_steps(self) -> dict[str, Any] | None:
        """Write the steps taken so far to ``metrics.jsonl``; returns the newest, if any.

        Raises:
            RunFailed: in too many steps the loss or its gradient was not finite.
        """
        if not self._steps:
            return None
        lines, self._steps = self._steps, []
        values = torch.stack([torch.stack([x["loss"], x["grad_norm"]]) for x in lines]).tolist()
        for line, (loss, grad_norm) in zip(lines, values, strict=True):
            line.update(loss=loss, grad_norm=grad_norm)
            log.debug("step %(step)d  loss %(loss).4f  lr %(lr).2e  grad %(grad_norm).3f", line)
        if (speed := self._speed.take()) is not None:
            lines[-1]["tokens_per_sec"] = speed
        self._append(lines)
        for line in lines:
            self._skipped.take(line)
        return lines[-1]

    def _append(self, lines: list[dict[str, Any]]) -> None:
        """Write lines wherever the run is logged."""
        self.folder.append_metrics(lines)
        self._wandb.log(lines)

    def probed(self, line: dict[str, Any], history: History) -> None:
        """Take a probe: write its numbers, and begin to redraw the figures if it is time to.

        Args:
            line: for ``metrics.jsonl``.
            history: all probes so far.
        """
        self.flush_steps()
        self._append([line])
        history.save(self.folder.path)
        run = self._settings.run
        if run.track_internals:
            self._newest_probe = in_words(line)
        log.debug("probe at step %d: %s", line["step"], in_words(line))
        if run.visualize is not False:
            self._drawing.redraw_if_due()

    def evaluated(
        self, step: int, epoch: int, scores: dict[str, float], translations: Translations
    ) -> None:
        """Take an evaluation: scores of tokens and of translations."""
        self._speed.pause()
        record = {"kind": "eval", "step": step, "epoch": epoch}
        record |= scores | translations.scores
        self._append([record])
        log.info(
            f"Epoch {epoch}, step {step:,}: NLL {record['nll']:.4f}, token accuracy "
            f"{record['token_accuracy']:.1%}, BLEU {record['bleu']:.2f}, chrF "
            f"{record['chrf']:.2f}, exact match {record['exact_match']:.1%}"
        )
        if evaluation.source_is_unused(scores):
            early = step < max(EARLY_STEPS, 2 * self._settings.train.warmup_steps)
            log.info(
                "  The decoder hardly uses the source: with another sentence's source the NLL is "
                f"about as low ({scores['nll_other_source']:.4f}). "
                + (
                    "Normal so early: it takes more steps (--epochs, --train_size)."
                    if early
                    else "If this stays so, lower --learning_rate or raise --warmup_steps."
                )
            )

    def finish(
        self,
        training: Progress,
        best_step: int,
        metrics: dict[str, Any],
        translations: Translations,
        subject: Subject,
        tracker: Tracker,
    ) -> None:
        """Write figures and summary of the best model and print its result.

        Args:
            training: how much there was.
            best_step: the step the best model comes from.
            metrics: as `utils.evaluation.final_metrics` gives them.
            translations: of the evaluation pairs, by the best model.
            subject: the best model.
            tracker: what followed the training.
        """
        data, run = self._data, self._settings.run
        self._drawing.wait()  # one process at a time records its figures
        history = tracker.history()
        insight = look_inside(subject, self.folder, self._settings, data, history)
        if run.visualize is not False:
            self._draw_curves(training.step)
            draw_followed(self.folder, self._version, self._title, run.figure_format)
        translated = evaluation.with_references(data.eval, translations.hypotheses)
        self.folder.write_lines(TRANSLATIONS, translated)
        device = next(subject.model.parameters()).device
        summary = self._about_the_run(device) | {
            "metrics": metrics | insight.metrics,
            "speed": _speed(training, translations, tracker, device),
            "best_step": best_step,
            "samples": translated[:NUM_SAMPLES],
        }
        results = ModelResults(
            name=subject.name,
            version=self._version,
            inspection=insight.inspection,
            pairs=insight.pairs,
            alignment=insight.alignment,
            history=history,
            records=self.folder.read_metrics("train", "eval"),
            summary=summary,
            translated=translated,
            trace=insight.trace,
        )
        page = write_page(Page(kind="training", models=[results]), self.folder.path)
        self.folder.write_summary(summary)
        log.log(RESULT, f"\nBest model (step {best_step:,}), on {len(data.eval):,} unseen pairs:")
        for line in evaluation.result_lines(summary["metrics"], summary["samples"]):
            log.log(RESULT, line)
        log.info(f"\n{self.folder.path / SUMMARY}")
        self._wandb.finish(SUMMARY, "metrics", "speed", "dataset")
        log.log(RESULT, str(page))  # the last line

    def _about_the_run(self, device: torch.device) -> dict[str, Any]:
        """What ``summary.json`` begins with: options, machine and data."""
        data = self._data
        return {
            "version": self._version,
            "config": self._settings.flat(),
            "environment": describe_environment(device),
            "dataset": {
                "name": data.corpus.name,
                "train": len(data.train),
                "eval": len(data.eval),
                "fingerprint": data.corpus.fingerprint(),
            },
        }

    def _draw_curves(self, step: int) -> None:
        self.folder.save_figure(
            training_curves(self.folder.read_metrics("train", "eval"), self._title),
            "training_curves",
            self._settings.run.figure_format,
            {
                "shows": "loss, NLL, translation quality, learning rate and gradient norm",
                "step": step,
                "axes": {"x": "optimizer step", "y": "nats, score 0-100, rate, norm"},
                "checkpoint": None,
            },
        )


def _speed(
    training: Progress, translations: Translations, tracker: Tracker, device: torch.device
) -> dict[str, float | None]:
    """The ``speed`` of ``summary.json``."""
    return {
        "train_tokens_per_sec": training.tokens / training.seconds,
        "train_seconds": training.seconds,
        "decode_sentences_per_sec": len(translations.hypotheses) / translations.seconds,
        "peak_memory_mb": peak_memory_mb(device),
        # Of the time that training alone took.
        "tracking_overhead": tracker.seconds / (training.seconds - tracker.seconds),
    }
