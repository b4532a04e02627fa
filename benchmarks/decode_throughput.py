"""Speed of translating: the scratch model, transformers' ``generate`` and CTranslate2.

    python -m benchmarks.decode_throughput
    python -m benchmarks.decode_throughput --checkpoint assets/demo_model
    python -m benchmarks.decode_throughput --checkpoint results_pytorch/checkpoints/best_model.pt

All search with the same weights, through the same batches of sentences. Before anything is timed
their translations are compared token by token. Without a checkpoint the weights are random, and
every translation takes ``--tokens``; with one, translations end where they end. Options of data and
model are those of ``main.py``.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import main as tool
from benchmarks import decoders
from benchmarks.command import exit_status, make_parser
from benchmarks.decoders import Search
from benchmarks.measure import comparison_table, heading, interleaved
from huggingface_version import model as huggingface
from huggingface_version.foreign import load_any
from pytorch_version.model import Transformer
from pytorch_version.saved import load_saved
from utils.batching import pad_sources
from utils.checkpoint import CheckpointError
from utils.config import DataConfig, ModelConfig, Settings, UserError, build
from utils.data import load_corpus
from utils.decoding import ROWS_AT_ONCE, Decoding
from utils.environment import select_device
from utils.results import RunFailed
from utils.tokenizer import EOS_ID, PAD_ID, SPECIAL_TOKENS, Tokenizer

BEAM_SIZES = (1, 4)
REFERENCE = "ours"
GENERATE = "transformers generate"
CTRANSLATE2 = "CTranslate2"
NOT_INSTALLED = "not installed: pip install -r benchmarks/requirements.txt"
DEFAULTS = "--version pytorch --hidden_size 256 --num_layers 3 --vocab_size 8000".split()
MODEL_OPTIONS = ("hidden_size", "num_layers", "vocab_size")  # without a say where a model is loaded
ENOUGH = 100  # training pairs asked of a dataset that is only translated
SHORTEST, LONGEST = 5, 25  # tokens of random sources


@dataclass(frozen=True)
class Task:
    """Weights, and what is to be translated with them.

    Attributes:
        name: what it is, for the table.
        config: shape of the model.
        vocab_size: V.
        weights: by the scratch model's names.
        max_positions: longest sentence that the model has positions for.
        max_length: most tokens of a translation.
        sources: token ids of each sentence.
    """

    name: str
    config: ModelConfig
    vocab_size: int
    weights: Mapping[str, Tensor]
    max_positions: int
    max_length: int
    sources: list[list[int]]

    def batches(self, size: int) -> list[Tensor]:
        """Sentences of similar length together, (B, S) each."""
        ordered = sorted(self.sources, key=len)
        return [pad_sources(ordered[i : i + size]) for i in range(0, len(ordered), size)]


def main(argv: Sequence[str] | None) -> None:
    """Compare, print.

    Raises:
        UserError: the user's input is wrong.
        RunFailed: ours and ``generate`` do not translate alike.
    """
    options, settings = _parse(argv)
    device = select_device(settings.run.device)
    task = saved_task(options, settings) if options.checkpoint else random_task(options, settings)
    marian = huggingface.build_model(
        task.config, task.vocab_size, Decoding(task.max_positions), task.weights
    )
    marian, translator = marian.eval(), None
    try:
        translator = decoders.ctranslate2_translator(marian, device)
    except ImportError:
        print(f"{CTRANSLATE2}: {NOT_INSTALLED}", file=sys.stderr)
    marian = marian.to(device)
    print(heading("Decoding throughput", device))
    print(task.name, end="\n\n")
    for beam_size in BEAM_SIZES:
        decoding = Decoding(task.max_length, beam_size)
        searches = {
            REFERENCE: decoders.ours(
                task.config, task.vocab_size, task.weights, task.max_positions, decoding, device
            ),
            GENERATE: decoders.transformers_generate(marian, decoding),
        }
        if translator is not None:
            searches[CTRANSLATE2] = decoders.ctranslate2_search(
                translator, task.vocab_size, decoding
            )
        batches = task.batches(options.batch_size or max(1, ROWS_AT_ONCE // beam_size))
        print(table(searches, batches, beam_size, options.rounds), end="\n\n")


def _parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, Settings]:
    parser = make_parser("decode_throughput", __doc__.partition("\n")[0])
    parser.add_argument(
        "--checkpoint", metavar="PATH", help="a .pt of ours or a MarianMT folder (default: none)"
    )
    parser.add_argument("--sentences", type=int, default=256, help="default: %(default)s")
    parser.add_argument("--tokens", type=int, default=20, help="of each target, without checkpoint")
    parser.add_argument("--batch_size", type=int, help="sentences (default: 256, 64 with 4 beams)")
    parser.add_argument("--rounds", type=int, default=5, help="that count")
    options, further = parser.parse_known_args(argv)
    for name in ("sentences", "tokens", "batch_size", "rounds"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise UserError(f"--{name} must be at least 1, not {value}")
    settings = tool.parse([*DEFAULTS, *further])
    if settings.model.norm == "pre":
        raise UserError("--norm pre: MarianMT has no pre-norm variant; leave it out")
    return options, settings


def random_task(options: argparse.Namespace, settings: Settings) -> Task:
    """Random weights and sentences, and translations that all take ``--tokens``.

    The embedding of </s> is zero, so its logit is: never near the largest, so nobody ends before.
    """
    config, data, rng = settings.model, settings.data, np.random.default_rng(settings.run.seed)
    max_positions = max(data.max_length, options.tokens, LONGEST + 1)
    torch.manual_seed(settings.run.seed)
    model = Transformer(config, data.vocab_size, PAD_ID, max_positions)
    model.embedding.weight.data[EOS_ID] = 0
    sources = [
        [*rng.integers(len(SPECIAL_TOKENS), data.vocab_size, length).tolist(), EOS_ID]
        for length in rng.integers(SHORTEST, LONGEST, options.sentences, endpoint=True)
    ]
    name = (
        f"Random weights: {config.num_layers}+{config.num_layers} layers, width {config.d_model}, "
        f"{config.num_heads} heads, FFN {config.d_ff}, vocabulary {data.vocab_size:,}; "
        f"{options.sentences} sentences, {options.tokens} tokens forced"
    )
    weights = model.state_dict()
    return Task(name, config, data.vocab_size, weights, max_positions, options.tokens, sources)


def saved_task(options: argparse.Namespace, settings: Settings) -> Task:
    """A trained model, and evaluation sentences of the data it was trained for.

    Raises:
        UserError: the checkpoint, or an option of the data, cannot be used.
    """
    path = Path(options.checkpoint)
    if path.is_dir():
        tokenizer, summary = Tokenizer.from_folder(path), path / "summary.json"
        if tokenizer is None or not summary.exists():
            raise UserError(f"--checkpoint {path}: no results folder; name one, or a .pt file")
        run_options = json.loads(summary.read_text("utf-8"))["config"]
        marian = load_any(str(path), "cpu")
        config = huggingface.scratch_config(marian.config)
        weights = huggingface.from_marian(marian.state_dict())
        max_length = marian.config.max_position_embeddings
    else:
        try:
            saved = load_saved(path)
        except CheckpointError as error:
            raise UserError(f"--checkpoint {error}") from error
        run_options, config, tokenizer = saved.options, saved.config, saved.tokenizer
        weights, max_length = saved.weights, saved.decoding.max_length
    given = {name: value for name, value in settings.given.items() if name not in MODEL_OPTIONS}
    data_options = {**run_options, "train_size": ENOUGH, **given}
    corpus = load_corpus(build(DataConfig, data_options), run_options["seed"])
    pairs = corpus.eval[: options.sentences]
    sources = tokenizer.encode_batch([pair.src for pair in pairs])
    sources = [ids for ids in sources if len(ids) <= max_length]
    name = (
        f"{path}: {config.num_layers}+{config.num_layers} layers, width {config.d_model}, "
        f"{config.num_heads} heads, FFN {config.d_ff}, vocabulary {tokenizer.vocab_size:,}; "
        f"{len(sources)} sentences of {corpus.name}, translations as long as they are"
    )
    return Task(name, config, tokenizer.vocab_size, weights, max_length, max_length, sources)


def table(
    searches: Mapping[str, Search], batches: Sequence[Tensor], beam_size: int, num_rounds: int
) -> str:
    """Compare the translations, then the speeds.

    Raises:
        RunFailed: ours and ``generate`` do not translate alike.
    """
    found = {name: translate_all(search, batches) for name, search in searches.items()}
    num_sentences = len(found[REFERENCE])
    same = {
        name: sum(one == other for one, other in zip(rows, found[REFERENCE], strict=True))
        for name, rows in found.items()
    }
    if same[GENERATE] < num_sentences:
        raise RunFailed(
            f"beam size {beam_size}: {num_sentences - same[GENERATE]} of {num_sentences} "
            f"translations of ours differ from those of {GENERATE}, so nothing was timed"
        )

    def speed(search: Search) -> float:
        started = time.perf_counter()
        translate_all(search, batches)  # lists: a GPU has been waited for
        return num_sentences / (time.perf_counter() - started)

    rounds = {name: lambda search=search: speed(search) for name, search in searches.items()}
    figures = interleaved(rounds, num_rounds)
    tokens = {name: sum(map(len, rows)) / num_sentences for name, rows in found.items()}
    more = {
        "target tokens/s": {n: f"{np.median(figures[n]) * tokens[n]:,.0f}" for n in figures},
        "identical to ours": {n: f"{same[n] / num_sentences:.1%}" for n in figures},
    }
    absent = {} if CTRANSLATE2 in searches else {CTRANSLATE2: NOT_INSTALLED}
    title = "greedy" if beam_size == 1 else f"beam {beam_size}"
    sizes = f"### {title}, batches of up to {len(batches[0])} sentences\n\n"
    return sizes + comparison_table(figures, REFERENCE, "sentences/s", more=more, absent=absent)


def translate_all(search: Search, batches: Sequence[Tensor]) -> list[list[int]]:
    """The tokens of every translation, batch after batch."""
    return [row for batch in batches for row in search(batch)]


if __name__ == "__main__":
    sys.exit(exit_status(main))
