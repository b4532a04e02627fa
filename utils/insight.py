"""What a finished run says about its model's inside: alignment, operation trace, figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from utils.config import Settings
from utils.corpus import Pair
from utils.data import PreparedData
from utils.environment import cores_left_to
from utils.exhibits import exhibits, of_alignment
from utils.figure_writer import FigureWriter
from utils.history import History
from utils.inspection import (
    CHOSEN_ON,
    SAMPLE,
    SHOWN,
    Alignment,
    Inspection,
    align,
    inspect,
    write_trace,
)
from utils.results import ResultsFolder, log
from utils.subject import Subject
from utils.tracking import probe_pairs
from utils.training_exhibits import of_training


@dataclass(frozen=True, kw_only=True)
class Insight:
    """What is inside a run's best model.

    Attributes:
        inspection: what all analyses found.
        pairs: the sentences inspected.
        alignment: which head aligns; None without gold alignments.
        trace: content of ``logs/trace.json``; None without ``--debug``.
    """

    inspection: Inspection
    pairs: Sequence[Pair]
    alignment: Alignment | None
    trace: Mapping[str, Any] | None

    @property
    def metrics(self) -> dict[str, float]:
        """What ``summary.json`` says besides: ``aer``, where gold alignments exist."""
        return {} if self.alignment is None else {"aer": self.alignment.aer}


def look_inside(
    subject: Subject,
    folder: ResultsFolder,
    settings: Settings,
    data: PreparedData,
    history: History,
) -> Insight:
    """Look into the best model of a run, as closely as its options say.

    Args:
        subject: the model.
        folder: of the run.
        settings: its options.
        data: what it learnt from.
        history: what was followed while it was trained.
    """
    log.info("Looking inside the best model ...")
    found = insight_of(subject, data, ablate=bool(settings.run.visualize))
    if settings.run.debug:
        example, smoothing = found.inspection.examples[0], settings.train.label_smoothing
        found = replace(found, trace=write_trace(subject, example, smoothing, folder))
    if settings.run.visualize:
        with FigureWriter(settings.run) as writer, cores_left_to(writer.num_processes):
            writer.add(of_training(history))
            if found.alignment is not None:
                writer.add(of_alignment(found.alignment))
            writer.add(exhibits(found.inspection))
            writer.write(folder, subject.name, subject.step)
    return found


def insight_of(subject: Subject, data: PreparedData, ablate: bool) -> Insight:
    """What is inside a model, by the sentences of its run; no trace.

    Args:
        subject: the model.
        data: of its run.
        ablate: silence each head too.
    """
    pairs = shown_pairs(data)
    sample = data.eval.pairs[:SAMPLE]
    shown, sampled = (
        [subject.example(pair.src, pair.tgt) for pair in part] for part in (pairs, sample)
    )
    return Insight(
        inspection=inspect(subject, shown, sampled, ablate),
        pairs=pairs,
        alignment=align(subject, data.train_sample.first(CHOSEN_ON), reported_on=data.eval),
        trace=None,
    )


def shown_pairs(data: PreparedData) -> list[Pair]:
    """The evaluation sentences that figures and pages show: the first of those followed."""
    return [data.eval.pairs[i] for i in probe_pairs(data.eval)[:SHOWN]]
