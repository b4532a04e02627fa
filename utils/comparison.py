"""``--version both``: one experiment by both implementations, and the proof that they are one.

Besides ``main`` and `utils.report` the only module that knows both implementations.
"""

import dataclasses
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import MarianMTModel, Seq2SeqTrainer, Trainer
from transformers.generation import GenerationMixin

from huggingface_version import checkpoints as huggingface_checkpoints
from huggingface_version import model as huggingface
from huggingface_version import train as huggingface_train
from pytorch_version import model as scratch
from pytorch_version import saved as scratch_saved
from pytorch_version import train as scratch_train
from utils import (
    checkpoint,
    collectives,
    comparison_figures,
    distributed,
    parity,
    side_by_side,
    wandb_log,
)
from utils.batching import Batch, collate
from utils.capture import capture
from utils.config import Settings
from utils.data import prepare
from utils.environment import select_device
from utils.experiment import Experiment
from utils.findings import Findings, SharedSentence
from utils.history import History
from utils.insight import insight_of
from utils.operations import Variant
from utils.page import Page
from utils.page import write as write_page
from utils.page_data import ModelResults
from utils.paired import PairedTraining, ShortRun
from utils.parity import Row, Side
from utils.results import (
    RESULT,
    SUMMARY,
    TRANSLATIONS,
    ResultsFolder,
    RunFailed,
    check_writable,
    log,
)
from utils.subject import Subject

PAIRED_STEPS = 50
PAIRED_RATE = 1e-3  # highest learning rate of the short runs; rounding grows with it
PARITY_SENTENCES = 16
COMPARISON = "comparison.json"  # written last


def initial_weights(experiment: Experiment) -> Mapping[str, Tensor]:
    """The weights that both versions begin with, by the scratch model's names."""
    return scratch_train.initial_model(experiment).state_dict()


def export(checkpoint_file: Path, folder: Path) -> None:
    """Write a scratch checkpoint as the MarianMT folder ``hf_export``."""
    saved = scratch_saved.load_saved(checkpoint_file)
    if saved.config.norm == "pre":
        log.info("No hf_export: MarianMT has no pre-norm variant")
        return
    marian = huggingface.build_model(
        saved.config, saved.tokenizer.vocab_size, saved.decoding, saved.weights
    )
    huggingface.save(marian, saved.tokenizer, folder / "hf_export")


def transplanted_from(marian: MarianMTModel, name: str) -> scratch.Transformer:
    """The scratch model that computes what a MarianMT model computes, in eval mode.

    Args:
        marian: trained by anyone.
        name: what the user called it.

    Raises:
        UserError: the scratch model cannot be that model; the message says why.
    """
    huggingface.require_convertible(marian, name)
    config = marian.config
    model = scratch.Transformer(
        huggingface.scratch_config(config),
        config.vocab_size,
        config.pad_token_id,
        config.max_position_embeddings,
    )
    model.load_state_dict(huggingface.from_marian(marian.state_dict()))
    return model.to(marian.device).eval()


def scratch_side(model: scratch.Transformer) -> Side:
    """The scratch model as one side of a comparison."""
    return Side(model=model, **vars(scratch.inside(model)))


def marian_side(marian: MarianMTModel) -> Side:
    """A MarianMT model as one side of a comparison."""
    return Side(model=marian, **vars(huggingface.inside(marian)))


def run_both(settings: Settings) -> None:
    """Train both versions alike, then compare them; writes all three results folders.

    Several processes train together; the main one compares.

    Raises:
        UserError: the user's input is wrong.
        Interrupted: a signal came; the half under way was saved.
        RunFailed: training diverged, or the two versions are not one.
    """
    output_dir = Path(settings.run.output_dir)
    folders = {name: ResultsFolder.of(output_dir, name) for name in side_by_side.VERSIONS}
    with collectives.joined(settings.run.device):
        if settings.run.resume:
            saved = collectives.from_main(lambda: _saved_config(folders))
            settings = settings.resumed_from(saved) if saved else settings
        huggingface_train.require_supported(settings)
        check_writable(output_dir)
        data = prepare(settings.data, settings.run.seed)
        if not settings.run.resume and distributed.is_main():
            for folder in folders.values():
                folder.move_aside()  # both now: else --resume could take an old half for this run's
        log.info("\n== PyTorch, from scratch ==")
        scratch_train.run(settings, export, data)
        log.info("\n== Hugging Face, MarianMT and Seq2SeqTrainer ==")
        huggingface_train.run(settings, initial_weights, data)
        rank, world_size = distributed.rank(), distributed.world_size()
        experiment = Experiment.plan(settings, data, rank, world_size)
    if not distributed.is_main():
        return
    collectives.leave()
    huggingface_train.forget_processes()
    log.info("\n== Comparison ==")
    Comparison(experiment, folders).execute()


def _saved_config(folders: Mapping[str, ResultsFolder]) -> dict[str, Any] | None:
    """The options of the interrupted run, from whichever half has a checkpoint."""
    if saved := checkpoint.newest_intact(folders["pytorch"].checkpoints):
        return saved["config"]
    found = huggingface_checkpoints.newest_intact(folders["huggingface"].checkpoints)
    return found and found.config


class Comparison:
    """Two finished runs of one experiment: parity, paired training, and the runs side by side.

    Args:
        experiment: what both ran.
        folders: version -> its results.
    """

    def __init__(self, experiment: Experiment, folders: Mapping[str, ResultsFolder]) -> None:
        self.experiment, self.folders = experiment, folders
        run = experiment.settings.run
        # Double precision is needed, which Apple's GPUs do not have.
        device = select_device(run.device)
        self.device = torch.device("cpu") if device.type == "mps" else device
        best = folders["pytorch"].checkpoints / "best_model.pt"
        self.scratch, self.tokenizer = scratch_saved.load_model(best, self.device)
        self.marian = huggingface.load(folders["huggingface"].path, self.device)

    def execute(self) -> None:
        """Compare, and write ``results_comparison``.

        Raises:
            RunFailed: the two versions are not one.
        """
        settings = self.experiment.settings
        output_dir = Path(settings.run.output_dir)
        before = ResultsFolder.of(output_dir, "comparison")
        was_cut_short = not (before.path / COMPARISON).exists()
        keep = settings.run.resume and was_cut_short
        self.folder = ResultsFolder.create(output_dir, "comparison", keep)
        log.info(
            f"Comparing at every point, then training both for {self.paired_steps()} steps ..."
        )
        there, back = self.parity()
        findings = Findings(
            there=there,
            back=back,
            paired=self.paired_training(),
            summaries=self.summaries(),
            records={
                name: folder.read_metrics("train", "eval") for name, folder in self.folders.items()
            },
            translations=self.translations(),
            attention=self.cross_attention(),
            num_steps=self.experiment.num_steps,
        )
        if settings.run.visualize is not False:
            for name, figure, record in comparison_figures.all_figures(findings):
                self.folder.save_figure(figure, name, settings.run.figure_format, record)
        content = findings.content()
        page = self._write_page(findings, content)
        path = self.folder.write_json(COMPARISON, content)
        for row in there:
            log.debug(f"  {row.point:55s} fp32 {row.max_abs_fp32:.1e}  fp64 {row.max_abs_fp64:.1e}")
        for line in findings.lines():
            log.log(RESULT, line)
        log.info(f"\n{path}")
        logged = wandb_log.begin(self.folder, settings, "comparison")
        logged.finish(COMPARISON, "metrics", "speed", "paired_training")
        log.log(RESULT, str(page))  # the last line
        if reason := findings.failure():
            raise RunFailed(reason)

    def parity(self) -> tuple[list[Row], list[Row]]:
        """The scratch model's weights in MarianMT, and MarianMT's in the scratch model."""
        settings, batch = self.experiment.settings, self._batch()
        twin = huggingface.build_model(
            settings.model,
            self.tokenizer.vocab_size,
            self.experiment.decoding,
            self.scratch.state_dict(),
        ).to(self.device)
        sides = (scratch_side(self.scratch), marian_side(twin))
        there = parity.compare(*sides, batch, settings.train)
        transplanted = transplanted_from(self.marian, str(self.folders["huggingface"].path))
        sides = (scratch_side(transplanted), marian_side(self.marian))
        return there, parity.compare(*sides, batch, settings.train)

    def _batch(self) -> Batch:
        """Evaluation sentences of unequal lengths."""
        pairs = self.experiment.data.eval
        return collate([pairs[i] for i in range(min(PARITY_SENTENCES, len(pairs)))])

    def paired_steps(self) -> int:
        """Optimizer steps of the short runs."""
        return min(PAIRED_STEPS, self.experiment.num_steps)

    def paired_training(self) -> PairedTraining:
        """Train both for a few steps without dropout, in double and in single precision."""
        experiment, num_steps = self._without_dropout(), self.paired_steps()
        settings = experiment.settings
        path = settings.model.attention
        other_path = "eager" if path == "sdpa" else "sdpa"
        weights = initial_weights(experiment)
        bar = tqdm(total=5, unit="run", leave=False, disable=True if settings.run.quiet else None)

        def ours(dtype: torch.dtype, attention: str) -> tuple[ShortRun, scratch.Transformer]:
            losses, model = scratch_train.short_run(experiment, num_steps, dtype, attention)
            bar.update()
            return ShortRun(losses, model.state_dict()), model

        def theirs(dtype: torch.dtype) -> tuple[ShortRun, MarianMTModel]:
            losses, marian = huggingface_train.short_run(experiment, weights, num_steps, dtype)
            bar.update()
            return ShortRun(losses, huggingface.from_marian(marian.state_dict())), marian

        with bar:
            ours_fp64, model = ours(torch.float64, path)
            theirs_fp64, marian = theirs(torch.float64)
            return PairedTraining(
                ours_fp64=ours_fp64,
                theirs_fp64=theirs_fp64,
                ours_fp32=ours(torch.float32, path)[0],
                theirs_fp32=theirs(torch.float32)[0],
                other_path_fp32=ours(torch.float32, other_path)[0],
                tables_equal=all(
                    torch.equal(model.positions.table, table)
                    for table in huggingface.position_tables(marian)
                ),
            )

    def _without_dropout(self) -> Experiment:
        """The experiment as the short runs make it: the same on both sides but for rounding."""
        settings = self.experiment.settings
        rate = min(settings.train.learning_rate, PAIRED_RATE)
        changed = dataclasses.replace(
            settings,
            run=dataclasses.replace(settings.run, device=self.device.type),
            model=dataclasses.replace(settings.model, dropout=0.0),
            train=dataclasses.replace(
                settings.train, precision="fp32", compile=False, learning_rate=rate
            ),
        )
        return dataclasses.replace(self.experiment, settings=changed)

    def _write_page(self, findings: Findings, content: Mapping[str, Any]) -> Path:
        subjects = {
            "pytorch": Subject(
                name=str(self.folders["pytorch"].path),
                model=self.scratch,
                inside=scratch.inside(self.scratch),
                variant=Variant(),
                vocabulary=self.tokenizer,
                step=findings.summaries["pytorch"].get("best_step"),
            ),
            "huggingface": Subject(
                name=str(self.folders["huggingface"].path),
                model=self.marian,
                inside=huggingface.inside(self.marian),
                variant=huggingface.variant(self.marian.config),
                vocabulary=self.tokenizer,
                step=findings.summaries["huggingface"].get("best_step"),
            ),
        }
        models = [
            self._results_of(subject, version, findings) for version, subject in subjects.items()
        ]
        content = {
            **content,
            "quantities": [row.as_dict() for row in findings.quantities()],
            "paired_words": [said.as_dict() for said in findings.paired.messages()],
        }
        page = Page(kind="comparison", models=models, comparison=content)
        return write_page(page, self.folder.path)

    def _results_of(self, subject: Subject, version: str, findings: Findings) -> ModelResults:
        folder = self.folders[version]
        found = insight_of(subject, self.experiment.data, ablate=False)
        trace = folder.path / "logs" / "trace.json"
        return ModelResults(
            name=subject.name,
            version=version,
            inspection=found.inspection,
            pairs=found.pairs,
            alignment=found.alignment,
            history=History.load(folder.path, folder.read_metrics("probe")),
            records=findings.records[version],
            summary=findings.summaries[version],
            translated=findings.translations[version],
            trace=json.loads(trace.read_text("utf-8")) if trace.exists() else None,
        )

    def summaries(self) -> dict[str, dict[str, Any]]:
        """Version -> its ``summary.json``, with what only a comparison asks for."""
        found = {
            name: json.loads((folder.path / SUMMARY).read_text("utf-8"))
            for name, folder in self.folders.items()
        }
        models = {"pytorch": self.scratch, "huggingface": self.marian}
        ours, theirs = (
            [line["hypothesis"] for line in lines] for lines in self.translations().values()
        )
        alike = side_by_side.share_alike(ours, theirs)
        library = (MarianMTModel, GenerationMixin, Trainer, Seq2SeqTrainer)
        sources = [Path(inspect.getsourcefile(part)) for part in library]
        for name, model in models.items():
            package = Path(__file__).parent.parent / f"{name}_version"
            found[name] |= {
                "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
                "code_lines": side_by_side.code_lines(sorted(package.glob("*.py"))),
                "library_lines": side_by_side.code_lines(sources),
                "alike": alike,
            }
        return found

    def translations(self) -> dict[str, list[dict[str, str]]]:
        """Version -> its translations of all evaluation sentences."""
        return {name: folder.read_lines(TRANSLATIONS) for name, folder in self.folders.items()}

    def cross_attention(self) -> SharedSentence:
        """Both models' last layer on the first evaluation sentence, given its reference."""
        pairs = self.experiment.data.eval
        batch = collate([pairs[0]]).to(self.device)
        layer = len(self.scratch.decoder.layers) - 1
        name = f"decoder.{layer}.cross_attn.weights"
        weights = {}
        for version, side in (
            ("pytorch", scratch_side(self.scratch)),
            ("huggingface", marian_side(self.marian)),
        ):
            points = {name: side.points[name]}
            with torch.no_grad(), side.explicit_attention(side.model):
                with capture(side.model, points) as found:
                    side.logits_of(side.model, batch.src_ids, batch.decoder_input_ids)
            weights[version] = found[name][0].numpy()
        src_pieces, tgt_pieces = map(self.tokenizer.pieces, pairs[0])
        return SharedSentence(weights, src_pieces, tgt_pieces, layer, pairs.pairs[0].src)
