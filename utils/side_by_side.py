"""Two finished runs of one experiment in a table: each quantity, and why it differs or does not."""

import io
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.language import Message, display_width, message, padded

VERSIONS = ("pytorch", "huggingface")
# Tokens that are no code: what is left of a file without comments, docstrings and layout.
_NO_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENCODING, tokenize.ENDMARKER,
}  # fmt: skip


@dataclass(frozen=True)
class Quantity:
    """One row of the table.

    Attributes:
        name: with the unit.
        pytorch: its value in the scratch run.
        huggingface: its value in the MarianMT run.
        form: a format specification for both.
        remark: what is the same, what differs and why.
    """

    name: Message
    pytorch: float
    huggingface: float
    form: str
    remark: Message

    def cells(self) -> tuple[str, str, str]:
        """Name and values as text."""
        return self.name.text(), *self.values()

    def values(self) -> tuple[str, str]:
        """Both values as text."""
        return f"{self.pytorch:{self.form}}", f"{self.huggingface:{self.form}}"

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for a page."""
        name, remark = self.name.as_dict(), self.remark.as_dict()
        return {"name": name, "values": self.values(), "remark": remark}


def quantities(summaries: Mapping[str, Mapping[str, Any]]) -> list[Quantity]:
    """The rows that compare two runs.

    Args:
        summaries: version -> its ``summary.json``, with ``parameters``, ``code_lines``,
            ``library_lines`` and ``alike`` (share in 0-1 of sentences both translate alike) added.
    """
    ours, theirs = (summaries[version] for version in VERSIONS)

    def row(name: str, group: str, key: str, form: str, remark: Message | None = None) -> Quantity:
        return _quantity(name, ours[group][key], theirs[group][key], form, remark)

    rows = [
        row("nll", "metrics", "eval_nll", ".4f", _remark_on_nll(ours["config"]["dropout"])),
        row("bleu", "metrics", "bleu", ".2f",
            message("compare.remark.bleu", alike=f"{ours['alike']:.0%}")),
        row("chrf", "metrics", "chrf", ".2f"),
        row("match", "metrics", "exact_match", ".1%"),
        row("training", "speed", "train_tokens_per_sec", ",.0f", _remark_on_speed(ours, theirs)),
        row("decoding", "speed", "decode_sentences_per_sec", ",.0f"),
    ]  # fmt: skip
    if ours["speed"]["peak_memory_mb"] and theirs["speed"]["peak_memory_mb"]:
        rows.append(row("memory", "speed", "peak_memory_mb", ",.0f"))
    library = message("compare.remark.code", library=f"{theirs['library_lines']:,}")
    return [
        *rows,
        _quantity("parameters", ours["parameters"], theirs["parameters"], ",d"),
        _quantity("code", ours["code_lines"], theirs["code_lines"], ",d", library),
    ]


def _quantity(
    name: str, pytorch: float, huggingface: float, form: str, remark: Message | None = None
) -> Quantity:
    """A row, with the remark of its own name unless another is given."""
    return Quantity(
        name=message(f"compare.quantity.{name}"),
        pytorch=pytorch,
        huggingface=huggingface,
        form=form,
        remark=remark or message(f"compare.remark.{name}"),
    )


def _remark_on_nll(dropout: float) -> Message:
    if dropout:
        return message("compare.remark.nll_with_dropout", dropout=str(dropout))
    return message("compare.remark.nll_without_dropout")


def _remark_on_speed(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Message:
    ratio = (
        ours["speed"]["train_tokens_per_sec"] / theirs["speed"]["train_tokens_per_sec"]
    )  # of halves that ran one after the other
    return message("compare.remark.training", ratio=f"{ratio:.2f}")


def table(rows: Sequence[Quantity]) -> list[str]:
    """The rows as lines of text, remarks below."""
    cells = [("", "PyTorch", "Hugging Face"), *(row.cells() for row in rows)]
    widths = [max(display_width(line[column]) for line in cells) for column in range(3)]
    lines = [
        f"  {padded(name, widths[0])}  {ours:>{widths[1]}}  {theirs:>{widths[2]}}"
        for name, ours, theirs in cells
    ]
    remarks = [f"  {row.name.text()}: {row.remark.text()}" for row in rows]
    return [*lines, "", *remarks]


def share_alike(one: Sequence[str], two: Sequence[str]) -> float:
    """Share in 0-1 of equal entries."""
    return sum(a == b for a, b in zip(one, two, strict=True)) / len(one)


def code_lines(files: Sequence[Path]) -> int:
    """Lines that hold code: no blank ones, comments or docstrings."""
    return sum(_code_lines(file.read_text("utf-8")) for file in files)


def _code_lines(source: str) -> int:
    lines: set[int] = set()
    statement: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NEWLINE:
            docstring = all(part.type == tokenize.STRING for part in statement)
            if not docstring:
                for part in statement:
                    lines.update(range(part.start[0], part.end[0] + 1))
            statement = []
        elif token.type not in _NO_CODE:
            statement.append(token)
    return len(lines)
