"""A model by its configuration, or from a ``.pt`` file alone."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pytorch_version.model import Transformer
from utils import checkpoint
from utils.config import ModelConfig, build
from utils.decoding import Decoding
from utils.tokenizer import PAD_ID, Tokenizer


def build_model(config: ModelConfig, tokenizer: Tokenizer, max_length: int) -> Transformer:
    """The scratch model for a vocabulary and longest sentence."""
    return Transformer(config, tokenizer.vocab_size, PAD_ID, max_length)


class Saved(NamedTuple):
    """A checkpoint's model, apart from the training.

    Attributes:
        config: shape of the model.
        tokenizer: its tokenizer.
        decoding: the search of the run.
        weights: state dict.
        options: of its run, by option name.
        step: optimizer steps that it was trained for.
    """

    config: ModelConfig
    tokenizer: Tokenizer
    decoding: Decoding
    weights: dict[str, Tensor]
    options: dict[str, Any]
    step: int


def load_saved(path: Path, device: torch.device | str = "cpu") -> Saved:
    """Read what a ``.pt`` file says of its model.

    Raises:
        CheckpointError: the file is no intact checkpoint.
    """
    content = checkpoint.load(path, device)
    options = content["config"]
    return Saved(
        build(ModelConfig, options),
        Tokenizer.from_json(content["tokenizer"]),
        Decoding(options["max_length"], options["beam_size"], options["length_penalty"]),
        content["model"],
        options,
        content["step"],
    )


def load_model(path: Path, device: torch.device | str = "cpu") -> tuple[Transformer, Tokenizer]:
    """Rebuild a trained model, in eval mode, and its tokenizer from a ``.pt`` file alone.

    Raises:
        CheckpointError: the file is no intact checkpoint.
    """
    saved = load_saved(path, device)
    model = build_model(saved.config, saved.tokenizer, saved.decoding.max_length)
    model.load_state_dict(saved.weights)
    return model.to(device).eval(), saved.tokenizer
