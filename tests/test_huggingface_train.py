"""``--version huggingface``: what a run writes, and going on after an interruption."""

import gc
import json
import math
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import main
from huggingface_version import custom_trainer
from huggingface_version import train as train_module
from huggingface_version.custom_trainer import ExperimentTrainer
from tests.test_train import all_lines_of, metrics_of, summary_of
from utils.comparison import initial_weights
from utils.data import prepare
from utils.experiment import Experiment
from utils.objective import smoothed_loss_sum
from utils.tokenizer import EOS_ID

ROOT = Path(__file__).parent.parent
# 7 batches an epoch, the last of 6 pairs.
SMALL = (
    "--dataset copy --hidden_size 16 --num_layers 1 --num_heads 2 --train_size 96 --eval_size 16 "
    "--batch_size 15 --max_length 16 --dropout 0.1 --average_checkpoints 0 --device cpu --quiet"
).split()
# Enough to translate different sentences differently, and some without an end.
LEARNING = "--epochs 8 --learning_rate 0.02 --batch_size 8 --dropout 0".split()
unix_only = pytest.mark.skipif(os.name == "nt", reason="signals cannot be sent to oneself")


def command(output_dir, *options, version="huggingface", figures=False):
    line = ["--version", version, *SMALL, "--output_dir", str(output_dir), *options]
    return line if figures else [*line, "--no_visualize"]


def run(output_dir, *options, version="huggingface", figures=False, code=0):
    """Train through the command line; returns the results folder."""
    assert main.main(command(output_dir, *options, version=version, figures=figures)) == code
    return Path(output_dir) / f"results_{version}"


def resume(output_dir, *options):
    """Go on as the printed command says, without the other options."""
    line = ["--version", "huggingface", "--resume", "--output_dir", str(output_dir)]
    assert main.main([*line, *options]) == 0
    return Path(output_dir) / "results_huggingface"


def files_of(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def contents_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def checkpoints_of(folder):
    return sorted(int(path.name.rpartition("-")[2]) for path in folder.glob("checkpoints/*"))


def weights_of(folder):
    return load_file(folder / "model.safetensors")


def evals_of(folder):
    return [line for line in metrics_of(folder) if line["kind"] == "eval"]


def hypotheses_of(folder):
    lines = (folder / "logs" / "translations.jsonl").read_text("utf-8").split("\n")
    return [json.loads(line)["hypothesis"] for line in lines if line]


def assert_same(one, two):
    """Two state dicts, bit by bit."""
    assert one.keys() == two.keys()
    assert len(one) > 20
    assert all(torch.equal(one[name], two[name]) for name in one)


def assert_same_outcome(folder, whole, lines_of=all_lines_of):
    """Line by line, and bit by bit in the last checkpoint and the model that was saved."""
    assert lines_of(folder) == lines_of(whole)
    assert_same(weights_of(folder), weights_of(whole))
    last = f"checkpoints/checkpoint-{max(checkpoints_of(whole))}"
    assert_same(weights_of(folder / last), weights_of(whole / last))
    for key in ("metrics", "samples"):
        assert summary_of(folder)[key] == summary_of(whole)[key]
    assert_speed_is_of_all_steps(folder)


def assert_speed_is_of_all_steps(folder):
    speed = summary_of(folder)["speed"]
    tokens = sum(line["tokens"] for line in metrics_of(folder) if line["kind"] == "train")
    assert speed["train_tokens_per_sec"] * speed["train_seconds"] == pytest.approx(tokens)


def structure(value):
    """Keys and kinds of values, to any depth; numbers are one kind, and so are the texts."""
    if isinstance(value, dict):
        return {key: structure(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [structure(value[0])] if value else []
    return "number" if isinstance(value, int | float) else type(value).__name__


@pytest.fixture(scope="module", autouse=True)
def _frozen():
    # The Trainer collects garbage after every training; what is imported need not be searched.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """The same options, without dropout, in both versions: version -> results folder."""
    output_dir = tmp_path_factory.mktemp("learnt")
    return {
        version: run(output_dir, *LEARNING, version=version, figures=True)
        for version in ("pytorch", "huggingface")
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Runs of three epochs with dropout that nothing happens to: accumulation -> folder."""
    return {
        n: run(
            tmp_path_factory.mktemp("whole"), "--epochs", "3", "--gradient_accumulation_steps", n
        )
        for n in ("1", "2")
    }


def scores(nlls, monkeypatch):
    """Let the evaluations find these NLLs, one after another."""
    found = iter(nlls)

    def fake(*_):
        return {"nll": next(found), "token_accuracy": 0.5, "nll_other_source": 9.0}

    monkeypatch.setattr(train_module.evaluation, "score_tokens", fake)


def at_step(monkeypatch, step, action):
    """Do something once, in the middle of the given optimizer step."""
    original, done = ExperimentTrainer.compute_loss, []

    def compute_loss(self, *args, **options):
        if self.state.global_step == step - 1 and not done:
            done.append(step)
            action()
        return original(self, *args, **options)

    monkeypatch.setattr(ExperimentTrainer, "compute_loss", compute_loss)


def interrupt_at(monkeypatch, step, signum):
    """Send ourselves a signal during the given step."""
    at_step(monkeypatch, step, lambda: os.kill(os.getpid(), signum))


def interrupted_run(output_dir, monkeypatch, step, *options, signum=signal.SIGINT):
    with monkeypatch.context() as patch:
        interrupt_at(patch, step, signum)
        return run(output_dir, *options, code=128 + signum)


# What a run writes


def test_a_run_writes_its_files_and_no_others(learnt):
    folder = learnt["huggingface"]
    written = files_of(folder)
    in_checkpoints = {name for name in written if name.startswith("checkpoints/")}
    assert written - in_checkpoints == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "pytorch_model.bin",
        "tokenizer.json",
        "tokenizer_config.json",
        "training_args.bin",
        "logs/metrics.jsonl",
        "logs/tracking.npz",
        "logs/train.log",
        "logs/translations.jsonl",
        "report.html",
        "summary.json",
        "visualizations/manifest.json",
        "visualizations/qkv/qkv_evolution.png",
        "visualizations/training_curves.png",
        *(f"visualizations/attention/attention_step_{step}.png" for step in (0, 4, 15, 35, 61, 96)),
    }
    assert {name.split("/")[1] for name in in_checkpoints} == {
        f"checkpoint-{step}" for step in (72, 84, 96)
    }
    assert {"run.json", "tracking.pt", "model.safetensors", "optimizer.pt"} <= {
        name.split("/")[2] for name in in_checkpoints
    }
    assert set(summary_of(folder)["files"]) == written
    manifest = json.loads((folder / "visualizations" / "manifest.json").read_text("utf-8"))
    figures = {f"visualizations/{record['file']}" for record in manifest}
    assert figures == {name for name in written if name.endswith(".png")}
    followed = next(r for r in manifest if r["file"] == "qkv/qkv_evolution.png")
    assert len(followed["probe_sentences"]) == 8


def test_both_versions_write_the_same_kinds_of_lines(learnt):
    ours, theirs = (
        [(line["kind"], line["step"], line["epoch"], set(line)) for line in metrics_of(folder)]
        for folder in learnt.values()
    )
    assert ours == theirs
    assert {kind for kind, *_ in theirs} == {"train", "eval"}
    assert len(theirs) == 8 * 12 + 8


def test_both_versions_write_the_same_summary_but_for_its_numbers(learnt):
    ours, theirs = (summary_of(folder) for folder in learnt.values())
    for summary in (ours, theirs):
        del summary["files"]
    assert structure(ours) == structure(theirs)
    assert len(theirs["samples"]) >= 5
    assert theirs["dataset"] == ours["dataset"]
    assert theirs["version"] == "huggingface"
    assert {name: value for name, value in theirs["config"].items() if name != "version"} == {
        name: value for name, value in ours["config"].items() if name != "version"
    }
    assert theirs["speed"]["decode_sentences_per_sec"] > 0
    assert_speed_is_of_all_steps(learnt["huggingface"])


def test_without_dropout_both_versions_have_the_same_losses(learnt):
    for ours, theirs in zip(*map(metrics_of, learnt.values()), strict=True):
        if theirs["kind"] == "eval":
            assert theirs["nll"] == pytest.approx(ours["nll"], abs=1e-3)
            assert theirs["nll_other_source"] == pytest.approx(ours["nll_other_source"], abs=1e-3)
        else:
            assert theirs["loss"] == pytest.approx(ours["loss"], abs=1e-4)
            assert theirs["grad_norm"] == pytest.approx(ours["grad_norm"], rel=1e-2)
            assert theirs["lr"] == pytest.approx(ours["lr"], rel=1e-12)
            assert theirs["tokens"] == ours["tokens"]


def test_without_dropout_both_versions_translate_alike(learnt):
    ours, theirs = map(hypotheses_of, learnt.values())
    assert theirs == ours
    assert len(set(theirs)) > 10
    lengths = [len(AutoTokenizer.from_pretrained(learnt["huggingface"])(h).input_ids) for h in ours]
    assert min(lengths) < 9
    assert max(lengths) == 17  # 16 words and no end: the last one is not replaced by </s>


def test_the_best_epoch_is_saved_and_reported(learnt):
    folder = learnt["huggingface"]
    best = min(evals_of(folder), key=lambda line: line["nll"])
    assert best["step"] < 96
    assert_same(
        weights_of(folder), weights_of(folder / "checkpoints" / f"checkpoint-{best['step']}")
    )
    metrics = summary_of(folder)["metrics"]
    assert metrics["eval_nll"] == pytest.approx(best["nll"], rel=1e-6)
    for name in ("token_accuracy", "bleu", "chrf", "exact_match"):
        assert metrics[name] == pytest.approx(best[name])
    assert metrics["eval_ppl"] == pytest.approx(math.exp(best["nll"]), rel=1e-5)


def bare_translations(folder, sources):
    """What a user of transformers gets who knows nothing of the run."""
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(sources, return_tensors="pt", padding=True)
    return tokenizer.batch_decode(model.generate(**inputs), skip_special_tokens=True)


def test_a_bare_generate_reproduces_the_samples(learnt):
    samples = summary_of(learnt["huggingface"])["samples"]
    sources = [sample["src"] for sample in samples]
    expected = [sample["hypothesis"] for sample in samples]
    for folder in (learnt["huggingface"], learnt["pytorch"] / "hf_export"):
        assert bare_translations(folder, sources) == expected


def test_a_bare_generate_searches_with_the_beams_of_the_run(tmp_path):
    options = [*LEARNING, "--beam_size", "2", "--length_penalty", "1.7"]
    folder = run(tmp_path, *options)
    samples = summary_of(folder)["samples"]
    expected = [sample["hypothesis"] for sample in samples]
    assert bare_translations(folder, [sample["src"] for sample in samples]) == expected
    config = json.loads((folder / "generation_config.json").read_text("utf-8"))
    assert (config["num_beams"], config["length_penalty"]) == (2, 1.7)
    assert len(set(expected)) > 3
    assert hypotheses_of(folder) == hypotheses_of(run(tmp_path, *options, version="pytorch"))


def test_the_saved_folder_is_an_ordinary_marian_model(learnt):
    folder = learnt["huggingface"]
    saved = torch.load(folder / "pytorch_model.bin", weights_only=True)
    assert_same(dict(saved), weights_of(folder))
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert config["use_cache"] is True
    assert config["architectures"] == ["MarianMTModel"]
    assert AutoTokenizer.from_pretrained(folder).model_max_length == 16


def test_same_seed_same_run(tmp_path, whole):
    again = run(tmp_path / "again", "--epochs", "3")
    assert_same_outcome(again, whole["1"])
    other = run(tmp_path / "other", "--epochs", "1", "--seed", "7")
    assert metrics_of(other)[0]["loss"] != metrics_of(again)[0]["loss"]


def test_losses_do_not_depend_on_evaluations(whole):
    settings = main.parse(command("unused", "--epochs", "3"))
    experiment = Experiment.plan(settings, prepare(settings.data, settings.run.seed))
    weights = initial_weights(experiment)
    without, _ = train_module.short_run(experiment, weights, 21, torch.float32)
    assert without == [line["loss"] for line in metrics_of(whole["1"]) if line["kind"] == "train"]


# Options


@pytest.mark.parametrize(
    ("nlls", "kept"),
    [
        ((5.0, 4.0, 3.0, 2.0, 1.0), [28, 35]),
        ((1.0, 2.0, 3.0, 4.0, 5.0), [7, 28, 35]),
    ],
)
def test_the_newest_checkpoints_are_kept_and_the_best(tmp_path, monkeypatch, nlls, kept):
    scores([*nlls, 1.0, 1.0], monkeypatch)
    folder = run(tmp_path, "--epochs", "5", "--keep_checkpoints", "2")
    assert checkpoints_of(folder) == kept


def test_training_stops_when_nothing_improves(tmp_path, monkeypatch):
    scores([3.0, 2.0, 2.5, 2.4, 2.3] + [2.2] * 9, monkeypatch)
    folder = run(tmp_path, "--epochs", "20", "--patience", "3", "--keep_checkpoints", "9")
    assert [line["step"] for line in evals_of(folder)] == [7, 14, 21, 28, 35]
    assert_same(weights_of(folder), weights_of(folder / "checkpoints" / "checkpoint-14"))


def mean_of(folder, steps):
    states = [weights_of(folder / "checkpoints" / f"checkpoint-{step}") for step in steps]
    return {name: sum(state[name] for state in states) / len(states) for name in states[0]}


@pytest.mark.parametrize(
    ("averaged", "verdict"), [(0.5, "the new best model"), (1.5, "no better than the best epoch")]
)
def test_averaging_keeps_the_mean_of_the_last_epochs_where_it_is_better(
    tmp_path, monkeypatch, averaged, verdict
):
    # Found: four epochs; then before, after averaging; then the summary.
    scores([4.0, 3.0, 1.0, 2.0, 1.0, averaged, 0.5, 0.5], monkeypatch)
    averaging = ["--average_checkpoints", "3", "--keep_checkpoints", "9"]
    folder = run(tmp_path, "--epochs", "4", *averaging)
    assert checkpoints_of(folder) == [7, 14, 21, 28]  # more than are averaged
    (line,) = re.findall("Average of the last 3 .*", (folder / "logs/train.log").read_text("utf-8"))
    assert line.endswith(verdict)
    best = weights_of(folder / "checkpoints" / "checkpoint-21")
    expected = mean_of(folder, (14, 21, 28)) if averaged < 1.0 else best
    for name, weight in weights_of(folder).items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-5, atol=1e-6)


def test_decoding_settings_are_saved_as_ours_whatever_the_trainer_made_of_them(
    tmp_path, monkeypatch
):
    train = ExperimentTrainer.train

    def train_and_rewrite(self, **options):
        train(self, **options)
        self.model.generation_config.eos_token_id = [EOS_ID]  # as transformers before 5.20

    monkeypatch.setattr(ExperimentTrainer, "train", train_and_rewrite)
    folder = run(tmp_path, "--max_steps", "1")
    saved = json.loads((folder / "generation_config.json").read_text("utf-8"))
    assert saved["eos_token_id"] == EOS_ID


def test_averaging_takes_the_last_epochs_even_if_the_best_is_older(tmp_path, monkeypatch):
    # Found: five epochs; then before, after averaging; then the summary.
    scores([1.0, 2.0, 3.0, 4.0, 5.0, 1.0, 0.5, 0.5, 0.5], monkeypatch)
    folder = run(tmp_path, "--epochs", "5", "--average_checkpoints", "3")
    mean = mean_of(folder, (21, 28, 35))
    for name, weight in weights_of(folder).items():
        torch.testing.assert_close(weight, mean[name], rtol=1e-5, atol=1e-6)


def test_max_steps_ends_within_an_epoch(tmp_path):
    folder = run(tmp_path, "--max_steps", "9")
    lines = metrics_of(folder)
    assert [line["kind"] for line in lines] == ["train"] * 7 + ["eval"] + ["train"] * 2 + ["eval"]
    assert [line["epoch"] for line in lines] == [1] * 8 + [2] * 3
    assert lines[-1]["step"] == 9
    assert checkpoints_of(folder) == [7, 9]


def test_no_visualize_writes_no_figure(whole):
    assert not list(whole["1"].rglob("*.png"))


def test_earlier_results_are_moved_aside(tmp_path):
    run(tmp_path, "--epochs", "1")
    first = contents_of(tmp_path / "results_huggingface")
    run(tmp_path, "--epochs", "1", "--seed", "3")
    (aside,) = tmp_path.glob("results_huggingface.*")
    assert list(contents_of(aside).values()) == list(first.values())


def test_a_diverging_run_ends_with_one_line(tmp_path, capsys, monkeypatch):
    def not_a_number(logits, labels, label_smoothing):
        return smoothed_loss_sum(logits, labels, label_smoothing) * float("nan")

    monkeypatch.setattr(custom_trainer, "smoothed_loss_sum", not_a_number)
    run(tmp_path, code=1)
    message = capsys.readouterr().err
    assert "step 1" in message
    assert message.count("\n") == 1


def test_bf16_computes_nearly_the_same_loss(tmp_path):
    options = ["--gradient_accumulation_steps", "4", "--epochs", "1", "--dropout", "0"]
    full, half = (
        metrics_of(run(tmp_path / name, *options, "--precision", name))[0]["loss"]
        for name in ("fp32", "bf16")
    )
    assert half == pytest.approx(full, rel=0.02)
    assert half != full


# Going on


@unix_only
@pytest.mark.parametrize(
    ("accumulated", "step", "signum"),
    [
        ("1", 3, signal.SIGTERM),  # before any evaluation
        ("1", 10, signal.SIGINT),
        ("1", 14, signal.SIGTERM),  # an epoch's last step
        ("1", 21, signal.SIGINT),  # the very last
        ("2", 6, signal.SIGTERM),
        ("2", 8, signal.SIGINT),
    ],
)
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(
    tmp_path, monkeypatch, capsys, whole, accumulated, step, signum
):
    options = ["--epochs", "3", "--gradient_accumulation_steps", accumulated]
    folder = interrupted_run(tmp_path, monkeypatch, step, *options, signum=signum)
    assert not (folder / "summary.json").exists()
    message = capsys.readouterr().err
    assert f"after step {step}" in message
    assert f"python main.py --version huggingface --resume --output_dir {tmp_path}" in message
    assert message.count("\n") == 1
    assert resume(tmp_path) == folder
    assert_same_outcome(folder, whole[accumulated])


@unix_only
def test_an_interrupted_last_step_within_an_epoch_is_evaluated(tmp_path, monkeypatch):
    whole = run(tmp_path / "whole", "--max_steps", "9")
    folder = interrupted_run(tmp_path, monkeypatch, 9, "--max_steps", "9")
    resume(tmp_path)
    assert_same_outcome(folder, whole)


@unix_only
def test_a_run_may_be_interrupted_again_and_again(tmp_path, monkeypatch, whole):
    folder = interrupted_run(tmp_path, monkeypatch, 2, "--epochs", "3")
    for step in (7, 11, 20):
        interrupted_run(tmp_path, monkeypatch, step, "--resume")
    resume(tmp_path)
    assert_same_outcome(folder, whole["1"])


@unix_only
def test_a_signal_during_an_evaluation_is_heeded_after_the_next_step(tmp_path, monkeypatch, whole):
    original = train_module.evaluation.score_translations
    with monkeypatch.context() as patch:

        def interrupting(*args):
            patch.setattr(train_module.evaluation, "score_translations", original)
            os.kill(os.getpid(), signal.SIGINT)
            return original(*args)

        patch.setattr(train_module.evaluation, "score_translations", interrupting)
        folder = run(tmp_path, "--epochs", "3", code=130)
    assert [line["step"] for line in metrics_of(folder)] == [*range(1, 8), 7, 8]
    resume(tmp_path)
    assert_same_outcome(folder, whole["1"])


@unix_only
def test_a_second_signal_during_an_evaluation_leaves_no_gap(tmp_path, monkeypatch, whole):
    original = train_module.evaluation.score_translations

    def interrupting(*args):
        if (folder / "checkpoints" / "checkpoint-7").exists():
            os.kill(os.getpid(), signal.SIGINT)
        return original(*args)

    folder = tmp_path / "results_huggingface"
    with monkeypatch.context() as patch:
        patch.setattr(train_module.evaluation, "score_translations", interrupting)
        interrupted_run(tmp_path, monkeypatch, 14, "--epochs", "3")
    resume(tmp_path)
    assert_same_outcome(folder, whole["1"])


def test_a_run_that_died_goes_on_from_its_last_checkpoint(tmp_path, monkeypatch):
    def power_cut():
        raise SystemError("power cut")

    options = ["--epochs", "2", "--batch_size", "4"]  # 24 batches: steps are logged by tens
    whole = run(tmp_path / "whole", *options)
    with monkeypatch.context() as patch:
        at_step(patch, 40, power_cut)
        with pytest.raises(SystemError):
            main.main(command(tmp_path, *options))
    folder = tmp_path / "results_huggingface"
    assert checkpoints_of(folder) == [24]
    assert metrics_of(folder)[-1]["step"] > 24
    resume(tmp_path)
    assert_same_outcome(folder, whole)


DAMAGES = {
    "model.safetensors": lambda file: os.truncate(file, 5000),
    "optimizer.pt": lambda file: os.truncate(file, 5000),
    "run.json": lambda file: file.unlink(),
    "trainer_state.json": lambda file: os.truncate(file, 10),
    "rng_state.pth": lambda file: file.unlink(),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_resume_passes_over_a_damaged_checkpoint(tmp_path, capsys, whole, name):
    folder = tmp_path / "results_huggingface"
    shutil.copytree(whole["1"], folder)
    (folder / "summary.json").unlink()
    newest = folder / "checkpoints" / "checkpoint-21"
    DAMAGES[name](newest / name)
    resume(tmp_path)
    passed_over = [line for line in capsys.readouterr().out.splitlines() if "Passed over" in line]
    assert len(passed_over) == 1
    assert str(newest) in passed_over[0]
    assert_same_outcome(folder, whole["1"])


def test_more_epochs_go_on_after_a_finished_run(tmp_path):
    schedule = ["--learning_rate", "0.005", "--warmup_steps", "9"]
    whole = run(tmp_path / "whole", *schedule, "--epochs", "3")
    folder = run(tmp_path, *schedule, "--epochs", "2")
    assert run(tmp_path, "--resume", "--epochs", "3") == folder
    # A longer run is probed at other steps.
    assert_same_outcome(folder, whole, lines_of=metrics_of)


def test_more_steps_go_on_within_the_epoch(tmp_path):
    schedule = ["--learning_rate", "0.005", "--warmup_steps", "9"]
    whole = run(tmp_path / "whole", *schedule, "--max_steps", "12")
    folder = run(tmp_path, *schedule, "--max_steps", "9")
    resume(tmp_path, "--max_steps", "12", "--epochs", "2")
    lines = [line for line in metrics_of(folder) if (line["kind"], line["step"]) != ("eval", 9)]
    assert lines == metrics_of(whole)
    assert_same(
        weights_of(folder / "checkpoints/checkpoint-12"),
        weights_of(whole / "checkpoints/checkpoint-12"),
    )


def test_resume_refuses_what_conflicts(tmp_path, capsys):
    folder = run(tmp_path, "--epochs", "1")
    before = contents_of(folder)
    run(tmp_path, "--resume", "--dropout", "0.5", code=2)
    message = capsys.readouterr().err
    assert "--dropout 0.5" in message
    assert "which has 0.1" in message
    assert message.count("\n") == 1
    assert contents_of(folder) == before


def test_resuming_a_finished_run_says_so_and_changes_nothing(tmp_path, capsys):
    folder = run(tmp_path, "--epochs", "1")
    before = contents_of(folder)
    capsys.readouterr()
    run(tmp_path, "--resume")
    assert "finished" in capsys.readouterr().out
    assert contents_of(folder) == before


def test_a_run_interrupted_before_its_summary_gets_one(tmp_path, whole):
    folder = tmp_path / "results_huggingface"
    shutil.copytree(whole["1"], folder)
    for name in ("summary.json", "model.safetensors", "config.json"):
        (folder / name).unlink()
    resume(tmp_path)
    assert_same_outcome(folder, whole["1"])


def test_resume_with_nothing_there_starts_anew(tmp_path, capsys):
    folder = run(tmp_path, "--resume", "--epochs", "1")
    assert "starting anew" in capsys.readouterr().out
    assert summary_of(folder)["metrics"]["eval_nll"] > 0


def test_resume_refuses_another_number_of_processes(tmp_path, capsys):
    folder = run(tmp_path, "--epochs", "1")
    (record,) = folder.glob("checkpoints/*/run.json")
    saved = json.loads(record.read_text("utf-8"))
    assert saved["world_size"] == 1
    record.write_text(json.dumps(saved | {"world_size": 2}), "utf-8")
    before = contents_of(folder)
    run(tmp_path, "--resume", "--epochs", "2", code=2)
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "--resume: 2 processes" in message
    assert contents_of(folder) == before


def test_resume_refuses_other_data(tmp_path, capsys):
    file = tmp_path / "pairs.tsv"
    file.write_text("".join(f"I see {n} birds\tnew {n} birds\n" for n in range(60)), "utf-8")
    options = ["--dataset", str(file), "--train_size", "40", "--epochs", "1"]
    folder = run(tmp_path, *options)
    before = contents_of(folder)
    file.write_text(file.read_text("utf-8").replace("birds", "words"), "utf-8")
    run(tmp_path, *options, "--resume", "--epochs", "2", code=2)
    assert "--resume: the dataset is not the one" in capsys.readouterr().err
    assert contents_of(folder) == before


@unix_only
def test_patience_goes_on_counting_after_an_interruption(tmp_path, monkeypatch):
    options = ["--epochs", "20", "--patience", "3"]
    scores([3.0, 2.0, 2.5, 2.4, 2.3] + [2.2] * 20, monkeypatch)
    interrupted_run(tmp_path, monkeypatch, 24, *options)
    folder = resume(tmp_path)
    assert [line["step"] for line in evals_of(folder)] == [7, 14, 21, 28, 35]


@unix_only
def test_averaging_leaves_out_the_state_that_an_interruption_saved(tmp_path, monkeypatch):
    options = ["--epochs", "4", "--average_checkpoints", "3"]
    whole = run(tmp_path / "whole", *options)
    interrupted_run(tmp_path, monkeypatch, 24, *options)
    folder = resume(tmp_path)
    assert checkpoints_of(folder) == checkpoints_of(whole) == [14, 21, 28]
    assert_same_outcome(folder, whole)


def test_a_state_is_saved_within_an_epoch_and_dropped_when_the_next_is(tmp_path, monkeypatch):
    """A killed run loses no more than these steps, however long an epoch is."""
    seen = []
    complete = train_module.checkpoints.complete

    def noting(folder, *args):
        complete(folder, *args)
        seen.append(checkpoints_of(folder.parent.parent))

    monkeypatch.setattr(train_module.checkpoint, "SAVE_EVERY", 3)
    monkeypatch.setattr(train_module.checkpoints, "complete", noting)
    run(tmp_path, "--epochs", "2", "--keep_checkpoints", "1")
    assert [steps[-1] for steps in seen] == [3, 6, 7, 9, 12, 14]
    assert max(map(len, seen)) <= 3  # the one before, the newest epoch or best, and this one
