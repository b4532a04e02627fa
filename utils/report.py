"""``--version analysis``: load any trained model, and have it looked into.

Besides ``main`` and `utils.comparison` the only module that knows both implementations.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from huggingface_version import checkpoints as huggingface_checkpoints
from huggingface_version import foreign
from huggingface_version import generate as huggingface_generate
from huggingface_version import model as huggingface
from pytorch_version import generate as scratch_generate
from pytorch_version import model as scratch
from pytorch_version import saved as scratch_saved
from utils.checkpoint import CheckpointError
from utils.config import Settings, UserError
from utils.corpus import Corpus
from utils.data import load_corpus
from utils.environment import cores_left_to, select_device
from utils.examination import Examination, Loaded, Request
from utils.figure_writer import Exhibit, FigureWriter
from utils.guided_tour import DEMO_MODEL, run_of
from utils.history import History
from utils.operations import Variant
from utils.results import RESULT, SUMMARY, ResultsFolder, check_writable, log
from utils.subject import Subject
from utils.tokenizer import Tokenizer

ENOUGH = 100  # training pairs asked of a dataset that is only evaluated on


def analyse(
    settings: Settings,
    texts: Sequence[str],
    targets: Sequence[str],
    writer: FigureWriter,
    of_training: Sequence[Exhibit],
) -> None:
    """Look into the model that the options name, or into the one that comes along.

    Args:
        settings: all options.
        texts: the user's sentences; none takes sentences of the model's own task.
        targets: their translations, if given.
        writer: of figures.
        of_training: figures of the model's training, which the writer has already.

    Raises:
        UserError: the user's input is wrong; nothing was written then.
    """
    output_dir = Path(settings.run.output_dir)
    with cores_left_to(writer.num_processes):
        loaded = load(settings.analysis.checkpoint, select_device(settings.run.device))
        request = Request(texts=texts, targets=targets, corpus=_corpus(settings))
        request.require_fit(loaded)
        check_writable(output_dir)
        folder = ResultsFolder.create(output_dir, "analysis")
        Examination(settings, loaded, request, folder, writer).execute(of_training)


def translate(settings: Settings, texts: Sequence[str]) -> None:
    """Print translations line by line, and nothing else; an empty line stays one.

    Raises:
        UserError: the user's input is wrong.
    """
    loaded = load(settings.analysis.checkpoint, select_device(settings.run.device))
    sentences = [text for text in texts if text]
    Request(texts=sentences, targets=(), corpus=None).require_fit(loaded)
    translations = iter(loaded.translate(sentences))
    for text in texts:
        log.log(RESULT, next(translations) if text else "")


def _corpus(settings: Settings) -> Corpus | None:
    """The dataset to be evaluated on, if one was named; its training pairs hardly matter."""
    if "dataset" not in settings.given:
        return None
    return load_corpus(dataclasses.replace(settings.data, train_size=ENOUGH), settings.run.seed)


def load(checkpoint: str | None, device: torch.device) -> Loaded:
    """Load a model: a ``.pt`` of ours, or a MarianMT folder or hub name.

    Args:
        checkpoint: None takes the model that comes along.
        device: where to.

    Raises:
        UserError: it cannot be loaded.
    """
    if checkpoint is None:
        if not (DEMO_MODEL / "config.json").exists():
            raise UserError(
                f"the demo model is missing from {DEMO_MODEL}; clone the project whole, or name a "
                "model with --checkpoint"
            )
        return _load_marian(str(DEMO_MODEL), device)
    if Path(checkpoint).is_file():
        return _load_scratch(Path(checkpoint), device)
    return _load_marian(checkpoint, device)


def _load_scratch(path: Path, device: torch.device) -> Loaded:
    try:
        saved = scratch_saved.load_saved(path, device)
        model, tokenizer = scratch_saved.load_model(path, device)
    except CheckpointError as error:
        raise UserError(f"--checkpoint {error}") from error
    return Loaded(
        subject=Subject(
            name=str(path),
            model=model,
            inside=scratch.inside(model),
            variant=Variant(),
            vocabulary=tokenizer,
            step=saved.step,
        ),
        translate=lambda sentences: scratch_generate.translate(
            model, tokenizer, sentences, decoding=saved.decoding
        ),
        max_length=saved.decoding.max_length,
        options=saved.options,
        **_training_of(run_of(str(path))),
    )


def _load_marian(name: str, device: torch.device) -> Loaded:
    marian = foreign.load_any(name, device)
    folder = Path(name)
    tokenizer = Tokenizer.from_folder(folder)
    run = run_of(name)
    training = _training_of(run)
    vocabulary = tokenizer or foreign.ForeignVocabulary.load(name)
    if tokenizer is not None:
        ids = {}
        translate = huggingface_generate.translate
    else:
        ids = {
            "start_id": marian.config.decoder_start_token_id,
            "pad_id": marian.config.pad_token_id,
            "never_generated": [marian.config.pad_token_id],
        }
        translate = foreign.translate
    return Loaded(
        subject=Subject(
            name=name,
            model=marian,
            inside=huggingface.inside(marian),
            variant=huggingface.variant(marian.config),
            vocabulary=vocabulary,
            step=_step_of(folder, training["records"]) if run else None,
            **ids,
        ),
        translate=lambda sentences: translate(marian, vocabulary, sentences),
        max_length=marian.config.max_position_embeddings,
        options=training["summary"]["config"] if run and tokenizer else {},
        **training,
    )


def _step_of(folder: Path, records: Sequence[Mapping[str, Any]]) -> int | None:
    """The step that a MarianMT folder was saved at, if the ``records`` of its run tell."""
    if (folder / huggingface_checkpoints.RECORD).exists():
        return huggingface_checkpoints.step_of(folder)
    evaluations = [record for record in records if record["kind"] == "eval"]
    return min(evaluations, key=lambda record: record["nll"], default={}).get("step")


def _training_of(run: Path | None) -> dict[str, Any]:
    """What a results folder tells of a model's training: fields of `Loaded`."""
    if run is None:
        return {"history": None, "translated": [], "records": [], "summary": {}}
    folder, translations = ResultsFolder(run), "logs/translations.jsonl"
    return {
        "records": folder.read_metrics("train", "eval"),
        "summary": json.loads((run / SUMMARY).read_text("utf-8")),
        "history": History.load(run, folder.read_metrics("probe")),
        "translated": folder.read_lines(translations) if (run / translations).exists() else [],
    }
