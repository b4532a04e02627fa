"""What a finished run says about its model's inside, in both versions."""

import json

import pytest

import main
from tests.outcomes import numbers_in
from utils.corpus import generate

RUN = (
    "--dataset copy --hidden_size 16 --num_layers 1 --num_heads 2 --train_size 96 --eval_size 16 "
    "--batch_size 16 --max_length 40 --device cpu --epochs 1"
).split()
VERSIONS = ("pytorch", "huggingface")


def run(output_dir, version, *options):
    line = ["--version", version, *RUN, "--output_dir", str(output_dir), *options]
    assert main.main(line) == 0
    return output_dir / f"results_{version}"


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text("utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_visualize_draws_every_analysis(version, tmp_path):
    folder = run(tmp_path, version, "--visualize", "--quiet", "--figure_format", "svg")
    root = folder / "visualizations"
    written = {path.relative_to(root).as_posix() for path in root.rglob("*.png")}
    attentions = ("encoder_1_self", "decoder_1_self", "decoder_1_cross")
    assert {
        "alignment/error_rates.png",
        "alignment/content_and_particles.png",
        *(f"attention/{name}.png" for name in (*attentions, "rollout", "value_weighted")),
        "attention/statistics.png",
        "embeddings/layers.png",
        "embeddings/neighbours.png",
        "training/embeddings.png",
        "ffn/activity.png",
        "head_ablation.png",
        "logit_lens.png",
        "qkv/by_layer.png",
        "training/gradient_flow.png",
        "training/layers_evolution.png",
        "training/attention_numbers.png",
    } <= written
    assert {path.removesuffix(".png") for path in written} == {
        path.relative_to(root).as_posix().removesuffix(".svg") for path in root.rglob("*.svg")
    }
    manifest = json.loads((root / "manifest.json").read_text("utf-8"))
    assert {record["file"] for record in manifest} == written
    for record in manifest:
        assert {"shows", "step", "axes", "checkpoint"} <= set(record)
    captions = [record["caption"] for record in manifest if "caption" in record]
    assert len(captions) >= 17
    assert all(caption.endswith(".") and ". " in caption for caption in captions)  # two sentences


@pytest.mark.parametrize("version", VERSIONS)
def test_debug_traces_every_operation(version, tmp_path, capsys):
    folder = run(tmp_path, version, "--debug", "--no_visualize")
    trace = json.loads((folder / "logs" / "trace.json").read_text("utf-8"))
    assert trace["totals"]["parameters"] > 1000
    shown = capsys.readouterr().out
    for part in ("ENCODER", "DECODER", "LayerNorm", "softmax"):
        assert part in shown
    assert trace["forward"][0]["name"] == "encoder.lookup"
    assert trace["backward"][0]["name"] == "loss"


def test_quiet_leaves_the_trace_out_of_the_terminal(tmp_path, capsys):
    folder = run(tmp_path, "pytorch", "--debug", "--quiet", "--no_visualize")
    assert "ENCODER" not in capsys.readouterr().out
    assert (folder / "logs" / "trace.json").exists()


def test_both_versions_give_the_same_trace_of_the_same_model(tmp_path):
    """One step with a rate near zero: the models are still the same."""
    options = ("--debug", "--quiet", "--no_visualize", "--max_steps", "1", "--dropout", "0")
    ours, theirs = (
        json.loads(
            (run(tmp_path, version, *options, "--learning_rate", "1e-9") / "logs" / "trace.json")
            .read_text("utf-8")
        )
        for version in VERSIONS
    )  # fmt: skip
    for direction in ("forward", "backward"):
        assert [step["name"] for step in ours[direction]] == [
            step["name"] for step in theirs[direction]
        ]
    numbers = [dict(numbers_in(trace["forward"])) for trace in (ours, theirs)]
    assert numbers[0].keys() == numbers[1].keys()
    for name, value in numbers[0].items():
        assert value == pytest.approx(numbers[1][name], rel=1e-4, abs=1e-5), name


@pytest.mark.parametrize("version", VERSIONS)
def test_the_alignment_error_rate_is_reported_where_there_is_gold(version, tmp_path):
    aer = summary_of(run(tmp_path, version, "--quiet", "--no_visualize"))["metrics"]["aer"]
    assert 0 <= aer <= 1


@pytest.mark.slow
def test_without_gold_there_is_no_alignment(tmp_path):
    file = tmp_path / "pairs.tsv"
    pairs = generate("copy", "train", 60, 1)
    file.write_text("".join(f"{pair.src}\t{pair.tgt}\n" for pair in pairs), encoding="utf-8")
    options = ("--dataset", str(file), "--train_size", "40", "--eval_size", "10", "--visualize")
    folder = run(tmp_path, "pytorch", "--quiet", *options)
    assert "aer" not in summary_of(folder)["metrics"]
    assert not list(folder.rglob("alignment/*"))
    assert list(folder.rglob("attention/*.png"))


@pytest.mark.slow
def test_a_pre_norm_model_is_looked_into(tmp_path):
    folder = run(tmp_path, "pytorch", "--norm", "pre", "--visualize", "--debug", "--quiet")
    trace = json.loads((folder / "logs" / "trace.json").read_text("utf-8"))
    assert "encoder.norm" in [step["name"] for step in trace["forward"]]
    assert (folder / "visualizations" / "logit_lens.png").exists()
