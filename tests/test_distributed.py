"""Several processes (``torchrun``): one run, whatever their number, of every version."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import main
from tests.test_train import all_lines_of, metrics_of, summary_of
from utils import checkpoint, collectives, distributed

ROOT = Path(__file__).parent.parent
# 7 batches an epoch, the last of 6 pairs; an odd number of evaluation pairs.
SMALL = (
    "--dataset copy --hidden_size 16 --num_layers 1 --num_heads 2 --train_size 96 --eval_size 17 "
    "--batch_size 15 --max_length 16 --average_checkpoints 0 --device cpu --quiet --no_visualize "
    "--learning_rate 0.005 --warmup_steps 9"
).split()
VERSIONS = ("pytorch", "huggingface")
# Sends a signal to one process alone, while it computes the loss of a step.
DRIVER = """
import os, signal, sys
sys.path.insert(0, {root!r})
import main
import pytorch_version.step as ours, huggingface_version.custom_trainer as theirs
original, calls = ours.smoothed_loss_sum, []
def disturbed(*args):
    calls.append(1)
    loss = original(*args)
    if len(calls) == {call} and os.environ["RANK"] == "1":
        {action}
    return loss
ours.smoothed_loss_sum = theirs.smoothed_loss_sum = disturbed
sys.exit(main.main())
"""


def torchrun(output_dir, *options, program="main.py"):
    """Two processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
    return subprocess.run(
        [sys.executable, *launcher, str(program), *options, "--output_dir", str(output_dir)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def shared_run(output_dir, version, *options):
    """Train with two processes; returns the results folder."""
    answer = torchrun(output_dir, "--version", version, *options)
    assert answer.returncode == 0, answer.stderr
    return output_dir / f"results_{version}"


def files_of(folder):
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {path for path in paths if "/checkpoint-" not in path}


def weights_of(folder):
    """Of the newest state."""
    if folder.name == "results_pytorch":
        return checkpoint.load(folder / "checkpoints" / "last.pt")["model"]
    newest = max(folder.glob("checkpoints/*"), key=lambda path: int(path.name.rpartition("-")[2]))
    return load_file(newest / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "accumulated", "epochs"),
    [("pytorch", 1, 6), ("pytorch", 2, 11), ("huggingface", 2, 11)],
)
def test_two_processes_train_as_one_with_twice_the_batches(tmp_path, version, accumulated, epochs):
    options = [*SMALL, "--dropout", "0", "--epochs", str(epochs)]
    steps = ["--gradient_accumulation_steps", str(accumulated)]
    shared = shared_run(tmp_path / "shared", version, *options, *steps)
    steps[1] = str(2 * accumulated)
    alone = tmp_path / "alone" / shared.name
    line = ["--version", version, *options, *steps, "--output_dir", str(alone.parent)]
    assert main.main(line) == 0
    lines = metrics_of(shared), metrics_of(alone)
    assert len(lines[1]) > 20 + epochs
    for ours, theirs in zip(*lines, strict=True):
        assert ours["step"] == theirs["step"]
        assert ours["epoch"] == theirs["epoch"]
        if ours["kind"] == "train":
            assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
            assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)
            assert ours["tokens"] == theirs["tokens"]
            assert ours["lr"] == theirs["lr"]
        else:
            assert ours["nll"] == pytest.approx(theirs["nll"], abs=1e-4)
            assert ours["nll_other_source"] == pytest.approx(theirs["nll_other_source"], abs=1e-4)
    assert files_of(shared) == files_of(alone)
    assert not list(shared.parent.glob(f"{shared.name}.*"))  # one process made the folder
    trained = [line["step"] for line in lines[0] if line["kind"] == "train"]
    assert trained == list(range(1, len(trained) + 1))  # each step is written once
    sources = [
        [json.loads(line)["src"] for line in (folder / "logs" / "translations.jsonl").open()]
        for folder in (shared, alone)
    ]
    assert sources[0] == sources[1]
    assert len(sources[0]) == 17
    assert summary_of(shared)["metrics"].keys() == summary_of(alone)["metrics"].keys()


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_a_signal_to_one_process_stops_all_and_the_run_goes_on(tmp_path, version):
    options = ["--version", version, *SMALL, "--dropout", "0.1", "--epochs", "3"]
    whole = shared_run(tmp_path / "whole", *options[1:])
    driver = tmp_path / "driver.py"
    action = "os.kill(os.getpid(), signal.SIGTERM)"
    driver.write_text(DRIVER.format(root=str(ROOT), call=6, action=action))
    answer = torchrun(tmp_path, *options, program=driver)
    assert answer.returncode != 0
    assert answer.stderr.count("Interrupted after step 6") == 1
    assert "torchrun --nproc_per_node=2 main.py" in answer.stderr
    folder = shared_run(tmp_path, version, "--resume")
    assert all_lines_of(folder) == all_lines_of(whole)
    ours, theirs = weights_of(folder), weights_of(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_every_process_draws_its_own_dropout(tmp_path):
    """Else two processes with the same two batches would equal one with one of them."""
    options = [*SMALL, "--epochs", "1", "--train_size", "2", "--batch_size", "1", "--quiet"]
    options += ["--dropout", "0.5", "--max_steps", "1"]
    shared = shared_run(tmp_path, "pytorch", *options)
    states = checkpoint.load(shared / "checkpoints" / "last.pt")["training"]["rng"]
    assert len(states) == 2
    assert not torch.equal(states[0]["cpu"], states[1]["cpu"])


@pytest.mark.slow
def test_two_processes_compare_what_they_trained(tmp_path):
    answer = torchrun(tmp_path, *SMALL, "--dropout", "0", "--epochs", "2")
    assert answer.returncode == 0, answer.stderr
    found = json.loads((tmp_path / "results_comparison" / "comparison.json").read_text("utf-8"))
    assert all(row["ok"] for row in found["parity"])
    assert found["paired_training"]["ok"]
    losses = [
        [line["loss"] for line in metrics_of(tmp_path / f"results_{version}", ("train",))]
        for version in VERSIONS
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert len(losses[0]) == 2 * 4


@pytest.mark.slow
def test_another_number_of_processes_is_refused(tmp_path):
    folder = shared_run(tmp_path, "pytorch", *SMALL, "--epochs", "1")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    line = ["--version", "pytorch", "--resume", "--epochs", "2", "--output_dir", str(tmp_path)]
    assert main.main(line) == 2
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--version", "both", "--train_size", "1"], "1 training pairs"),
        (["--version", "analysis", "--no_such_option"], "--no_such_option"),
    ],
)
def test_what_is_wrong_is_said_once(tmp_path, options, named):
    answer = torchrun(tmp_path, *SMALL, *options)
    assert answer.returncode != 0
    assert answer.stderr.count("main.py: error") == 1
    assert "main.py: error" not in answer.stdout
    (line,) = [line for line in answer.stderr.splitlines() if "main.py: error" in line]
    assert named in line


@pytest.mark.slow
def test_a_process_that_dies_ends_the_run_without_a_traceback_of_the_others(tmp_path):
    version = "pytorch"
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER.format(root=str(ROOT), call=9, action="os._exit(9)"))
    options = ["--version", version, *SMALL, "--dropout", "0", "--epochs", "3"]
    answer = torchrun(tmp_path, *options, program=driver)
    assert answer.returncode != 0
    assert "main.py" not in "".join(
        line for line in answer.stderr.splitlines() if line.lstrip().startswith("File ")
    )
    folder = shared_run(tmp_path, version, "--resume")
    assert summary_of(folder)["metrics"]["eval_nll"] > 0


# With one process


def test_alone_everything_is_trivial():
    assert collectives.total(3, 4) == [3, 4]
    assert collectives.largest(5) == 5
    assert collectives.gathered("a") == ["a"]
    assert collectives.from_main(lambda: "b") == "b"
    assert collectives.whole_again(collectives.share_of(["c", "d"])) == ["c", "d"]
    tensor, module = torch.ones(2), torch.nn.Linear(1, 1)
    assert collectives.add_up(tensor) is tensor
    assert collectives.data_parallel(module) is module


@pytest.mark.parametrize("count", [0, 1, 2, 5, 9])
def test_shares_become_whole_again(monkeypatch, count):
    items = list("abcdefghi"[:count])
    shares = []
    for rank in range(4):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "4")
        shares.append(collectives.share_of(items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    monkeypatch.setattr(collectives, "gathered", lambda _: shares)
    assert collectives.whole_again(shares[3]) == items


@pytest.mark.parametrize("is_last", [True, False])
def test_only_the_last_batch_of_a_step_shares_gradients(monkeypatch, is_last):
    monkeypatch.setenv("WORLD_SIZE", "2")

    class Wrapped:
        def no_sync(self):
            return "not shared"

    shared = collectives.gradients_kept(Wrapped(), is_last)
    assert (shared == "not shared") is not is_last


def test_after_leaving_a_process_is_alone(monkeypatch):
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert not distributed.is_main()
    collectives.leave()
    assert distributed.is_main()
    assert (distributed.world_size(), distributed.local_rank()) == (1, 0)
