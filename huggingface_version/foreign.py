"""MarianMT models of other people: loading, their vocabulary, translating."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from transformers import AutoConfig, AutoTokenizer, MarianMTModel, PreTrainedTokenizerBase

from huggingface_version import model
from utils.config import UserError
from utils.decoding import ROWS_AT_ONCE
from utils.formats import first_line

LONGEST_REASON = 120  # characters


def load_any(name: str, device: torch.device | str) -> MarianMTModel:
    """Load a MarianMT model from a folder or the hub, in eval mode.

    Raises:
        UserError: there is none of that name, or it is another kind of model.
    """
    model.silence_progress_bars()
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        what = "folder" if Path(name).exists() else "folder, file or model on the hub"
        raise UserError(
            f"--checkpoint {name}: no MarianMT {what} that can be read here ({_reason(error)})"
        ) from error
    if config.model_type != "marian":
        raise UserError(
            f"--checkpoint {name}: a {config.model_type} model; name a MarianMT model or a .pt file"
        )
    try:
        return model.load(name, device)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"--checkpoint {name}: its weights cannot be read ({_reason(error)})"
        ) from error


def _reason(error: Exception) -> str:
    """What an error of transformers says, as part of one line."""
    return first_line(error)[:LONGEST_REASON]


class ForeignVocabulary:
    """A tokenizer of transformers, asked as `utils.tokenizer.Tokenizer` is.

    Args:
        tokenizer: of a MarianMT model.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, name: str) -> "ForeignVocabulary":
        """Load the tokenizer of a model.

        Raises:
            UserError: it cannot be read here.
        """
        try:
            return cls(AutoTokenizer.from_pretrained(name))
        except (OSError, ValueError, ImportError) as error:
            raise UserError(
                f"--checkpoint {name}: its tokenizer cannot be read ({_reason(error)}); Marian's "
                "own need the package sentencepiece: pip install sentencepiece"
            ) from error

    def encode(self, text: str) -> list[int]:
        """Token ids of a source, ended by </s>."""
        return self._tokenizer(text)["input_ids"]

    def encode_target(self, text: str) -> list[int]:
        """Token ids of a target, ended by </s>."""
        return self._tokenizer(text_target=text)["input_ids"]

    def decode(self, ids: Iterable[int]) -> str:
        """The text that ``ids`` spell; special tokens are left out."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Each token as it is shown to a reader."""
        tokens = self._tokenizer.convert_ids_to_tokens(list(ids))
        return ["<none>" if token is None else token for token in tokens]


def translate(
    marian: MarianMTModel, vocabulary: ForeignVocabulary, sentences: Sequence[str]
) -> list[str]:
    """Translate as the model's own ``generation_config`` says."""
    pad_id, translations = marian.config.pad_token_id, []
    per_batch = max(1, ROWS_AT_ONCE // (marian.generation_config.num_beams or 1))
    for start in range(0, len(sentences), per_batch):
        rows = [vocabulary.encode(text) for text in sentences[start : start + per_batch]]
        longest = max(map(len, rows))
        src_ids = torch.tensor([row + [pad_id] * (longest - len(row)) for row in rows])
        is_real = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        found = marian.generate(
            input_ids=src_ids.to(marian.device), attention_mask=is_real.to(marian.device)
        )
        translations += [vocabulary.decode(row) for row in found.tolist()]
    return translations
