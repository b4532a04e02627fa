"""Translating with ``generate``, set up to search as the scratch model does."""

from collections.abc import Sequence

from torch import Tensor
from transformers import GenerationConfig, MarianMTModel

from utils.decoding import Decoding, translate_in_batches, until_end
from utils.tokenizer import BOS_ID, EOS_ID, NEVER_GENERATED, PAD_ID, Tokenizer


def generation_config(decoding: Decoding) -> GenerationConfig:
    """The run's decoding, so that a bare ``generate(**inputs)`` does what the run did."""
    return GenerationConfig(
        max_length=decoding.max_length + 1,  # generate counts the start token
        num_beams=decoding.beam_size,
        # Greedy search has no use for a penalty, and transformers warns of one.
        length_penalty=decoding.length_penalty if decoding.beam_size > 1 else 1.0,
        early_stopping=False,
        do_sample=False,
        suppress_tokens=list(NEVER_GENERATED),
        pad_token_id=PAD_ID,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
        decoder_start_token_id=BOS_ID,
        forced_eos_token_id=None,
    )


def translate(marian: MarianMTModel, tokenizer: Tokenizer, sentences: Sequence[str]) -> list[str]:
    """Translate ``sentences`` as the model's ``generation_config`` says; the order is kept."""

    def search(src_ids: Tensor) -> list[list[int]]:
        src_ids = src_ids.to(marian.device)
        attention_mask = (src_ids != PAD_ID).long()
        found = marian.generate(input_ids=src_ids, attention_mask=attention_mask)
        return [until_end(row) for row in found[:, 1:].tolist()]

    beam_size = marian.generation_config.num_beams
    return translate_in_batches(search, tokenizer, sentences, beam_size)
