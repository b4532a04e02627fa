"""What a finished run says about its model's inside: alignment, operation trace, figures."""

from typing import Any

from utils.config import Settings
from utils.data import PreparedData
from utils.environment import cores_left_to
from utils.exhibits import exhibits, of_alignment
from utils.figure_writer import FigureWriter
from utils.history import History
from utils.inspection import SAMPLE, align, inspect, write_trace
from utils.results import ResultsFolder, log
from utils.subject import Subject
from utils.training_exhibits import of_training

CHOSEN_ON = 200  # training sentences that the best aligning head is chosen on
SHOWN = 3  # evaluation sentences that figures are drawn of


def look_inside(
    subject: Subject,
    folder: ResultsFolder,
    settings: Settings,
    data: PreparedData,
    history: History,
) -> dict[str, Any]:
    """Look into the best model of a run, as closely as its options say.

    Args:
        subject: the model.
        folder: of the run.
        settings: its options.
        data: what it learnt from.
        history: what was followed while it was trained.

    Returns:
        What ``summary.json`` says besides: ``aer``, where gold alignments exist.
    """
    alignment = align(subject, data.train_sample.first(CHOSEN_ON), reported_on=data.eval)
    sample = [subject.example(pair.src, pair.tgt) for pair in data.eval.pairs[:SAMPLE]]
    if settings.run.debug:
        write_trace(subject, sample[0], settings.train.label_smoothing, folder)
    if settings.run.visualize:
        log.info("Looking inside the best model ...")
        with FigureWriter(settings.run) as writer, cores_left_to(writer.num_processes):
            writer.add(of_training(history))
            if alignment is not None:
                writer.add(of_alignment(alignment))
            writer.add(exhibits(inspect(subject, sample[:SHOWN], sample)))
            writer.write(folder, subject.name, subject.step)
    return {} if alignment is None else {"aer": alignment.aer}
