"""One subword vocabulary for both languages: byte-safe byte-pair encoding.

As in the paper (section 5.1), whose vocabulary for English and German has 37,000 entries.
Pieces are strings of characters, never halves of one, so that they can be read in a figure. A
character that the vocabulary lacks is spelled with its UTF-8 bytes. Nothing is lost: decoding what
was encoded gives the text back, in Unicode's composed form (NFC).
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as RustTokenizer

from utils.blocks import blocks_of

PAD_ID, BOS_ID, EOS_ID, UNK_ID = range(4)
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>")  # in the order of their ids
NEVER_GENERATED = (PAD_ID, BOS_ID)

TEXTS_PER_BLOCK = 10_000  # whose characters are counted at once

BYTE_PIECES = tuple(f"<0x{byte:02X}>" for byte in range(256))

# Words with the space before them, numbers, punctuation, and runs of spaces stay apart. Angle
# brackets are thereby never joined with letters, so no text can spell a special token or a byte.
_SPLIT = r" ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"


class Tokenizer:
    """Text to token ids and back.

    Args:
        rust: the underlying tokenizer of the `tokenizers` library.
    """

    def __init__(self, rust: RustTokenizer) -> None:
        # Special tokens are added by id only: their spelling in a text is ordinary text.
        rust.encode_special_tokens = True
        self._rust = rust
        self.vocab_size = rust.get_vocab_size()

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Learn the vocabulary from ``texts``, which must be of the training split alone.

        Args:
            texts: sentences of both languages; gone through twice, and never all held.
            vocab_size: entries at most, the 4 special tokens and 256 bytes among them.

        Raises:
            TypeError: ``texts`` can be gone through only once.
        """
        if isinstance(texts, Iterator):
            raise TypeError("the vocabulary is learnt in two passes; give a list of texts")
        rust = RustTokenizer(models.BPE())
        rust.normalizer = _NORMALIZER
        rust.pre_tokenizer = _PRE_TOKENIZER
        fixed = len(SPECIAL_TOKENS) + len(BYTE_PIECES)
        # Single characters take at most half of what is left; rarer ones become bytes.
        most_characters = max(1, (vocab_size - fixed) // 2)
        rust.train_from_iterator(
            texts,
            trainers.BpeTrainer(
                vocab_size=vocab_size,
                special_tokens=[*SPECIAL_TOKENS, *BYTE_PIECES],
                initial_alphabet=_most_frequent_characters(texts, most_characters),
                limit_alphabet=most_characters,
                show_progress=False,
            ),
        )
        learnt = json.loads(rust.to_str())["model"]
        merges = [tuple(pair) for pair in learnt["merges"]]
        return cls._assemble(learnt["vocab"], merges)

    @classmethod
    def _assemble(cls, vocab: dict[str, int], merges: list[tuple[str, str]]) -> "Tokenizer":
        """Build anew: the trainer knows bytes only as special tokens, which decoding drops."""
        rust = RustTokenizer(
            models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True)
        )
        rust.add_special_tokens(list(SPECIAL_TOKENS))
        rust.normalizer = _NORMALIZER
        rust.pre_tokenizer = _PRE_TOKENIZER
        rust.post_processor = processors.TemplateProcessing(
            single="$A </s>", pair="$A $B </s>", special_tokens=[("</s>", EOS_ID)]
        )
        rust.decoder = decoders.Sequence(
            [decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        return cls(rust)

    @classmethod
    def from_json(cls, text: str) -> "Tokenizer":
        """Rebuild from what `to_json` gave."""
        return cls(RustTokenizer.from_str(text))

    @classmethod
    def from_folder(cls, folder: Path) -> "Tokenizer | None":
        """Rebuild from a folder that `save` wrote; None if its tokenizer is no such one."""
        file = folder / "tokenizer.json"
        if not file.exists():
            return None
        rust = RustTokenizer.from_file(str(file))
        ids = [rust.token_to_id(token) for token in SPECIAL_TOKENS]
        if ids != [PAD_ID, BOS_ID, EOS_ID, UNK_ID] or rust.token_to_id(BYTE_PIECES[0]) is None:
            return None
        return cls(rust)

    def to_json(self) -> str:
        """The whole tokenizer as the text of a ``tokenizer.json``."""
        return self._rust.to_str()

    def encode(self, text: str) -> list[int]:
        """Token ids of ``text``, ended by </s>."""
        return self._rust.encode(text).ids

    def encode_target(self, text: str) -> list[int]:
        """The same as `encode`: the vocabulary is joint."""
        return self.encode(text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many texts, in parallel."""
        return [encoding.ids for encoding in self._rust.encode_batch_fast(texts)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text that ``ids`` spell; special tokens are left out."""
        return self._rust.decode(list(ids), skip_special_tokens=True)

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Each token as it is shown to a reader; a leading space becomes ``▁``."""
        return [_visible(self._rust.id_to_token(i)) for i in ids]

    def to_huggingface(self, max_length: int):
        """The same tokenizer as transformers' ``PreTrainedTokenizerFast``.

        Args:
            max_length: longest sentence in tokens, stored as ``model_max_length``.
        """
        from transformers import PreTrainedTokenizerFast

        pad, bos, eos, unk = SPECIAL_TOKENS
        return PreTrainedTokenizerFast(
            tokenizer_object=RustTokenizer.from_str(self.to_json()),
            pad_token=pad,
            bos_token=bos,
            eos_token=eos,
            unk_token=unk,
            model_max_length=max_length,
            padding_side="right",
            split_special_tokens=True,
            clean_up_tokenization_spaces=False,
            model_input_names=["input_ids", "attention_mask"],
        )

    def save(self, folder: Path, max_length: int) -> None:
        """Write the files that ``AutoTokenizer.from_pretrained(folder)`` reads."""
        self.to_huggingface(max_length).save_pretrained(folder)


def _most_frequent_characters(texts: Iterable[str], count: int) -> list[str]:
    """The ``count`` characters to keep, by frequency and then by code point; all if fewer.

    Left to itself the trainer chooses among equally frequent ones differently in each process.
    """
    frequencies: Counter[str] = Counter()
    for block in blocks_of(texts, TEXTS_PER_BLOCK):
        frequencies.update(_COMPOSED.normalize_str("\n".join(block)))
        frequencies.subtract({"\n": len(block) - 1})
        frequencies[" "] += len(block)  # the normaliser puts one before each text
    kept = sorted(frequencies, key=lambda c: (-frequencies[c], c))[:count]
    return [character for character in kept if frequencies[character] > 0]


# A space is put before every text, so that a word is the same piece wherever it stands.
_COMPOSED = normalizers.NFC()
_NORMALIZER = normalizers.Sequence([_COMPOSED, normalizers.Prepend(" ")])
_PRE_TOKENIZER = pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated")


def _visible(piece: str) -> str:
    """A piece with its leading space as ``▁`` and its control characters as escapes."""
    piece = re.sub("^ ", "▁", piece)
    return "".join(c if c.isprintable() or c == " " else repr(c)[1:-1] for c in piece)
