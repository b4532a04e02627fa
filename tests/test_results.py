"""Checkpoints, the results folder, figures: written whole, never over anything."""

import errno
import json
import os
import pickle
import warnings
from pathlib import Path

import matplotlib
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from utils import checkpoint
from utils.disk import WriteError
from utils.history import History
from utils.results import ResultsFolder
from utils.visualization import font_settings, hangul_font, training_curves


def test_checkpoint_round_trip(tmp_path):
    content = {"model": {"w": torch.arange(3.0)}, "config": {"dataset": "문법", "text": ()}}
    checkpoint.save(tmp_path / "a.pt", content)
    loaded = checkpoint.load(tmp_path / "a.pt")
    assert torch.equal(loaded["model"]["w"], content["model"]["w"])
    assert loaded["config"] == content["config"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


class Malicious:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code was run')",))


def test_no_code_is_run_and_foreign_files_are_named(tmp_path):
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Malicious()))
    (tmp_path / "noise.pt").write_bytes(b"\0\1\2 not a checkpoint")
    (tmp_path / "empty.pt").write_bytes(b"")
    torch.save({"weights": torch.ones(2)}, tmp_path / "other.pt")
    checkpoint.save(tmp_path / "cut.pt", {"model": {"w": torch.randn(1000)}})
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:-500])
    for name in ("evil", "noise", "empty", "other", "cut", "missing"):
        with pytest.raises(checkpoint.CheckpointError, match=f"{name}.pt"):
            checkpoint.load(tmp_path / f"{name}.pt")


def test_epoch_checkpoints_are_ordered_by_number(tmp_path):
    for number in (10, 9, 1):
        content = {"step": number, "training": {}}
        checkpoint.save(tmp_path / f"checkpoint_epoch_{number}.pt", content)
    names = [path.name for path in checkpoint.by_epoch(tmp_path)]
    assert names == [f"checkpoint_epoch_{n}.pt" for n in (1, 9, 10)]
    assert checkpoint.newest_intact(tmp_path)["step"] == 10


def test_results_are_moved_aside_each_time(tmp_path):
    for n in range(4):
        ResultsFolder.create(tmp_path, "pytorch").write_summary({"n": n})
    summaries = [json.loads(p.read_text("utf-8"))["n"] for p in tmp_path.rglob("summary.json")]
    assert sorted(summaries) == [0, 1, 2, 3]
    assert len(list(tmp_path.glob("results_pytorch.*"))) == 3


def test_metrics_are_json_even_where_numbers_are_not_finite(tmp_path):
    folder = ResultsFolder.create(tmp_path, "pytorch")
    folder.append_metrics([{"kind": "train", "step": 1, "loss": float("nan"), "text": "한글"}])
    folder.append_metrics([{"kind": "train", "step": 2, "loss": 1.5}])
    text = (folder.path / "logs" / "metrics.jsonl").read_text("utf-8")
    assert "한글" in text
    assert [json.loads(line)["loss"] for line in text.splitlines()] == [None, 1.5]
    folder.drop_metrics_after(1)
    assert [record["step"] for record in folder.read_metrics()] == [1]


@pytest.mark.parametrize("cut", [1, 4, 9])  # within a character, too
def test_a_torn_last_line_is_cut_before_more_is_added(tmp_path, cut):
    folder = ResultsFolder.create(tmp_path, "pytorch")
    metrics = folder.path / "logs" / "metrics.jsonl"
    lines = [{"kind": "train", "step": step, "text": "한글"} for step in (1, 2, 3)]
    folder.append_metrics(lines)
    os.truncate(metrics, metrics.stat().st_size - cut)
    assert folder.read_metrics() == lines[:2]
    again = ResultsFolder.create(tmp_path, "pytorch", keep=True)
    again.drop_metrics_after(2)
    again.append_metrics(lines[2:])
    assert folder.read_metrics() == lines


def test_going_on_in_a_folder_makes_it_unfinished(tmp_path):
    folder = ResultsFolder.create(tmp_path, "pytorch")
    folder.write_lines("logs/translations.jsonl", [{"src": "a"}])
    folder.write_summary({"n": 1})
    (folder.path / "summary.json.partial").write_text("{")
    again = ResultsFolder.create(tmp_path, "pytorch", keep=True)
    assert not again.has_summary()
    assert again.read_lines("logs/translations.jsonl") == [{"src": "a"}]
    assert not list(tmp_path.rglob("*.partial"))
    assert not list(tmp_path.glob("results_pytorch.*"))


def writes_of(folder):
    """Everything in a results folder that is written anew as a whole."""
    figure = training_curves(RECORDS, "x")
    return {
        "summary.json": lambda: folder.write_summary({"n": 1}),
        "comparison.json": lambda: folder.write_json("comparison.json", {}),
        "logs/translations.jsonl": lambda: folder.write_lines("logs/translations.jsonl", [{}]),
        "logs/trace.txt": lambda: folder.write_text("logs/trace.txt", ["x"]),
        "logs/metrics.jsonl": lambda: folder.drop_metrics_after(3),
        "visualizations/manifest.json": lambda: folder.record_figures([{"file": "b.png"}]),
        "visualizations/a.png": lambda: folder.save_figure(figure, "a", "pdf", {}),
        "logs/tracking.npz": lambda: HISTORY.save(folder.path),
        "checkpoints/last.pt": lambda: checkpoint.save(folder.path / "checkpoints/last.pt", {}),
    }


HISTORY = History(
    records=[], maps={}, embeddings={}, tokens=["a"], src_pieces=[], tgt_pieces=[], sentences=[]
)
RECORDS = [
    {"kind": "train", "step": 1, "loss": None, "lr": 1e-4, "grad_norm": 2.0},
    {"kind": "train", "step": 2, "loss": 3.0, "lr": 2e-4, "grad_norm": 1.0},
    {
        "kind": "eval", "step": 2, "nll": 2.5, "nll_other_source": 2.6, "bleu": 10.0, "chrf": 20.0,
        "exact_match": 0.25, "token_accuracy": 0.5,
    },
]  # fmt: skip


def test_training_curves_show_what_was_logged():
    before = dict(matplotlib.rcParams)
    figure = training_curves(RECORDS, "한국어 데이터")
    losses, quality, rate, norm = figure.axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in losses.get_lines()}
    assert drawn["evaluation NLL"] == [2.5]
    assert drawn["NLL, source of another sentence"] == [2.6]
    percent = {line.get_label(): list(line.get_ydata()) for line in quality.get_lines()}
    assert percent["exact match (%)"] == [25.0]
    assert list(rate.get_lines()[0].get_ydata()) == [1e-4, 2e-4]
    assert all(ax.get_xlabel() == "optimizer step" for ax in figure.axes)
    assert dict(matplotlib.rcParams) == before
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a missing glyph is a warning
        warnings.simplefilter("ignore", DeprecationWarning)  # of matplotlib's, inside
        FigureCanvasAgg(figure).draw()


@pytest.mark.parametrize("name", writes_of(ResultsFolder(Path())))
def test_what_cannot_be_written_leaves_the_earlier_file(tmp_path, monkeypatch, name):
    def fail(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = ResultsFolder.create(tmp_path, "pytorch")
    path = folder.path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b'[{"file": "a.png"}]' if "manifest" in name else b"")
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(WriteError) as caught:
        writes_of(folder)[name]()
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before
    assert not list(tmp_path.rglob("*.partial"))


def test_a_font_with_hangul_is_found():
    assert hangul_font() in font_settings()["font.family"]


def test_figures_are_recorded_in_the_manifest(tmp_path):
    folder = ResultsFolder.create(tmp_path, "pytorch")
    for step in (1, 2):
        figure = training_curves(RECORDS, "x")
        folder.save_figure(figure, "training_curves", "pdf", {"shows": "losses", "step": step})
    written = {path.name for path in (folder.path / "visualizations").iterdir()}
    assert written == {"training_curves.png", "training_curves.pdf", "manifest.json"}
    manifest = json.loads((folder.path / "visualizations" / "manifest.json").read_text("utf-8"))
    assert manifest == [{"file": "training_curves.png", "shows": "losses", "step": 2}]
