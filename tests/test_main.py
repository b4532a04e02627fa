"""The command line: what it accepts, refuses, and how fast it answers."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import main
from utils.config import GROUPS, UserError, option_name

ROOT = Path(__file__).parent.parent


def python(*arguments, **options):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, cwd=ROOT, timeout=300, **options
    )


def test_help_lists_every_option_and_imports_nothing_heavy():
    code = (
        "import sys, main\n"
        "try: main.main(['--help'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'torch', 'numpy', 'transformers', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    answer = python("-c", code)
    assert answer.returncode == 0, answer.stderr
    text = answer.stdout.decode()
    from dataclasses import fields

    for config in GROUPS.values():
        for f in fields(config):
            assert f"--{option_name(f)}" in text


def test_underscores_and_hyphens_are_the_same():
    one = main.parse(["--batch_size", "8", "--src_lang=ko", "--tgt_lang=en", "--no_visualize"])
    two = main.parse(["--batch-size", "8", "--src-lang=ko", "--tgt-lang=en", "--no-visualize"])
    assert one == two
    assert one.train.batch_size == 8
    assert one.run.visualize is False


def test_explicit_options_win_over_the_preset():
    settings = main.parse(["--preset", "tiny", "--num_heads", "8"])
    model = settings.model
    assert (model.num_layers, model.d_model, model.d_ff, model.dropout) == (4, 128, 256, 0.3)
    assert model.num_heads == 8
    assert main.parse(["--hidden_size", "128"]).model.d_ff == 512
    assert main.parse(["--preset", "base"]).model.d_ff == 2048


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ("--num_heads 3", ["--num_heads 3", "--hidden_size 64"]),
        ("--hidden_size 0", ["--hidden_size", "0"]),
        ("--hidden_size 7 --num_heads 1", ["even", "7"]),
        ("--batch_size -4", ["--batch_size", "-4"]),
        ("--epochs 0", ["--epochs"]),
        ("--train_size 0", ["--train_size"]),
        ("--dropout nan", ["--dropout", "nan"]),
        ("--dropout 1", ["--dropout", "1"]),
        ("--learning_rate inf", ["--learning_rate", "inf"]),
        ("--learning_rate 0", ["--learning_rate"]),
        ("--learning_rate 2", ["--learning_rate"]),
        ("--label_smoothing 1.5", ["--label_smoothing"]),
        ("--length_penalty nan", ["--length_penalty"]),
        ("--max_grad_norm -1", ["--max_grad_norm"]),
        ("--vocab_size 10", ["--vocab_size"]),
        ("--max_length 1", ["--max_length"]),
        ("--beam_size 0", ["--beam_size"]),
        ("--seed -1", ["--seed"]),
        ("--src_lang ko", ["--src_lang", "--tgt_lang"]),
        ("--src_column 2", ["--src_column", "--tgt_column"]),
        ("--tgt_column 0", ["--tgt_column"]),
        ("--checkpoint x.pt", ["--checkpoint", "both"]),
        ("--version huggingface --norm pre", ["--norm pre", "--version pytorch"]),
        ("--version both --norm pre", ["--norm pre", "--version pytorch"]),
        ("--version huggingface --device cpu --precision fp16", ["--precision fp16", "bf16"]),
        ("--version both --device cpu --precision fp16", ["--precision fp16", "bf16"]),
        ("--text hello", ["--text"]),
        ("--version test --epochs 3", ["--epochs", "test"]),
        ("--dataset no/such/file.tsv", ["no/such/file.tsv"]),
        ("--tgt_lang de", ["en-de"]),
        ("--train_size 999999999", ["--train_size 999,999,999", "10,000,000"]),
    ],
)
def test_wrong_input_gets_one_line_and_status_2(options, names, capsys, tmp_path):
    assert main.main([*options.split(), "--output_dir", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    for name in names:
        assert name in captured.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    ["--epoch 3", "--batch_size two", "--version keras", "--precision fp8", "stray", "--seed"],
)
def test_usage_errors_are_one_line_too(options, capsys):
    assert main.main(options.split()) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_cuda_is_refused(capsys):
    for version in ("pytorch", "huggingface", "both", "test"):
        assert main.main(["--version", version, "--device", "cuda"]) == 2
        assert "cpu" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr("utils.data.load_corpus", lambda *_: pytest.fail("work was begun"))
    for version in ("pytorch", "huggingface", "both"):
        folder = str(tmp_path / "file" / "sub")
        assert main.main(["--version", version, "--output_dir", folder]) == 2
        assert "--output_dir" in capsys.readouterr().err


def test_torchrun_is_for_training(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for version in ("analysis", "test"):
        assert main.main(["--version", version]) == 2
        assert "not torchrun" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")
    waited = []
    monkeypatch.setattr(main.time, "sleep", waited.append)
    assert main.main(["--num_heads", "3"]) == 2
    assert capsys.readouterr() == ("", "")  # the main process says it
    assert waited == [main.SECONDS_FOR_MAIN]  # and is given the time to


def test_embedded_datasets_have_sizes_of_their_own():
    grammar, file = main.parse([]), main.parse(["--dataset", "pairs.tsv"])
    assert (grammar.data.train_size, grammar.data.vocab_size) == (60000, 2600)
    assert grammar.train.epochs == 3
    assert (file.data.train_size, file.data.vocab_size, file.train.epochs) == (None, 8000, None)
    assert main.parse(["--train_size", "7"]).data.train_size == 7
    assert (grammar.model.dropout, file.model.dropout) == (0.0, 0.1)
    assert main.parse(["--preset", "tiny"]).model.dropout == 0.3
    assert main.parse(["--dropout", "0.2"]).model.dropout == 0.2
    assert main.parse(["--max_steps", "7"]).train.epochs is None
    assert (grammar.train.learning_rate, file.train.learning_rate) == (4e-3, None)
    for shape in (["--preset", "base"], ["--hidden_size", "128"], ["--num_layers", "6"]):
        assert main.parse(shape).train.learning_rate is None
        assert main.parse([*shape, "--learning_rate", "0.001"]).train.learning_rate == 1e-3
    assert (grammar.train.label_smoothing, file.train.label_smoothing) == (0.03, 0.1)
    assert (grammar.train.average_checkpoints, file.train.average_checkpoints) == (2, 0)


def test_presets_do_not_bend_the_checks():
    with pytest.raises(UserError, match="--num_heads 7"):
        main.parse(["--preset", "big", "--num_heads", "7"])


def test_ctrl_c_before_training_is_130(monkeypatch, capsys):
    def interrupted(settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("utils.comparison.run_both", interrupted)
    assert main.main([]) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_a_cp949_console_does_not_crash(tmp_path):
    import os

    answer = python(
        "main.py", "--version", "pytorch", "--train_size", "100", "--eval_size", "10",
        "--epochs", "1", "--hidden_size", "16", "--num_layers", "1", "--debug",
        "--output_dir", str(tmp_path),
        env={**os.environ, "PYTHONIOENCODING": "cp949", "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr.decode("cp949")
    assert re.search("[가-힣]", answer.stdout.decode("cp949"))


def test_selfcheck_passes_and_prints_a_table(capsys):
    assert main.main(["--version", "test", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("PASS") >= 11
    assert "FAIL" not in printed


def test_selfcheck_fails_when_something_is_broken(capsys, monkeypatch):
    monkeypatch.setattr("utils.selfcheck.COPY_EPOCHS", 0)
    monkeypatch.setattr(
        "pytorch_version.model.causal_mask",
        lambda n, device=None: torch.ones(1, 1, n, n, dtype=torch.bool),
    )
    assert main.main(["--version", "test", "--device", "cpu"]) == 1
    lines = capsys.readouterr().out.splitlines()
    failed = [line for line in lines if line.startswith("FAIL")]
    assert [line.split("  ")[1] for line in failed] == ["causality", "copy task learnt"]


def test_an_old_python_is_told_so_before_it_stumbles():
    answer = python("-c", "import sys; sys.version_info = (3, 9, 18); import main")
    assert answer.returncode == 1
    assert answer.stderr.decode().startswith("Python 3.10 or newer is needed; this is ")
    assert answer.stderr.count(b"\n") == 1


def test_a_missing_package_is_one_line(monkeypatch, capsys):
    def importing(name):
        def run(settings):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        return run

    monkeypatch.setattr(main, "run", importing("torch.nn"))
    assert main.main(["--version", "test"]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"main.py: {sys.executable} has no package torch: activate the env")
    assert message.count("\n") == 1
    monkeypatch.setattr(main, "run", importing("utils.nothing"))  # a fault of ours
    with pytest.raises(ModuleNotFoundError):
        main.main(["--version", "test"])


def test_a_backend_that_a_notebook_left_behind_does_no_harm():
    code = (
        "import main\n"
        "def run(settings):\n"
        "    import matplotlib\n"
        "    return 0\n"
        "main.run = run\n"
        "raise SystemExit(main.main(['--version', 'test']))"
    )
    answer = python(
        "-c", code, env=os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    )
    assert answer.returncode == 0, answer.stderr
