"""Silencing heads: as if the model had been built without them, and the model left as it was."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from transformers import MarianConfig, MarianMTModel

from pytorch_version import model as scratch
from pytorch_version.generate import generate
from tests.conftest import SHAPE, VOCAB_SIZE
from tests.oracles import transformer_with_weights_of
from utils import ablation
from utils.ablation import ablate_heads
from utils.analysis import HeadAblation, Labelled
from utils.batching import collate, pad_sources
from utils.comparison import marian_side, scratch_side
from utils.decoding import Decoding
from utils.metrics import TokenScores
from utils.tokenizer import BOS_ID, EOS_ID, PAD_ID

HEADS, WIDTH = SHAPE["num_heads"], SHAPE["d_model"] // SHAPE["num_heads"]
ATTENTIONS = [
    "encoder.0.self_attn", "encoder.1.self_attn", "decoder.0.self_attn", "decoder.0.cross_attn",
    "decoder.1.self_attn", "decoder.1.cross_attn",
]  # fmt: skip
GREEDY = Decoding(max_length=18)


@pytest.fixture(scope="module")
def examples(tiny_marian):
    """(source, target): translations of the model, and of the model with one head cut off."""
    model = transformer_with_weights_of(tiny_marian).eval()
    generator = torch.Generator().manual_seed(3)
    sources = [
        [*torch.randint(3, VOCAB_SIZE, (n,), generator=generator).tolist(), EOS_ID]
        for n in (2, 3, 6, 7, 8, 9, 10, 12) * 3
    ]
    written = greedy(model, sources[:16])
    written += greedy(without_head(model, "decoder.0.cross_attn", 1), sources[16:])
    pairs = zip(sources, written, strict=True)
    return [(src, [*tgt, EOS_ID]) for src, tgt in pairs if len(tgt) < GREEDY.max_length]


@pytest.fixture
def batches(examples):
    return [collate(examples[:3]), collate(examples[3:])]


def greedy(model, sources):
    return generate(model, pad_sources(sources), GREEDY)


def without_head(model, attention, head):
    """The model with the columns of W_O that read one head set to zero."""
    cut = copy.deepcopy(model)
    stack, layer, site = attention.split(".")
    w_o = cut.get_submodule(f"{stack}.layers.{layer}.{site}.w_o")
    w_o.weight.data[:, head * WIDTH : (head + 1) * WIDTH] = 0
    return cut


def nll_of(model, batches):
    scores = TokenScores()
    with torch.no_grad():
        for batch in batches:
            scores.add(model(batch.src_ids, batch.decoder_input_ids), batch.labels)
    return scores.nll


def exact_match_of(model, examples):
    sources, targets = zip(*examples, strict=True)
    found = greedy(model, sources)
    return np.mean([[*ids, EOS_ID] == tgt for ids, tgt in zip(found, targets, strict=True)])


def ablated(side, batches):
    return ablate_heads(side.model, side, batches)


def num_hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


def test_a_silenced_head_is_a_head_that_w_o_does_not_read(twin, batches):
    found = ablated(scratch_side(twin), batches)
    assert found.baseline_nll == pytest.approx(nll_of(twin, batches), rel=1e-6)
    for attention, row in zip(ATTENTIONS, found.nll.values, strict=True):
        for head, change in enumerate(row):
            cut = nll_of(without_head(twin, attention, head), batches)
            assert change == pytest.approx(cut - found.baseline_nll, abs=1e-6), attention
    assert np.abs(found.nll.values).min() > 1e-4  # every head of this model matters


def test_exact_match_is_that_of_greedy_search(twin, batches, examples):
    found = ablated(scratch_side(twin), batches)
    assert found.num_sentences == len(examples) > 5
    assert found.baseline_exact_match == exact_match_of(twin, examples)
    changes = [
        [exact_match_of(without_head(twin, attention, head), examples) for head in range(HEADS)]
        for attention in ATTENTIONS
    ]
    changes = np.array(changes) - found.baseline_exact_match
    assert found.exact_match.values == pytest.approx(changes)
    assert len(np.unique(changes.round(6))) > 3  # better, worse and alike


def test_what_is_never_generated_is_never_the_most_probable(twin, batches):
    side = scratch_side(twin)
    favoured = torch.zeros(VOCAB_SIZE)
    favoured[[PAD_ID, BOS_ID]] = 100
    favouring = dataclasses.replace(
        side, logits_of=lambda *arguments: side.logits_of(*arguments) + favoured
    )
    usual, found = ablated(side, batches), ablated(favouring, batches)
    assert found.baseline_exact_match == usual.baseline_exact_match > 0
    assert np.array_equal(found.exact_match.values, usual.exact_match.values)
    assert found.baseline_nll > usual.baseline_nll + 90
    free = ablate_heads(twin, favouring, batches, never_generated=())
    assert free.baseline_exact_match == 0


def test_a_head_that_w_o_does_not_read_changes_nothing(twin, batches):
    cut = without_head(twin, "decoder.1.self_attn", 2)
    found = ablated(scratch_side(cut), batches)
    place = ATTENTIONS.index("decoder.1.self_attn"), 2
    assert found.nll.values[place] == pytest.approx(0, abs=1e-9)
    assert found.exact_match.values[place] == 0
    others = np.delete(found.nll.values.ravel(), place[0] * HEADS + place[1])
    assert np.abs(others).min() > 1e-5


def test_both_implementations_give_the_same_numbers(twin, marian, batches):
    ours, theirs = ablated(scratch_side(twin), batches), ablated(marian_side(marian), batches)
    assert ours.nll.values == pytest.approx(theirs.nll.values, abs=1e-5)
    assert ours.exact_match.values == pytest.approx(theirs.exact_match.values)
    assert ours.baseline_nll == pytest.approx(theirs.baseline_nll, abs=1e-5)
    assert ours.baseline_exact_match == theirs.baseline_exact_match
    assert ours.nll.axes == theirs.nll.axes


@pytest.mark.parametrize("logits_at_once", [1, 2000, 2**30])
def test_neither_batches_nor_memory_change_the_numbers(
    twin, batches, examples, monkeypatch, logits_at_once
):
    expected = ablated(scratch_side(twin), batches)
    monkeypatch.setattr(ablation, "LOGITS_AT_ONCE", logits_at_once)
    found = ablated(scratch_side(twin), [collate(examples[::-1])])
    assert found.nll.values == pytest.approx(expected.nll.values, abs=1e-6)
    assert found.exact_match.values == pytest.approx(expected.exact_match.values)


def test_as_many_heads_as_memory_holds_are_silenced_at_once(twin, batches, monkeypatch):
    passes = []
    side = scratch_side(twin)
    counting = dataclasses.replace(
        side, logits_of=lambda m, src, tgt: passes.append(len(src)) or side.logits_of(m, src, tgt)
    )
    num_logits = batches[0].labels.numel() * VOCAB_SIZE
    monkeypatch.setattr(ablation, "LOGITS_AT_ONCE", 3 * num_logits)
    ablated(counting, batches[:1])
    assert passes == [3, *[9, 3] * len(ATTENTIONS)]


def test_the_table_names_its_rows_and_columns(twin, batches):
    found = ablated(scratch_side(twin), batches)
    assert found.nll.axes == found.exact_match.axes == {
        "attention": ["encoder 1 self", "encoder 2 self", "decoder 1 self", "decoder 1 cross",
                      "decoder 2 self", "decoder 2 cross"],
        "head": ["head 1", "head 2", "head 3", "head 4"],
    }  # fmt: skip
    assert found.nll.unit == "nats per target token"
    assert found.as_dict()["nll"]["values"] == found.nll.values.tolist()


@pytest.fixture(params=["scratch", "marian"])
def side(request, twin, marian):
    return scratch_side(twin) if request.param == "scratch" else marian_side(marian)


def test_the_model_is_left_as_it_was(side, batches):
    model = side.model
    expected = ablated(side, batches).nll.values
    for module in model.modules():
        if hasattr(module, "p") or isinstance(getattr(module, "dropout", None), float):
            setattr(module, "p" if hasattr(module, "p") else "dropout", 0.5)
    model.train()
    frozen = next(iter(model.children()))
    frozen.eval()
    modes = [module.training for module in model.modules()]
    state, hooks = torch.get_rng_state(), num_hooks(model)
    found = ablated(side, batches).nll.values
    assert found == pytest.approx(expected, abs=1e-9)
    assert [module.training for module in model.modules()] == modes
    assert True in modes
    assert False in modes
    assert torch.equal(torch.get_rng_state(), state)
    assert num_hooks(model) == hooks
    assert all(p.grad is None for p in model.parameters())


class Boom(Exception):
    pass


def test_the_model_is_left_as_it_was_after_an_error_too(side, batches):
    model, passes = side.model, []
    implementation = model.config._attn_implementation if hasattr(model, "config") else (
        model.attn_implementation
    )  # fmt: skip

    def failing(model, src_ids, tgt_ids):
        passes.append(num_hooks(model))
        if len(passes) == 3:
            raise Boom
        return side.logits_of(model, src_ids, tgt_ids)

    model.train()
    with pytest.raises(Boom):
        ablated(dataclasses.replace(side, logits_of=failing), batches)
    assert passes[-1] == 1  # a head was silenced
    assert num_hooks(model) == 0
    assert all(module.training for module in model.modules())
    after = model.config._attn_implementation if hasattr(model, "config") else (
        model.attn_implementation
    )  # fmt: skip
    assert after == implementation


def test_an_attention_with_fewer_heads_has_nothing_for_the_others(batches):
    config = MarianConfig(
        vocab_size=VOCAB_SIZE, d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=4, encoder_ffn_dim=8,
        decoder_ffn_dim=8, max_position_embeddings=32, pad_token_id=0, decoder_start_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    found = ablated(marian_side(MarianMTModel(config).eval()), batches)
    for values in (found.nll.values, found.exact_match.values):
        assert np.isnan(values).tolist() == [[False] * 2 + [True] * 2, [False] * 4, [False] * 4]


def test_without_sentences_there_is_nothing_to_score(twin):
    with pytest.raises(ValueError, match="no sentences"):
        ablate_heads(twin, scratch.inside(twin), [])


def test_most_important_is_the_head_without_which_nll_rises_most():
    axes = {"attention": ["a", "b"], "head": ["1", "2"]}
    values = np.array([[-0.9, 0.1], [0.3, np.nan]])
    table = Labelled(values=values, name="change", unit="nats", axes=axes)
    found = HeadAblation(
        nll=table, exact_match=table, baseline_nll=1, baseline_exact_match=0, num_sentences=1
    )
    assert found.most_important == (1, 0)
