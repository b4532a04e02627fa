"""Figures drawn in other processes are those drawn here, and nothing is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from tests.test_huggingface_train import ROOT, unix_only
from utils import figure_writer
from utils.config import RunConfig
from utils.figure_writer import Exhibit, FigureWriter
from utils.language import message
from utils.results import ResultsFolder
from utils.visualization import training_curves

RECORDS = [
    {"kind": "train", "step": 1, "loss": 2.0, "lr": 0.1, "grad_norm": 1.0},
    {"kind": "eval", "step": 1, "nll": 1.5, "nll_other_source": 2.0, "bleu": 1.0, "chrf": 2.0,
     "exact_match": 0.1, "token_accuracy": 0.2},
]  # fmt: skip


def exhibit(name, title="ýfinding 발견"):
    return Exhibit(
        name=name,
        caption=message("caption.attention.rollout", own="50%"),
        draw=partial(training_curves, RECORDS, title),
        record={"shows": "curves", "axes": {"x": "step", "y": "nats"}},
    )


def broken() -> Figure:
    raise ZeroDivisionError("cannot draw")


@pytest.fixture
def folder(tmp_path):
    return ResultsFolder.create(tmp_path, "analysis")


def written_by(folder, exhibits, run=None):
    with FigureWriter(run or RunConfig(quiet=True)) as writer:
        writer.add(exhibits[:1])
        writer.add(exhibits[1:])
        drawn_in = Path(writer._drawn_in.name)
        writer.write(folder, "model.pt", 7)
    assert not drawn_in.exists()
    return json.loads((folder.path / "visualizations" / "manifest.json").read_text("utf-8"))


@pytest.mark.parametrize("processes", [1, 2])
def test_figures_and_their_records_are_written_in_order(folder, monkeypatch, processes):
    monkeypatch.setattr(figure_writer, "PROCESSES", processes)
    manifest = written_by(folder, [exhibit(f"part/{n}") for n in "cab"])
    assert [record["file"] for record in manifest] == ["part/c.png", "part/a.png", "part/b.png"]
    for record in manifest:
        assert record["caption"].endswith(
            "In the encoder 50% of a position is still its own token, on average."
        )
        assert (record["checkpoint"], record["step"]) == ("model.pt", 7)
        assert imread(folder.path / "visualizations" / record["file"]).shape[:2] > (500, 500)


def test_other_processes_draw_the_same_picture(folder, tmp_path, monkeypatch):
    written_by(folder, [exhibit("here")])
    monkeypatch.setattr(figure_writer, "PROCESSES", 2)
    written_by(folder, [exhibit("there")])
    here, there = (imread(folder.path / "visualizations" / f"{n}.png") for n in ("here", "there"))
    assert (here == there).all()


def test_vector_figures_are_written_beside(folder):
    written_by(folder, [exhibit("x")], RunConfig(quiet=True, figure_format="svg"))
    names = {path.name for path in (folder.path / "visualizations").iterdir()}
    assert names == {"x.png", "x.svg", "manifest.json"}


@pytest.mark.parametrize("processes", [1, 2])
def test_what_cannot_be_drawn_is_said_and_leaves_nothing(folder, monkeypatch, processes):
    monkeypatch.setattr(figure_writer, "PROCESSES", processes)
    wrong = Exhibit(name="x", caption=message("figure.training"), draw=broken, record={})
    with FigureWriter(RunConfig(quiet=True)) as writer:
        writer.add([wrong])
        drawn_in = Path(writer._drawn_in.name)
        with pytest.raises(ZeroDivisionError, match="cannot draw"):
            writer.write(folder, "model.pt", 7)
    assert not drawn_in.exists()
    assert not list(folder.path.rglob("*.png"))


def test_without_writing_nothing_is_written(folder):
    with FigureWriter(RunConfig(quiet=True)) as writer:
        writer.add([exhibit("x")])
    assert not list(folder.path.rglob("*.png"))


KILLED = """
import os, signal, time
from utils import figure_writer
from utils.config import RunConfig
figure_writer.PROCESSES = 2
with figure_writer.FigureWriter(RunConfig(quiet=True)) as writer:
    writer._pool.submit(os.getpid).result()
    writer._pool.submit(time.sleep, 600)
    print(writer._drawn_in.name, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@unix_only
@pytest.mark.slow
def test_the_processes_end_when_the_one_that_began_them_is_killed():
    killed = subprocess.run([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    drawn_in = killed.stdout.decode().strip()
    for _ in range(600):
        if not os.path.exists(drawn_in):
            return  # the last thing that they do
        time.sleep(0.1)
    pytest.fail(f"after a minute {drawn_in} is still there")
