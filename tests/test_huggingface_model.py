"""MarianMT as the paper's Transformer: configuration, weights both ways, folders of others."""

import copy
import dataclasses
import sys

import pytest
import torch
from torch import nn
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, MarianConfig, MarianMTModel

from huggingface_version import generate
from huggingface_version import model as huggingface
from pytorch_version.generate import generate as scratch_generate
from pytorch_version.generate import translate
from pytorch_version.model import Transformer, count_parameters
from tests.conftest import MAX_POSITIONS, SHAPE, VOCAB_SIZE
from tests.oracles import transformer_with_weights_of
from utils.batching import collate
from utils.comparison import transplanted_from
from utils.config import PRESETS, ModelConfig, UserError
from utils.decoding import Decoding
from utils.tokenizer import Tokenizer

NO_PREFERENCE = Decoding(MAX_POSITIONS)
SENTENCES = [
    "the dog sleeps", "개는 자요", "a", "books and a library", "학생은 책을 샀어요",
    "</s> is text", "<pad> too", "x y z", "dog dog dog dog",
]  # fmt: skip


@pytest.fixture
def ours(model) -> Transformer:
    """A scratch model with nothing at 0 or 1, where mistakes would hide."""
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


@pytest.fixture
def theirs(ours, model_config) -> MarianMTModel:
    """The MarianMT twin of `ours`."""
    return built(model_config, ours)


def built(config, model):
    marian = huggingface.build_model(config, VOCAB_SIZE, NO_PREFERENCE, model.state_dict())
    return marian.eval()


def three_uses(marian):
    parts = (marian.model.encoder.embed_tokens, marian.model.decoder.embed_tokens, marian.lm_head)
    return {part.weight.data_ptr() for part in (*parts, marian.model.shared)}


# Configuration


def test_ids_are_ours_wherever_they_stand(theirs):
    for config in (theirs.config, theirs.generation_config):
        assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (0, 1, 2)
        assert config.decoder_start_token_id == 1
        assert getattr(config, "forced_eos_token_id", None) is None
        assert getattr(config, "forced_bos_token_id", None) is None
        assert getattr(config, "bad_words_ids", None) is None  # Marian forbids <pad> this way
    assert theirs.model.shared.padding_idx == 0


def test_the_configuration_is_the_papers(model_config):
    config = huggingface.marian_config(dataclasses.replace(model_config, dropout=0.3), 40, 32)
    assert config.activation_function == "relu"
    assert config.scale_embedding is True
    assert config.tie_word_embeddings is config.share_encoder_decoder_embeddings is True
    assert config.dropout == 0.3
    assert config.attention_dropout == config.activation_dropout == 0
    assert config.encoder_layerdrop == config.decoder_layerdrop == 0


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_parameters_are_as_many_as_the_formula_says(preset):
    config = ModelConfig(**PRESETS[preset])
    with torch.device("meta"):
        marian = MarianMTModel(huggingface.marian_config(config, 1000, 8))
    trained = sum(p.numel() for p in marian.parameters() if p.requires_grad)
    assert trained == count_parameters(config, 1000)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_attention_asked_for_is_used(model_config, attention):
    config = dataclasses.replace(model_config, attention=attention)
    marian = built(config, Transformer(config, VOCAB_SIZE, 0, MAX_POSITIONS))
    assert marian.config._attn_implementation == attention


def test_dropout_acts_as_often_as_in_the_scratch_model_and_on_the_same_tensors(
    model_config, batch, monkeypatch
):
    config = dataclasses.replace(model_config, dropout=0.5, attention="eager")
    model = Transformer(config, VOCAB_SIZE, 0, MAX_POSITIONS)
    marian = built(config, model)
    sites = []

    def recording(tensor, p=0.5, training=True, inplace=False):
        if training and p > 0:
            owner = sys._getframe(1).f_locals.get("self")
            sites.append((type(owner).__name__, p, tuple(tensor.shape)))
        return tensor

    monkeypatch.setattr(torch.nn.functional, "dropout", recording)
    huggingface.logits_of(marian.train(), *batch)
    source, target = (3, 7, 16), (3, 6, 16)
    assert sites == [
        ("MarianEncoder", 0.5, source),
        *[("MarianEncoderLayer", 0.5, source)] * 4,  # 2 sublayers in each of 2 layers
        ("MarianDecoder", 0.5, target),
        *[("MarianDecoderLayer", 0.5, target)] * 6,  # 3 sublayers
    ]
    in_marian = [shape for _, _, shape in sites]
    sites.clear()
    model.train()(*batch)
    assert [shape for _, _, shape in sites] == in_marian
    assert len(in_marian) == sum(isinstance(module, nn.Dropout) for module in model.modules())


def found_by(marian, src_ids, decoding):
    """What a bare ``generate`` finds with the run's configuration."""
    marian.generation_config = generate.generation_config(decoding)
    found = marian.generate(input_ids=src_ids, attention_mask=(src_ids != 0).long())
    assert set(found[:, 0].tolist()) == {1}
    return [[i for i in row if i > 2] for row in found[:, 1:].tolist()]


@pytest.mark.parametrize("length", [4, 12])
@pytest.mark.parametrize("beams", [1, 3])
def test_a_bare_generate_searches_as_the_scratch_model_does(twin, tiny_marian, length, beams):
    marian, src_ids = copy.deepcopy(tiny_marian), torch.randint(3, VOCAB_SIZE, (24, 6))
    found = []
    for penalty in (-2.0, 0.6, 3.0):
        decoding = Decoding(length, beams, penalty)
        found.append(found_by(marian, src_ids, decoding))
        ours = scratch_generate(twin, src_ids, decoding)
        assert found[-1] == [[i for i in row if i > 2] for row in ours]
    assert max(len(ids) for ids in found[0]) == length
    assert (found[0] == found[2]) == (beams == 1)  # greedy search has no use for a penalty


@pytest.mark.parametrize("beams", [1, 3])
def test_pad_and_start_are_never_generated(tiny_marian, beams):
    marian, src_ids = copy.deepcopy(tiny_marian), torch.randint(3, VOCAB_SIZE, (24, 6))
    with torch.no_grad():  # make both by far the most probable tokens
        marian.model.shared.weight[[0, 1]] = 100 * marian.model.shared.weight[[7, 8]]
    marian.generation_config = generate.generation_config(Decoding(6, beams))
    marian.generation_config.pad_token_id = None  # else ended rows are filled with it
    found = marian.generate(input_ids=src_ids, attention_mask=torch.ones_like(src_ids))
    assert not set(found[:, 1:].flatten().tolist()) & {0, 1}


# Weights


def test_there_and_back_is_bit_equal(ours):
    state = ours.state_dict()
    again = huggingface.from_marian(huggingface.to_marian(state))
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in state.items())


def test_back_and_there_is_bit_equal(tiny_marian):
    state = tiny_marian.state_dict()
    again = huggingface.to_marian(huggingface.from_marian(state))
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.items())
    parameters = {name for name, p in tiny_marian.named_parameters() if p.requires_grad}
    assert again.keys() == parameters  # named_parameters has a tied weight once


def test_marians_weights_become_those_of_the_oracle(tiny_marian):
    expected = transformer_with_weights_of(tiny_marian).state_dict()
    found = huggingface.from_marian(tiny_marian.state_dict())
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_converting_copies(ours):
    converted = huggingface.to_marian(ours.state_dict())
    before = {name: tensor.clone() for name, tensor in converted.items()}
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(1)
    assert all(torch.equal(converted[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("name", ["positions.table", "embedding.bias", "encoder.norm.weight"])
def test_a_weight_without_a_place_in_marian_is_refused(name):
    with pytest.raises(ValueError, match=name):
        huggingface.to_marian({name: torch.ones(16)})


@pytest.mark.parametrize("name", ["model.encoder.layernorm_embedding.weight", "classifier.bias"])
def test_a_weight_without_a_place_in_the_scratch_model_is_refused(name):
    with pytest.raises(ValueError, match=name.removeprefix("model.")):
        huggingface.from_marian({name: torch.ones(16)})


def test_pre_norm_is_refused(model_config):
    config = dataclasses.replace(model_config, norm="pre")
    state = Transformer(config, VOCAB_SIZE, 0, 8).state_dict()
    with pytest.raises(ValueError, match=r"(en|de)coder\.norm"):
        huggingface.to_marian(state)
    with pytest.raises(UserError, match="--norm pre"):
        huggingface.build_model(config, VOCAB_SIZE, NO_PREFERENCE, state)


def test_missing_and_unknown_weights_are_refused(ours, theirs):
    state = huggingface.to_marian(ours.state_dict())
    for name in ("model.decoder.layers.1.encoder_attn.out_proj.bias", "model.shared.weight"):
        with pytest.raises(ValueError, match=name):
            huggingface.load_weights(theirs, {n: t for n, t in state.items() if n != name})
    with pytest.raises(ValueError, match="model.unheard.of"):
        huggingface.load_weights(theirs, state | {"model.unheard.of": torch.ones(1)})


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_logits_are_those_of_the_scratch_model(ours, theirs, batch, attention, dtype, tolerance):
    for model in (ours, theirs):
        model.to(dtype).set_attn_implementation(attention)
    expected, found = ours(*batch), huggingface.logits_of(theirs, *batch)
    assert found.dtype == dtype
    assert expected.abs().max() > 0.5
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_logits_of_a_transplant_are_marians(tiny_marian, batch, attention, dtype, tolerance):
    marian = copy.deepcopy(tiny_marian).to(dtype)
    model = transplanted_from(marian, "somewhere").to(dtype)
    for either in (marian, model):
        either.set_attn_implementation(attention)
    expected = huggingface.logits_of(marian, *batch)
    torch.testing.assert_close(model(*batch), expected, rtol=0, atol=tolerance)


def test_the_comparison_of_logits_can_fail(ours, model_config, tiny_marian, batch, monkeypatch):
    monkeypatch.setattr(huggingface, "_sines_first", torch.arange)
    unpermuted = huggingface.logits_of(built(model_config, ours), *batch)
    assert (unpermuted - ours(*batch)).abs().max() > 0.01
    transplant = transplanted_from(tiny_marian, "somewhere")
    expected = huggingface.logits_of(tiny_marian, *batch)
    assert (transplant(*batch) - expected).abs().max() > 0.01


def test_gradients_convert_like_weights(ours, theirs, batch):
    for model, logits_of in ((ours, Transformer.__call__), (theirs, huggingface.logits_of)):
        logits_of(model.double(), *batch).square().mean().backward()
    expected = {name: p.grad for name, p in ours.named_parameters()}
    named = {name: p.grad for name, p in theirs.named_parameters() if p.requires_grad}
    found = huggingface.from_marian(named)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)
    assert found["decoder.layers.1.cross_attn.w_o.bias"].abs().max() > 1e-3
    back = huggingface.to_marian(expected)
    for name, gradient in named.items():
        torch.testing.assert_close(back[name], gradient, rtol=1e-9, atol=1e-12)


def test_the_three_uses_of_the_embedding_stay_one_matrix(ours, theirs, tmp_path):
    assert len(three_uses(theirs)) == 1
    huggingface.load_weights(theirs, huggingface.to_marian(ours.state_dict()))
    assert len(three_uses(theirs)) == 1
    theirs.save_pretrained(tmp_path)
    assert len(three_uses(huggingface.load(tmp_path))) == 1
    assert len(three_uses(theirs)) == 1


# Positions


def test_position_tables_are_ours_bit_for_bit(ours, theirs, tiny_marian):
    for marian in (theirs, tiny_marian):
        tables = huggingface.position_tables(marian)
        assert len(tables) == 2
        assert all(torch.equal(table, ours.positions.table) for table in tables)


def test_a_position_beyond_the_table_raises(theirs):
    longest, one = torch.ones(1, MAX_POSITIONS).long(), torch.ones(1, 1).long()
    too_long = torch.ones(1, MAX_POSITIONS + 1).long()
    huggingface.logits_of(theirs, longest, longest)
    for src_ids, tgt_ids in ((too_long, one), (one, too_long)):
        with pytest.raises(IndexError):
            huggingface.logits_of(theirs, src_ids, tgt_ids)


# Folders


@pytest.fixture(scope="module")
def trained():
    """A tokenizer, and a scratch model that learnt to give a sentence's successor by heart."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # many times quicker for a model so small
    tokenizer = Tokenizer.train(SENTENCES * 3, vocab_size=400)
    ids = tokenizer.encode_batch(SENTENCES)
    batch = collate(list(zip(ids, ids[1:] + ids[:1], strict=True)))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Transformer(ModelConfig(dropout=0.0, **SHAPE), tokenizer.vocab_size, 0, 24)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(40):
            optimizer.zero_grad()
            logits = model(batch.src_ids, batch.decoder_input_ids)
            nn.functional.cross_entropy(logits.flatten(0, 1), batch.labels.flatten()).backward()
            optimizer.step()
    torch.set_num_threads(threads)
    return tokenizer, model.eval()


@pytest.mark.parametrize("decoding", [Decoding(24), Decoding(24, 3, 0.6)])
def test_transformers_alone_reads_the_folder_and_translates_as_we_do(
    trained, model_config, tmp_path, decoding
):
    tokenizer, model = trained
    marian = huggingface.build_model(
        model_config, tokenizer.vocab_size, decoding, model.state_dict()
    )
    huggingface.save(marian, tokenizer, tmp_path)

    theirs = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    their_tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    inputs = their_tokenizer(SENTENCES, padding=True, return_tensors="pt")
    found = their_tokenizer.batch_decode(theirs.generate(**inputs), skip_special_tokens=True)
    assert found == translate(model, tokenizer, SENTENCES, decoding)
    assert len(set(found)) > 5
    assert len({len(text) for text in found}) > 2
    assert generate.translate(theirs, tokenizer, SENTENCES) == found

    tgt_ids = torch.tensor([[1, 300, 301]]).expand(len(SENTENCES), 3)
    logits = huggingface.logits_of(theirs, inputs.input_ids, tgt_ids)
    torch.testing.assert_close(logits, model(inputs.input_ids, tgt_ids), rtol=0, atol=1e-5)
    assert torch.equal(logits, huggingface.logits_of(marian.eval(), inputs.input_ids, tgt_ids))


def test_the_folders_tokenizer_is_ours(trained, model_config, tmp_path):
    tokenizer, model = trained
    marian = huggingface.build_model(
        model_config, tokenizer.vocab_size, Decoding(24), model.state_dict()
    )
    huggingface.save(marian, tokenizer, tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    texts = [*SENTENCES, "", "</s>", "a</s>b", "<pad><s></s><unk>", "  two ", "😀 <0x41>", "뷁"]
    for text in texts:
        ids = theirs(text).input_ids
        assert ids == tokenizer.encode(text)
        assert theirs.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids)
    assert theirs(["</s>", "<pad>"]).input_ids == tokenizer.encode_batch(["</s>", "<pad>"])
    ids = (theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id, theirs.unk_token_id)
    assert ids == (0, 1, 2, 3)
    assert theirs.model_max_length == 24


def test_a_loaded_model_trains_what_ours_trains(theirs, tmp_path):
    theirs.save_pretrained(tmp_path)
    loaded = huggingface.load(tmp_path)
    assert not loaded.training
    fixed = {name for name, p in loaded.named_parameters() if not p.requires_grad}
    assert fixed == {f"model.{stack}.embed_positions.weight" for stack in ("encoder", "decoder")}
    trained = {name for name, p in theirs.named_parameters() if p.requires_grad}
    assert {name for name, p in loaded.named_parameters() if p.requires_grad} == trained


def foreign(**options):
    """A MarianMT as others make it: another vocabulary's ids, and no weight at 0 or 1."""
    shape = {
        "vocab_size": 53, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 24, "max_position_embeddings": 20, "init_std": 0.3,
        "activation_function": "relu", "scale_embedding": True, "pad_token_id": 52,
        "decoder_start_token_id": 52, "eos_token_id": 0, "forced_eos_token_id": 0,
    }  # fmt: skip
    marian = MarianMTModel(MarianConfig(**shape | options)).eval()
    for parameter in marian.parameters():
        if parameter.dim() == 1:
            parameter.data += 0.2 * torch.randn_like(parameter)
    return marian


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_folder_made_by_transformers_alone_can_be_transplanted(tmp_path, attention):
    marian = foreign()
    marian.save_pretrained(tmp_path)
    loaded = huggingface.load(tmp_path)
    model = transplanted_from(loaded, str(tmp_path))
    src_ids, tgt_ids = torch.randint(1, 52, (3, 7)), torch.randint(1, 52, (3, 6))
    src_ids[:, -1], src_ids[1, 3], src_ids[2, 5] = 0, 0, 0
    src_ids[1, 4:], src_ids[2, 6:], tgt_ids[:, 0], tgt_ids[2, 4:] = 52, 52, 52, 52
    for either in (loaded, model):
        either.set_attn_implementation(attention)
    inputs = {"attention_mask": (src_ids != 52).long(), "decoder_input_ids": tgt_ids}
    expected = marian(input_ids=src_ids, **inputs).logits
    assert expected.std() > 0.5
    for logits in (model(src_ids, tgt_ids), loaded(input_ids=src_ids, **inputs).logits):
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


REFUSED = {
    "gelu": {"activation_function": "gelu"},
    "swish": {"activation_function": "swish"},
    "not scaled": {"scale_embedding": False},
    r"layers \(1 and 2\)": {"encoder_layers": 1},
    r"heads \(4 and 2\)": {"decoder_attention_heads": 2},
    r"FFN width \(24 and 32\)": {"decoder_ffn_dim": 32},
    "not one shared matrix": {"share_encoder_decoder_embeddings": False},
    "one shared matrix": {"tie_word_embeddings": False},
}


@pytest.mark.parametrize(("reason", "options"), REFUSED.items())
def test_a_marian_that_the_scratch_model_cannot_be_is_refused(reason, options):
    marian = foreign(**options)
    for refuse in (huggingface.require_convertible, transplanted_from):
        with pytest.raises(UserError, match=f"^some/folder: .*{reason}") as error:
            refuse(marian, "some/folder")
        assert ";" not in str(error.value)  # no reason besides


def test_a_final_bias_is_refused():
    marian = foreign()
    huggingface.require_convertible(marian, "some/folder")
    marian.final_logits_bias[0, 3] = 0.5
    with pytest.raises(UserError, match="^some/folder: .*final_logits_bias is not zero"):
        transplanted_from(marian, "some/folder")


def test_all_reasons_are_given_together():
    marian = foreign(activation_function="swish", scale_embedding=False, decoder_layers=1)
    marian.final_logits_bias[0, 0] = 1
    with pytest.raises(UserError) as error:
        transplanted_from(marian, "some/folder")
    for reason in ("swish", "not scaled", "final_logits_bias", "layers (2 and 1)"):
        assert reason in str(error.value)
    assert "\n" not in str(error.value)
