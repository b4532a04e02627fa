"""Two finished runs of one experiment in a table: each quantity, and why it differs or does not."""

import io
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

    name: str
    pytorch: float
    huggingface: float
    form: str
    remark: str

    def cells(self) -> tuple[str, str, str]:
        """Name and values as text."""
        return self.name, f"{self.pytorch:{self.form}}", f"{self.huggingface:{self.form}}"


def quantities(summaries: Mapping[str, Mapping[str, Any]]) -> list[Quantity]:
    """The rows that compare two runs.

    Args:
        summaries: version -> its ``summary.json``, with ``parameters``, ``code_lines``,
            ``library_lines`` and ``alike`` (share in 0-1 of sentences both translate alike) added.
    """
    ours, theirs = (summaries[version] for version in VERSIONS)

    def row(name: str, group: str, key: str, form: str, remark: str) -> Quantity:
        return Quantity(name, ours[group][key], theirs[group][key], form, remark)

    dropout = ours["config"]["dropout"]
    alike = f"{ours['alike']:.0%} of the sentences are translated alike, letter for letter."
    rows = [
        row("NLL, nats per token", "metrics", "eval_nll", ".4f", _remark_on_nll(dropout)),
        row("BLEU", "metrics", "bleu", ".2f", f"The same sacreBLEU on both. {alike}"),
        row("chrF", "metrics", "chrf", ".2f", "As BLEU, on characters: kinder to Korean endings."),
        row("exact match", "metrics", "exact_match", ".1%", "Share equal to the reference."),
        row(
            "training, tokens/s", "speed", "train_tokens_per_sec", ",.0f",
            _remark_on_speed(ours, theirs),
        ),
        row(
            "decoding, sentences/s", "speed", "decode_sentences_per_sec", ",.0f",
            "The same search. Ours drops finished sentences from the batch; generate carries all "
            "to the end, and prepares more for each step.",
        ),
    ]  # fmt: skip
    if ours["speed"]["peak_memory_mb"] and theirs["speed"]["peak_memory_mb"]:
        rows.append(
            row(
                "peak memory, MiB", "speed", "peak_memory_mb", ",.0f",
                "Of the whole process, which holds PyTorch, transformers and the data in both "
                "halves; the second also holds what the first has left.",
            )
        )  # fmt: skip
    return [
        *rows,
        Quantity(
            "parameters", ours["parameters"], theirs["parameters"], ",d",
            "One model: the same matrices under other names, and one embedding for three uses.",
        ),
        Quantity(
            "lines of code", ours["code_lines"], theirs["code_lines"], ",d",
            "Of pytorch_version/ and huggingface_version/, without comments and docstrings. Ours "
            f"stands on PyTorch alone, theirs on {theirs['library_lines']:,} lines of "
            "transformers (Marian, generation, Trainer).",
        ),
    ]  # fmt: skip


def _remark_on_nll(dropout: float) -> str:
    if dropout:
        return (
            f"Same data, first weights, batches, loss and schedule; with dropout {dropout} each "
            "version draws masks of its own, so these are two runs of one experiment."
        )
    return (
        "Same data, first weights, batches, loss and schedule, no dropout: the difference is "
        "rounding, which training makes grow."
    )


def _remark_on_speed(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    ratio = (
        ours["speed"]["train_tokens_per_sec"] / theirs["speed"]["train_tokens_per_sec"]
    )  # of halves that ran one after the other
    return (
        f"Real tokens, no padding; ours does {ratio:.2f} times theirs. The same arithmetic on the "
        "same batches: what differs is the work around it, and how busy the machine was."
    )


def table(rows: Sequence[Quantity]) -> list[str]:
    """The rows as lines of text, remarks below."""
    cells = [("", "PyTorch", "Hugging Face"), *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(3)]
    lines = [
        f"  {name:<{widths[0]}}  {ours:>{widths[1]}}  {theirs:>{widths[2]}}"
        for name, ours, theirs in cells
    ]
    remarks = [f"  {row.name}: {row.remark}" for row in rows]
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
