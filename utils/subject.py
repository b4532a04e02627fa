"""A trained model that is looked into, whatever its implementation, and sentences for it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import nn

from utils.batching import Batch, collate
from utils.capture import Inside
from utils.operations import Variant
from utils.tokenizer import BOS_ID, NEVER_GENERATED, PAD_ID


class Vocabulary(Protocol):
    """What is asked of a tokenizer; `utils.tokenizer.Tokenizer` is one."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a source, ended by </s>."""

    def encode_target(self, text: str) -> list[int]:
        """Token ids of a target, ended by </s>."""

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Each token as it is shown to a reader."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A trained model and what is needed to look into it.

    Attributes:
        name: its checkpoint, as the user knows it.
        model: in eval mode.
        inside: how to look into it.
        variant: how it differs from the paper's model.
        vocabulary: its tokenizer.
        start_id: what the decoder begins with.
        pad_id: what fills up shorter sentences.
        never_generated: tokens that a translation never has.
        step: optimizer steps that it was trained for; None if unknown.
    """

    name: str
    model: nn.Module
    inside: Inside
    variant: Variant
    vocabulary: Vocabulary
    start_id: int = BOS_ID
    pad_id: int = PAD_ID
    never_generated: Sequence[int] = NEVER_GENERATED
    step: int | None = None

    def example(self, src: str, tgt: str) -> "Example":
        """Two texts in tokens."""
        return Example(src, tgt, self.vocabulary.encode(src), self.vocabulary.encode_target(tgt))

    def batch(self, examples: Sequence["Example"]) -> Batch:
        """Examples as a batch of this model's."""
        ids = [(example.src_ids, example.tgt_ids) for example in examples]
        return collate(ids, self.start_id, self.pad_id)


class Example(NamedTuple):
    """A sentence pair in text and tokens.

    Attributes:
        src: source sentence.
        tgt: its translation, given or made.
        src_ids: with </s>.
        tgt_ids: with </s>.
    """

    src: str
    tgt: str
    src_ids: list[int]
    tgt_ids: list[int]


class Pieces(NamedTuple):
    """The tokens of a sentence pair as they are shown.

    Attributes:
        src: what the encoder reads.
        inputs: what the decoder reads, <s> first.
        tgt: what it is to predict: query j predicts token j.
    """

    src: list[str]
    inputs: list[str]
    tgt: list[str]
