"""Checkpoints: tensors and plain values only, written so that a half-written one never appears."""

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils import disk
from utils.formats import first_line
from utils.results import RunFailed, free_name, log

FORMAT = "transformer-tutorial checkpoint 1"
SAVE_EVERY = 500  # steps between two states saved within an epoch, of either version
LONGEST_REASON = 100  # characters of what torch says of a file


class CheckpointError(RunFailed):
    """A file is no intact checkpoint of this project; the message names it and says why."""


def save(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` to ``path``, whole or not at all; see `utils.disk.replacing`.

    Raises:
        WriteError: the disk is full or cannot be written; an earlier file at ``path`` is untouched.
    """
    if path.is_dir():  # nothing of ours
        path.rename(free_name(path))
    with disk.replacing(path) as file:
        torch.save({"format": FORMAT} | content, file)


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint. No code from the file is run.

    Raises:
        CheckpointError: missing, truncated, or not written by `save`.
    """
    content = unpickled(path, device)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of this project")
    return content


def unpickled(path: Path, device: torch.device | str = "cpu") -> Any:
    """What is in a file that ``torch.save`` wrote: tensors and plain values; no code is run.

    Raises:
        CheckpointError: missing, truncated, or with something else in it.
    """
    try:
        with warnings.catch_warnings():  # of foreign files; what is wrong is raised
            warnings.simplefilter("ignore")
            return torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except Exception as error:  # torch raises many types for a damaged or foreign file
        raise CheckpointError(
            f"{path}: not an intact checkpoint ({first_line(error)[:LONGEST_REASON]})"
        ) from error


def by_epoch(folder: Path) -> list[Path]:
    """The files ``checkpoint_epoch_N.pt`` of a folder, by N."""
    numbered = {_number(file): file for file in folder.glob("checkpoint_epoch_*.pt")}
    return [numbered[number] for number in sorted(numbered.keys() - {None})]


def _number(file: Path) -> int | None:
    number = file.stem.rpartition("_")[2]
    return int(number) if number.isdecimal() else None


def drop_old(folder: Path, kept: int) -> None:
    """Delete the files ``checkpoint_epoch_N.pt`` of a folder but for the newest ``kept``."""
    for old in by_epoch(folder)[:-kept]:
        old.unlink()


def newest_intact(folder: Path) -> dict[str, Any] | None:
    """The checkpoint with the most steps among those that hold training state.

    What cannot be read is named in the log. None if nothing is left.
    """
    found = []
    for file in [*by_epoch(folder), *folder.glob("last.pt")]:
        try:
            content = load(file)
            if "training" not in content:
                raise CheckpointError(f"{file}: holds a model, but no state of its training")
            found.append(content)
        except CheckpointError as error:
            log.warning("Passed over: %s", error)
    return max(found, key=lambda content: content["step"], default=None)


def mean(states: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several state dicts (section 6.1), in their own precision.

    The paper averages checkpoints written ten minutes apart; here they are those of whole epochs.
    """
    sums: dict[str, Tensor] = {}
    count = 0
    for state in states:
        count += 1
        dtypes = {name: weight.dtype for name, weight in state.items()}
        for name, weight in state.items():
            sums[name] = sums.get(name, 0) + weight.double()
    return {name: (total / count).to(dtypes[name]) for name, total in sums.items()}
