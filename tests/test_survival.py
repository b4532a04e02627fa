"""Runs that are killed at any moment, or whose disk fills up, go on as if nothing had happened."""

import functools
import os
import random
import shutil
import signal
import subprocess
import sys

import pytest

from tests.outcomes import ROOT, Runs, assert_same_outcome, outcome_of
from tests.test_huggingface_train import unix_only

# 10 steps an epoch.
OPTIONS = (
    "--dataset copy --hidden_size 16 --num_layers 1 --num_heads 2 --train_size 300 --eval_size 16 "
    "--batch_size 30 --max_length 16 --dropout 0.1 --device cpu --epochs 3 --seed 3 --quiet "
    "--average_checkpoints 2 --keep_checkpoints 2 --track_every 10"
).split()
KILLS = 20
PARTS = {"pytorch": 1, "huggingface": 1, "both": 3}  # results folders that a version writes

pytestmark = [pytest.mark.slow, unix_only]


def options_for(version, figures):
    options = ["--version", version, *OPTIONS]
    return options if figures else [*options, "--no_visualize"]


def results_in(folder):
    """Name -> path of the results folders, without those that were moved aside."""
    return {p.name: p for p in folder.glob("results_*") if "." not in p.name}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    found = Runs(tmp_path_factory.mktemp("notes"))
    yield found
    found.stop()


@pytest.fixture(scope="module")
def whole(runs, tmp_path_factory):
    """Runs that nothing happens to: (version, figures) -> name of results folder -> outcome."""

    @functools.cache
    def run(version, figures):
        folder = tmp_path_factory.mktemp(version)
        ended = runs(folder, *options_for(version, figures))
        assert ended.code == 0, ended.error
        outcomes = {name: outcome_of(path) for name, path in results_in(folder).items()}
        assert len(outcomes) == PARTS[version]
        shutil.rmtree(folder)
        return outcomes, ended

    return run


def assert_same_outcomes(folder, outcomes):
    found = results_in(folder)
    assert found.keys() == outcomes.keys()
    for name, path in found.items():
        assert_same_outcome(path, outcomes[name])


@pytest.mark.parametrize(
    ("version", "figures", "kills"),
    [("pytorch", True, KILLS), ("huggingface", True, KILLS), ("both", False, 6)],
)
def test_a_run_killed_again_and_again_ends_as_if_nothing_had_happened(
    runs, whole, tmp_path, version, figures, kills
):
    outcomes, undisturbed = whole(version, figures)
    options, moments = options_for(version, figures), random.Random(7)
    while kills > 0:
        folder = tmp_path / str(kills)
        resume, code = [], None
        while code != 0:
            seconds = moments.uniform(0.01, undisturbed.cpu_seconds) if kills > 0 else 0
            ended = runs(folder, *options, *resume, cpu_seconds=seconds)
            code, resume = ended.code, ["--resume"]
            assert code in (0, -signal.SIGPROF), ended.error
            kills -= code != 0
        assert_same_outcomes(folder, outcomes)


@pytest.mark.parametrize(("version", "kills"), [("pytorch", 8), ("huggingface", 8), ("both", 3)])
def test_a_run_killed_as_it_changes_a_file_ends_as_if_nothing_had_happened(
    runs, whole, tmp_path, version, kills
):
    outcomes, undisturbed = whole(version, figures=False)
    options = options_for(version, figures=False)
    for change in random.Random(7).sample(range(1, undisturbed.changes + 1), kills):
        folder = tmp_path / str(change)
        assert runs(folder, *options, kill_at=change).code == -signal.SIGKILL
        ended = runs(folder, *options, "--resume")
        assert ended.code == 0, (change, ended.error)
        assert_same_outcomes(folder, outcomes)
        shutil.rmtree(folder)


def test_a_run_killed_while_its_figures_are_redrawn_ends_as_if_nothing_had_happened(
    runs, whole, tmp_path
):
    outcomes, undisturbed = whole("pytorch", figures=True)
    options = options_for("pytorch", figures=True)
    ended = runs(tmp_path, *options, kill_at=undisturbed.changes // 2, least_work=1)
    assert ended.code == -signal.SIGKILL
    assert runs(tmp_path, *options, "--resume", least_work=1).code == 0
    assert_same_outcomes(tmp_path, outcomes)


# The disk fills up


@pytest.fixture
def small_disk(tmp_path):
    """A disk of its own, of 64 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a disk to fill it is not allowed here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


# The disk is full from the first change of a file that ends so; what the line names.
FULL = [
    ("pytorch", "results_pytorch", 0, "logs/train.log"),
    ("pytorch", "metrics.jsonl", 0, "logs/metrics.jsonl"),
    ("pytorch", "tracking.npz.partial", 0, "logs/tracking.npz"),
    ("pytorch", "checkpoint_epoch_2.pt.partial", 0, "checkpoints/checkpoint_epoch_2.pt"),
    ("pytorch", "best_model.pt.partial", 20_000, "checkpoints/best_model.pt"),
    ("pytorch", "qkv_evolution.png.partial", 0, "visualizations/qkv_evolution.png"),
    ("pytorch", "manifest.json.partial", 0, "visualizations/manifest.json"),
    ("pytorch", "hf_export", 0, "hf_export"),
    ("pytorch", "translations.jsonl.partial", 0, "logs/translations.jsonl"),
    ("pytorch", "summary.json.partial", 0, "summary.json"),
    ("huggingface", "metrics.jsonl", 0, "logs/metrics.jsonl"),
    ("huggingface", "checkpoint-20", 0, "checkpoints/checkpoint-20"),
    ("huggingface", "checkpoint-20", 80_000, "checkpoints/checkpoint-20"),  # weights have room
    ("huggingface", "checkpoint-10/tracking.pt.partial", 0, "checkpoint-10/tracking.pt"),
    ("huggingface", "checkpoint-10/run.json.partial", 0, "checkpoint-10/run.json"),
    ("huggingface", "attention_step_10.png.partial", 0, "attention/attention_step_10.png"),
    ("huggingface", "files.partial", 0, "results_huggingface"),
    ("huggingface", "files.partial", 60_000, "results_huggingface"),
    ("huggingface", "summary.json.partial", 0, "summary.json"),
]


@pytest.mark.parametrize(("version", "fill_at", "leave", "named"), FULL)
def test_a_full_disk_is_said_in_one_line_and_loses_nothing(
    runs, whole, small_disk, version, fill_at, leave, named
):
    figures = ".png" in fill_at or "manifest" in fill_at
    outcomes, _ = whole(version, figures)
    ended = runs(small_disk, *options_for(version, figures), fill_at=fill_at, leave=leave)
    assert ended.code == 1
    assert ended.error.count("\n") == 1
    assert ended.error.startswith("main.py: the disk is full (writing ")
    assert (
        f"{named}); make room, then go on with: python main.py --version {version} --resume"
        in ended.error
    )
    assert not list(small_disk.rglob("*.partial"))
    (small_disk / "ballast").unlink()
    resumed = runs(small_disk, *ended.command())
    assert resumed.code == 0, resumed.error
    assert_same_outcomes(small_disk, outcomes)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_an_output_that_cannot_be_written_is_said_in_one_line(tmp_path):
    options = [*options_for("pytorch", figures=False), "--output_dir", str(tmp_path)]
    options.remove("--quiet")
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, ROOT / "main.py", *options], stdout=full, stderr=subprocess.PIPE
        )
    assert ended.returncode == 1
    assert ended.stderr.count(b"\n") == 1
    assert ended.stderr.startswith(b"main.py: the disk is full (writing standard output); make")
