"""What a run leaves on the disk, to be compared bit by bit; and runs that can be killed."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

ROOT = Path(__file__).parent.parent
SAVE_EVERY = 4  # steps: between the 10 of an epoch
# What differs from run to run: by the clock, by the process, and whether it was resumed.
KEYS = ("seconds", "_per_sec", "speed", "remarks", "quantities", "environment", "resume")
FILES = ("train.log", "training_args.bin")


class Ended(NamedTuple):
    """What became of a run.

    Attributes:
        code: exit code; negative if it was killed.
        cpu_seconds: of a processor's time.
        error: what it wrote to standard error.
        changes: how often it changed files; 0 if it was killed.
    """

    code: int
    cpu_seconds: float
    error: str
    changes: int

    def command(self) -> list[str]:
        """The options of the command that the user is told to go on with."""
        python, main, *options = shlex.split(self.error.partition("go on with: ")[2])
        assert (python, main) == ("python", "main.py")
        return options


class Runs:
    """Starts ``main.py`` in processes that `tests.killable` forks."""

    def __init__(self, notes: Path) -> None:
        self._notes = notes
        self._process = subprocess.Popen(
            [sys.executable, ROOT / "tests" / "killable.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        )

    def __call__(
        self, folder, *options, cpu_seconds=0.0, kill_at=0, fill_at=None, leave=0, least_work=1e18
    ):
        """Run ``main.py`` in ``folder`` until it ends or is killed.

        Args:
            folder: the current one of the run.
            *options: of the command line.
            cpu_seconds: kill it after so much of a processor's time; 0 never.
            kill_at: kill it just before this change of files, from 1; 0 never.
            fill_at: fill the disk just before a file whose path ends so is changed.
            leave: bytes left free then.
            least_work: operations between two drawings of its figures by another process.
        """
        folder.mkdir(exist_ok=True)
        request = {"folder": str(folder), "notes": str(self._notes), "options": options}
        request |= {"cpu_seconds": cpu_seconds, "kill_at": kill_at}
        request |= {"fill_at": fill_at, "leave": leave}
        request |= {"save_every": SAVE_EVERY, "least_work": least_work}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        changes = (self._notes / "changes").read_text()
        return Ended(**answer, error=(self._notes / "err").read_text(), changes=int(changes or 0))

    def stop(self) -> None:
        """Let the process that forks end."""
        self._process.stdin.close()
        assert self._process.wait() == 0


def outcome_of(folder):
    """Every file of a results folder, and what is in it but for what may differ."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return {
        name: content_of(path)
        for name, path in sorted(files.items())
        if path.is_file() and not name.endswith(FILES)
    }


def assert_same_outcome(folder, whole):
    found = outcome_of(folder)
    assert found.keys() == whole.keys()
    assert [name for name in whole if found[name] != whole[name]] == []


def content_of(file):
    if file.suffix == ".jsonl":
        lines = file.read_text("utf-8").split("\n")
        assert lines.pop() == ""  # the last line has its end
        return [comparable(json.loads(line)) for line in lines]
    if file.suffix == ".json":
        content = json.loads(file.read_text("utf-8"))
        if file.name == "run.json":
            content["files"] = sorted(content["files"])  # not their checksums: times are in them
        if file.name == "manifest.json":  # in the order of drawing
            content.sort(key=lambda record: record["file"])
        return comparable(content)
    if file.suffix == ".html":
        return comparable(data_of_page(file))
    if file.suffix in (".pt", ".pth") or file.name == "pytorch_model.bin":
        content = torch.load(file, weights_only=file.suffix != ".pth")  # Python's random numbers
        return dict(leaves(comparable(content)))
    return file.read_bytes()


def data_of_page(file):
    """What a ``report.html`` tells."""
    html = file.read_text("utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', html, re.DOTALL)[1])


def comparable(value):
    """Nested dictionaries and lists without what may differ."""
    if isinstance(value, dict):
        kept = {key: entry for key, entry in value.items() if not str(key).endswith(KEYS)}
        return {key: comparable(entry) for key, entry in kept.items()}
    return [comparable(entry) for entry in value] if isinstance(value, list | tuple) else value


def leaves(value, place=""):
    """Everything in nested dictionaries and lists, arrays as bytes, with where it stands."""
    if isinstance(value, dict | list):
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for key, entry in entries:
            yield from leaves(entry, f"{place}/{key}")
    elif isinstance(value, torch.Tensor | np.ndarray):
        yield place, np.asarray(value).tobytes()
    else:
        yield place, value


def numbers_in(value):
    """Every number in nested dictionaries and lists, with where it stands."""
    for place, entry in leaves(value):
        if isinstance(entry, int | float) and not isinstance(entry, bool):
            yield place, entry
