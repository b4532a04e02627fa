"""Subwords: nothing is lost, ids are fixed, pieces are readable."""

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, MarianConfig

from utils.tokenizer import BOS_ID, EOS_ID, PAD_ID, UNK_ID, Tokenizer

TEXTS = [
    "The student bought three books at the library yesterday.",
    "학생은 어제 도서관에서 책을 세 권 샀어요.",
    "The dog sleeps.",
    "개는 자요.",
] * 5

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TEXTS, vocab_size=500)


AWKWARD = [
    "",
    " ",
    "   ",
    " two  spaces ",
    "tab\tand\nnewline\r\n",
    "👩‍👩‍👧 emoji 😀",
    "한글 and English, 뒤섞인 문장!",
    unicodedata.normalize("NFD", "학생은 도서관에 가요."),
    "</s>",
    "<pad><s></s><unk>",
    "<0xEC>",
    "▁under▁line",
    "null\x00character",
    "e\u0301 ﬁ Å",
    "\ufeffbom \u200bzero width",
    "العربية ไทย हिन्दी",
    "퓱뷁쀍",
]


@pytest.mark.parametrize("text", AWKWARD)
def test_decoding_gives_the_text_back_in_nfc(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == unicodedata.normalize("NFC", text)


# The Unicode versions of Python and the tokenizer may differ: leave out unassigned code points.
@given(st.text(st.characters(exclude_categories=("Cs", "Cn"))))
def test_decoding_gives_any_text_back(text):
    tokenizer = _trained_once()
    assert tokenizer.decode(tokenizer.encode(text)) == unicodedata.normalize("NFC", text)


_cache = []


def _trained_once():
    if not _cache:
        _cache.append(Tokenizer.train(TEXTS, vocab_size=500))
    return _cache[0]


def test_special_tokens_have_the_fixed_ids(tokenizer):
    assert (PAD_ID, BOS_ID, EOS_ID, UNK_ID) == (0, 1, 2, 3)
    assert tokenizer.pieces([0, 1, 2, 3]) == ["<pad>", "<s>", "</s>", "<unk>"]


def test_every_text_ends_in_eos_and_holds_no_other_special(tokenizer):
    for text in AWKWARD:
        *inner, last = tokenizer.encode(text)
        assert last == EOS_ID
        assert not set(inner) & {PAD_ID, BOS_ID, EOS_ID, UNK_ID}


def test_training_on_special_spellings_does_not_let_texts_spell_them():
    tokenizer = Tokenizer.train(["a </s> b <0x41> <pad>"] * 50, vocab_size=400)
    for text in ("</s>", "x</s>", "<0x41>", "<pad>"):
        *inner, _ = tokenizer.encode(text)
        assert not set(inner) & {PAD_ID, BOS_ID, EOS_ID, UNK_ID}
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_composed_and_decomposed_text_give_the_same_tokens(tokenizer):
    text = "학생은 책을 샀어요."
    assert tokenizer.encode(unicodedata.normalize("NFD", text)) == tokenizer.encode(text)


def test_pieces_are_readable_hangul(tokenizer):
    pieces = tokenizer.pieces(tokenizer.encode("학생은 도서관에서 자요."))
    assert "".join(pieces) == "▁학생은▁도서관에서▁자요.</s>"
    assert any(len(piece) > 2 for piece in pieces)  # something was learnt


def test_pieces_show_what_cannot_be_printed(tokenizer):
    assert tokenizer.pieces(tokenizer.encode("a\tb"))[1:-2] == ["<0x09>"]


def test_vocabulary_is_of_the_size_asked_for_at_most():
    many = [chr(0xAC00 + n) for n in range(2000)]  # more characters than entries
    small = Tokenizer.train(many, vocab_size=300)
    assert small.vocab_size <= 300
    assert small.decode(small.encode(many[-1])) == many[-1]


def test_a_word_is_the_same_piece_wherever_it_stands(tokenizer):
    alone, after = tokenizer.encode("student"), tokenizer.encode("The student")
    assert after[-len(alone) :] == alone


def test_json_round_trip_changes_nothing(tokenizer):
    again = Tokenizer.from_json(tokenizer.to_json())
    for text in AWKWARD + TEXTS:
        assert again.encode(text) == tokenizer.encode(text)
    assert again.vocab_size == tokenizer.vocab_size


def test_batch_encoding_equals_single(tokenizer):
    assert tokenizer.encode_batch(AWKWARD) == [tokenizer.encode(text) for text in AWKWARD]


def test_auto_tokenizer_reads_the_same_file(tokenizer, tmp_path):
    tokenizer.save(tmp_path, max_length=64)
    MarianConfig(vocab_size=600, pad_token_id=0, decoder_start_token_id=1).save_pretrained(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in AWKWARD + TEXTS:
        ids = theirs(text).input_ids
        assert ids == tokenizer.encode(text)
        assert theirs.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids)
    ids = (theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id, theirs.unk_token_id)
    assert ids == (0, 1, 2, 3)
    assert theirs.model_max_length == 64
    padded = theirs(["a", "a b c d"], padding=True)
    assert padded.input_ids[0][-1] == PAD_ID
    assert padded.attention_mask[0][-1] == 0


class Streamed:
    """Texts that are never all there, but can be gone through again."""

    def __iter__(self):
        return (text for text in TEXTS)


def test_texts_may_be_streamed(monkeypatch):
    # Newlines and combining marks where blocks begin and end.
    texts = [*TEXTS, "a\n", "\n" * 9, "\nb\n\n", "\u0301c", "e", "\u0301"] * 3
    few = 290  # room for 15 characters, the newline just among them
    whole = Tokenizer.train(texts, few)
    assert "\\n" in whole.pieces(whole.encode("\n"))
    monkeypatch.setattr("utils.tokenizer.TEXTS_PER_BLOCK", 2)
    assert Tokenizer.train(texts, few).to_json() == whole.to_json()
    streamed = Tokenizer.train(Streamed(), vocab_size=500)
    assert streamed.to_json() == Tokenizer.train(TEXTS, vocab_size=500).to_json()


def test_texts_that_can_be_gone_through_only_once_are_refused():
    with pytest.raises(TypeError, match="two passes"):
        Tokenizer.train(iter(TEXTS), vocab_size=500)


def test_characters_are_counted_as_the_trainer_sees_them():
    # Before each text comes a space, also where texts have none: it must not be the one left out.
    texts = [chr(0xAC00 + n) for n in range(30)] * 2
    tokenizer = Tokenizer.train(texts, vocab_size=300)  # room for 20 characters
    assert tokenizer.pieces(tokenizer.encode(texts[0]))[0][0] == "▁"
    with_newlines = Tokenizer.train(["a\nb"] * 30 + [f"{chr(0xAC00 + n)}" for n in range(60)], 300)
    assert "\\n" in with_newlines.pieces(with_newlines.encode("a\nb"))


def test_same_texts_same_vocabulary():
    one, two = (Tokenizer.train(TEXTS, vocab_size=400).to_json() for _ in range(2))
    assert one == two


def test_the_vocabulary_is_the_same_in_every_process():
    # More characters of one frequency than there is room for.
    code = (
        "from utils.tokenizer import Tokenizer\n"
        "texts = ['학생은 책을 샀어요', 'The quick brown fox', '하늘이 맑아요']\n"
        "print(hash(Tokenizer.train(texts, 290).to_json()))"
    )
    vocabularies = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": "0"},
        ).stdout
        for _ in range(4)
    }  # fmt: skip
    assert len(vocabularies) == 1
