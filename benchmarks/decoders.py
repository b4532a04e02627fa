"""Who takes part in `decode_throughput`: searches over the same weights, ours and other people's.

Letters used in shapes: B sentences, S source positions.
"""

import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import MarianMTModel

from huggingface_version.generate import generation_config
from pytorch_version.generate import generate
from pytorch_version.model import Transformer
from utils.config import ModelConfig
from utils.decoding import Decoding, until_end
from utils.tokenizer import NEVER_GENERATED, PAD_ID, SPECIAL_TOKENS

# Source ids (B, S), padded on the right -> each target's tokens, without <s> and </s>.
Search = Callable[[Tensor], list[list[int]]]


def ours(
    config: ModelConfig,
    vocab_size: int,
    weights: Mapping[str, Tensor],
    max_positions: int,
    decoding: Decoding,
    device: torch.device,
) -> Search:
    """The scratch model's own search."""
    model = Transformer(config, vocab_size, PAD_ID, max_positions)
    model.load_state_dict(weights)
    model = model.to(device).eval()
    return lambda src_ids: generate(model, src_ids.to(device), decoding)


def transformers_generate(marian: MarianMTModel, decoding: Decoding) -> Search:
    """MarianMT's ``generate``, set up to search alike.

    Args:
        marian: in eval mode, on its device.
        decoding: how to search.
    """
    config = generation_config(decoding)
    config.use_cache = True

    def search(src_ids: Tensor) -> list[list[int]]:
        src_ids = src_ids.to(marian.device)
        found = marian.generate(
            input_ids=src_ids,
            attention_mask=(src_ids != PAD_ID).long(),
            generation_config=config,
        )
        return [until_end(row) for row in found[:, 1:].tolist()]

    return search


def ctranslate2_translator(marian: MarianMTModel, device: torch.device) -> Any:
    """The same weights as a ``ctranslate2.Translator`` in single precision.

    CTranslate2's own loader for MarianMT is for models whose last entry is <pad> and whose decoder
    starts from a zero vector, which ours is not. Its loader for BART, MarianMT's twin, reads our
    weights as they are.

    Raises:
        ImportError: the package is not installed.
    """
    import ctranslate2
    from ctranslate2.converters.converter import Converter
    from ctranslate2.converters.transformers import BartLoader

    class Loader(BartLoader):
        """Names every token by its id, so that none is needed that can be read."""

        def get_vocabulary(self, model: MarianMTModel, tokenizer: None) -> list[str]:
            return token_names(model.config.vocab_size)

        def set_config(self, config: Any, model: MarianMTModel, tokenizer: None) -> None:
            _, config.bos_token, config.eos_token, config.unk_token = SPECIAL_TOKENS
            config.decoder_start_token = config.bos_token

    class FromMemory(Converter):
        """Converts a model that is loaded already."""

        def _load(self) -> Any:
            with torch.no_grad():
                return Loader()(marian, None)

    # What BART's configuration says and MarianMT's does not.
    marian.config.normalize_before = marian.config.normalize_embedding = False
    with tempfile.TemporaryDirectory() as folder:
        FromMemory().convert(folder, force=True)
        return ctranslate2.Translator(
            folder,
            device=device.type,
            compute_type="float32",
            inter_threads=1,
            intra_threads=torch.get_num_threads(),
        )


def ctranslate2_search(translator: Any, vocab_size: int, decoding: Decoding) -> Search:
    """CTranslate2's search, set up alike as far as it can be."""
    names = token_names(vocab_size)
    ids = {name: i for i, name in enumerate(names)}

    def search(src_ids: Tensor) -> list[list[int]]:
        sources = [[names[i] for i in row if i != PAD_ID] for row in src_ids.tolist()]
        results = translator.translate_batch(
            sources,
            beam_size=decoding.beam_size,
            length_penalty=decoding.length_penalty,
            max_decoding_length=decoding.max_length,
            suppress_sequences=[[names[i]] for i in NEVER_GENERATED],
        )
        return [[ids[name] for name in result.hypotheses[0]] for result in results]

    return search


def token_names(vocab_size: int) -> list[str]:
    """A name for every id: the special tokens' own, else the number."""
    return [*SPECIAL_TOKENS, *map(str, range(len(SPECIAL_TOKENS), vocab_size))]
