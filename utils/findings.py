"""What a comparison of the two versions found: as JSON, in words, and whether it is a proof."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from utils import parity, side_by_side
from utils.language import text
from utils.paired import PairedTraining
from utils.parity import Row

SHOWN_TRANSLATIONS = 8  # in comparison.json
PRINTED_TRANSLATIONS = 3


class SharedSentence(NamedTuple):
    """Cross-attention of both models in one layer, on one evaluation sentence.

    Attributes:
        weights: version -> (H, T, S), one map a head, rows sum to 1.
        src_pieces: the S source tokens, the keys.
        tgt_pieces: the T target tokens; query j predicts token j.
        layer: of the decoder, from 0.
        text: the source.
    """

    weights: Mapping[str, np.ndarray]
    src_pieces: list[str]
    tgt_pieces: list[str]
    layer: int
    text: str


@dataclass(frozen=True)
class Findings:
    """All that ``results_comparison`` tells.

    Attributes:
        there: parity of the scratch model and MarianMT with its weights.
        back: parity of MarianMT and the scratch model with its weights.
        paired: the short runs.
        summaries: version -> its ``summary.json`` and more; see `side_by_side.quantities`.
        records: version -> lines of its ``metrics.jsonl``.
        translations: version -> lines of its ``translations.jsonl``.
        attention: on a sentence that both read.
        num_steps: optimizer steps of either run.
    """

    there: list[Row]
    back: list[Row]
    paired: PairedTraining
    summaries: Mapping[str, Mapping[str, Any]]
    records: Mapping[str, Sequence[Mapping[str, Any]]]
    translations: Mapping[str, Sequence[Mapping[str, str]]]
    attention: SharedSentence
    num_steps: int

    def quantities(self) -> list[side_by_side.Quantity]:
        """The table of both runs."""
        return side_by_side.quantities(self.summaries)

    def content(self) -> dict[str, Any]:
        """The content of ``comparison.json``."""
        return {
            "parity": [dataclasses.asdict(row) | {"ok": row.ok} for row in self.there],
            "parity_back": [dataclasses.asdict(row) | {"ok": row.ok} for row in self.back],
            "paired_training": self.paired.summary(),
            "metrics": {
                name: summary["metrics"] | {k: summary[k] for k in ("parameters", "code_lines")}
                for name, summary in self.summaries.items()
            },
            "speed": {name: summary["speed"] for name, summary in self.summaries.items()},
            "remarks": {row.name.text("en"): row.remark.text("en") for row in self.quantities()},
            "translated_alike": self.summaries["pytorch"]["alike"],
            "library_code_lines": self.summaries["pytorch"]["library_lines"],
            "translations": self.side_by_side_translations()[:SHOWN_TRANSLATIONS],
        }

    def side_by_side_translations(self) -> list[dict[str, str]]:
        """Both models' translations of the same sentences, those that differ first."""
        pairs = [
            {
                "src": ours["src"],
                "reference": ours["reference"],
                "pytorch": ours["hypothesis"],
                "huggingface": theirs["hypothesis"],
            }
            for ours, theirs in zip(*self.translations.values(), strict=True)
        ]
        return sorted(pairs, key=lambda pair: pair["pytorch"] == pair["huggingface"])

    def lines(self) -> list[str]:
        """The comparison in words."""
        lines = [
            "",
            text("compare.title.parity"),
            *parity.table(self.there),
            text("compare.there", verdict=parity.verdict(self.there)),
            text("compare.back", verdict=parity.verdict(self.back)),
            "",
            text("compare.title.paired", steps=str(len(self.paired.ours_fp64.losses))),
            *self.paired.lines(),
            "",
            text("compare.title.side_by_side"),
            *side_by_side.table(self.quantities()),
            "",
            text("compare.title.translations"),
        ]
        for pair in self.side_by_side_translations()[:PRINTED_TRANSLATIONS]:
            lines.append(f"  {pair['src']}")
            lines.append(f"    PyTorch       {pair['pytorch']}")
            lines.append(f"    Hugging Face  {pair['huggingface']}")
        return lines

    def failure(self) -> str | None:
        """Why the two versions are not one; None if they are."""
        for rows in (self.there, self.back):
            if point := parity.first_difference(rows):
                return f"the two versions are not one model: they first differ at {point}"
        if not self.paired.ok:
            return "the two versions train differently: see paired_training in comparison.json"
        return None
