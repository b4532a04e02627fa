"""The Transformer-Tiny recipe of Wu et al. 2021 on Multi30k English-German, and its BLEU.

    python -m benchmarks.translation_quality DATA_DIR --minutes 60

``DATA_DIR`` holds ``train``, ``val`` and ``test_2016_flickr``, each as ``.en`` and ``.de``,
lower-cased, normalised and tokenised as the data set's authors provide them. Trains with
``main.py`` until the minutes of training are over, then scores what was saved: the validation
split over the minutes of training, and the test split once, with a beam of 5. Options that are not
this script's own are passed on to ``main.py``.
"""

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from benchmarks.command import exit_status, main_command, make_parser, require_success
from benchmarks.measure import heading, markdown_table
from pytorch_version.generate import translate
from pytorch_version.model import Transformer
from pytorch_version.saved import load_model
from utils import checkpoint
from utils.config import DataConfig, UserError, build
from utils.corpus import Pair
from utils.data import load_corpus
from utils.decoding import Decoding
from utils.environment import select_device
from utils.results import DPI, ResultsFolder, RunFailed
from utils.tokenizer import Tokenizer

PAPER_BLEU = 41.02  # Wu et al. 2021, Transformer-Tiny, test2016, tokenised and lower-cased
AVERAGED = 10  # newest epochs whose weights are averaged, as in the paper
BEAM_SIZE = 5
RECIPE = (
    "--version pytorch --src_lang en --tgt_lang de --preset tiny --vocab_size 10000 "
    "--max_tokens 4096 --learning_rate 0.005 --warmup_steps 2000 --label_smoothing 0.1 "
    "--dropout 0.3 --beam_size 1"
).split()
# Every epoch is kept, and the clock ends the run, not the epochs.
HOUSEKEEPING = (
    f"--average_checkpoints {AVERAGED} --keep_checkpoints 1000000 --epochs 1000000 "
    "--track_every 1000000000 --no_visualize --quiet"
).split()
POLL_SECONDS = 0.5


class TrainingClock:
    """Seconds that a run of another process has trained, as its files tell.

    Between two checkpoints the time that passes is counted, an evaluation in it too.

    Args:
        folder: of the run, which is about to start.
        seconds: trained before, if the run goes on from a checkpoint.
    """

    def __init__(self, folder: ResultsFolder, seconds: float) -> None:
        self._metrics = folder.path / "logs" / "metrics.jsonl"  # written anew when training begins
        self._last = folder.checkpoints / "last.pt"
        self._seconds = seconds
        self._started = time.time()
        self._since: float | None = None  # when ``_seconds`` was right; None before training

    def seconds(self) -> float:
        """Seconds trained until now; tells on standard error of each new checkpoint."""
        if self._since is None and _written_since(self._metrics, self._started):
            self._since = time.time()
        if _written_since(self._last, max(self._started, self._since or 0)):
            self._since = self._last.stat().st_mtime
            training = checkpoint.load(self._last)["training"]["progress"]
            self._seconds = training["seconds"]
            print(
                f"{self._seconds / 60:6.1f} minutes of training: {training['epoch']} epochs, "
                f"step {training['step']:,}",
                file=sys.stderr,
                flush=True,
            )
        return self._seconds + (0 if self._since is None else time.time() - self._since)


def _written_since(file: Path, moment: float) -> bool:
    return file.exists() and file.stat().st_mtime > moment


class Scored(NamedTuple):
    """A saved epoch.

    Attributes:
        epoch: epochs finished.
        step: optimizer steps made.
        minutes: of training, evaluation left out.
        bleu: of the validation split, greedy, 0-100.
    """

    epoch: int
    step: int
    minutes: float
    bleu: float


class Scorer:
    """Scores weights of one run.

    Args:
        file: a checkpoint of the run, for its configuration and vocabulary.

    Attributes:
        validation: pairs of the validation split.
        test: pairs of the test split.
    """

    def __init__(self, file: Path) -> None:
        options = checkpoint.load(file)["config"]
        self.device = select_device(options["device"])
        self._model: Transformer
        self._tokenizer: Tokenizer
        self._model, self._tokenizer = load_model(file, self.device)
        self._max_length = options["max_length"]
        corpus = load_corpus(build(DataConfig, options), options["seed"])
        self.validation, self.test = corpus.eval, corpus.test

    def bleu(self, weights: Mapping[str, Tensor], pairs: Sequence[Pair], beam_size: int) -> float:
        """Corpus BLEU in 0-100 of the tokens as they stand in the text, as the paper has it."""
        from sacrebleu.metrics import BLEU

        self._model.load_state_dict(weights)
        sources = [pair.src for pair in pairs]
        decoding = Decoding(self._max_length, beam_size)
        hypotheses = translate(self._model, self._tokenizer, sources, decoding)
        references = [pair.tgt for pair in pairs]
        # force: sacrebleu would warn that the text is tokenised, which it is meant to be.
        return BLEU(tokenize="none", force=True).corpus_score(hypotheses, [references]).score


def main(argv: Sequence[str] | None) -> None:
    """Train, score, print.

    Raises:
        UserError: the user's input is wrong.
        RunFailed: training failed, or no epoch was finished in time.
    """
    options, further = _parse(argv)
    folder = ResultsFolder.of(options.output_dir, "pytorch")
    started = time.monotonic()
    train(options, further, folder)
    wall_minutes = (time.monotonic() - started) / 60
    files = checkpoint.by_epoch(folder.checkpoints)
    if not files:
        raise RunFailed(
            f"no epoch was finished in {options.minutes:g} minutes of training; "
            "go on with --resume and more --minutes"
        )
    scorer = Scorer(files[-1])
    curve = score_epochs(scorer, files)
    print(heading("Translation quality: Multi30k English-German, Transformer-Tiny", scorer.device))
    print(
        f"{curve[-1].minutes:.1f} minutes of training ({wall_minutes:.1f} by the clock in this "
        "call, evaluations and writing included).\n"
    )
    print(curve_table(curve), end="\n\n")
    print(final_table(scorer, files, curve))
    if options.figure:
        draw(curve, Path(options.figure))


def _parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = make_parser("translation_quality", __doc__.partition("\n")[0])
    parser.add_argument(
        "data_dir", metavar="DATA_DIR", help="folder with train, val and test files"
    )
    parser.add_argument("--minutes", type=float, required=True, help="of training in all")
    parser.add_argument("--output_dir", default="results_quality", help="default: %(default)s")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --output_dir")
    parser.add_argument("--figure", metavar="FILE", help="draw the curve as this PNG")
    options, further = parser.parse_known_args(argv)
    if not 0 < options.minutes < float("inf"):
        raise UserError(f"--minutes must be above 0, not {options.minutes}")
    return options, further


def train(options: argparse.Namespace, further: Sequence[str], folder: ResultsFolder) -> None:
    """Run ``main.py`` until the minutes of training are over; it saves its state and stops.

    Args:
        options: of this script.
        further: options for ``main.py``.
        folder: that the run writes to.

    Raises:
        UserError: ``main.py`` refused its options.
        RunFailed: it ended in another way.
    """
    last, seconds = folder.checkpoints / "last.pt", 0.0
    if options.resume and last.exists():
        seconds = checkpoint.load(last)["training"]["progress"]["seconds"]
        if seconds >= 60 * options.minutes:
            print(f"{last}: trained for {seconds / 60:.1f} minutes already", file=sys.stderr)
            return
    places = ["--dataset", options.data_dir, "--output_dir", options.output_dir]
    resume = ["--resume"] if options.resume else []
    clock = TrainingClock(folder, seconds)
    # Not in the terminal's group: Ctrl-C comes from here, once; a second one would act at once.
    process = subprocess.Popen(
        main_command(*RECIPE, *HOUSEKEEPING, *places, *resume, *further), start_new_session=True
    )
    try:
        while process.poll() is None and clock.seconds() < 60 * options.minutes:
            time.sleep(POLL_SECONDS)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        status = process.wait()
    require_success(status, 128 + signal.SIGINT)


def score_epochs(scorer: Scorer, files: Sequence[Path]) -> list[Scored]:
    """The validation BLEU of every saved epoch."""
    curve = []
    for file in files:
        saved = checkpoint.load(file)
        progress = saved["training"]["progress"]
        bleu = scorer.bleu(saved["model"], scorer.validation, beam_size=1)
        curve.append(Scored(progress["epoch"], saved["step"], progress["seconds"] / 60, bleu))
        print(f"{file.name}: validation BLEU {bleu:.2f}", file=sys.stderr, flush=True)
    return curve


def curve_table(curve: Sequence[Scored]) -> str:
    """How good the epochs were."""
    rows = [
        [str(one.epoch), f"{one.step:,}", f"{one.minutes:.1f}", f"{one.bleu:.2f}"] for one in curve
    ]
    return markdown_table(
        ["epoch", "steps", "minutes of training", "validation BLEU, greedy"], rows
    )


def final_table(scorer: Scorer, files: Sequence[Path], curve: Sequence[Scored]) -> str:
    """How good the newest epoch and the mean of the last epochs are, on the test split too."""
    averaged = files[-AVERAGED:]
    newest = checkpoint.load(files[-1])["model"]
    mean = checkpoint.mean(checkpoint.load(file)["model"] for file in averaged)
    names = (f"epoch {curve[-1].epoch}", f"mean of the last {len(averaged)} epochs")
    rows = []
    for name, weights in zip(names, (newest, mean), strict=True):
        validation = scorer.bleu(weights, scorer.validation, beam_size=1)
        test = scorer.bleu(weights, scorer.test, BEAM_SIZE)
        rows.append([name, f"{validation:.2f}", f"{test:.2f}"])
    rows.append(["Wu et al. 2021", "", f"{PAPER_BLEU:.2f}"])
    return markdown_table(["", "validation BLEU, greedy", f"test2016 BLEU, beam {BEAM_SIZE}"], rows)


def draw(curve: Sequence[Scored], file: Path) -> None:
    """Draw validation BLEU over minutes of training."""
    from matplotlib.figure import Figure

    from utils.visualization import BLUE

    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([one.minutes for one in curve], [one.bleu for one in curve], marker=".", color=BLUE)
    axes.set(xlabel="minutes of training", ylabel="BLEU, validation, greedy")
    axes.set_title("Transformer-Tiny on Multi30k En-De")
    axes.grid(alpha=0.3)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=DPI)


if __name__ == "__main__":
    sys.exit(exit_status(main))
