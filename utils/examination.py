"""One analysis of a loaded model: sentences, every analysis, figures and a guided tour."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from utils import language, wandb_log
from utils.batching import TokenizedPairs
from utils.config import EMBEDDED_DATASETS, Settings, UserError
from utils.corpus import Corpus, Pair, generate
from utils.exhibits import exhibits, of_alignment
from utils.figure_writer import Exhibit, FigureWriter
from utils.history import History
from utils.inspection import (
    BATCH_SIZE,
    CHOSEN_ON,
    SAMPLE,
    SHOWN,
    Alignment,
    Inspection,
    align,
    inspect,
    write_trace,
)
from utils.metrics import TokenScores, translation_scores
from utils.page import Page
from utils.page import write as write_page
from utils.page_data import ModelResults
from utils.results import RESULT, ResultsFolder, log
from utils.subject import Example, Subject
from utils.training_exhibits import trajectories_of

REPORTED_ON = 500  # sentences that the error rate of the best aligning head is taken over
MOST_TEXTS = 8  # of the user's that figures are drawn of
LABEL_SMOOTHING = 0.0  # of a trace: its loss is the NLL


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
        records: train and eval lines of its run's ``metrics.jsonl``.
        summary: its run's ``summary.json``; empty if there is none.
    """

    subject: Subject
    translate: Callable[[Sequence[str]], list[str]]
    max_length: int
    options: Mapping[str, Any]
    history: History | None
    translated: Sequence[Mapping[str, str]]
    records: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]

    def examples(self, pairs: Sequence[Pair]) -> list[Example]:
        """Sentence pairs in the model's tokens."""
        return [self.subject.example(pair.src, pair.tgt) for pair in pairs]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user wants to be looked at.

    Attributes:
        texts: sentences; none takes sentences of the model's own task.
        targets: their translations; none lets the model translate.
        corpus: whose evaluation pairs the model is scored on, if any.
    """

    texts: Sequence[str]
    targets: Sequence[str]
    corpus: Corpus | None

    def require_fit(self, loaded: Loaded) -> None:
        """Refuse what the model has no positions for.

        Raises:
            UserError: a sentence is too long, or all of the corpus is.
        """
        longest, vocabulary = loaded.max_length, loaded.subject.vocabulary
        for name, texts, encode in (
            ("--text", self.texts, vocabulary.encode),
            ("--tgt_text", self.targets, vocabulary.encode_target),
        ):
            for text in texts:
                if (number := len(encode(text))) > longest:
                    raise UserError(
                        f"{name} has {number} tokens ({text[:30]!r} ...), the model takes at most "
                        f"{longest}; shorten or split it"
                    )
        if self.corpus is not None and not self.scored_on(loaded):
            raise UserError(
                f"--dataset {self.corpus.name}: all {len(self.corpus.eval):,} evaluation pairs are "
                f"longer than the model's {longest} tokens"
            )

    def scored_on(self, loaded: Loaded) -> list[Example]:
        """The evaluation pairs that the model has positions for."""
        return [
            example
            for example in loaded.examples(self.corpus.eval)
            if max(len(example.src_ids), len(example.tgt_ids)) <= loaded.max_length
        ]


class Examination:
    """One analysis, from sentences to the results folder.

    Args:
        settings: all options.
        loaded: the model.
        request: what is to be looked at.
        folder: where the results go.
        writer: of figures.
    """

    def __init__(
        self,
        settings: Settings,
        loaded: Loaded,
        request: Request,
        folder: ResultsFolder,
        writer: FigureWriter,
    ) -> None:
        self.settings, self.loaded, self.request = settings, loaded, request
        self.folder, self.writer = folder, writer
        self.subject = loaded.subject

    def execute(self, of_training: Sequence[Exhibit]) -> None:
        """Write the results folder and print the tour.

        Args:
            of_training: figures of the model's training, which the writer has already.
        """
        log.info(language.text("tour.model", name=self.subject.name))
        content: dict[str, Any] = {}
        if self.request.corpus is not None:
            content["evaluation"] = self._evaluate(self.request.corpus)
        sample = self._own_task()
        followed = self._followed()
        examples = [*self.loaded.examples(followed), *sample][:SHOWN]
        if self.request.texts:
            examples = self._texts_in_tokens()
            for example in examples:
                log.log(RESULT, f"  {example.src}\n    -> {example.tgt}")
            sample = sample or examples[:SAMPLE]
        log.info(language.text("tour.looking"))
        inspection = inspect(self.subject, examples[:MOST_TEXTS], sample)
        shown = self._draw(exhibits(inspection))
        alignment = self._align()
        if alignment is not None:
            shown = self._draw(of_alignment(alignment)) + shown
        content |= self._content(inspection, alignment, examples[MOST_TEXTS:])
        results = self._results(inspection, alignment, followed, content.get("evaluation"))
        page = write_page(Page(kind="analysis", models=[results]), self.folder.path)
        path = self.folder.write_json("analysis.json", content)
        self.writer.write(self.folder, self.subject.name, self.subject.step)
        for line in self._tour([*shown, *of_training]):
            log.info(line)
        if alignment is not None:
            log.log(RESULT, f"\n{_best_head(alignment)}")
        log.info(f"\n{path}")
        logged = wandb_log.begin(self.folder, self.settings, "analysis")
        logged.finish(path.name, "evaluation", "alignment")
        log.log(RESULT, str(page))  # the last line

    def _evaluate(self, corpus: Corpus) -> dict[str, Any]:
        """Score the model on the evaluation pairs of a corpus."""
        for note in corpus.notes:
            log.warning("Note: %s", note)
        subject, examples = self.subject, self.request.scored_on(self.loaded)
        scores = TokenScores()
        with torch.inference_mode():
            for start in range(0, len(examples), BATCH_SIZE):
                batch = subject.batch(examples[start : start + BATCH_SIZE])
                batch = batch.to(next(subject.model.parameters()).device)
                logits = subject.inside.logits_of(
                    subject.model, batch.src_ids, batch.decoder_input_ids
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
        scored = language.text(
            "tour.scores",
            pairs=f"{len(examples):,}",
            data=corpus.name,
            nll=f"{found['nll']:.4f}",
            bleu=f"{found['bleu']:.2f}",
            chrf=f"{found['chrf']:.2f}",
            match=f"{found['exact_match']:.1%}",
        )
        log.log(RESULT, scored)
        return found

    def _own_task(self) -> list[Example]:
        """Sample sentences, from what the model was trained for."""
        if self.loaded.options.get("dataset") in EMBEDDED_DATASETS:
            return self.loaded.examples(_unseen_pairs(self.loaded.options, "test", SAMPLE))
        if self.loaded.translated:
            lines = self.loaded.translated[:SAMPLE]
            return self.loaded.examples([Pair(line["src"], line["reference"]) for line in lines])
        if self.request.texts:
            return []
        # Nothing is known of the model: English sentences and what it makes of them.
        sources = [pair.src for pair in generate("grammar", "test", SAMPLE, 0)]
        return self._cut(zip(sources, self.loaded.translate(sources), strict=True))

    def _followed(self) -> list[Pair]:
        """The sentences whose attention was mapped while the model was trained."""
        history = self.loaded.history
        if history is None:
            return []
        known = self._embedded_pairs("eval", CHOSEN_ON)
        mapped = history.sentences[: len(history.src_pieces)]
        return [known.get(pair, Pair(*pair)) for pair in mapped]

    def _embedded_pairs(self, split: str, size: int) -> dict[tuple[str, str], Pair]:
        """Pairs of the model's own embedded dataset, if it has one, by their two texts."""
        if self.loaded.options.get("dataset") not in EMBEDDED_DATASETS:
            return {}
        return {pair[:2]: pair for pair in _unseen_pairs(self.loaded.options, split, size)}

    def _texts_in_tokens(self) -> list[Example]:
        """The user's sentences with the given translations, or with the model's."""
        texts = self.request.texts
        made = self.request.targets or self.loaded.translate(texts)
        return self._cut(zip(texts, made, strict=True))

    def _cut(self, pairs: Iterable[tuple[str, str]]) -> list[Example]:
        """Pairs in tokens. A model that finds no end stops where </s> has no position left."""
        examples = [self.subject.example(*pair) for pair in pairs]
        longest = self.loaded.max_length
        return [example._replace(tgt_ids=example.tgt_ids[:longest]) for example in examples]

    def _draw(self, exhibits: Iterable[Exhibit]) -> list[Exhibit]:
        """Begin to draw; returns what is drawn."""
        exhibits = list(exhibits)
        self.writer.add(exhibits)
        return exhibits

    def _align(self) -> Alignment | None:
        """The best aligning head, if the model's own task has gold alignments."""
        if self.loaded.options.get("dataset") not in EMBEDDED_DATASETS:
            return None
        vocabulary, longest = self.subject.vocabulary, self.loaded.max_length
        chosen_on, reported_on = (
            TokenizedPairs(_unseen_pairs(self.loaded.options, *each), vocabulary, longest)
            for each in (("eval", CHOSEN_ON), ("test", REPORTED_ON))
        )
        return align(self.subject, chosen_on, reported_on)

    def _content(
        self, inspection: Inspection, alignment: Alignment | None, further: Sequence[Example]
    ) -> dict[str, Any]:
        """What ``analysis.json`` says of the model's inside.

        Args:
            inspection: what all analyses found.
            alignment: which head aligns, if that could be told.
            further: the user's sentences that were translated and not looked into.
        """
        return {
            **inspection.content(),
            "training": self._training_content(),
            "alignment": alignment and alignment.as_dict(),
            "further_translations": [{"src": one.src, "tgt": one.tgt} for one in further],
        }

    def _training_content(self) -> dict[str, Any] | None:
        """What ``analysis.json`` says of the model's training."""
        history = self.loaded.history
        if history is None:
            return None
        moved = trajectories_of(history)
        return {"probes": history.records, "embeddings": moved and moved.as_dict()}

    def _results(
        self,
        inspection: Inspection,
        alignment: Alignment | None,
        followed: Sequence[Pair],
        evaluation: Mapping[str, Any] | None,
    ) -> ModelResults:
        """What the page shows; with ``--debug`` also the first sentence's trace, written here."""
        trace = None
        if self.settings.run.debug:
            trace = write_trace(self.subject, inspection.examples[0], LABEL_SMOOTHING, self.folder)
        return ModelResults(
            name=self.subject.name,
            version=self.loaded.summary.get("version"),
            inspection=inspection,
            pairs=self._gold(inspection.examples, followed),
            alignment=alignment,
            history=self.loaded.history,
            records=self.loaded.records,
            summary={**self.loaded.summary, "evaluation": evaluation},
            translated=self.loaded.translated,
            trace=trace,
        )

    def _gold(self, examples: Sequence[Example], followed: Sequence[Pair]) -> list[Pair | None]:
        """The pairs of examples with their gold alignments, where they are known."""
        known = {pair[:2]: pair for pair in followed} | self._embedded_pairs("test", SAMPLE)
        return [known.get((example.src, example.tgt)) for example in examples]

    def _tour(self, shown: Sequence[Exhibit]) -> list[str]:
        """A guided tour: each figure with what it shows."""
        if self.settings.run.visualize is False:
            return ["", language.text("tour.no_figures")] + [
                f"  * {exhibit.caption.text()}" for exhibit in shown
            ]
        tour = ["", language.text("tour.title")]
        for number, exhibit in enumerate(shown, start=1):
            tour.append(f"{number:3d}. visualizations/{exhibit.name}.png")
            tour.append(f"     {exhibit.caption.text()}")
        return tour


def _best_head(alignment: Alignment) -> str:
    """The head that aligns best, in a line."""
    return language.text(
        "tour.best_head",
        layer=str(alignment.best.layer),
        head=str(alignment.best.head),
        aer=f"{alignment.aer:.3f}",
        sentences=str(alignment.table.num_sentences),
    )


def _unseen_pairs(options: Mapping[str, Any], split: str, size: int) -> list[Pair]:
    """Pairs of an embedded dataset that no model learns from."""
    pairs = generate(options["dataset"], split, size, options["seed"])
    if options["dataset"] == "grammar" and options["src_lang"] == "ko":
        return [pair.reversed_direction() for pair in pairs]
    return pairs
