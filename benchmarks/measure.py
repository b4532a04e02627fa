"""Measuring side by side, and writing down what came out."""

import datetime
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from utils.environment import describe_environment

# What makes one round of a contender, and returns its figure: a speed, or seconds.
Contender = Callable[[], float]
Figures = Mapping[str, Sequence[float]]  # contender -> one figure a round


def interleaved(contenders: Mapping[str, Contender], num_rounds: int) -> dict[str, list[float]]:
    """Let the contenders take turns, so that a machine's slow minutes hit all of them alike.

    One round of each comes first that does not count: it fills caches and starts threads.

    Args:
        contenders: by name.
        num_rounds: rounds that count, at least 1.

    Returns:
        The figures of each contender, one a round.
    """
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(num_rounds + 1):
        for name, make_round in contenders.items():
            figure = make_round()
            if number:
                figures[name].append(figure)
            what = f"round {number} of {num_rounds}" if number else "warm-up"
            print(f"{what}: {name}: {figure:,.4g}", file=sys.stderr, flush=True)
    return figures


def times_better(figures: Figures, name: str, reference: str, higher_is_better: bool) -> float:
    """How many times better the reference is than a contender: the median over the rounds.

    Each round is compared with its own, since rounds differ more than contenders within one.

    Args:
        figures: as `interleaved` gives them.
        name: the contender.
        reference: the one it is compared with.
        higher_is_better: True for speeds, False for seconds.
    """
    pairs = zip(figures[reference], figures[name], strict=True)
    ratios = [ours / theirs if higher_is_better else theirs / ours for ours, theirs in pairs]
    return statistics.median(ratios)


def comparison_table(
    figures: Figures,
    reference: str,
    what: str,
    higher_is_better: bool = True,
    digits: int = 0,
    more: Mapping[str, Mapping[str, str]] | None = None,
    absent: Mapping[str, str] | None = None,
) -> str:
    """Median, spread and ratio of every contender, as a markdown table.

    Args:
        figures: as `interleaved` gives them.
        reference: the contender that all are compared with.
        what: the figure and its unit, e.g. "tokens/s".
        higher_is_better: True for speeds, False for seconds.
        digits: behind the point.
        more: title of each further column -> contender -> text.
        absent: contender that could not take part -> why.
    """
    columns = more or {}
    rows = []
    for name, values in figures.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        better = times_better(figures, name, reference, higher_is_better)
        spread = f"{low:,.{digits}f} - {high:,.{digits}f}"
        further = [cells[name] for cells in columns.values()]
        rows.append([name, f"{middle:,.{digits}f}", spread, f"{better:.2f} x", *further])
    header = ["", what, "min - max", f"{reference} is better by", *columns]
    rows += [[name, why, *[""] * (len(header) - 2)] for name, why in (absent or {}).items()]
    return markdown_table(header, rows)


def spread_table(figures: Figures, what: str, digits: int) -> str:
    """Lowest, median and highest figure of each, as a markdown table."""
    rows = [
        [name, *(f"{pick(values):,.{digits}f}" for pick in (min, statistics.median, max))]
        for name, values in figures.items()
    ]
    return markdown_table(["", f"{what}, min", "median", "max"], rows)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table; all columns but the first are aligned on the right."""
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))


def heading(title: str, device: torch.device) -> str:
    """A markdown heading, and the line that a figure is worth nothing without."""
    environment = describe_environment(device)
    machine = environment["device"]
    if device.type == "cpu":
        machine = f"{cpu_model()}, {machine}"
    return (
        f"## {title}\n\n{datetime.date.today()}, {machine}, PyTorch {environment['torch']}, "
        f"transformers {environment['transformers']}, commit {environment['commit'] or 'unknown'}\n"
    )


def cpu_model() -> str:
    """The processor's name, as far as the system tells."""
    table = Path("/proc/cpuinfo")
    if table.exists():
        for line in table.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
