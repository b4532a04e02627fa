"""Figures of a run under way, redrawn while it goes on.

Drawing takes two seconds of one core, far longer than a probe. A process of its own does it, with
the lowest priority, so that the training need not wait where a core is free. Where none is, the
training loses that time all the same, so there must have been enough of it in between.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path

from utils import language
from utils.history import History
from utils.results import ResultsFolder, log
from utils.tracking_figures import ATTENTION_AT_STEP, followed_figures

ROOT = Path(__file__).parent.parent
# Floating-point operations of training between two drawings: about a minute on two CPU cores, of
# which two more seconds are some 4 %. Counted, not timed, so that a run always draws at the same
# steps.
LEAST_WORK = 3e12
CLOSE_LEAST_WORK = 1e12  # with --track_internals
NICENESS = 19  # the lowest priority


def draw_followed(folder: ResultsFolder, version: str, title: str, fmt: str) -> None:
    """Draw what a run has followed so far, from what it has on disk.

    Args:
        folder: of the run.
        version: "pytorch" or "huggingface".
        title: what is trained.
        fmt: "png", "svg" or "pdf".
    """
    history = History.load(folder.path, folder.read_metrics("probe"))
    if history is None:
        return
    # MarianMT's run has one map for each step; those that were thinned out go.
    kept = {ATTENTION_AT_STEP.format(step=step) for step in history.maps}
    folder.drop_figures(ATTENTION_AT_STEP.format(step="*"), kept)
    for name, draw, record in followed_figures(version, history, title):
        if name not in kept or not folder.has_figure(name):  # a map of one step never changes
            folder.save_figure(draw(), name, fmt, record)


class LiveDrawing:
    """Redraws the figures of a run at a probe, if it has trained enough since the last drawing.

    Args:
        folder: of the run.
        version: "pytorch" or "huggingface".
        title: what is trained.
        fmt: "png", "svg" or "pdf".
        least_work: floating-point operations of training between two drawings.
    """

    def __init__(self, folder: Path, version: str, title: str, fmt: str, least_work: float) -> None:
        self._command = [sys.executable, "-m", "utils.live_drawing",
                         str(folder.resolve()), version, title, fmt, language.in_use()]  # fmt: skip
        self._process: subprocess.Popen | None = None
        self._least_work, self._work = least_work, 0.0

    def trained(self, num_parameters: int, num_tokens: int) -> None:
        """Count a step: 2 operations a parameter and token forward, and twice that back."""
        self._work += 6 * num_parameters * num_tokens

    def redraw_if_due(self) -> None:
        """`redraw`, if there was enough training since the last time."""
        if self._work >= self._least_work:
            self._work = 0.0
            self.redraw()

    def redraw(self) -> None:
        """Begin to draw what is on disk by now, unless the process is still at it."""
        if self._process is not None and self._process.poll() is None:
            return
        self.wait()
        low = getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0)  # Windows has no niceness
        try:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                stdin=subprocess.PIPE,  # closed by the system should this process be killed
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the training alone
                creationflags=low,
            )
        except OSError as error:  # no memory, say, or too many processes
            log.warning("Note: the figures could not be redrawn: %s", error)

    def wait(self) -> None:
        """Let the drawing under way come to its end."""
        if self._process is None:
            return
        with self._process as process:
            complaint = process.stderr.read()  # not communicate(), which would close stdin
            process.wait()
        if process.returncode:
            last = complaint.decode(errors="replace").strip().splitlines()[-1:]
            log.warning("Note: the figures could not be redrawn: %s", " ".join(last))
        self._process = None


def _end_with_parent() -> None:
    """End this process once the one that began it is gone, which may go on anew."""
    os.read(sys.stdin.fileno(), 1)  # not sys.stdin.read, which the end of Python would wait for
    os._exit(1)


def main() -> None:
    """Draw in a process of its own: folder, version, title, format and language are given."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    folder, version, title, fmt, spoken = sys.argv[1:]
    language.use(spoken)
    draw_followed(ResultsFolder(Path(folder)), version, title, fmt)


if __name__ == "__main__":
    main()
