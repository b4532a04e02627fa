"""Writing many figures: drawn in other processes meanwhile, for drawing takes longest."""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tqdm import tqdm

from utils import disk, language
from utils.config import RunConfig
from utils.language import Message
from utils.results import ResultsFolder, save_drawing

PROCESSES = min(2, os.cpu_count() or 1)  # that draw


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """One figure and what to say about it.

    Attributes:
        name: of its file below ``visualizations``, without ending.
        caption: two sentences: what is shown, and what this model shows in it.
        draw: makes the figure; something that can be sent to another process.
        record: for the manifest.
    """

    name: str
    caption: Message
    draw: Callable[[], Figure]
    record: dict[str, Any]


class FigureWriter:
    """While entered, draws figures; `write` puts them into a results folder.

    Args:
        run: format, and whether to be quiet; with ``--no_visualize`` nothing is drawn.

    Attributes:
        num_processes: that draw meanwhile; 0 draws when writing.
    """

    def __init__(self, run: RunConfig) -> None:
        self._run = run
        self._is_on = run.visualize is not False
        self.num_processes = PROCESSES if self._is_on and PROCESSES > 1 else 0
        self._exhibits: list[Exhibit] = []
        self._drawings: list[Future] = []
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> FigureWriter:
        self._drawn_in = tempfile.TemporaryDirectory(prefix="figures_")
        if self.num_processes:
            # Started anew, not forked: a process with threads must not be.
            context = multiprocessing.get_context("spawn")
            told = (self._drawn_in.name, language.in_use())
            self._pool = ProcessPoolExecutor(
                self.num_processes, context, initializer=_begin, initargs=told
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
        self._drawn_in.cleanup()

    def add(self, exhibits: Iterable[Exhibit]) -> None:
        """Begin to draw figures, if there are processes for it."""
        for exhibit in exhibits if self._is_on else ():
            self._exhibits.append(exhibit)
            if self._pool:
                number = len(self._drawings)
                self._drawings.append(self._pool.submit(_draw, *self._task(number, exhibit)))

    def write(self, folder: ResultsFolder, checkpoint: str, step: int | None) -> None:
        """Wait until all are drawn, then write them, with their records.

        Args:
            folder: where to.
            checkpoint: the model that they show.
            step: that it was saved at; None if unknown.
        """
        if not self._is_on:
            return
        hidden = True if self._run.quiet else None  # None: off unless on a terminal
        for number, exhibit in enumerate(
            tqdm(self._exhibits, unit="figure", leave=False, disable=hidden)
        ):
            if self._pool:
                self._drawings[number].result()
            else:
                _draw(*self._task(number, exhibit))
            for file in Path(self._drawn_in.name).glob(f"{number}.*"):
                target = Path(f"{folder.figure_path(exhibit.name)}{file.suffix}")
                with disk.replacing(target) as written, open(file, "rb") as drawn:
                    shutil.copyfileobj(drawn, written)
                file.unlink()
        folder.record_figures(
            {"file": f"{exhibit.name}.png", "step": step, "checkpoint": checkpoint}
            | exhibit.record
            | {"caption": exhibit.caption.text()}
            for exhibit in self._exhibits
        )

    def _task(self, number: int, exhibit: Exhibit) -> tuple[Callable[[], Figure], str, str]:
        return exhibit.draw, str(Path(self._drawn_in.name) / str(number)), self._run.figure_format


def _draw(draw: Callable[[], Figure], target: str, fmt: str) -> None:
    save_drawing(draw(), target, fmt)


def _begin(drawn_in: str, spoken: str) -> None:
    """In each process that draws: only the one that began it ends it, Ctrl-C does not.

    Args:
        drawn_in: the folder to delete should that one be killed.
        spoken: the language of the figures.
    """
    language.use(spoken)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(drawn_in,), daemon=True).start()
    gc.freeze()


def _end_with_parent(drawn_in: str) -> None:
    """Python's pools wait for work for ever where their parent was killed."""
    multiprocessing.parent_process().join()
    shutil.rmtree(drawn_in, ignore_errors=True)
    os._exit(1)
