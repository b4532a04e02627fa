"""``--version analysis``: any model, any sentence, and one clear line for what cannot be."""

import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models, pre_tokenizers, processors
from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast

import main
from pytorch_version.saved import load_model
from tests.outcomes import numbers_in
from utils.guided_tour import DEMO_MODEL, run_of

SMALL = (
    "--dataset copy --hidden_size 16 --num_layers 2 --num_heads 2 --train_size 96 --eval_size 16 "
    "--batch_size 16 --max_length 40 --device cpu --epochs 1 --quiet --no_visualize"
).split()
SENTENCE = "ba di fu ge"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Both versions' results folders of a short run."""
    output_dir = tmp_path_factory.mktemp("trained")
    for version in ("pytorch", "huggingface"):
        assert main.main(["--version", version, *SMALL, "--output_dir", str(output_dir)]) == 0
    return {
        ".pt": output_dir / "results_pytorch" / "checkpoints" / "best_model.pt",
        "export": output_dir / "results_pytorch" / "hf_export",
        "huggingface": output_dir / "results_huggingface",
    }


def analyse(output_dir, *options, code=0):
    """Analyse through the command line; returns the results folder."""
    line = ["--version", "analysis", "--device", "cpu", "--output_dir", str(output_dir), *options]
    assert main.main(line) == code
    return Path(output_dir) / "results_analysis"


def found_in(folder):
    return json.loads((folder / "analysis.json").read_text("utf-8"))


def refused(capsys, output_dir, *options):
    """The one line that refuses the options; no results folder is begun."""
    analyse(output_dir, *options, code=2)
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "Traceback" not in message
    assert not list(Path(output_dir).glob("results_*"))
    return message


@pytest.mark.slow
@pytest.mark.parametrize("kind", [".pt", "export", "huggingface"])
def test_every_form_of_a_model_is_analysed(trained, kind, tmp_path, capsys):
    folder = analyse(tmp_path, "--checkpoint", str(trained[kind]))
    found = found_in(folder)
    assert found["checkpoint"] == str(trained[kind])
    best = found["alignment"]["best"]
    assert {"layer", "head", "shift", "aer", "sentences"} <= set(best)
    assert best["sentences"] == 500
    assert found["alignment"]["chosen_on"]["sentences"] == 200
    assert len(found["alignment"]["table"]) == 2 * 2 * 2
    assert len(found["sentences"]) == 3
    for name in ("attention", "qkv", "ffn", "embeddings", "logit_lens", "head_ablation", "rollout"):
        assert found[name]
    tour = capsys.readouterr().out
    manifest = json.loads((folder / "visualizations" / "manifest.json").read_text("utf-8"))
    written = {p.relative_to(folder / "visualizations").as_posix() for p in folder.rglob("*.png")}
    assert {record["file"] for record in manifest} == written
    assert len(written) >= 20
    for record in manifest:
        assert f"visualizations/{record['file']}" in tour
        assert record["caption"] in tour
        assert {"shows", "step", "axes", "checkpoint"} <= set(record)
        assert "nan" not in record["caption"]
        assert record["step"] is not None
    assert {"training/gradient_flow.png", "training/qkv_evolution.png"} <= written


def test_the_scratch_model_and_its_export_are_analysed_alike(trained, tmp_path):
    found = [
        found_in(analyse(tmp_path / kind, "--checkpoint", str(trained[kind]), "--no_visualize"))
        for kind in (".pt", "export")
    ]
    ours, theirs = (dict(numbers_in({k: v for k, v in f.items() if k not in IGNORED}))
                    for f in found)  # fmt: skip
    assert ours.keys() == theirs.keys()
    assert len(ours) > 500
    for name, value in ours.items():
        assert value == pytest.approx(theirs[name], abs=2e-4, rel=2e-3), name


# Not numbers of the model, or free in sign: principal components.
IGNORED = ("checkpoint", "embeddings")


def test_the_users_sentence_is_translated_and_shown(trained, tmp_path, capsys):
    folder = analyse(
        tmp_path, "--checkpoint", str(trained[".pt"]), "--text", SENTENCE, "--no_visualize"
    )
    (sentence,) = found_in(folder)["sentences"]
    assert sentence["src"] == SENTENCE
    assert sentence["tgt"] in capsys.readouterr().out
    maps = np.array(next(iter(sentence["cross_attention"].values())))
    assert maps.shape == (2, len(sentence["tgt_tokens"]), len(sentence["src_tokens"]))
    np.testing.assert_allclose(maps.sum(axis=-1), 1, rtol=1e-4)
    assert sentence["decoder_inputs"] == ["<s>", *sentence["tgt_tokens"][:-1]]


def test_a_given_translation_is_analysed_instead(trained, tmp_path):
    options = ("--text", SENTENCE, "--text", "ka li", "--tgt_text", "ge fu", "--tgt_text", "ba")
    checkpoint = ("--checkpoint", str(trained["huggingface"]), "--no_visualize")
    found = found_in(analyse(tmp_path, *checkpoint, *options))
    assert [(s["src"], s["tgt"]) for s in found["sentences"]] == [
        (SENTENCE, "ge fu"),
        ("ka li", "ba"),
    ]


def test_lines_of_standard_input_are_translated_and_nothing_else_is_said(
    trained, tmp_path, capsys, monkeypatch
):
    read = "ba di\r\n\n토끼\u2028ba\n".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(read)))
    line = ("--checkpoint", str(trained[".pt"]), "--text", "-", "--quiet")
    analyse(tmp_path, *line)
    answer = capsys.readouterr().out.split("\n")
    assert len(answer) == 4
    assert answer[1] == answer[3] == ""
    model, tokenizer = load_model(trained[".pt"])
    from pytorch_version.generate import translate
    from utils.decoding import Decoding

    assert [answer[0], answer[2]] == translate(
        model, tokenizer, ["ba di", "토끼\u2028ba"], decoding=Decoding(40)
    )
    assert not list(tmp_path.glob("results_*"))


@pytest.mark.slow
@pytest.mark.parametrize("text", ["토끼가 책을.", "🙂 $a_$ ▁ <s>", "zebra xylophone"])
def test_any_text_can_be_looked_into(trained, tmp_path, text):
    folder = analyse(tmp_path, "--checkpoint", str(trained["export"]), "--text", text)
    assert found_in(folder)["sentences"][0]["src"] == text
    assert list(folder.rglob("*.png"))  # a glyph that is missing would have been an error


def test_wrong_sentences_are_refused(trained, tmp_path, capsys, monkeypatch):
    model = ("--checkpoint", str(trained[".pt"]))
    assert "--text is empty" in refused(capsys, tmp_path, *model, "--text", "  ")
    long = refused(capsys, tmp_path, *model, "--text", "ba " * 200)
    assert "40" in long
    assert "tokens" in long
    texts = ("--text", "ba", "--text", "di", "--tgt_text", "ba")
    assert "one for each" in refused(capsys, tmp_path, *model, *texts)
    assert "empty" in refused(capsys, tmp_path, *model, "--text", "ba", "--tgt_text", "")
    long = refused(capsys, tmp_path, *model, "--text", "ba", "--tgt_text", "ba " * 200)
    assert "--tgt_text has" in long
    assert "nowhere" in refused(capsys, tmp_path, *model, "--dataset", "nowhere.tsv")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe\xff")))
    assert "UTF-8" in refused(capsys, tmp_path, *model, "--text", "-")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n\n")))
    assert "no sentence" in refused(capsys, tmp_path, *model, "--text", "-")


def test_what_is_no_model_is_refused(tmp_path, capsys):
    (tmp_path / "broken.pt").write_bytes(b"PK not a checkpoint")
    (tmp_path / "empty").mkdir()
    output_dir = tmp_path / "out"
    assert "broken.pt" in refused(capsys, output_dir, "--checkpoint", str(tmp_path / "broken.pt"))
    assert "empty" in refused(capsys, output_dir, "--checkpoint", str(tmp_path / "empty"))
    assert "no/such" in refused(capsys, output_dir, "--checkpoint", "no/such")
    from transformers import BartConfig

    BartConfig(d_model=16).save_pretrained(tmp_path / "bart")
    message = refused(capsys, output_dir, "--checkpoint", str(tmp_path / "bart"))
    assert "a bart model" in message


def test_options_of_training_are_refused(tmp_path, capsys):
    assert "--epochs" in refused(capsys, tmp_path, "--epochs", "3")
    assert "--hidden_size" in refused(capsys, tmp_path, "--hidden_size", "32")


def test_a_checkpoint_is_evaluated_on_a_dataset(trained, tmp_path, capsys):
    file = tmp_path / "pairs.tsv"
    file.write_text("".join(f"ba di {w}\tba di {w}\n" for w in "fu ge ho ka li mu".split()))
    folder = analyse(
        tmp_path, "--checkpoint", str(trained[".pt"]), "--dataset", str(file), "--eval_size", "4",
        "--no_visualize",
    )  # fmt: skip
    evaluation = found_in(folder)["evaluation"]
    assert evaluation["sentences"] == 4
    assert 0 < evaluation["nll"] < 20
    assert {"bleu", "chrf", "exact_match", "token_accuracy"} <= set(evaluation)
    assert f"{evaluation['nll']:.4f}" in capsys.readouterr().out


def test_debug_traces_the_first_sentence(trained, tmp_path):
    options = ("--text", SENTENCE, "--no_visualize", "--debug")
    folder = analyse(tmp_path, "--checkpoint", str(trained[".pt"]), *options)
    trace = json.loads((folder / "logs" / "trace.json").read_text("utf-8"))
    assert trace["forward"]
    assert trace["backward"]


def test_another_peoples_marian_is_analysed(tmp_path):
    """GELU, embeddings not scaled, other special tokens, start token equal to padding."""
    words = ["</s>", "<unk>", "<pad>", "▁ba", "▁di", "▁fu", "▁The", "▁book"]
    rust = RustTokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    rust.pre_tokenizer = pre_tokenizers.Metaspace()
    rust.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 0)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=rust, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    config = MarianConfig(
        vocab_size=len(words), d_model=16, encoder_layers=1, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=2, encoder_ffn_dim=20,
        decoder_ffn_dim=24, max_position_embeddings=32, pad_token_id=2, decoder_start_token_id=2,
        eos_token_id=0, forced_eos_token_id=0, max_length=12, init_std=0.2,
    )  # fmt: skip
    torch.manual_seed(0)
    marian = MarianMTModel(config)
    marian.generation_config.max_length = 12
    marian.save_pretrained(tmp_path / "theirs")
    tokenizer.save_pretrained(tmp_path / "theirs")
    folder = analyse(tmp_path, "--checkpoint", str(tmp_path / "theirs"), "--text", "ba di fu")
    found = found_in(folder)
    assert found["alignment"] is None
    assert found["sentences"][0]["src_tokens"] == ["▁ba", "▁di", "▁fu", "</s>"]
    assert found["sentences"][0]["decoder_inputs"][0] == "<pad>"
    manifest = json.loads((folder / "visualizations" / "manifest.json").read_text("utf-8"))
    captions = {record["file"]: record["caption"] for record in manifest}
    assert "not above zero" in captions["ffn/activity.png"]  # GELU has next to no zeros
    heads = np.array(found["attention"]["entropy"]["values"], dtype=float)
    assert np.isnan(heads).sum() == 4 * 2  # the decoder's attentions have two heads, not four
    assert list(folder.rglob("*.png"))
    folder = analyse(tmp_path, "--checkpoint", str(tmp_path / "theirs"), "--no_visualize")
    assert len(found_in(folder)["sentences"]) == 3


def test_a_name_on_the_hub_has_no_run_even_beside_one(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(trained["huggingface"])
    assert run_of("Helsinki-NLP/opus-mt-ko-en") is None
    assert run_of("model.safetensors") == trained["huggingface"]
    monkeypatch.chdir(trained[".pt"].parent)
    assert run_of("best_model.pt") == trained[".pt"].parent.parent


def test_maps_are_shown_with_their_own_entropy(trained, tmp_path):
    """Not with that of other sentences, which the table of all heads has."""
    text = ("--text", SENTENCE, "--tgt_text", SENTENCE)
    folder = analyse(tmp_path, "--checkpoint", str(trained[".pt"]), *text)
    (sentence,) = found_in(folder)["sentences"]
    maps = np.array(sentence["cross_attention"]["decoder.1.cross_attn"])
    entropy = -(maps * np.log(maps)).sum(axis=-1).mean(axis=-1)
    manifest = json.loads((folder / "visualizations" / "manifest.json").read_text("utf-8"))
    (caption,) = (r["caption"] for r in manifest if r["file"] == "attention/decoder_2_cross.png")
    assert f"({entropy.min():.2f} nats)" in caption
    assert f"({entropy.max():.2f})" in caption


# The model that comes along


def test_the_demo_model_is_small_and_says_how_good_it_is():
    files = [path for path in DEMO_MODEL.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 4 * 2**20
    summary = json.loads((DEMO_MODEL / "summary.json").read_text("utf-8"))
    assert summary["metrics"]["exact_match"] >= 0.97
    assert set(summary["files"]) == {p.relative_to(DEMO_MODEL).as_posix() for p in files}


def test_without_a_checkpoint_the_demo_model_is_analysed(tmp_path):
    folder = analyse(tmp_path, "--no_visualize")
    found = found_in(folder)
    best = found["alignment"]["best"]
    assert best["aer"] <= 0.05
    assert best["sentences"] == 500
    assert best["shift"] == 0
    other_shift = [r["aer"] for r in found["alignment"]["table"] if r["shift"] == 1]
    assert min(other_shift) > 0.4
    assert found["training"]["embeddings"]


def test_an_untrained_model_does_not_align(tmp_path):
    shutil.copytree(DEMO_MODEL, tmp_path / "random")
    config = MarianConfig.from_pretrained(tmp_path / "random")
    torch.manual_seed(0)
    MarianMTModel(config).save_pretrained(tmp_path / "random")
    found = found_in(analyse(tmp_path, "--checkpoint", str(tmp_path / "random"), "--no_visualize"))
    assert found["alignment"]["best"]["aer"] >= 0.6
