"""``--version both``: one experiment twice, and the proof that the two versions are one model."""

import gc
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

import main
from huggingface_version import custom_trainer
from tests import standalone_export_check
from tests.test_huggingface_train import (
    LEARNING,
    ROOT,
    command,
    contents_of,
    files_of,
    hypotheses_of,
    unix_only,
)
from tests.test_huggingface_train import interrupt_at as interrupt_trainer_at
from tests.test_train import all_lines_of, metrics_of, summary_of
from tests.test_train import interrupt_at as interrupt_scratch_at
from utils.objective import smoothed_loss_sum

HALVES = ("pytorch", "huggingface")


def run(output_dir, *options, figures=False, code=0):
    """Run both through the command line; returns version -> results folder."""
    assert main.main(command(output_dir, *options, version="both", figures=figures)) == code
    return folders_in(output_dir)


def resume(output_dir, *options):
    """Go on as the printed command says."""
    line = ["--version", "both", "--resume", "--output_dir", str(output_dir), *options]
    assert main.main(line) == 0
    return folders_in(output_dir)


def folders_in(output_dir):
    return {name: output_dir / f"results_{name}" for name in (*HALVES, "comparison")}


def comparison_of(folders):
    return json.loads((folders["comparison"] / "comparison.json").read_text("utf-8"))


def assert_same_outcome(folders, whole):
    """Both halves line by line, and what does not depend on the clock in the comparison."""
    for name in HALVES:
        assert all_lines_of(folders[name]) == all_lines_of(whole[name])
        assert summary_of(folders[name])["metrics"] == summary_of(whole[name])["metrics"]
    one, two = comparison_of(folders), comparison_of(whole)
    for key in ("parity", "parity_back", "paired_training", "translations"):
        assert one[key] == two[key]


@pytest.fixture(scope="module", autouse=True)
def _frozen():
    # The Trainer collects garbage after every training; what is imported need not be searched.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """A run that translates different sentences differently, with all that it writes."""
    return run(tmp_path_factory.mktemp("learnt"), *LEARNING, figures=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small run with dropout that nothing happens to."""
    return run(tmp_path_factory.mktemp("whole"), "--epochs", "2")


# What a run writes


def test_all_three_folders_are_written(learnt):
    written = {name: files_of(folder) for name, folder in learnt.items()}
    common = {
        "logs/metrics.jsonl",
        "logs/translations.jsonl",
        "report.html",
        "summary.json",
        "visualizations/training_curves.png",
    }
    assert common | {"checkpoints/best_model.pt", "hf_export/config.json"} <= written["pytorch"]
    assert common | {"model.safetensors", "config.json"} <= written["huggingface"]
    figures = ("parity", "paired_training", "training_curves", "side_by_side", "cross_attention")
    assert written["comparison"] == {
        "comparison.json",
        "report.html",
        "logs/train.log",
        "visualizations/manifest.json",
        *(f"visualizations/{name}.png" for name in figures),
    }


def test_the_comparison_says_how_far_apart_the_two_are(learnt):
    found = comparison_of(learnt)
    assert {"parity", "paired_training", "metrics", "speed"} <= set(found)
    for rows in (found["parity"], found["parity_back"]):
        points = [row["point"] for row in rows]
        assert len(set(points)) == len(points) > 70
        assert points[0] == "encoder.lookup"
        assert {"logits", "loss", "step"} < set(points)
        for row in rows:
            assert {"point", "max_abs_fp32", "max_abs_fp64", "tolerance", "ok"} <= set(row)
            assert row["ok"] is True
            assert 0 <= row["max_abs_fp64"] <= 1e-10
            if row["tolerance"] is not None:
                assert 0 <= row["max_abs_fp32"] <= row["tolerance"] < 1e-3
        assert max(row["max_abs_fp32"] for row in rows) > 0  # something was compared
    paired = found["paired_training"]
    assert paired["steps"] == 50
    assert 0 < paired["max_abs_loss_difference"] <= 1e-12
    assert 0 < paired["max_abs_weight_difference"] < 1e-6
    assert set(found["metrics"]) == set(found["speed"]) == set(HALVES)
    for name in HALVES:
        summary = summary_of(learnt[name])
        assert found["speed"][name] == summary["speed"]
        assert summary["metrics"].items() <= found["metrics"][name].items()
    assert (
        found["metrics"]["pytorch"]["parameters"] == found["metrics"]["huggingface"]["parameters"]
    )


def test_translations_are_shown_beside_each_other(learnt):
    found = comparison_of(learnt)
    ours, theirs = (hypotheses_of(learnt[name]) for name in HALVES)
    alike = sum(a == b for a, b in zip(ours, theirs, strict=True)) / 16
    assert found["translated_alike"] == alike
    pairs = {(pair["pytorch"], pair["huggingface"]) for pair in found["translations"]}
    assert len(pairs) > 3
    assert pairs <= set(zip(ours, theirs, strict=True))


def test_every_figure_has_a_record_and_every_record_a_figure(learnt):
    for folder in learnt.values():
        visualizations = folder / "visualizations"
        figures = {p.relative_to(visualizations).as_posix() for p in visualizations.rglob("*.png")}
        records = json.loads((visualizations / "manifest.json").read_text("utf-8"))
        assert sorted(record["file"] for record in records) == sorted(figures)
        for record in records:
            assert record["shows"]
            assert {"step", "axes", "checkpoint"} <= set(record)


def test_no_visualize_writes_no_figure(whole):
    assert not [path for folder in whole.values() for path in folder.rglob("*.png")]


def test_old_results_are_moved_aside_and_a_second_run_is_the_same(tmp_path, whole):
    for name, folder in whole.items():
        shutil.copytree(folder, tmp_path / f"results_{name}")
    before = {name: contents_of(folder) for name, folder in folders_in(tmp_path).items()}
    assert_same_outcome(run(tmp_path, "--epochs", "2"), whole)
    for name, folder in folders_in(tmp_path).items():
        (aside,) = tmp_path.glob(f"results_{name}.*")
        moved = {
            folder / path.relative_to(aside): text for path, text in contents_of(aside).items()
        }
        assert moved == before[name]


def test_both_halves_run_one_experiment(whole, learnt):
    assert metrics_of(whole["pytorch"])[0]["loss"] != metrics_of(whole["huggingface"])[0]["loss"]
    ours, theirs = (metrics_of(learnt[name])[0]["loss"] for name in HALVES)
    assert ours == pytest.approx(theirs, abs=1e-5)  # without dropout
    ours, theirs = (summary_of(whole[name]) for name in HALVES)
    assert ours["dataset"] == theirs["dataset"]
    assert ours["config"] == theirs["config"]


# Going on


@unix_only
@pytest.mark.parametrize(
    ("interrupt_at", "step", "half"),
    [
        (interrupt_scratch_at, 5, "pytorch"),
        (interrupt_trainer_at, 5, "huggingface"),
        pytest.param(interrupt_scratch_at, 14, "pytorch", marks=pytest.mark.slow),  # its last step
        pytest.param(interrupt_trainer_at, 14, "huggingface", marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_half_goes_on_and_the_rest_follows(
    tmp_path, monkeypatch, capsys, whole, interrupt_at, step, half
):
    with monkeypatch.context() as patch:
        interrupt_at(patch, step, 2)
        folders = run(tmp_path, "--epochs", "2", code=130)
    message = capsys.readouterr().err
    assert f"after step {step}" in message
    assert f"--version both --resume --output_dir {tmp_path}" in message
    assert not (folders[half] / "summary.json").exists()
    assert folders["huggingface"].exists() == (half == "huggingface")
    assert not folders["comparison"].exists()
    assert_same_outcome(resume(tmp_path), whole)
    assert len(list(tmp_path.iterdir())) == 3


@unix_only
@pytest.mark.slow
def test_resume_takes_no_half_of_an_earlier_run(tmp_path, monkeypatch, whole):
    run(tmp_path, "--epochs", "2", "--seed", "7")
    with monkeypatch.context() as patch:
        interrupt_scratch_at(patch, 5, 2)
        run(tmp_path, "--epochs", "2", code=130)
    assert_same_outcome(resume(tmp_path, "--no_visualize"), whole)


def test_resume_compares_where_only_the_comparison_is_missing(tmp_path, whole):
    for name in HALVES:
        shutil.copytree(whole[name], tmp_path / f"results_{name}")
    before = {name: contents_of(tmp_path / f"results_{name}") for name in HALVES}
    assert_same_outcome(resume(tmp_path, "--no_visualize"), whole)
    assert {name: contents_of(tmp_path / f"results_{name}") for name in HALVES} == before


# The proof can fail


def test_another_order_of_features_is_found_where_it_begins(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_version.model._sines_first", torch.arange)
    folders = run(tmp_path, "--epochs", "1", code=1)
    message = capsys.readouterr().err
    assert "encoder.embed" in message
    assert message.count("\n") == 1
    rows = comparison_of(folders)["parity"]
    assert [row["point"] for row in rows if not row["ok"]][0] == "encoder.embed"


def test_another_loss_is_found_by_training(tmp_path, monkeypatch, capsys):
    def a_little_less_smooth(logits, labels, label_smoothing):
        return smoothed_loss_sum(logits, labels, label_smoothing - 1e-9)

    monkeypatch.setattr(custom_trainer, "smoothed_loss_sum", a_little_less_smooth)
    folders = run(tmp_path, "--epochs", "1", code=1)
    message = capsys.readouterr().err
    assert "paired_training" in message
    assert message.count("\n") == 1
    found = comparison_of(folders)
    assert all(row["ok"] for row in found["parity"])
    assert found["paired_training"]["max_abs_loss_difference"] > 1e-12


# What is exported, by the library alone


def check_here(*arguments):
    return standalone_export_check.main([str(argument) for argument in arguments])


def check_apart(*arguments):
    script = ROOT / "tests" / "standalone_export_check.py"
    return subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        cwd=arguments[0],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=120,
    ).returncode


here_and_apart = pytest.mark.parametrize(
    "check", [check_here, pytest.param(check_apart, marks=pytest.mark.slow)]
)


@pytest.fixture
def exported(learnt, tmp_path):
    """Copies to be damaged: version -> (results folder, model folder)."""
    folders = {name: tmp_path / learnt[name].name for name in HALVES}
    for name, folder in folders.items():
        shutil.copytree(learnt[name], folder, ignore=shutil.ignore_patterns("checkpoints"))
    model_folders = {"pytorch": folders["pytorch"] / "hf_export"}
    return {name: (folder, model_folders.get(name, folder)) for name, folder in folders.items()}


@here_and_apart
@pytest.mark.parametrize("name", HALVES)
def test_transformers_alone_finds_what_was_reported(exported, name, check):
    assert check(*exported[name]) == 0


@here_and_apart
@pytest.mark.parametrize("name", HALVES)
def test_an_altered_translation_is_noticed(exported, name, check):
    file = exported[name][0] / "logs" / "translations.jsonl"
    records = [json.loads(line) for line in file.read_text("utf-8").split("\n") if line]
    records[9]["hypothesis"] += " ba"
    file.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    assert check(*exported[name]) == 1


@here_and_apart
@pytest.mark.parametrize("name", HALVES)
def test_an_altered_weight_is_noticed(exported, name, check):
    file = exported[name][1] / "model.safetensors"
    weights = load_file(file)
    weights["model.decoder.layers.0.fc1.weight"][3, 5] += 1.0
    save_file(weights, file, metadata={"format": "pt"})
    assert check(*exported[name]) == 1
