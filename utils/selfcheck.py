"""``--version test``: does this installation work, and is the model what it claims to be?"""

import importlib.metadata
import platform
import time
import warnings
from collections.abc import Callable

import matplotlib
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pytorch_version.attention import MultiHeadAttention, causal_mask
from pytorch_version.generate import translate
from pytorch_version.model import Transformer, count_parameters
from pytorch_version.saved import build_model
from pytorch_version.state import TrainingState
from pytorch_version.step import train_step
from utils.batching import LengthBatches, training_loader
from utils.config import PRESETS, DataConfig, ModelConfig, RunConfig, TrainConfig
from utils.data import prepare
from utils.decoding import Decoding
from utils.environment import describe_device, select_device
from utils.metrics import translation_scores
from utils.results import RESULT, log
from utils.tokenizer import PAD_ID, Tokenizer
from utils.visualization import font_settings, hangul_font

PACKAGES = (
    "torch", "transformers", "tokenizers", "datasets", "accelerate", "safetensors", "sacrebleu",
    "matplotlib", "seaborn", "numpy", "pandas", "tqdm", "wandb",
)  # fmt: skip
VOCAB_SIZE = 50  # of the small models
PAPER_VOCAB_SIZE = 37_000  # section 5.1; parameters are counted with it
COPY_EPOCHS = 6
LEAST_COPIED = 0.6  # by chance it would be 0; a working model reaches 80 to 97 %, by its seed


class CheckFailed(Exception):
    """A check found something wrong; the message says what."""


def run_selfcheck(run: RunConfig) -> int:
    """Run every check and print a table; returns 0 if all pass, else 1.

    Raises:
        UserError: the device asked for is not there.
    """
    device = select_device(run.device)
    results = [_outcome(title, check, device) for title, check in CHECKS.items()]
    failed = results.count(False)
    verdict = "All checks passed." if not failed else f"{failed} of {len(results)} checks FAILED."
    log.log(RESULT, "\n%s", verdict)
    return 1 if failed else 0


def _outcome(title: str, check: Callable[[torch.device], str], device: torch.device) -> bool:
    """Run one check and print its line of the table."""
    torch.manual_seed(0)
    started = time.perf_counter()
    try:
        detail, passed = check(device), True
    except Exception as error:  # whatever goes wrong is this check's result
        detail, passed = f"{type(error).__name__}: {error}", False
    seconds = time.perf_counter() - started
    mark = "PASS" if passed else "FAIL"
    log.log(RESULT, "%s  %-22s %5.1f s  %s", mark, title, seconds, detail)
    return passed


def check_versions(device: torch.device) -> str:
    """Every package is there."""
    found = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    log.debug("  %s", ", ".join(found))
    return f"Python {platform.python_version()}, " + ", ".join(found[:3])


def check_device(device: torch.device) -> str:
    """The device computes: a product on it equals the CPU's."""
    a, b = torch.randn(2, 64, 64)
    difference = ((a.to(device) @ b.to(device)).cpu() - a @ b).abs().max().item()
    _require(difference < 1e-2, f"a matrix product is wrong by {difference:.1e}")
    return describe_device(device)


def check_plot_font(device: torch.device) -> str:
    """Hangul, minus sign and the space mark of pieces all render."""
    name = hangul_font()
    _require(name is not None, "no font with Hangul; run: pip install koreanize-matplotlib")
    with matplotlib.rc_context(font_settings()), warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib only warns of a missing glyph
        figure = Figure()
        figure.text(0.5, 0.5, "▁학생은 −1")
        FigureCanvasAgg(figure).draw()
    return f"Hangul by {name}"


def check_parameters(device: torch.device) -> str:
    """Parameter counts of all presets equal the closed formula."""
    counts = {}
    for name, shape in PRESETS.items():
        config = ModelConfig(**shape)
        with torch.device("meta"):
            model = Transformer(config, PAPER_VOCAB_SIZE, PAD_ID, max_positions=8)
        counts[name] = sum(p.numel() for p in model.parameters())
        expected = count_parameters(config, PAPER_VOCAB_SIZE)
        _require(counts[name] == expected, f"{name}: {counts[name]:,}, not {expected:,}")
    sizes = ", ".join(f"{name} {count / 1e6:.1f} M" for name, count in counts.items())
    return f"{sizes} ({PAPER_VOCAB_SIZE:,} entries)"


def check_shapes(device: torch.device) -> str:
    """Logits are (sentences, target positions, vocabulary)."""
    src_ids, tgt_ids = _ids(3, 7, device), _ids(3, 5, device)
    shape = tuple(_small_model(device)(src_ids, tgt_ids).shape)
    _require(shape == (3, 5, VOCAB_SIZE), f"{shape} instead of {(3, 5, VOCAB_SIZE)}")
    return f"sources (3, 7), targets (3, 5) -> logits {shape}"


def check_causality(device: torch.device) -> str:
    """Changing later target tokens leaves earlier logits alone, and only those."""
    model, src_ids, tgt_ids = _small_model(device), _ids(2, 6, device), _ids(2, 8, device)
    changed = tgt_ids.clone()
    changed[:, 5:] = (changed[:, 5:] - 3 + 1) % (VOCAB_SIZE - 3) + 3
    difference = (model(src_ids, changed) - model(src_ids, tgt_ids)).abs()
    before, after = difference[:, :5].max().item(), difference[:, 5:].max().item()
    _require(before < 1e-5, f"the past changed by {before:.1e}")
    _require(after > 1e-3, "the future did not change: the test sees nothing")
    return f"past logits move by {before:.0e}, later ones by {after:.1f}"


def check_padding(device: torch.device) -> str:
    """Padding a batch changes no sentence."""
    model, src_ids, tgt_ids = _small_model(device), _ids(2, 6, device), _ids(2, 5, device)
    padded = torch.cat([src_ids, src_ids.new_full((2, 4), PAD_ID)], dim=1)
    difference = (model(padded, tgt_ids) - model(src_ids, tgt_ids)).abs().max().item()
    _require(difference < 1e-4, f"logits changed by {difference:.1e}")
    return f"logits move by {difference:.0e}"


def check_attention_paths(device: torch.device) -> str:
    """The fused kernel and the step-by-step formula agree."""
    model, src_ids, tgt_ids = _small_model(device), _ids(2, 6, device), _ids(2, 5, device)
    fused = model(src_ids, tgt_ids)
    model.set_attn_implementation("eager")
    difference = (model(src_ids, tgt_ids) - fused).abs().max().item()
    _require(difference < 1e-4, f"they differ by {difference:.1e}")
    return f"sdpa and eager differ by {difference:.0e}"


def check_gradients(device: torch.device) -> str:
    """Attention's gradients equal finite differences, in double precision on the CPU."""
    attention = MultiHeadAttention(d_model=4, num_heads=2).double()
    attention.attention.fused = False
    x = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda y: attention(y, y, causal_mask(3)), x)
    return "backpropagation equals finite differences"


def check_tokenizer(device: torch.device) -> str:
    """Text survives encoding and decoding."""
    tokenizer = Tokenizer.train(["학생은 책을 샀어요.", "The student bought a book."], 320)
    for text in ("학생은 책을 읽어요.", "emoji 😀 </s>", "  two  spaces"):
        again = tokenizer.decode(tokenizer.encode(text))
        _require(again == text, f"{text!r} became {again!r}")
    return "Hangul, emoji and special spellings survive a round trip"


def check_learning(device: torch.device) -> str:
    """A tiny model learns to copy rows of syllables that it has not seen."""
    data = prepare(DataConfig(dataset="copy", train_size=4000, eval_size=100), seed=0)
    config = TrainConfig(learning_rate=5e-3, warmup_steps=50, label_smoothing=0.0)
    shape = ModelConfig(d_model=64, num_layers=1, dropout=0.0)
    state = TrainingState.start(build_model(shape, data.tokenizer, 32).to(device), config)
    sampler = LengthBatches(data.train.lengths, 32, None, seed=0)
    loader = training_loader(data.train, sampler, num_workers=0, pin_memory=False)
    for epoch in range(COPY_EPOCHS):
        sampler.set_epoch(epoch)
        for batch in loader:
            train_step(state, state.model, [batch], config)
    sources = [pair.src for pair in data.eval.pairs]
    found = translate(state.model.eval(), data.tokenizer, sources, Decoding(32))
    exact = translation_scores(found, sources)["exact_match"]
    _require(
        exact >= LEAST_COPIED, f"only {exact:.0%} of unseen rows copied, not {LEAST_COPIED:.0%}"
    )
    return f"{exact:.0%} of unseen rows copied whole after {state.progress.step} steps"


CHECKS: dict[str, Callable[[torch.device], str]] = {
    "versions": check_versions,
    "device": check_device,
    "plot font": check_plot_font,
    "tokenizer": check_tokenizer,
    "parameter counts": check_parameters,
    "shapes": check_shapes,
    "causality": check_causality,
    "padding invariance": check_padding,
    "attention paths": check_attention_paths,
    "gradient check": check_gradients,
    "copy task learnt": check_learning,
}


def _require(ok: bool, message: str) -> None:
    if not ok:
        raise CheckFailed(message)


def _small_model(device: torch.device) -> Transformer:
    config = ModelConfig(d_model=32, num_layers=2)
    return Transformer(config, VOCAB_SIZE, PAD_ID, max_positions=16).to(device).eval()


def _ids(rows: int, length: int, device: torch.device) -> torch.Tensor:
    return torch.randint(3, VOCAB_SIZE, (rows, length)).to(device)
