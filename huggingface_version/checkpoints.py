"""The Trainer's checkpoint folders: which are whole, and what they need besides to go on from."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers.trainer_pt_utils import safe_globals
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import SAFE_WEIGHTS_NAME

from utils import checkpoint, disk, distributed
from utils.checkpoint import CheckpointError
from utils.progress import Progress
from utils.results import log

TRACKING = "tracking.pt"
RECORD = "run.json"  # written last: a folder without it is not whole
UNPICKLED = ("optimizer", "scheduler", "rng_state", "scaler")  # beginnings of files' names


class Saved(NamedTuple):
    """A whole checkpoint folder.

    Attributes:
        folder: the Trainer's ``checkpoint-N``.
        config: `Settings.flat` of the run.
        fingerprint: of its dataset.
        progress: how far it had come.
        world_size: processes that trained together.
        tracking: state of the `utils.tracking.Tracker`.
    """

    folder: Path
    config: dict[str, Any]
    fingerprint: str
    progress: Progress
    world_size: int
    tracking: dict[str, Any]


def folder_of(checkpoints: Path, step: int) -> Path:
    """Where the Trainer writes its checkpoint after ``step``."""
    return checkpoints / f"{PREFIX_CHECKPOINT_DIR}-{step}"


@contextmanager
def being_written(folder: Path) -> Iterator[None]:
    """While entered, files are written into a checkpoint folder; if one fails, all of it goes.

    Raises:
        WriteError: the disk is full or cannot be written.
    """
    try:
        with disk.writing(folder):
            yield
    except disk.WriteError:
        with disk.writing(folder):
            drop(folder)
        raise


def complete(
    folder: Path,
    config: dict[str, Any],
    fingerprint: str,
    progress: Progress,
    tracking: dict[str, Any],
) -> None:
    """Add what is missing to a checkpoint folder that the Trainer has just written.

    Raises:
        WriteError: the disk is full or cannot be written.
    """
    with being_written(folder):
        checkpoint.save(folder / TRACKING, tracking)
        files = sorted(folder.iterdir())
        for file in files:
            disk.sync(file)
        content = {
            "config": config,
            "fingerprint": fingerprint,
            "progress": dataclasses.asdict(progress),
            "world_size": distributed.world_size(),
            "files": {file.name: _digest(file) for file in files},
        }
        disk.replace_text(folder / RECORD, json.dumps(content, ensure_ascii=False, indent=2))


def by_step(checkpoints: Path) -> list[Path]:
    """The folders ``checkpoint-N``, by N."""
    folders = checkpoints.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    return sorted((f for f in folders if f.name.rpartition("-")[2].isdecimal()), key=step_of)


def step_of(folder: Path) -> int:
    """The optimizer steps made when the folder was written."""
    return int(folder.name.rpartition("-")[2])


def drop_all_but(checkpoints: Path, kept: Set[Path | None]) -> None:
    """Delete the other folders ``checkpoint-N``."""
    for folder in by_step(checkpoints):
        if folder not in kept:
            drop(folder)


def drop_unfinished(checkpoints: Path) -> None:
    """Delete the folders that a process which was killed left half written or half deleted."""
    for folder in by_step(checkpoints):
        if not (folder / RECORD).exists():
            drop(folder)


def drop(folder: Path) -> None:
    """Delete a checkpoint folder. From the first moment on it no longer counts as whole."""
    if folder.is_dir():
        disk.drop(folder / RECORD)
    disk.drop(folder)


def newest_intact(checkpoints: Path) -> Saved | None:
    """The newest whole checkpoint; what is not whole is named in the log."""
    for folder in reversed(by_step(checkpoints)):
        try:
            return _load(folder)
        except CheckpointError as error:
            log.warning("Passed over: %s", error)
    return None


def weights(folder: Path) -> dict[str, Tensor]:
    """The model's weights in a checkpoint folder.

    Raises:
        CheckpointError: they are missing or damaged.
    """
    try:
        return load_file(folder / SAFE_WEIGHTS_NAME)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder / SAFE_WEIGHTS_NAME}: cannot be read ({error})") from error


def _load(folder: Path) -> Saved:
    """Check every file of a checkpoint folder. No code from it is run.

    Raises:
        CheckpointError: one is missing, damaged, or was put there by someone else.
    """
    if not (folder / RECORD).exists():
        raise CheckpointError(f"{folder}: was never written to its end")
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        for name, digest in record["files"].items():
            if _digest(folder / name) != digest:
                raise CheckpointError(f"{folder}: {name} is not what was written")
        _refuse_code(folder, record["files"])
        return Saved(
            folder,
            record["config"],
            record["fingerprint"],
            Progress(**record["progress"]),
            record["world_size"],
            checkpoint.load(folder / TRACKING),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder}: not an intact checkpoint ({error})") from error


def _refuse_code(folder: Path, names: Iterable[str]) -> None:
    """Read the files that the Trainer will unpickle, as it does: tensors and plain values only.

    Raises:
        CheckpointError: there is something else in one.
    """
    with safe_globals():
        for name in names:
            if name.startswith(UNPICKLED):
                checkpoint.unpickled(folder / name)


def _digest(file: Path) -> str:
    """A checksum of a file."""
    digest = hashlib.blake2b(digest_size=16)
    with open(file, "rb") as opened:
        while part := opened.read(2**20):
            digest.update(part)
    return digest.hexdigest()
