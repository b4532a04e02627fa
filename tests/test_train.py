"""Training: the step, the run, what it writes, and going on after an interruption."""

import json
import os
import signal
import unicodedata

import pytest
import torch

import main
import pytorch_version.step as step_module
import pytorch_version.train as train_module
from pytorch_version.generate import translate
from pytorch_version.model import Transformer
from pytorch_version.saved import load_model
from pytorch_version.state import TrainingState
from pytorch_version.step import train_step
from utils import checkpoint
from utils.batching import Batch, collate
from utils.config import ModelConfig, TrainConfig
from utils.decoding import Decoding
from utils.interrupt import Interrupted
from utils.objective import smoothed_loss_sum
from utils.tokenizer import EOS_ID

SMALL = (
    "--version pytorch --dataset copy --hidden_size 16 --num_layers 1 --num_heads 2 "
    "--train_size 96 --eval_size 16 --batch_size 16 --max_length 40 --dropout 0.1 --device cpu "
    "--average_checkpoints 0"
).split()


def run(output_dir, *options):
    """Train through the command line; returns the results folder."""
    assert main.main([*SMALL, "--quiet", "--output_dir", str(output_dir), *options]) == 0
    return output_dir / "results_pytorch"


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text("utf-8"))


def metrics_of(folder, kinds=("train", "eval")):
    """Lines of ``metrics.jsonl`` without what depends on the clock."""
    lines = (folder / "logs" / "metrics.jsonl").read_text("utf-8").splitlines()
    return [
        {key: value for key, value in line.items() if not key.endswith("_per_sec")}
        for line in map(json.loads, lines)
        if line["kind"] in kinds
    ]


def all_lines_of(folder):
    return metrics_of(folder, ("train", "eval", "probe"))


@pytest.fixture
def examples():
    """32 pairs of unequal lengths."""
    generator = torch.Generator().manual_seed(5)

    def ids(length):
        return [*torch.randint(3, 40, (length,), generator=generator).tolist(), EOS_ID]

    return [(ids(2 + n % 9), ids(1 + n % 13)) for n in range(32)]


def state_for(config, seed=0, **shape):
    torch.manual_seed(seed)
    model_config = ModelConfig(**{"d_model": 16, "num_layers": 2, "dropout": 0.0} | shape)
    return TrainingState.start(Transformer(model_config, 40, 0, 32), config)


def test_one_batch_of_32_equals_four_of_8(examples):
    config = TrainConfig(learning_rate=1e-2, warmup_steps=1)
    states = []
    for size in (32, 8):
        state = state_for(config)
        state.model.double()
        batches = [collate(examples[i : i + size]) for i in range(0, 32, size)]
        line = train_step(state, state.model, batches, config)
        states.append((state, line))
    (one, one_line), (four, four_line) = states
    torch.testing.assert_close(one_line["loss"], four_line["loss"], rtol=1e-6, atol=0)
    torch.testing.assert_close(one_line["grad_norm"], four_line["grad_norm"], rtol=1e-10, atol=0)
    for a, b in zip(one.model.parameters(), four.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_loss_is_the_mean_over_all_target_tokens(examples):
    config = TrainConfig(learning_rate=1e-3, warmup_steps=1)
    state = state_for(config)
    losses = 0.0
    for src, tgt in examples:
        batch = collate([(src, tgt)])
        logits = state.model(batch.src_ids, batch.decoder_input_ids)
        losses += smoothed_loss_sum(logits, batch.labels, 0.1).item()
    line = train_step(state, state.model, [collate(examples)], config)
    assert line["loss"].item() == pytest.approx(losses / sum(len(t) for _, t in examples), rel=1e-5)
    assert line["tokens"] == sum(len(s) + len(t) for s, t in examples)


def test_clipping_limits_the_step_and_reports_the_norm_before(examples):
    gradients = []
    for max_grad_norm in (0.0, 1e-3):
        config = TrainConfig(learning_rate=1e-3, warmup_steps=1, max_grad_norm=max_grad_norm)
        state = state_for(config)
        seen = []
        state.optimizer.register_step_pre_hook(
            lambda optimizer, *_, seen=seen: seen.extend(
                p.grad.norm() for g in optimizer.param_groups for p in g["params"]
            )
        )
        line = train_step(state, state.model, [collate(examples)], config)
        gradients.append((line["grad_norm"].item(), torch.stack(seen).norm().item()))
    (norm, unclipped), (norm_again, clipped) = gradients
    assert norm == pytest.approx(norm_again) == pytest.approx(unclipped, rel=1e-5)
    assert clipped == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_computes_nearly_the_same_loss(examples, precision):
    lines = []
    for name in ("fp32", precision):
        config = TrainConfig(learning_rate=1e-3, warmup_steps=1, precision=name)
        state = state_for(config)
        lines.append(train_step(state, state.model, [collate(examples)], config))
        assert all(p.dtype == torch.float32 for p in state.model.parameters())
    full, half = (line["loss"].item() for line in lines)
    assert half == pytest.approx(full, rel=0.02)
    assert half != full


def test_a_run_learns_and_writes_its_files(tmp_path):
    folder = run(tmp_path, "--epochs", "3", "--train_size", "512", "--learning_rate", "0.005")
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert written == {
        "checkpoints/best_model.pt",
        "checkpoints/checkpoint_epoch_1.pt",
        "checkpoints/checkpoint_epoch_2.pt",
        "checkpoints/checkpoint_epoch_3.pt",
        "checkpoints/last.pt",
        "logs/metrics.jsonl",
        "logs/tracking.npz",
        "logs/train.log",
        "logs/translations.jsonl",
        *(
            f"hf_export/{name}"
            for name in (
                "config.json",
                "generation_config.json",
                "model.safetensors",
                "tokenizer.json",
                "tokenizer_config.json",
            )
        ),
        "report.html",
        "summary.json",
        "visualizations/attention_plots/attention_evolution.png",
        "visualizations/manifest.json",
        "visualizations/qkv_evolution.png",
        "visualizations/training_curves.png",
    }
    summary = summary_of(folder)
    assert set(summary["files"]) == written
    lines = metrics_of(folder)
    evals = [line for line in lines if line["kind"] == "eval"]
    assert [line["epoch"] for line in evals] == [1, 2, 3]
    assert evals[-1]["nll"] < evals[0]["nll"]
    assert [line["step"] for line in lines if line["kind"] == "train"] == list(range(1, 97))
    assert summary["metrics"]["eval_nll"] == pytest.approx(min(e["nll"] for e in evals), rel=1e-6)
    assert summary["config"]["hidden_size"] == 16
    assert summary["config"]["ffn_size"] == 64
    assert summary["dataset"]["train"] == 512
    assert len(summary["samples"]) >= 5
    for key in ("train_tokens_per_sec", "train_seconds", "decode_sentences_per_sec"):
        assert summary["speed"][key] > 0


def test_the_best_checkpoint_stands_alone_and_translates_as_the_run_did(tmp_path):
    folder = run(tmp_path, "--epochs", "2", "--beam_size", "2")
    model, tokenizer = load_model(folder / "checkpoints" / "best_model.pt")
    samples = summary_of(folder)["samples"]
    sources = [sample["src"] for sample in samples]
    found = translate(model, tokenizer, sources, Decoding(40, beam_size=2))
    assert found == [sample["hypothesis"] for sample in samples]


def test_checkpoints_hold_no_code(tmp_path):
    folder = run(tmp_path, "--epochs", "1")
    files = sorted((folder / "checkpoints").iterdir())
    assert [file.name for file in files] == ["best_model.pt", "checkpoint_epoch_1.pt", "last.pt"]
    for file in files:
        torch.load(file, weights_only=True)


def test_same_seed_same_run(tmp_path):
    one, two = (metrics_of(run(tmp_path / name, "--epochs", "2")) for name in "ab")
    other = metrics_of(run(tmp_path / "c", "--epochs", "2", "--seed", "7"))
    assert one == two
    assert one != other


def test_earlier_results_are_moved_aside(tmp_path):
    first = summary_of(run(tmp_path, "--epochs", "1"))
    run(tmp_path, "--epochs", "1", "--seed", "3")
    (aside,) = tmp_path.glob("results_pytorch.*")
    assert summary_of(aside) == first


def test_old_epoch_checkpoints_are_dropped(tmp_path):
    folder = run(tmp_path, "--epochs", "4", "--keep_checkpoints", "2")
    kept = sorted(file.name for file in (folder / "checkpoints").glob("checkpoint_*"))
    assert kept == ["checkpoint_epoch_3.pt", "checkpoint_epoch_4.pt"]


def test_training_stops_when_nothing_improves(tmp_path, monkeypatch):
    nlls = iter([3.0, 2.0, 2.5, 2.4, 2.3] + [2.2] * 99)

    def fake_scores(*_):
        return {"nll": next(nlls), "token_accuracy": 0.5, "nll_other_source": 9.0}

    monkeypatch.setattr(train_module.evaluation, "score_tokens", fake_scores)
    folder = run(tmp_path, "--epochs", "20", "--patience", "3")
    assert len([line for line in metrics_of(folder) if line["kind"] == "eval"]) == 5
    best = checkpoint.load(folder / "checkpoints" / "best_model.pt")
    assert best["best_nll"] == 2.0
    assert best["step"] == 12


def test_max_steps_ends_within_an_epoch(tmp_path):
    folder = run(tmp_path, "--max_steps", "8")
    lines = metrics_of(folder)
    assert [line["kind"] for line in lines] == ["train"] * 6 + ["eval"] + ["train"] * 2 + ["eval"]
    assert lines[-1]["step"] == 8


def test_no_visualize_writes_no_figure(tmp_path):
    folder = run(tmp_path, "--epochs", "1", "--no_visualize")
    assert not list(folder.rglob("*.png"))


def test_vector_figures_are_written_beside_the_png(tmp_path):
    folder = run(tmp_path, "--epochs", "1", "--figure_format", "svg")
    figures = {path.name for path in (folder / "visualizations").iterdir()}
    assert {"training_curves.png", "training_curves.svg"} <= figures


def test_averaging_takes_the_mean_of_the_last_epochs(tmp_path):
    folder = run(tmp_path, "--epochs", "4", "--average_checkpoints", "3")
    files = [folder / "checkpoints" / f"checkpoint_epoch_{n}.pt" for n in (2, 3, 4)]
    weights = [checkpoint.load(file)["model"] for file in files]
    for name, average in checkpoint.mean(weights).items():
        mean = (weights[0][name] + weights[1][name] + weights[2][name]) / 3
        torch.testing.assert_close(average, mean, rtol=1e-5, atol=1e-6)


def interrupt_at(monkeypatch, step, signum):
    """Send ourselves a signal during the given step."""
    original = train_module.train_step

    def interrupting(state, *args):
        if state.progress.step == step - 1:
            os.kill(os.getpid(), signum)
        return original(state, *args)

    monkeypatch.setattr(train_module, "train_step", interrupting)


@pytest.mark.skipif(os.name == "nt", reason="signals cannot be sent to oneself on Windows")
@pytest.mark.parametrize(
    ("step", "signum", "code"), [(9, signal.SIGINT, 130), (12, signal.SIGTERM, 143)]
)
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(
    tmp_path, monkeypatch, capsys, step, signum, code
):
    whole = run(tmp_path / "whole", "--epochs", "3")
    with monkeypatch.context() as patch:
        interrupt_at(patch, step, signum)
        options = [*SMALL, "--quiet", "--output_dir", str(tmp_path), "--epochs", "3"]
        assert main.main(options) == code
    message = capsys.readouterr().err
    assert f"after step {step}" in message
    assert "--resume" in message
    resume = ["--version", "pytorch", "--resume", "--quiet", "--output_dir", str(tmp_path)]
    assert main.main(resume) == 0
    resumed = tmp_path / "results_pytorch"
    assert all_lines_of(resumed) == all_lines_of(whole)
    for name in ("last.pt", "best_model.pt"):
        theirs, ours = (
            checkpoint.load(folder / "checkpoints" / name)["model"] for folder in (whole, resumed)
        )
        assert all(torch.equal(theirs[key], ours[key]) for key in theirs)


def test_resume_passes_over_a_damaged_checkpoint(tmp_path, capsys):
    whole = metrics_of(run(tmp_path / "whole", "--epochs", "3"))
    folder = run(tmp_path, "--epochs", "2")
    for name in ("last.pt", "checkpoint_epoch_2.pt"):
        file = folder / "checkpoints" / name
        file.write_bytes(file.read_bytes()[:5000])
    assert run(tmp_path, "--resume", "--epochs", "3") == folder
    assert "last.pt" in capsys.readouterr().out
    resumed = metrics_of(folder)
    assert [line["step"] for line in resumed] == [line["step"] for line in whole]


def test_resume_refuses_what_conflicts(tmp_path, capsys):
    run(tmp_path, "--epochs", "1")
    before = (tmp_path / "results_pytorch" / "summary.json").read_bytes()
    code = main.main([*SMALL, "--output_dir", str(tmp_path), "--resume", "--dropout", "0.5"])
    assert code == 2
    message = capsys.readouterr().err
    assert "--dropout 0.5" in message
    assert "which has 0.1" in message
    assert (tmp_path / "results_pytorch" / "summary.json").read_bytes() == before


def test_resuming_a_finished_run_says_so_and_changes_nothing(tmp_path, capsys):
    folder = run(tmp_path, "--epochs", "1")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    run(tmp_path, "--resume")
    assert "finished" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_run_interrupted_before_its_summary_gets_one(tmp_path):
    folder = run(tmp_path, "--epochs", "1")
    before = summary_of(folder)["metrics"]
    (folder / "summary.json").unlink()
    run(tmp_path, "--resume")
    assert summary_of(folder)["metrics"] == before


def test_resume_with_nothing_there_starts_anew(tmp_path, capsys):
    folder = run(tmp_path, "--resume", "--epochs", "1")
    assert "starting anew" in capsys.readouterr().out
    assert summary_of(folder)["metrics"]["eval_nll"] > 0


def test_a_diverging_run_ends_with_one_line(tmp_path, capsys, monkeypatch):
    def not_a_number(logits, labels, label_smoothing):
        return smoothed_loss_sum(logits, labels, label_smoothing) * float("nan")

    monkeypatch.setattr(step_module, "smoothed_loss_sum", not_a_number)
    assert main.main([*SMALL, "--quiet", "--output_dir", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert "step 1" in message
    assert message.count("\n") == 1


def test_a_model_that_ignores_the_source_is_reported(tmp_path, monkeypatch, capsys):
    encode = Transformer.encode

    def blind(self, src_ids):
        return 0 * encode(self, src_ids)

    monkeypatch.setattr(Transformer, "encode", blind)
    options = [*SMALL, "--output_dir", str(tmp_path), "--epochs", "1"]
    assert main.main(options) == 0
    assert "hardly uses the source" in capsys.readouterr().out


def test_real_text_survives_the_run(tmp_path):
    pairs = [(f"I see {n} <b>\u2028 birds", f"새 {n} 마리가 </s> 보여요") for n in range(40)]
    decomposed = [(s, unicodedata.normalize("NFD", t)) for s, t in pairs]
    file = tmp_path / "짝.tsv"
    file.write_text("".join(f"{s}\t{t}\n" for s, t in decomposed), encoding="utf-8")
    folder = run(tmp_path, "--dataset", str(file), "--train_size", "30", "--epochs", "1")
    references = {sample["reference"] for sample in summary_of(folder)["samples"]}
    assert references <= {target for _, target in pairs}


def test_interrupted_carries_its_signal():
    assert Interrupted(signal.SIGTERM, "x").signum == 15


def test_a_batch_moves_whole():
    batch = collate([([5, EOS_ID], [6, EOS_ID])])
    assert isinstance(batch.to(torch.device("cpu")), Batch)
    assert batch.to(torch.device("cpu")).num_tokens == 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU to wait for")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_does_not_wait_for_the_gpu(examples, precision):
    config = TrainConfig(learning_rate=1e-3, warmup_steps=10, precision=precision)
    torch.manual_seed(0)
    model = Transformer(ModelConfig(d_model=16, num_layers=2), 40, 0, 32).to("cuda")
    state = TrainingState.start(model, config)
    batch = Batch(*(tensor.pin_memory() for tensor in collate(examples)[:3]), 1, 1)
    train_step(state, model, [batch], config)  # what is made once may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        train_step(state, model, [batch], config)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.slow
def test_the_model_is_compiled_once_for_all_lengths(examples):
    """Once with gradients; sentences and their number vary from batch to batch."""
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    torch._dynamo.reset()
    state = state_for(TrainConfig(learning_rate=1e-3, warmup_steps=10))
    forward = torch.compile(state.model, dynamic=True, backend=backend)
    for count in (8, 5, 7, 3):
        batch = collate(examples[count : 2 * count])
        train_step(state, forward, [batch], TrainConfig(learning_rate=1e-3, warmup_steps=10))
    assert len(compiled) == 1


@pytest.mark.parametrize("option", [["--num_workers", "1"], ["--precision", "bf16"]])
def test_how_a_step_is_computed_may_change_on_resume(tmp_path, option):
    schedule = ["--learning_rate", "0.01", "--warmup_steps", "4"]
    whole = metrics_of(run(tmp_path / "whole", "--epochs", "2", *schedule), ("train",))
    run(tmp_path, "--epochs", "1", *schedule)
    folder = run(tmp_path, "--resume", "--epochs", "2", *option)
    resumed = metrics_of(folder, ("train",))
    assert len(resumed) == len(whole) == 12
    exact = option[0] == "--num_workers"
    for ours, theirs in zip(resumed, whole, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=0 if exact else 0.01, abs=0)
    assert (resumed == whole) is exact
    assert str(summary_of(folder)["config"][option[0][2:]]) == option[1]
