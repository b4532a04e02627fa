"""Figures are redrawn while a run goes on, by a process that the run need not wait for."""

import json
import shutil
import subprocess
import sys
import time

import pytest
from matplotlib.image import imread

import main
from utils import language, live_drawing, recorder
from utils.history import History
from utils.live_drawing import LiveDrawing, draw_followed
from utils.results import ResultsFolder, log

RUN = (
    "--dataset copy --hidden_size 16 --num_layers 1 --num_heads 2 --train_size 96 --eval_size 16 "
    "--batch_size 16 --max_length 40 --device cpu --epochs 1 --quiet"
).split()


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """A run that was followed, without figures: its results folder."""
    output_dir = tmp_path_factory.mktemp("followed")
    options = [*RUN, "--version", "huggingface", "--no_visualize", "--track_every", "2"]
    assert main.main([*options, "--output_dir", str(output_dir)]) == 0
    return output_dir / "results_huggingface"


@pytest.fixture
def folder(followed, tmp_path):
    shutil.copytree(followed, tmp_path / "run")
    return ResultsFolder(tmp_path / "run")


def figures_in(folder):
    root = folder.path / "visualizations"
    return {path.relative_to(root).as_posix() for path in root.rglob("*.png")}


def maps_of(*steps):
    return {f"attention/attention_step_{step}.png" for step in steps}


def test_what_was_followed_is_drawn_from_the_disk(folder):
    draw_followed(folder, "huggingface", "title", "png")
    assert figures_in(folder) == maps_of(0, 2, 4, 6) | {"qkv/qkv_evolution.png"}
    draw_followed(folder, "pytorch", "title", "png")
    assert {"attention_plots/attention_evolution.png", "qkv_evolution.png"} < figures_in(folder)


def test_a_map_of_a_step_is_drawn_once_and_goes_with_its_step(folder, monkeypatch):
    draw_followed(folder, "huggingface", "title", "png")
    map_of_step = folder.path / "visualizations" / "attention" / "attention_step_2.png"
    evolution = folder.path / "visualizations" / "qkv" / "qkv_evolution.png"
    before = {path: path.stat().st_mtime_ns for path in (map_of_step, evolution)}
    draw_followed(folder, "huggingface", "title", "png")
    assert map_of_step.stat().st_mtime_ns == before[map_of_step]
    assert evolution.stat().st_mtime_ns > before[evolution]
    history = History.load(folder.path, folder.read_metrics("probe"))
    fewer = {step: maps for step, maps in history.maps.items() if step != 2}
    monkeypatch.setattr(History, "load", lambda *_: History(**vars(history) | {"maps": fewer}))
    draw_followed(folder, "huggingface", "title", "png")
    manifest = json.loads((folder.path / "visualizations" / "manifest.json").read_text("utf-8"))
    files = {record["file"] for record in manifest}
    assert files == figures_in(folder) == maps_of(0, 4, 6) | {"qkv/qkv_evolution.png"}


def test_another_process_draws_and_is_not_begun_twice(folder):
    drawing = LiveDrawing(folder.path, "huggingface", "제목", "png", 0)
    started = time.perf_counter()
    drawing.redraw()
    process = drawing._process
    assert process.stdin is not None  # else it would not notice the end of this process
    drawing.redraw()
    assert drawing._process is process
    assert process.poll() is None, time.perf_counter() - started  # nobody waited for it
    drawing.wait()
    assert process.returncode == 0
    assert "qkv/qkv_evolution.png" in figures_in(folder)
    drawing.wait()  # nothing under way: nothing to wait for


def test_another_process_draws_in_the_language_of_this_one(folder):
    evolution = folder.path / "visualizations" / "qkv" / "qkv_evolution.png"

    def drawn_here():
        draw_followed(folder, "huggingface", "title", "png")
        return imread(evolution)

    in_english = drawn_here()
    language.use("ko")
    drawing = LiveDrawing(folder.path, "huggingface", "title", "png", 0)
    drawing.redraw()
    drawing.wait()
    there, here = imread(evolution), drawn_here()
    assert (there == here).all()
    assert there.shape != in_english.shape or (there != in_english).any()


def test_what_could_not_be_drawn_is_said(folder, monkeypatch):
    warnings = []
    monkeypatch.setattr(log, "warning", lambda text, *values: warnings.append(text % values))
    (folder.path / "logs" / "tracking.npz").write_bytes(b"not an archive")
    drawing = LiveDrawing(folder.path, "huggingface", "title", "png", 0)
    drawing.redraw()
    drawing.wait()
    (warning,) = warnings
    assert "could not be redrawn" in warning
    assert "Error" in warning


@pytest.mark.parametrize("error", [OSError("Cannot allocate memory"), PermissionError("not here")])
def test_a_process_that_cannot_be_begun_is_said(folder, monkeypatch, error):
    def fail(*_, **__):
        raise error

    warnings = []
    monkeypatch.setattr(log, "warning", lambda text, *values: warnings.append(text % values))
    monkeypatch.setattr(live_drawing.subprocess, "Popen", fail)
    drawing = LiveDrawing(folder.path, "huggingface", "title", "png", 0)
    drawing.redraw()
    drawing.wait()
    assert warnings == [f"Note: the figures could not be redrawn: {error}"]


ENDLESS = """
import time
from utils import live_drawing
live_drawing.draw_followed = lambda *_: time.sleep(600)
print("begun", flush=True)
live_drawing.main()
"""


@pytest.mark.slow
def test_a_drawing_ends_with_the_run_that_began_it():
    # Of a run that is killed the system closes all pipes.
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, "folder", "pytorch", "title", "png", "en"],
        cwd=live_drawing.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"begun\n"
    process.stdin.close()
    assert process.wait(timeout=60) == 1
    process.stdout.close()


def test_a_line_that_is_being_written_is_left_out(folder):
    whole = folder.read_metrics()
    with open(folder.path / "logs" / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"kind": "train", "ste')
    assert folder.read_metrics() == whole
    folder.drop_metrics_after(3)  # as a resumed run does after a crash
    assert [record["step"] for record in folder.read_metrics("train")] == [1, 2, 3]


def test_it_is_drawn_after_so_much_training(folder, monkeypatch):
    drawn = []
    monkeypatch.setattr(LiveDrawing, "redraw", lambda self: drawn.append(True))
    drawing = LiveDrawing(folder.path, "pytorch", "title", "png", least_work=6 * 1000 * 250)
    counts = []
    for _ in range(8):
        drawing.trained(num_parameters=1000, num_tokens=100)
        drawing.redraw_if_due()
        counts.append(len(drawn))
    assert counts == [0, 0, 1, 1, 1, 2, 2, 2]  # 250 tokens after the last time


@pytest.mark.parametrize(
    ("least", "options", "expected"),
    [
        # Before training nothing can be due but with no work asked for.
        ({"LEAST_WORK": 0, "CLOSE_LEAST_WORK": 1e18}, [], 3),
        ({"LEAST_WORK": 1, "CLOSE_LEAST_WORK": 1e18}, [], 2),
        ({"LEAST_WORK": 1e18, "CLOSE_LEAST_WORK": 1}, [], 0),
        ({"LEAST_WORK": 1e18, "CLOSE_LEAST_WORK": 1}, ["--track_internals"], 2),
        ({"LEAST_WORK": 0, "CLOSE_LEAST_WORK": 0}, ["--no_visualize"], 0),
    ],
)
def test_a_run_redraws_at_its_probes(tmp_path, monkeypatch, least, options, expected):
    calls = []
    for name, work in least.items():
        monkeypatch.setattr(recorder, name, work)
    monkeypatch.setattr(LiveDrawing, "redraw", lambda self: calls.append(1))
    options = [*RUN, "--version", "pytorch", "--output_dir", str(tmp_path), *options]
    assert main.main([*options, "--track_every", "3"]) == 0
    assert len(calls) == expected  # after steps 0, 3 and 6


def test_a_run_waits_for_the_last_drawing(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "LEAST_WORK", 0)
    options = [*RUN, "--version", "huggingface", "--output_dir", str(tmp_path)]
    assert main.main(options) == 0
    folder = ResultsFolder(tmp_path / "results_huggingface")
    steps = [record["step"] for record in folder.read_metrics("probe")]
    assert maps_of(*steps) <= figures_in(folder)
