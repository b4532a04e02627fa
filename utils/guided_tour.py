"""``--version analysis``: what is to be looked into, and first of all the drawing.

PyTorch and transformers take seconds to import; meanwhile the figures of the model's training are
drawn, which need neither.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from utils.config import Settings, UserError
from utils.figure_writer import Exhibit, FigureWriter
from utils.history import History
from utils.imports import quick_imports
from utils.results import ResultsFolder
from utils.training_exhibits import of_training

DEMO_MODEL = Path(__file__).parent.parent / "assets" / "demo_model"


def run_analysis(settings: Settings) -> None:
    """Look into the model that the options name, or into the one that comes along.

    Raises:
        UserError: the user's input is wrong.
    """
    texts = texts_of(settings)
    targets = targets_of(settings, texts)
    if settings.analysis.text == ("-",) and settings.run.quiet:
        with quick_imports():
            from utils.report import translate
        translate(settings, texts)
        return
    followed = _figures_of_training(settings.analysis.checkpoint or str(DEMO_MODEL))
    with FigureWriter(settings.run) as writer:
        writer.add(followed)
        with quick_imports():
            from utils.report import analyse
        analyse(settings, [text for text in texts if text], targets, writer, followed)


def run_of(checkpoint: str) -> Path | None:
    """The results folder that a checkpoint lies in, if any."""
    path = Path(checkpoint).resolve()
    if not path.exists():  # a name on the hub
        return None
    for folder in (path, path.parent, path.parent.parent):
        if (folder / "summary.json").exists() and (folder / "logs").exists():
            return folder
    return None


def _figures_of_training(checkpoint: str) -> list[Exhibit]:
    run = run_of(checkpoint)
    history = run and History.load(run, ResultsFolder(run).read_metrics("probe"))
    return list(of_training(history)) if history else []


def texts_of(settings: Settings) -> list[str]:
    """The user's sentences; "-" stands for the lines of standard input.

    Raises:
        UserError: there is nothing in one of them.
    """
    texts: list[str] = []
    for text in settings.analysis.text:
        if text == "-":
            try:
                read = sys.stdin.buffer.read().decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise UserError(f"--text -: standard input is not UTF-8 ({error})") from error
            # Not splitlines: a sentence may hold a character that Python takes for a line's end.
            texts += read.removesuffix("\n").split("\n")
        elif not text.strip():
            raise UserError("--text is empty; give a sentence to translate")
        else:
            texts.append(text)
    if settings.analysis.text and not any(text.strip() for text in texts):
        raise UserError("--text -: standard input has no sentence in it")
    return [text.strip() for text in texts]


def targets_of(settings: Settings, texts: Sequence[str]) -> list[str]:
    """The given translations of the user's sentences.

    Raises:
        UserError: they are not as many, or one is empty.
    """
    targets, number = settings.analysis.tgt_text, len([text for text in texts if text])
    if targets and len(targets) != number:
        raise UserError(
            f"--tgt_text is given {len(targets)} times, --text {number}; give one for each"
        )
    if not all(target.strip() for target in targets):
        raise UserError("--tgt_text is empty; leave it out to let the model translate")
    return list(targets)
