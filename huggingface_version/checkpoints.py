"""The Trainer's checkpoint folders: which are whole, and what they need besides to go on from."""

import dataclasses
import json
import os
import shutil
import zipfile
from collections.abc import Set
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import SAFE_WEIGHTS_NAME

from utils import checkpoint, distributed
from utils.checkpoint import CheckpointError
from utils.progress import Progress
from utils.results import log

TRACKING = "tracking.pt"
RECORD = "run.json"  # written last: a folder without it is not whole


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


def complete(
    folder: Path,
    config: dict[str, Any],
    fingerprint: str,
    progress: Progress,
    tracking: dict[str, Any],
) -> None:
    """Add what is missing to a checkpoint folder that the Trainer has just written."""
    checkpoint.save(folder / TRACKING, tracking)
    content = {
        "config": config,
        "fingerprint": fingerprint,
        "progress": dataclasses.asdict(progress),
        "world_size": distributed.world_size(),
    }
    partial = folder / f"{RECORD}.partial"
    partial.write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")
    os.replace(partial, folder / RECORD)


def by_step(checkpoints: Path) -> list[Path]:
    """The folders ``checkpoint-N``, by N."""
    folders = checkpoints.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    return sorted(folders, key=step_of)


def step_of(folder: Path) -> int:
    """The optimizer steps made when the folder was written."""
    return int(folder.name.rpartition("-")[2])


def drop_all_but(checkpoints: Path, kept: Set[Path | None]) -> None:
    """Delete the other folders ``checkpoint-N``."""
    for folder in by_step(checkpoints):
        if folder not in kept:
            shutil.rmtree(folder)


def newest_intact(checkpoints: Path) -> Saved | None:
    """The newest whole checkpoint; what is not whole is named in the log."""
    for folder in reversed(by_step(checkpoints)):
        try:
            return _load(folder)
        except CheckpointError as error:
            log.warning("Passed over: %s", error)
    return None


def weights(folder: Path) -> dict[str, Tensor]:
    """The model's weights in a checkpoint folder."""
    return load_file(folder / SAFE_WEIGHTS_NAME)


def _load(folder: Path) -> Saved:
    """Check every file of a checkpoint folder. No code from it is run.

    Raises:
        CheckpointError: one is missing or damaged.
    """
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        json.loads((folder / "trainer_state.json").read_text("utf-8"))
        load_file(folder / SAFE_WEIGHTS_NAME)
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
            if not (folder / name).exists() and name.startswith("rng"):
                name = "rng_state_0.pth"  # of several processes
            with zipfile.ZipFile(folder / name) as archive:
                if broken := archive.testzip():
                    raise CheckpointError(f"{folder / name}: {broken} is damaged")
        return Saved(
            folder,
            record["config"],
            record["fingerprint"],
            Progress(**record["progress"]),
            record["world_size"],
            checkpoint.load(folder / TRACKING),
        )
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, SafetensorError) as error:
        raise CheckpointError(f"{folder}: not an intact checkpoint ({error})") from error
