"""``--version analysis``: load any trained model, look into it, say what is seen.

Besides ``main`` and `utils.comparison` the only module that knows both implementations.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from huggingface_version import foreign
from huggingface_version import generate as huggingface_generate
from huggingface_version import model as huggingface
from pytorch_version import generate as scratch_generate
from pytorch_version import model as scratch
from pytorch_version import saved as scratch_saved
from utils import figure_writer
from utils.batching import TokenizedPairs
from utils.checkpoint import CheckpointError
from utils.config import EMBEDDED_DATASETS, Settings, UserError
from utils.corpus import Pair, generate
from utils.data import load_corpus
from utils.environment import select_device
from utils.exhibits import exhibits, of_alignment, trajectories_of
from utils.figure_writer import Exhibit, FigureWriter
from utils.guided_tour import DEMO_MODEL, run_of
from utils.history import History
from utils.inspection import SAMPLE, Alignment, align, inspect, trace_example
from utils.metrics import TokenScores, translation_scores
from utils.operations import Variant
from utils.results import RESULT, ResultsFolder, check_writable, log
from utils.subject import Example, Subject
from utils.tokenizer import Tokenizer
from utils.trace_listing import lines

CHOSEN_ON, REPORTED_ON = 200, 500  # sentences for the best aligning head
SHOWN = 3  # sentences of the model's own task that figures are drawn of
MOST_TEXTS = 8  # of the user's that figures are drawn of
BATCH_SIZE = 64
LABEL_SMOOTHING = 0.0  # of a trace: the NLL


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A trained model, what it translates with, and what is known of its training.

    Attributes:
        subject: the model.
        translate: sentences -> translations, as its run did.
        max_length: longest sentence in tokens.
        options: of its run, by option name; empty if unknown.
        history: of its training, if it was followed.
        translated: lines of its run's ``translations.jsonl``, if any.
    """

    subject: Subject
    translate: Callable[[Sequence[str]], list[str]]
    max_length: int
    options: Mapping[str, Any]
    history: History | None
    translated: Sequence[Mapping[str, str]]


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
        UserError: the user's input is wrong.
    """
    if settings.run.visualize is not False and figure_writer.PROCESSES > 1:
        # The other cores draw; threads that wait for each other on a busy core wait long.
        torch.set_num_threads(max(1, torch.get_num_threads() - figure_writer.PROCESSES))
    loaded = load(settings.analysis.checkpoint, select_device(settings.run.device))
    _require_fit(loaded, texts)
    check_writable(Path(settings.run.output_dir))
    folder = ResultsFolder.create(Path(settings.run.output_dir), "analysis")
    Analysis(settings, loaded, folder, writer).execute(texts, targets, of_training)


def translate(settings: Settings, texts: Sequence[str]) -> None:
    """Print translations line by line, and nothing else; an empty line stays one.

    Raises:
        UserError: the user's input is wrong.
    """
    loaded = load(settings.analysis.checkpoint, select_device(settings.run.device))
    _require_fit(loaded, texts)
    translations = iter(loaded.translate([text for text in texts if text]))
    for text in texts:
        log.log(RESULT, next(translations) if text else "")


class Analysis:
    """One analysis, from sentences to the results folder.

    Args:
        settings: all options.
        loaded: the model.
        folder: where the results go.
        writer: of figures.
    """

    def __init__(
        self, settings: Settings, loaded: Loaded, folder: ResultsFolder, writer: FigureWriter
    ) -> None:
        self.settings, self.loaded, self.folder = settings, loaded, folder
        self.writer = writer
        self.subject = loaded.subject

    def execute(
        self, texts: Sequence[str], targets: Sequence[str], of_training: Sequence[Exhibit]
    ) -> None:
        """Write the results folder and print the tour; the arguments are those of `analyse`."""
        log.info(f"Model: {self.subject.name}")
        content: dict[str, Any] = {}
        if "dataset" in self.settings.given:
            content["evaluation"] = self._evaluate()
        sample = self._own_task()
        examples = sample[:SHOWN]
        if texts:
            examples = self._texts_in_tokens(texts, targets)
            for example in examples:
                log.log(RESULT, f"  {example.src}\n    -> {example.tgt}")
            sample = sample or examples[:SAMPLE]
        log.info("Looking inside ...")
        inspection = inspect(self.subject, examples[:MOST_TEXTS], sample)
        shown = self._draw(exhibits(inspection))
        alignment = self._align()
        if alignment is not None:
            shown = self._draw(of_alignment(alignment)) + shown
        content |= inspection.content() | self._training_content()
        content["alignment"] = alignment and alignment.as_dict()
        content["further_translations"] = [
            {"src": example.src, "tgt": example.tgt} for example in examples[MOST_TEXTS:]
        ]
        if self.settings.run.debug:
            self._trace(examples[0])
        path = self.folder.write_json("analysis.json", content)
        if self._drawn:
            self.writer.write(self.folder, self.subject.name, self.subject.step)
        for line in _tour([*shown, *of_training], self._drawn):
            log.info(line)
        if alignment is not None:
            best = alignment.best
            log.log(
                RESULT,
                f"\nBest aligning head: decoder layer {best.layer}, head {best.head}; alignment "
                f"error rate {alignment.aer:.3f} on {alignment.table.num_sentences} sentences",
            )
        log.info(f"\n{path}")

    @property
    def _drawn(self) -> bool:
        return self.settings.run.visualize is not False

    def _draw(self, exhibits: Iterable[Exhibit]) -> list[Exhibit]:
        """Begin to draw, unless no figures are wanted."""
        exhibits = list(exhibits)
        if self._drawn:
            self.writer.add(exhibits)
        return exhibits

    def _training_content(self) -> dict[str, Any]:
        """What ``analysis.json`` says of the model's training."""
        history = self.loaded.history
        if history is None:
            return {"training": None}
        moved = trajectories_of(history)
        return {"training": {"probes": history.records, "embeddings": moved and moved.as_dict()}}

    def _trace(self, example: Example) -> None:
        trace = trace_example(self.subject, example, LABEL_SMOOTHING)
        self.folder.write_json("logs/trace.json", trace.as_dict())
        for line in lines(trace):
            log.debug("%s", line)

    def _align(self) -> Alignment | None:
        """The best aligning head, if the model's own task has gold alignments."""
        if self.loaded.options.get("dataset") not in EMBEDDED_DATASETS:
            return None
        vocabulary = self.subject.vocabulary
        chosen_on, reported_on = (
            TokenizedPairs(_unseen_pairs(self.loaded.options, *each), vocabulary,
                           self.loaded.max_length)
            for each in (("eval", CHOSEN_ON), ("test", REPORTED_ON))
        )  # fmt: skip
        return align(
            self.subject.model, self.subject.inside, vocabulary.pieces, chosen_on, reported_on
        )

    def _own_task(self) -> list[Example]:
        """Sample sentences, from what the model was trained for."""
        if self.loaded.options.get("dataset") in EMBEDDED_DATASETS:
            return self._examples(_unseen_pairs(self.loaded.options, "test", SAMPLE))
        if self.loaded.translated:
            pairs = [Pair(x["src"], x["reference"]) for x in self.loaded.translated[:SAMPLE]]
            return self._examples(pairs)
        if self.settings.analysis.text:
            return []
        # Nothing is known of the model: English sentences and what it makes of them.
        sources = [pair.src for pair in generate("grammar", "test", SAMPLE, 0)]
        pairs = map(Pair, sources, self.loaded.translate(sources))
        return self._examples(list(pairs))

    def _examples(self, pairs: Sequence[Pair]) -> list[Example]:
        return [self.subject.example(pair.src, pair.tgt) for pair in pairs]

    def _texts_in_tokens(self, texts: Sequence[str], targets: Sequence[str]) -> list[Example]:
        """The user's sentences with the given translations, or with the model's."""
        longest = self.loaded.max_length
        made = targets or self.loaded.translate(texts)
        examples = [self.subject.example(*pair) for pair in zip(texts, made, strict=True)]
        for example in examples:
            if targets and len(example.tgt_ids) > longest:
                raise UserError(
                    f"--tgt_text has {len(example.tgt_ids)} tokens, the model takes at most "
                    f"{longest}; shorten it"
                )
        # A model that finds no end stops before </s>, for which there is no position left.
        return [example._replace(tgt_ids=example.tgt_ids[:longest]) for example in examples]

    def _evaluate(self) -> dict[str, Any]:
        """Score the model on the evaluation pairs of ``--dataset``."""
        corpus = load_corpus(self.settings.data, self.settings.run.seed)
        examples = [
            example
            for example in self._examples(corpus.eval)
            if max(len(example.src_ids), len(example.tgt_ids)) <= self.loaded.max_length
        ]
        if not examples:
            raise UserError(
                f"--dataset {corpus.name}: all {len(corpus.eval):,} evaluation pairs are longer "
                f"than the model's {self.loaded.max_length} tokens"
            )
        scores = TokenScores()
        with torch.inference_mode():
            for start in range(0, len(examples), BATCH_SIZE):
                batch = self.subject.batch(examples[start : start + BATCH_SIZE])
                batch = batch.to(next(self.subject.model.parameters()).device)
                logits = self.subject.inside.logits_of(
                    self.subject.model, batch.src_ids, batch.decoder_input_ids
                )
                scores.add(logits, batch.labels)
        hypotheses = self.loaded.translate([example.src for example in examples])
        found = {
            "dataset": corpus.name,
            "sentences": len(examples),
            "left_out": len(corpus.eval) - len(examples),
            "nll": scores.nll,
            "token_accuracy": scores.accuracy,
            **translation_scores(hypotheses, [example.tgt for example in examples]),
        }
        log.log(
            RESULT,
            f"On {len(examples):,} pairs of {corpus.name}: NLL {found['nll']:.4f}, BLEU "
            f"{found['bleu']:.2f}, chrF {found['chrf']:.2f}, exact match "
            f"{found['exact_match']:.1%}",
        )
        return found


def _tour(shown: Sequence[Any], drawn: bool) -> list[str]:
    """A guided tour: each figure with what it shows."""
    tour = ["", "A guided tour"] if drawn else ["", "What was found (no figures: --no_visualize)"]
    for number, exhibit in enumerate(shown, start=1):
        tour += [f"{number:3d}. visualizations/{exhibit.name}.png", f"     {exhibit.caption}"]
    return tour


def _unseen_pairs(options: Mapping[str, Any], split: str, size: int) -> list[Pair]:
    """Pairs of an embedded dataset that no model learns from."""
    pairs = generate(options["dataset"], split, size, options["seed"])
    if options["dataset"] == "grammar" and options["src_lang"] == "ko":
        return [pair.reversed_direction() for pair in pairs]
    return pairs


def _require_fit(loaded: Loaded, texts: Sequence[str]) -> None:
    """Refuse sentences that the model has no positions for.

    Raises:
        UserError: one is too long.
    """
    for text in texts:
        if (number := len(loaded.subject.vocabulary.encode(text))) > loaded.max_length:
            raise UserError(
                f"--text has {number} tokens ({text[:30]!r} ...), the model takes at most "
                f"{loaded.max_length}; shorten or split it"
            )


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
            **ids,
        ),
        translate=lambda sentences: translate(marian, vocabulary, sentences),
        max_length=marian.config.max_position_embeddings,
        options=_options_of(run) if run and tokenizer else {},
        **_training_of(run),
    )


def _options_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "summary.json").read_text("utf-8"))["config"]


def _training_of(run: Path | None) -> dict[str, Any]:
    """What a results folder tells of a model's training."""
    if run is None:
        return {"history": None, "translated": []}
    folder, translations = ResultsFolder(run), "logs/translations.jsonl"
    return {
        "history": History.load(run, folder.read_metrics("probe")),
        "translated": folder.read_lines(translations) if (run / translations).exists() else [],
    }
