"""Runs of ``main.py``, each in a process of its own that need not import anything.

They can be killed at any moment, and the disk can be made to fill up at any moment. Reads requests
from standard input and answers on standard output, one JSON object a line.
"""

import gc
import json
import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

# What changes files, as Python's audit events name it.
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")
BALLAST = "ballast"


class WatchChanges:
    """Is told by Python just before files in the current folder's results are changed.

    Args:
        kill_at: number of the change, from 1, to be killed at; 0 never.
        fill_at: fill the disk at the first change of a file whose path ends so.
        leave: bytes left free then.
    """

    def __init__(self, kill_at: int, fill_at: str | None, leave: int) -> None:
        self.count = 0
        self._kill_at, self._fill_at, self._leave = kill_at, fill_at, leave
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple) -> None:
        """Called by Python at each event."""
        if event == "open":
            path, _, flags = arguments
            changes = flags & (os.O_WRONLY | os.O_RDWR | os.O_APPEND)
        else:
            path, changes = (*arguments, "")[0], event in CHANGES
        if not changes or not str(path).startswith("results_"):
            return
        self.count += 1
        if self.count == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fill_at and str(path).endswith(self._fill_at):
            self._fill_at = None
            fill(self._leave)


def fill(leave: int) -> None:
    """Leave only so many bytes on the disk of the current folder."""
    disk = os.statvfs(".")
    Path(BALLAST).write_bytes(bytes(max(0, disk.f_bavail * disk.f_frsize - leave)))


def run(request: dict) -> None:
    """In the child: ``main.main``, as in a process of its own; never returns."""
    import main
    from utils import checkpoint, page, recorder

    os.chdir(request["folder"])
    for number, name in ((1, "out"), (2, "err")):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(Path(request["notes"]) / name, flags), number)
    changes = open(Path(request["notes"]) / "changes", "w")
    checkpoint.SAVE_EVERY = request["save_every"]
    page.font_faces = lambda text: ("", "sans-serif")  # a third of a second of each run
    recorder.LEAST_WORK = request["least_work"]
    watch = WatchChanges(request["kill_at"], request["fill_at"], request["leave"])
    # The kernel ends the process then, wherever it is, as by SIGKILL.
    signal.setitimer(signal.ITIMER_PROF, request["cpu_seconds"])
    code = main.main(request["options"])
    signal.setitimer(signal.ITIMER_PROF, 0)
    print(watch.count, file=changes)
    sys.exit(code)


def answer(request: dict) -> dict:
    """Run it in a child; say how that ended and how much of a processor's time it took."""
    child = os.fork()
    if not child:
        run(request)
    _, status, used = os.wait4(child, 0)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "cpu_seconds": used.ru_utime + used.ru_stime,
    }


def main() -> None:
    """Import once, then answer until there are no more requests."""
    import huggingface_version.train  # noqa: F401
    import pytorch_version.train  # noqa: F401
    import utils.comparison  # noqa: F401

    gc.freeze()
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
