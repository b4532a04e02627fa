"""``--resume``: what it passes over, and where it goes on, whatever an earlier process left."""

import json
import os
import pickle
import shlex
import shutil
from pathlib import Path

import pytest
import torch

import main
from huggingface_version import checkpoints as trainers
from tests.outcomes import assert_same_outcome, outcome_of
from utils import checkpoint, evaluation
from utils.interrupt import resume_command
from utils.results import ResultsFolder

# 7 steps an epoch.
OPTIONS = (
    "--dataset copy --hidden_size 16 --num_layers 1 --num_heads 2 --train_size 96 --eval_size 16 "
    "--batch_size 15 --max_length 16 --dropout 0.1 --device cpu --no_visualize "
    "--average_checkpoints 2 --keep_checkpoints 2"
).split()
VERSIONS = ("pytorch", "huggingface")
EPOCHS = ("--epochs", "3")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(version, *options, code=0):
    """Through the command line, in the current folder; returns the results folder."""
    assert main.main(["--version", version, *OPTIONS, *options]) == code
    return Path(f"results_{version}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Runs of three epochs that nothing happens to: version -> results folder."""
    folder, before = tmp_path_factory.mktemp("whole"), Path.cwd()
    os.chdir(folder)
    found = {version: folder / run(version, *EPOCHS) for version in VERSIONS}
    os.chdir(before)
    return found


def unfinished_copy(whole, version):
    """All that a run has written but its summary, in the current folder."""
    folder = Path(f"results_{version}")
    shutil.copytree(whole[version], folder)
    (folder / "summary.json").unlink()
    return folder


def passed_over(printed):
    return [line for line in printed.splitlines() if line.startswith("Passed over: ")]


class Malicious:
    """Writes a file if it is unpickled."""

    def __reduce__(self):
        return (open, (str(Path("code_was_run").resolve()), "w"))


def make_empty(file):
    file.write_bytes(b"")


def cut_off(file):
    os.truncate(file, file.stat().st_size * 2 // 3)


def make_foreign(file):
    torch.save({"weights": torch.ones(2)}, file)


def pickle_code(file):
    file.write_bytes(pickle.dumps(Malicious()))


def save_code(file):
    torch.save({"format": checkpoint.FORMAT, "step": 99, "training": Malicious()}, file)


def drop_training_state(file):
    content = checkpoint.load(file)
    del content["training"]
    checkpoint.save(file, content)


def make_folder(file):
    file.unlink()
    file.mkdir()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "damage",
    [make_empty, cut_off, make_foreign, pickle_code, save_code, drop_training_state, make_folder],
)
def test_a_file_that_is_no_checkpoint_is_named_and_the_one_before_used(
    tmp_path, capfd, whole, damage
):
    folder = unfinished_copy(whole, "pytorch")
    for name in ("last.pt", "checkpoint_epoch_3.pt"):
        damage(folder / "checkpoints" / name)
    capfd.readouterr()
    run("pytorch", "--resume")
    printed, error = capfd.readouterr()
    lines = passed_over(printed)
    assert len(lines) == 2
    for name in ("last.pt", "checkpoint_epoch_3.pt"):
        assert sum(f"checkpoints/{name}: " in line for line in lines) == 1
    assert error == ""
    assert not (tmp_path / "code_was_run").exists()
    assert_same_outcome(folder, outcome_of(whole["pytorch"]))


def vouch_for(file):
    """As if the run had written the file so: its checksum is the one on record."""
    record = file.parent / trainers.RECORD
    content = json.loads(record.read_text("utf-8"))
    content["files"][file.name] = trainers._digest(file)
    record.write_text(json.dumps(content), "utf-8")


def vouched_code(file):
    save_code(file)
    vouch_for(file)


DAMAGES = [
    ("model.safetensors", make_empty),
    ("optimizer.pt", make_foreign),
    ("optimizer.pt", save_code),
    ("optimizer.pt", vouched_code),
    ("scheduler.pt", vouched_code),
    ("rng_state.pth", cut_off),
    ("rng_state.pth", vouched_code),
    ("tracking.pt", vouched_code),
    ("training_args.bin", pickle_code),
    ("run.json", make_empty),
    ("run.json", make_folder),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_a_folder_that_is_no_checkpoint_is_named_and_the_one_before_used(
    tmp_path, capfd, whole, name, damage
):
    folder = unfinished_copy(whole, "huggingface")
    newest = folder / "checkpoints" / "checkpoint-21"
    damage(newest / name)
    capfd.readouterr()
    run("huggingface", "--resume")
    printed, error = capfd.readouterr()
    (line,) = passed_over(printed)
    assert str(newest) in line
    assert error == ""
    assert not (tmp_path / "code_was_run").exists()
    assert_same_outcome(folder, outcome_of(whole["huggingface"]))


def test_what_was_half_written_or_half_deleted_is_removed(whole, capsys):
    folder = unfinished_copy(whole, "huggingface")
    checkpoints = folder / "checkpoints"
    for step in (7, 28):
        shutil.copytree(checkpoints / "checkpoint-14", checkpoints / f"checkpoint-{step}")
        (checkpoints / f"checkpoint-{step}" / trainers.RECORD).unlink()
    (folder / "files.partial").mkdir()
    (folder / "files.partial" / ".tmpA1b2").write_bytes(b"half of a model")
    (folder / "logs" / "tracking.npz.partial").write_bytes(b"half")
    run("huggingface", "--resume")
    (line,) = passed_over(capsys.readouterr().out)
    assert line.endswith("checkpoint-28: was never written to its end")
    assert_same_outcome(folder, outcome_of(whole["huggingface"]))


def test_a_folder_half_deleted_does_not_count_as_whole(whole, monkeypatch):
    folder = unfinished_copy(whole, "huggingface") / "checkpoints" / "checkpoint-21"
    monkeypatch.setattr(trainers.disk.shutil, "rmtree", lambda *_: pytest.fail("power cut"))
    with pytest.raises(pytest.fail.Exception):
        trainers.drop(folder)
    assert trainers.newest_intact(folder.parent).folder.name == "checkpoint-14"


def test_names_that_only_look_like_checkpoints_are_left_alone(whole):
    for version, name in (("pytorch", "checkpoint_epoch_x.pt"), ("huggingface", "checkpoint-x")):
        folder = unfinished_copy(whole, version)
        (folder / "checkpoints" / name).write_text("mine")
        run(version, "--resume")
        assert (folder / "checkpoints" / name).read_text() == "mine"


def test_weights_that_are_missing_in_the_end_are_one_line(whole, capsys):
    folder = unfinished_copy(whole, "pytorch")
    make_empty(folder / "checkpoints" / "best_model.pt")
    run("pytorch", "--resume", "--average_checkpoints", "2", code=1)
    error = capsys.readouterr().err
    assert error.startswith("main.py: results_pytorch/checkpoints/best_model.pt: not an intact")
    assert error.count("\n") == 1


def test_the_newest_state_becomes_last_again(whole):
    folder = unfinished_copy(whole, "pytorch")
    (folder / "checkpoints" / "last.pt").unlink()
    run("pytorch", "--resume")
    assert_same_outcome(folder, outcome_of(whole["pytorch"]))
    assert (folder / "checkpoints" / "last.pt").exists()


# Where a run was cut short


class PowerCut(SystemError):
    pass


def cut_power(monkeypatch, owner, name, when=lambda *_: True):
    """Let a function end everything."""
    original = getattr(owner, name)

    def function(*args, **options):
        if when(*args):
            raise PowerCut
        return original(*args, **options)

    monkeypatch.setattr(owner, name, function)


@pytest.mark.parametrize(("save_every", "length"), [(7, EPOCHS), (4, ("--max_steps", "4"))])
def test_an_evaluation_that_was_not_saved_is_made_once_more(monkeypatch, save_every, length):
    monkeypatch.setattr(checkpoint, "SAVE_EVERY", save_every)
    folder = run("pytorch", *length)
    expected = outcome_of(folder)
    with monkeypatch.context() as patch:
        cut_power(patch, checkpoint, "save", lambda path, _: path.name == "best_model.pt")
        with pytest.raises(PowerCut):
            run("pytorch", *length)
    assert run("pytorch", *length, "--resume") == folder
    assert_same_outcome(folder, expected)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_longer_run_is_not_finished_by_the_summary_of_the_shorter(monkeypatch, version):
    run(version, "--epochs", "1")
    with monkeypatch.context() as patch:
        cut_power(patch, ResultsFolder, "write_lines")
        with pytest.raises(PowerCut):
            run(version, "--epochs", "2", "--resume")
    folder = run(version, "--resume")
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    assert summary["config"]["epochs"] == 2
    assert summary["metrics"]["eval_nll"] == pytest.approx(
        min(r["nll"] for r in ResultsFolder(folder).read_metrics("eval")), rel=1e-6
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_a_run_that_stopped_early_is_finished(monkeypatch, capsys, version):
    def fake(*_):
        steps.append(1)
        return {"nll": float(len(steps)), "token_accuracy": 0.5, "nll_other_source": 9.0}

    steps = []
    monkeypatch.setattr(evaluation, "score_tokens", fake)
    options = ("--epochs", "20", "--patience", "2", "--average_checkpoints", "0")
    with monkeypatch.context() as patch:
        cut_power(patch, ResultsFolder, "write_lines")
        with pytest.raises(PowerCut):
            run(version, *options)
    folder = run(version, *options, "--resume")
    evaluated = [record["step"] for record in ResultsFolder(folder).read_metrics("eval")]
    assert evaluated == [7, 14, 21]
    capsys.readouterr()
    run(version, *options, "--resume")
    assert "this run is finished" in capsys.readouterr().out


# What the user is told to type


def test_the_command_to_go_on_holds_what_no_checkpoint_does():
    words = ["--version", "both", "--seed", "3", "--visualize", "--hidden_size", "32"]
    words += ["--output_dir", "a folder", "--learning_rate", "1e-05", "--track_every", "5"]
    settings = main.parse(words)
    short = resume_command(settings)
    assert short.startswith("python main.py --version both --resume --output_dir 'a folder' ")
    assert {"--visualize", "--track_every"} < set(short.split())
    assert "--hidden_size" not in short
    again = main.parse(shlex.split(resume_command(settings, is_saved=False))[2:])
    assert {**again.given, "resume": False} == {**settings.given, "resume": False}
    assert "--no_visualize" in resume_command(main.parse(["--no_visualize"]))
