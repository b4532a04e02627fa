"""The benchmarks: who is compared with whom, that all do the same work, and how it is counted."""

import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import main as tool
from benchmarks import (
    command,
    decode_throughput,
    decoders,
    flops,
    guide_commands,
    measure,
    startup,
    tracking_overhead,
    train_throughput,
    translation_quality,
)
from benchmarks.torch_transformer import TorchTransformer, from_scratch
from benchmarks.trainees import FixedBatches, Setup, StockTrainer
from huggingface_version.model import build_model
from pytorch_version.model import Transformer
from tests.conftest import MAX_POSITIONS, VOCAB_SIZE
from utils import checkpoint
from utils.batching import LengthBatches, pad_sources
from utils.config import ModelConfig, UserError
from utils.data import prepare
from utils.decoding import Decoding
from utils.results import ResultsFolder, RunFailed

ROOT = Path(__file__).parent.parent
SMALL_DATA = (
    "--dataset copy --train_size 60 --eval_size 6 --vocab_size 400 --max_tokens 100".split()
)
SMALL_MODEL = "--hidden_size 16 --num_layers 1 --num_heads 2 --dropout 0.1".split()


@pytest.fixture
def setup() -> Setup:
    settings = tool.parse(["--version", "pytorch", "--device", "cpu", *SMALL_DATA, *SMALL_MODEL])
    return train_throughput.prepare_setup(settings, num_steps=2)


def rows_of(table):
    """The cells of a markdown table's rows by their first cell."""
    lines = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


# Measuring


def test_contenders_take_turns_and_the_first_round_does_not_count():
    calls = []

    def contender(name):
        def make_round():
            calls.append(name)
            return float(len(calls))

        return make_round

    figures = measure.interleaved({name: contender(name) for name in "ab"}, num_rounds=2)
    assert calls == ["a", "b"] * 3
    assert figures == {"a": [3.0, 5.0], "b": [4.0, 6.0]}


def test_each_round_is_compared_with_its_own():
    figures = {"ours": [10.0, 40.0, 90.0], "other": [5.0, 10.0, 45.0]}  # ratios 2, 4, 2
    assert measure.times_better(figures, "other", "ours", higher_is_better=True) == 2
    assert measure.times_better(figures, "other", "ours", higher_is_better=False) == 0.5
    assert measure.times_better(figures, "ours", "ours", higher_is_better=True) == 1


def test_a_table_has_median_spread_ratio_and_who_could_not_take_part():
    table = measure.comparison_table(
        {"ours": [1.0, 3.0, 2.0], "other": [0.5, 1.5, 1.0]},
        "ours",
        "sentences/s",
        digits=1,
        more={"note": {"ours": "x", "other": "y"}},
        absent={"third": "not installed"},
    )
    rows = rows_of(table)
    assert rows["other"] == ["1.0", "0.5 - 1.5", "2.00 x", "y"]
    assert rows["third"] == ["not installed", "", "", ""]
    assert len({line.count("|") for line in table.splitlines()}) == 1


def test_the_heading_names_machine_and_versions():
    text = measure.heading("Title", torch.device("cpu"))
    assert text.startswith("## Title\n\n")
    for part in (measure.cpu_model(), f"{torch.get_num_threads()} threads", torch.__version__):
        assert part in text


def test_wrong_input_is_one_line_and_status_2(capsys):
    def script(argv):
        raise UserError("what is wrong")

    assert command.exit_status(script) == 2
    assert capsys.readouterr().err == "error: what is wrong\n"


# Training


def test_torch_transformer_with_our_weights_is_our_model(model, batch):
    theirs = TorchTransformer(
        ModelConfig(d_model=16, num_layers=2, num_heads=4, d_ff=24, dropout=0.0),
        VOCAB_SIZE, 0, MAX_POSITIONS,
    )  # fmt: skip
    for weight in model.parameters():  # biases and norms would hide mistakes at 0 and 1
        weight.data += 0.1 * torch.randn_like(weight)
    theirs.load_state_dict(from_scratch(model.state_dict()))  # nothing left over, nothing missing
    src_ids, tgt_ids = batch
    torch.testing.assert_close(theirs(src_ids, tgt_ids), model(src_ids, tgt_ids))
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in model.parameters())


def test_torch_transformer_drops_out_where_the_paper_does():
    config = ModelConfig(d_model=16, num_layers=2, num_heads=4, d_ff=24, dropout=0.1)
    theirs = TorchTransformer(config, VOCAB_SIZE, 0, MAX_POSITIONS)
    ours = Transformer(config, VOCAB_SIZE, 0, MAX_POSITIONS)
    shared = 1  # theirs has one module for both embeddings
    places = [sum(isinstance(m, nn.Dropout) for m in model.modules()) for model in (theirs, ours)]
    assert places[0] + shared == places[1]
    assert all(m.dropout == 0 for m in theirs.modules() if isinstance(m, nn.MultiheadAttention))


@pytest.mark.parametrize(("src", "tgt"), [(7, 5), (4, 9)])
def test_flops_are_those_that_pytorch_counts(model, model_config, src, tgt):
    model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter:
        ids = torch.randint(3, VOCAB_SIZE, (1, src)), torch.randint(3, VOCAB_SIZE, (1, tgt))
        model(*ids).sum().backward()
    lengths = np.array([[src, tgt]])
    assert flops.training_flops(model_config, VOCAB_SIZE, lengths) == counter.get_total_flops()
    many = np.array([[src, tgt]] * 3 + [[2, 3]])
    alone = flops.training_flops(model_config, VOCAB_SIZE, np.array([[2, 3]]))
    assert flops.training_flops(model_config, VOCAB_SIZE, many) == (
        3 * counter.get_total_flops() + alone
    )


def test_peaks_are_cards_or_numbers():
    assert flops.peak_flops(None, "fp32") is None
    assert flops.peak_flops("a100", "bf16") == 312e12
    assert flops.peak_flops("A100", "fp32") == 19.5e12
    assert flops.peak_flops("2.5", "bf16") == 2.5e12
    for wrong in ("gpu", "0", "-1", "nan"):
        with pytest.raises(UserError, match="--peak"):
            flops.peak_flops(wrong, "fp32")


def test_fixed_batches_are_those_that_a_run_begins_with():
    sampler = LengthBatches(np.full((10, 2), 5), batch_size=4, max_tokens=None, seed=1)
    fixed = FixedBatches.first(5, sampler)
    expected = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        expected += list(sampler)
    assert list(fixed) == expected[:5]
    fixed.set_epoch(3)
    assert list(fixed) == expected[:5]


def test_the_timer_leaves_out_the_warm_up(monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    timer = train_throughput.StepTimer(torch.device("cpu"), num_steps=2)
    for seconds in [100.0] * train_throughput.WARM_UP_STEPS + [3.0, 4.0]:
        now += seconds
        timer(None)
    assert timer.seconds == 7.0


def test_a_round_counts_real_tokens_after_the_warm_up(setup, monkeypatch):
    class Trainee:
        def train(self, on_step):
            for _ in setup.experiment.sampler:
                on_step(None)
            return [np.array([[100, 100]])] * train_throughput.WARM_UP_STEPS + [
                np.array([[3, 4], [5, 6]]),
                np.array([[1, 1]]),
            ]

    moments = iter([0.0, 2.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(moments))
    one_round = train_throughput.Round(Trainee(), setup)
    assert one_round() == 20 / 2.0
    shape = setup.experiment.settings.model
    lengths = np.array([[3, 4], [5, 6], [1, 1]])
    needed = flops.training_flops(shape, setup.vocab_size, lengths)
    assert one_round.flops_per_token == needed / 20
    share = train_throughput.utilisation({"it": [10.0]}, {"it": one_round}, peak=needed)
    assert share == {"it": f"{10 / 20:.1%}"}


def test_the_vocabulary_is_as_large_as_asked_for(setup):
    assert setup.experiment.data.tokenizer.vocab_size < setup.vocab_size == 400
    assert setup.marian("sdpa").config.vocab_size == 400
    assert setup.scratch("eager").attn_implementation == "eager"
    assert setup.marian("eager").config._attn_implementation == "eager"


def test_the_stock_trainer_draws_as_many_sentences_as_our_batches_hold(setup):
    steps = []
    lengths = StockTrainer(setup).train(steps.append)
    sizes = [len(batch) for batch in setup.experiment.sampler]
    assert len(steps) == len(lengths) == len(sizes)
    assert {len(part) for part in lengths} == {round(statistics.mean(sizes))}
    data = setup.experiment.data.train.lengths
    assert {tuple(row) for part in lengths for row in part} <= {tuple(row) for row in data}


def test_nobody_is_timed_who_computes_another_loss(setup, monkeypatch, capsys):
    train_throughput.check_losses(setup)
    assert "the same loss" in capsys.readouterr().err

    def without_positions(self):
        theirs = unchanged(self)
        theirs.positions.table.zero_()
        return theirs

    unchanged = Setup.torch_transformer
    monkeypatch.setattr(Setup, "torch_transformer", without_positions)
    with pytest.raises(RunFailed, match=r"torch\.nn\.Transformer, plain loop: .* instead of"):
        train_throughput.check_losses(setup)


def test_nobody_is_timed_whose_stock_loss_is_another(setup, monkeypatch):
    monkeypatch.setattr(StockTrainer, "loss", lambda self, *_: torch.tensor(1.0))
    with pytest.raises(RunFailed, match=f"{train_throughput.STOCK}: 1.0"):
        train_throughput.check_losses(setup)


def test_training_throughput_prints_a_row_for_everybody(capsys):
    train_throughput.main(
        [
            *SMALL_DATA,
            *SMALL_MODEL,
            "--device",
            "cpu",
            "--steps",
            "1",
            "--rounds",
            "1",
            "--peak",
            "1",
        ]
    )
    rows = rows_of(capsys.readouterr().out)
    for name in (
        "ours, sdpa",
        "ours, eager",
        "torch.nn.Transformer, plain loop",
        "MarianMT sdpa, plain loop",
        "MarianMT sdpa, our Trainer",
        "MarianMT eager, our Trainer",
        train_throughput.STOCK,
    ):
        speed, _, better, share = rows[name]
        assert float(speed.replace(",", "")) > 0
        assert better.endswith(" x")
        assert share.endswith("%")
    assert rows["ours, sdpa"][2] == "1.00 x"
    assert "ours, sdpa, compiled" not in rows


@pytest.mark.parametrize(
    "options", [["--steps", "0"], ["--precision", "fp16"], ["--norm", "pre"], ["--peak", "x"]]
)
def test_training_throughput_refuses_what_it_cannot_compare(options):
    with pytest.raises(UserError):
        train_throughput.main([*SMALL_DATA, *SMALL_MODEL, *options])


# Decoding


SOURCES = [pad_sources([[5, 6, 2], [7, 2]]), pad_sources([[8, 2]])]


def test_a_translation_that_differs_ends_the_script():
    searches = {
        "ours": lambda src_ids: [[9]] * len(src_ids),
        "transformers generate": lambda src_ids: [[9]] * (len(src_ids) - 1) + [[8]],
    }
    with pytest.raises(RunFailed, match="2 of 3 translations of ours differ"):
        decode_throughput.table(searches, SOURCES, beam_size=1, num_rounds=1)


def test_the_share_of_identical_translations_is_reported():
    searches = {
        "ours": lambda src_ids: [[9, 9]] * len(src_ids),
        "transformers generate": lambda src_ids: [[9, 9]] * len(src_ids),
        "CTranslate2": lambda src_ids: [[9, 9]] * (len(src_ids) - 1) + [[8, 8, 8, 8]],
    }
    rows = rows_of(decode_throughput.table(searches, SOURCES, beam_size=4, num_rounds=1))
    assert rows["CTranslate2"][-1] == "33.3%"
    assert rows["transformers generate"][-1] == "100.0%"


def random_task(*options):
    parsed = decode_throughput._parse([*SMALL_MODEL, "--vocab_size", "300", *options])
    return decode_throughput.random_task(*parsed)


def searches_of(task, beam_size):
    decoding = Decoding(task.max_length, beam_size)
    marian = build_model(task.config, task.vocab_size, Decoding(task.max_positions), task.weights)
    cpu = torch.device("cpu")
    return marian.eval(), {
        "ours": decoders.ours(
            task.config, task.vocab_size, task.weights, task.max_positions, decoding, cpu
        ),
        "generate": decoders.transformers_generate(marian, decoding),
    }


@pytest.mark.parametrize("beam_size", decode_throughput.BEAM_SIZES)
def test_random_weights_take_exactly_the_tokens_asked_for(beam_size):
    task = random_task("--sentences", "9", "--tokens", "7")
    _, searches = searches_of(task, beam_size)
    assert len(task.sources) == 9
    for search in searches.values():
        found = decode_throughput.translate_all(search, task.batches(4))
        assert [len(row) for row in found] == [7] * 9


@pytest.mark.parametrize("beam_size", decode_throughput.BEAM_SIZES)
def test_ctranslate2_translates_as_we_do(beam_size):
    pytest.importorskip("ctranslate2", reason="a peer that only the benchmarks need")
    task = random_task("--sentences", "12", "--tokens", "6")
    marian, searches = searches_of(task, beam_size)
    translator = decoders.ctranslate2_translator(marian, torch.device("cpu"))
    search = decoders.ctranslate2_search(
        translator, task.vocab_size, Decoding(task.max_length, beam_size)
    )
    batches = task.batches(5)
    ours = decode_throughput.translate_all(searches["ours"], batches)
    assert decode_throughput.translate_all(search, batches) == ours


def test_decoding_runs_without_ctranslate2(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    small = "--device cpu --vocab_size 300 --sentences 5 --tokens 3 --rounds 1 --batch_size 2"
    decode_throughput.main([*SMALL_MODEL, *small.split()])
    out = capsys.readouterr().out
    assert rows_of(out)["CTranslate2"][0] == decode_throughput.NOT_INSTALLED
    for title in ("### greedy, batches of up to 2", "### beam 4, batches of up to 2"):
        rows = rows_of(out.partition(title)[2])
        assert rows["ours"][2] == "1.00 x"
        assert rows["transformers generate"][-1] == "100.0%"


def test_a_saved_model_translates_sentences_of_its_data(tmp_path):
    pairs = "".join(f"sentence {i}\tsatz {i}\n" for i in range(100))
    (tmp_path / "pairs.tsv").write_text(pairs, "utf-8")
    own = ["--dataset", str(tmp_path / "pairs.tsv"), "--seed", "3", "--vocab_size", "300"]
    settings = tool.parse(["--version", "pytorch", *own, *SMALL_MODEL])
    data = prepare(settings.data, settings.run.seed)
    model = Transformer(settings.model, data.tokenizer.vocab_size, 0, 128)
    content = {
        "config": settings.flat(),
        "model": model.state_dict(),
        "tokenizer": data.tokenizer.to_json(),
        "step": 1,
    }
    checkpoint.save(tmp_path / "model.pt", content)
    options = ["--checkpoint", str(tmp_path / "model.pt"), "--sentences", "4"]
    task = decode_throughput.saved_task(*decode_throughput._parse(options))
    sources = [pair.src for pair in data.corpus.eval[:4]]
    assert [data.tokenizer.decode(ids) for ids in task.sources] == sources
    assert task.weights.keys() == model.state_dict().keys()
    assert (task.config, task.max_length) == (settings.model, 128)


def test_the_demo_model_can_be_decoded_with():
    options = ["--checkpoint", str(ROOT / "assets" / "demo_model"), "--sentences", "3"]
    task = decode_throughput.saved_task(*decode_throughput._parse(options))
    found = decode_throughput.translate_all(searches_of(task, 1)[1]["ours"], task.batches(3))
    assert len(found) == 3
    assert all(0 < len(row) < 30 for row in found)  # they end by themselves


@pytest.mark.parametrize("options", [["--checkpoint", "none.pt"], ["--checkpoint", "."]])
def test_decoding_refuses_a_checkpoint_that_is_none(options, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="--checkpoint"):
        decode_throughput.main(options)


# Whole commands


def test_whole_commands_are_timed(capsys):
    startup.main(["--runs", "1", "--only", "help"])
    low, middle, high = rows_of(capsys.readouterr().out)["`main.py --help`"]
    assert 0 < float(low) == float(middle) == float(high)


def test_a_command_that_fails_is_not_timed():
    with pytest.raises(RunFailed, match="status 2: .*--nonsense"):
        startup.seconds(["--nonsense"])


def test_the_guides_commands_are_accepted_and_none_is_there_twice():
    for words in guide_commands.COMMANDS:
        tool.parse(words.removeprefix("MPLBACKEND=Agg ").split())
    assert len(set(guide_commands.COMMANDS)) == len(guide_commands.COMMANDS)


def test_the_guides_commands_run_as_they_are_typed(monkeypatch, tmp_path, capsys):
    commands = ("--help", "MPLBACKEND=Agg --version test --nonsense")
    assert guide_commands.shown(commands[1]) == (
        "MPLBACKEND=Agg python main.py --version test --nonsense"
    )
    monkeypatch.setattr(guide_commands, "COMMANDS", commands[:1])
    guide_commands.main(["--folder", str(tmp_path)])
    (taken,) = rows_of(capsys.readouterr().out)["`python main.py --help`"]
    assert re.fullmatch(r"\d+ min \d\d s", taken)
    with pytest.raises(RunFailed, match="status 2: .*--nonsense"):
        guide_commands.seconds(commands[1], tmp_path)


def test_tracking_compares_three_ways_to_run(monkeypatch, capsys):
    given = []

    def milliseconds(num_steps, further):
        given.append((num_steps, further))
        return {4: 10.0, 1: 11.0, 2: 15.0}[len(further)]

    monkeypatch.setattr(tracking_overhead, "milliseconds_per_step", milliseconds)
    tracking_overhead.main(["--steps", "30", "--rounds", "1", "--quiet"])
    nothing, default, closely = (further for _, further in given[:3])
    assert nothing == ["--quiet", "--no_visualize", "--track_every", "1000000000"]
    assert (default, closely) == (["--quiet"], ["--quiet", "--track_internals"])
    rows = rows_of(capsys.readouterr().out)
    assert (rows["default"][2], rows["--track_internals"][2]) == ("1.10 x", "1.50 x")


@pytest.mark.slow
def test_tracking_reads_what_a_run_says_of_itself():
    options = [*SMALL_DATA, *SMALL_MODEL, "--no_visualize", "--device", "cpu"]
    started = time.perf_counter()
    milliseconds = tracking_overhead.milliseconds_per_step(3, options)
    assert 0 < 3 * milliseconds / 1000 < time.perf_counter() - started
    with pytest.raises(UserError):
        tracking_overhead.milliseconds_per_step(3, ["--train_size", "0"])


# Translation quality


def write_last(folder, seconds, moment):
    """Write ``last.pt`` as a run does that has trained for so long, at a moment."""
    folder.checkpoints.mkdir(parents=True, exist_ok=True)
    progress = {"seconds": seconds, "epoch": 1, "step": 5}
    checkpoint.save(folder.checkpoints / "last.pt", {"training": {"progress": progress}})
    os.utime(folder.checkpoints / "last.pt", (moment, moment))


def test_the_clock_counts_training_only(tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "time", lambda: now)
    folder = ResultsFolder(tmp_path)
    write_last(folder, 99.0, moment=900.0)  # of the run before
    clock = translation_quality.TrainingClock(folder, seconds=10.0)
    for seconds in (20.0, 5.0):
        now += seconds
        assert clock.seconds() == 10.0  # still preparing its data
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "metrics.jsonl").touch()
    os.utime(tmp_path / "logs" / "metrics.jsonl", (1026.0, 1026.0))
    now = 1027.0
    assert clock.seconds() == 10.0  # begins now
    now = 1032.0
    assert clock.seconds() == 15.0
    write_last(folder, 13.0, moment=1031.0)  # it knows better: the rest was evaluation
    assert clock.seconds() == 14.0
    now = 1040.0
    assert clock.seconds() == 22.0


def small_translation_data(folder, num_train):
    """Aligned files of sentences that differ in a number."""
    folder.mkdir()
    for split, numbers in (
        ("train", range(num_train)),
        ("val", range(500, 506)),
        ("test_2016_flickr", range(600, 604)),
    ):
        for lang, text in (("en", "a man with {} dogs ."), ("de", "ein mann mit {} hunden .")):
            lines = "".join(text.format(number) + "\n" for number in numbers)
            (folder / f"{split}.{lang}").write_text(lines, "utf-8")
    return folder


@pytest.fixture
def saved_epoch(tmp_path):
    """An epoch of a tiny model, as a run saves it."""
    data = small_translation_data(tmp_path / "data", 60)
    own = ["--dataset", str(data), "--src_lang", "en", "--tgt_lang", "de", "--device", "cpu"]
    settings = tool.parse(["--version", "pytorch", *own, *SMALL_MODEL, "--vocab_size", "300"])
    tokenizer = prepare(settings.data, 42).tokenizer
    model = Transformer(settings.model, tokenizer.vocab_size, 0, 128)
    file = tmp_path / "checkpoint_epoch_1.pt"
    content = {
        "config": settings.flat(), "model": model.state_dict(), "tokenizer": tokenizer.to_json(),
        "step": 7, "training": {"progress": {"seconds": 90.0, "epoch": 1, "step": 7}},
    }  # fmt: skip
    checkpoint.save(file, content)
    return file


def test_bleu_is_that_of_the_tokens_as_they_stand(saved_epoch, monkeypatch):
    scorer = translation_quality.Scorer(saved_epoch)
    assert sorted(pair.src for pair in scorer.test)[0] == "a man with 600 dogs ."
    assert len(scorer.validation) == 6
    weights = checkpoint.load(saved_epoch)["model"]
    asked = []

    def translate(model, tokenizer, sources, decoding):
        asked.append((list(sources), decoding.beam_size))
        return answers

    monkeypatch.setattr(translation_quality, "translate", translate)
    answers = [pair.tgt for pair in scorer.test]
    assert scorer.bleu(weights, scorer.test, beam_size=5) == pytest.approx(100)
    assert asked == [([pair.src for pair in scorer.test], 5)]
    answers = [text.replace(" .", ".") for text in answers]  # a tokenizer of sacrebleu's undoes it
    assert scorer.bleu(weights, scorer.test, beam_size=1) < 90


def test_epochs_are_scored_over_minutes_of_training(saved_epoch, monkeypatch, tmp_path):
    scorer = translation_quality.Scorer(saved_epoch)
    seen = []

    def bleu(weights, pairs, beam_size):
        seen.append((float(weights["embedding.weight"].mean()), len(pairs), beam_size))
        return 30.0 + beam_size

    monkeypatch.setattr(scorer, "bleu", bleu)
    second = checkpoint.load(saved_epoch)
    second["model"]["embedding.weight"] += 2.0
    second["training"]["progress"] |= {"seconds": 180.0, "epoch": 2}
    checkpoint.save(tmp_path / "checkpoint_epoch_2.pt", second)
    files = [saved_epoch, tmp_path / "checkpoint_epoch_2.pt"]
    curve = translation_quality.score_epochs(scorer, files)
    assert [(one.epoch, one.minutes, one.bleu) for one in curve] == [(1, 1.5, 31.0), (2, 3.0, 31.0)]
    seen.clear()
    rows = rows_of(translation_quality.final_table(scorer, files, curve))
    assert rows["epoch 2"] == ["31.00", "35.00"]
    assert rows["mean of the last 2 epochs"] == ["31.00", "35.00"]
    newest, _, mean, _ = (weight for weight, _, _ in seen)
    assert newest - mean == pytest.approx(1.0, abs=1e-4)
    assert [rest for _, *rest in seen] == [[6, 1], [4, 5]] * 2
    translation_quality.draw(curve, tmp_path / "made" / "curve.png")
    assert (tmp_path / "made" / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_translation_quality_refuses_no_time():
    with pytest.raises(UserError, match="--minutes"):
        translation_quality.main(["data", "--minutes", "0"])


@pytest.mark.slow
def test_training_stops_in_time_and_can_go_on(tmp_path):
    data = small_translation_data(tmp_path / "data", 400)

    def run(minutes, *options):
        return subprocess.run(
            [sys.executable, "-m", "benchmarks.translation_quality", str(data), "--device", "cpu",
             "--minutes", str(minutes), "--output_dir", str(tmp_path / "out"),
             *SMALL_MODEL, "--vocab_size", "300", *options],
            cwd=ROOT, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    last = tmp_path / "out" / "results_pytorch" / "checkpoints" / "last.pt"
    first = run(0.02)
    assert first.returncode == 0, first.stderr
    before = checkpoint.load(last)["training"]["progress"]
    assert "| Wu et al. 2021 |  | 41.02 |" in first.stdout
    assert "mean of the last" in first.stdout

    again = run(0.9 * before["seconds"] / 60, "--resume")  # no time is left
    assert again.returncode == 0, again.stderr
    assert checkpoint.load(last)["training"]["progress"] == before
    more = run((before["seconds"] + 1.5) / 60, "--resume")
    assert more.returncode == 0, more.stderr
    assert checkpoint.load(last)["training"]["progress"]["step"] > before["step"]

    wrong = run(1, "--train_size", "0")
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr
