"""Memory that runs out: one line that says what to lower and what to resume."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import main
import pytorch_version.step as scratch_step
from huggingface_version import custom_trainer
from tests.test_train import SMALL
from utils.config import Settings
from utils.memory import is_out_of_memory, out_of_memory_explained
from utils.objective import smoothed_loss_sum
from utils.results import RunFailed

ROOT = Path(__file__).parent.parent
VERSIONS = ("pytorch", "huggingface")
ON_GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has ...")
# Leaves the process this many bytes more than it has when training begins.
LIMITED = """
import resource, sys
sys.path.insert(0, {root!r})
import main, pytorch_version.step as ours, huggingface_version.custom_trainer as theirs
original = ours.smoothed_loss_sum
def limited(*args):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + {extra}, -1))
    return original(*args)
ours.smoothed_loss_sum = theirs.smoothed_loss_sum = limited
sys.exit(main.main())
"""


def settings(**options):
    return Settings.from_options("pytorch", options)


def advice_on(error, tmp_path, **options):
    with pytest.raises(RunFailed) as found:
        with out_of_memory_explained(settings(**options), tmp_path):
            raise error
    message = str(found.value)
    assert "\n" not in message
    return message


def test_what_the_libraries_raise_is_known():
    """Real errors of numpy and PyTorch, which ask for more than any machine has."""
    for allocate in (
        lambda: np.zeros(2**60, np.uint8),
        lambda: torch.zeros(2**60, dtype=torch.uint8),
        lambda: bytearray(2**60),
    ):
        with pytest.raises((MemoryError, RuntimeError)) as found:
            allocate()
        assert is_out_of_memory(found.value)
    assert is_out_of_memory(ON_GPU)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(OSError("no such file"))


def test_the_advice_names_what_to_lower(tmp_path):
    message = advice_on(ON_GPU, tmp_path / "none", batch_size=64, max_length=77, hidden_size=32)
    for part in ("on the GPU (2.50 GiB", "--batch_size 64", "--max_length 77", "--hidden_size 32"):
        assert part in message
    assert "--precision bf16" in message
    assert "--resume" not in message
    assert "--max_tokens 900" in advice_on(ON_GPU, tmp_path, max_tokens=900)
    assert "--precision" not in advice_on(ON_GPU, tmp_path, precision="bf16")
    on_host = advice_on(MemoryError("Unable to allocate 1.0 GiB for an array"), tmp_path)
    assert "on the machine (1.0 GiB more" in on_host
    assert "--precision" not in on_host


def test_the_advice_says_how_to_go_on_where_there_is_a_checkpoint(tmp_path):
    (tmp_path / "last.pt").touch()
    command = "python main.py --version pytorch --resume"
    assert command in advice_on(ON_GPU, tmp_path)


def test_other_errors_pass(tmp_path):
    with pytest.raises(RuntimeError, match="shapes"):
        with out_of_memory_explained(settings(), tmp_path):
            raise RuntimeError("shapes do not fit")


@pytest.mark.parametrize("version", ["pytorch", "analysis"])
def test_memory_that_runs_out_outside_of_training_is_said_too(monkeypatch, capsys, version):
    def full(*_):
        raise MemoryError("Unable to allocate 1.5 GiB for an array")

    monkeypatch.setattr("pytorch_version.train.prepare", full)
    monkeypatch.setattr("utils.guided_tour.run_analysis", full)
    assert main.main(["--version", version, "--quiet"]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert message.startswith("main.py: out of memory on the machine (1.5 GiB more were asked for)")
    assert "--train_size" in message


@pytest.mark.parametrize("version", VERSIONS)
def test_a_run_out_of_memory_ends_with_one_line_and_can_go_on(
    tmp_path, monkeypatch, capsys, version
):
    calls = []

    def full(*args):
        calls.append(1)
        if len(calls) == 10:
            raise ON_GPU
        return smoothed_loss_sum(*args)

    options = [*SMALL, "--quiet", "--no_visualize", "--output_dir", str(tmp_path)]
    options += ["--version", version, "--epochs", "2"]
    with monkeypatch.context() as patch:
        patch.setattr(scratch_step, "smoothed_loss_sum", full)
        patch.setattr(custom_trainer, "smoothed_loss_sum", full)
        assert main.main(options) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert f"python main.py --version {version} --resume --output_dir {tmp_path}" in message
    resume = ["--version", version, "--resume", "--output_dir", str(tmp_path)]
    assert main.main(resume) == 0
    assert "after step 6" in (tmp_path / f"results_{version}" / "logs" / "train.log").read_text()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory can be limited on Linux alone")
@pytest.mark.parametrize("version", VERSIONS)
def test_the_host_itself_out_of_memory(tmp_path, version):
    """A batch that does not fit into what the system gives, for real."""
    program = LIMITED.format(root=str(ROOT), extra=64 * 2**20)
    options = [*SMALL, "--version", version, "--quiet", "--no_visualize", "--train_size", "2000"]
    options += ["--batch_size", "2000", "--ffn_size", "4096", "--output_dir", str(tmp_path)]
    answer = subprocess.run(
        [sys.executable, "-c", program, *options],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert answer.returncode == 1, answer.stderr
    assert answer.stderr.count("\n") == 1, answer.stderr
    assert "out of memory on the machine" in answer.stderr
    assert "--batch_size 2000" in answer.stderr
