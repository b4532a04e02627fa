"""Shared fixtures: seeds, no network, and models small enough for any machine."""

import copy
import os

os.environ["HF_HUB_OFFLINE"] = "1"
# Tiny tensors: a second thread would only be waited for, above all on a busy machine.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["LC_ALL"] = "C.UTF-8"  # --lang auto speaks English, wherever the tests run

import pytest
import torch
from transformers import MarianConfig, MarianMTModel

from pytorch_version.model import Transformer
from tests.oracles import transformer_with_weights_of
from utils import language
from utils.config import ModelConfig

VOCAB_SIZE, MAX_POSITIONS = 40, 32
SHAPE = {"d_model": 16, "num_layers": 2, "num_heads": 4, "d_ff": 24}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _speak_english(monkeypatch):
    monkeypatch.setattr(language, "_IN_USE", ["en"])


@pytest.fixture(params=language.LANGUAGES)
def every_language(request):
    language.use(request.param)


@pytest.fixture(autouse=True)
def _draw_here(monkeypatch):
    """In this process, where a missing glyph is an error."""
    monkeypatch.setattr("utils.figure_writer.PROCESSES", 1)


@pytest.fixture(autouse=True)
def _pages_without_fonts(request, monkeypatch):
    """Packing fonts is a third of a second of each run; tests of pages want them."""
    if "test_page" not in request.module.__name__:
        monkeypatch.setattr("utils.page.font_faces", lambda text: ("", "sans-serif"))


@pytest.fixture
def model_config() -> ModelConfig:
    return ModelConfig(dropout=0.0, **SHAPE)


@pytest.fixture
def model(model_config) -> Transformer:
    return Transformer(model_config, VOCAB_SIZE, pad_id=0, max_positions=MAX_POSITIONS).eval()


@pytest.fixture(scope="session")
def tiny_marian() -> MarianMTModel:
    """A random MarianMT of the paper's kind, with weights large enough to matter."""
    config = MarianConfig(
        vocab_size=VOCAB_SIZE,
        d_model=SHAPE["d_model"],
        encoder_layers=SHAPE["num_layers"],
        decoder_layers=SHAPE["num_layers"],
        encoder_attention_heads=SHAPE["num_heads"],
        decoder_attention_heads=SHAPE["num_heads"],
        encoder_ffn_dim=SHAPE["d_ff"],
        decoder_ffn_dim=SHAPE["d_ff"],
        activation_function="relu",
        scale_embedding=True,
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        max_position_embeddings=MAX_POSITIONS,
        init_std=0.2,
        pad_token_id=0,
        bos_token_id=1,
        decoder_start_token_id=1,
        eos_token_id=2,
        forced_eos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        marian = MarianMTModel(config)
        for parameter in marian.parameters():
            if parameter.dim() == 1:  # biases and norms would hide mistakes at 0 and 1
                parameter.data += 0.1 * torch.randn_like(parameter)
        torch.manual_seed(1)  # an </s> that is likely now and then, so that sentences end
        marian.model.shared.weight.data *= 0.5
        marian.model.shared.weight.data[2] = 0.4 * torch.randn(SHAPE["d_model"])
    return marian.eval()


@pytest.fixture
def marian(tiny_marian) -> MarianMTModel:
    """A copy of ``tiny_marian``, which may be changed."""
    return copy.deepcopy(tiny_marian)


@pytest.fixture
def twin(tiny_marian) -> Transformer:
    """The scratch model with the weights of ``tiny_marian``."""
    return transformer_with_weights_of(tiny_marian).eval()


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Sources (3, 7) and decoder inputs (3, 6) of unequal lengths, padded on the right."""
    src_ids = torch.randint(3, VOCAB_SIZE, (3, 7))
    tgt_ids = torch.randint(3, VOCAB_SIZE, (3, 6))
    tgt_ids[:, 0] = 1
    src_ids[1, 4:], src_ids[2, 6:] = 0, 0
    tgt_ids[0, 5:], tgt_ids[1, 3:] = 0, 0
    return src_ids, tgt_ids
