"""Both versions side by side."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from huggingface_version import model as huggingface
from pytorch_version import train as scratch
from utils.experiment import Experiment
from utils.results import log


def initial_weights(experiment: Experiment) -> Mapping[str, Tensor]:
    """The weights that both versions begin with."""
    return scratch.initial_model(experiment).state_dict()


def export(checkpoint_file: Path, folder: Path) -> None:
    """Write a scratch checkpoint as the MarianMT folder ``hf_export``."""
    saved = scratch.load_saved(checkpoint_file)
    if saved.config.norm == "pre":
        log.info("No hf_export: MarianMT has no pre-norm variant")
        return
    marian = huggingface.build_model(
        saved.config, saved.tokenizer.vocab_size, saved.decoding, saved.weights
    )
    huggingface.save(marian, saved.tokenizer, folder / "hf_export")
