"""Greedy and beam search against transformers' generate and against plain recomputation."""

import dataclasses

import pytest
import torch

import pytorch_version.generate as generate_module
from pytorch_version.generate import (
    DecoderCache,
    encode_in_parts,
    generate,
    next_logits,
    translate,
)
from pytorch_version.model import Transformer
from utils.config import ModelConfig
from utils.decoding import Decoding
from utils.tokenizer import BOS_ID, EOS_ID, NEVER_GENERATED, PAD_ID, Tokenizer


@pytest.fixture(scope="module")
def sources():
    """(48, 9) random sources of unequal lengths."""
    generator = torch.Generator().manual_seed(3)
    src_ids = torch.randint(3, 40, (48, 9), generator=generator)
    for row in range(48):
        src_ids[row, 3 + row % 7 :] = PAD_ID
    return src_ids


def marian_generate(marian, src_ids, decoding):
    out = marian.generate(
        input_ids=src_ids,
        attention_mask=(src_ids != PAD_ID).long(),
        max_length=decoding.max_length + 1,  # theirs counts the start token
        num_beams=decoding.beam_size,
        length_penalty=decoding.length_penalty,
        early_stopping=False,
        do_sample=False,
        suppress_tokens=list(NEVER_GENERATED),
    )
    rows = out[:, 1:].tolist()
    return [[i for i in (r[: r.index(EOS_ID)] if EOS_ID in r else r) if i != PAD_ID] for r in rows]


@pytest.mark.parametrize("beam_size", [1, 2, 4])
@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0, 2.0, -1.0])
@pytest.mark.parametrize("max_length", [5, 20])
def test_search_finds_what_generate_finds(
    twin, tiny_marian, sources, beam_size, length_penalty, max_length
):
    decoding = Decoding(max_length, beam_size, length_penalty)
    assert generate(twin, sources, decoding) == marian_generate(tiny_marian, sources, decoding)


def greedy_without_cache(model, src_ids, max_length):
    """The definition: run the whole model again for every token."""
    found = []
    for source in src_ids:
        source, ids = source[source != PAD_ID][None], [BOS_ID]
        while len(ids) <= max_length:
            logits = model(source, torch.tensor([ids]))[0, -1]
            logits[list(NEVER_GENERATED)] = -torch.inf
            ids.append(int(logits.argmax()))
            if ids[-1] == EOS_ID:
                break
        found.append([i for i in ids[1:] if i != EOS_ID])
    return found


def test_cached_greedy_equals_recomputing_everything(twin, sources):
    expected = greedy_without_cache(twin, sources, max_length=12)
    assert generate(twin, sources, Decoding(12)) == expected
    lengths = {len(ids) for ids in expected}
    assert len(lengths) > 2, "sentences must end at different times for this test to mean much"


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_cached_logits_equal_the_full_forward(model_config, norm):
    config = dataclasses.replace(model_config, norm=norm)
    model = Transformer(config, vocab_size=40, pad_id=PAD_ID, max_positions=32).eval()
    src_ids, tgt_ids = torch.randint(3, 40, (2, 5)), torch.randint(3, 40, (2, 6))
    with torch.inference_mode():
        cache = DecoderCache(model, src_ids)
        stepwise = [next_logits(model, tokens, cache) for tokens in tgt_ids.T]
        whole = model(src_ids, tgt_ids)
    torch.testing.assert_close(torch.stack(stepwise, dim=1), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_translation_does_not_depend_on_its_batch(twin, sources, beam_size):
    decoding = Decoding(12, beam_size)
    together = generate(twin, sources, decoding)
    alone = [generate(twin, row[row != PAD_ID][None], decoding)[0] for row in sources]
    assert together == alone


def test_pad_and_start_are_never_generated(model, sources):
    with torch.no_grad():  # make both by far the most probable tokens
        model.embedding.weight[[PAD_ID, BOS_ID]] = 100 * model.embedding.weight[[7, 8]]
    for beam_size in (1, 2):
        for ids in generate(model, sources, Decoding(6, beam_size)):
            assert not set(ids) & set(NEVER_GENERATED)


def test_finished_rows_leave_the_batch(twin, sources, monkeypatch):
    rows = []
    step = generate_module.next_logits

    def counting(model, tokens, cache):
        rows.append(len(tokens))
        return step(model, tokens, cache)

    monkeypatch.setattr(generate_module, "next_logits", counting)
    found = generate(twin, sources, Decoding(12))
    still_going = [sum(len(ids) >= n for ids in found) for n in range(12)]
    assert rows == [n for n in still_going if n]


def test_generate_refuses_training_mode(twin, sources):
    with pytest.raises(ValueError, match="eval"):
        generate(twin.train(), sources, Decoding(3))


def test_translate_keeps_the_order_of_its_sentences(twin):
    words = [chr(ord("a") + n) * (1 + n % 5) for n in range(20)]
    tokenizer = Tokenizer.train(words, vocab_size=300)
    model = Transformer(ModelConfig(d_model=16, num_heads=2), tokenizer.vocab_size, PAD_ID, 16)
    model.eval()
    decoding = Decoding(8)
    one_by_one = [translate(model, tokenizer, [word], decoding)[0] for word in words]
    assert translate(model, tokenizer, words, decoding) == one_by_one
    assert len(set(one_by_one)) > 5
    assert translate(model, tokenizer, [], decoding) == []


def test_sources_are_encoded_in_parts_no_wider_than_needed(model, monkeypatch):
    shapes = []
    encode = type(model).encode

    def noting(self, src_ids):
        shapes.append(src_ids.shape)
        return encode(self, src_ids)

    src_ids = torch.randint(3, 40, (5, 9))
    for row, length in enumerate((2, 4, 3, 9, 8)):
        src_ids[row, length:] = 0
    whole = model.encode(src_ids)
    monkeypatch.setattr("pytorch_version.generate.ENCODED_AT_ONCE", 2)
    monkeypatch.setattr(type(model), "encode", noting)
    memory = encode_in_parts(model, src_ids)
    assert shapes == [(2, 4), (2, 9), (1, 8)]
    real = (src_ids != 0)[:, :, None]
    torch.testing.assert_close(memory * real, whole * real, rtol=1e-5, atol=1e-6)
