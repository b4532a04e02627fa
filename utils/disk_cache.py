"""Folders of what is costly to make: made once, whole or not at all, and found again by name.

They lie beside what `datasets` keeps, so ``HF_DATASETS_CACHE`` and ``HF_HOME`` move them. A folder
is made under another name and renamed when it is finished, so that what has its name is whole.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from utils.config import UserError
from utils.results import log

ABOUT = "about.json"
UNFINISHED = ".unfinished"


def cache_root() -> Path:
    """The folder that holds all of ours, in the cache of `datasets`."""
    import datasets

    return Path(datasets.config.HF_DATASETS_CACHE).expanduser() / "transformer_tutorial"


def digest(*parts: Any) -> str:
    """16 hexadecimal digits that change with any of ``parts``, which are plain values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def code_digest(modules: Iterable[str]) -> str:
    """A digest of the code of some modules of `utils`, by their names."""
    folder = Path(__file__).parent
    return digest([(folder / f"{name}.py").read_text("utf-8") for name in modules])


def made_once(folder: Path, make: Callable[[Path], dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """Make a folder, unless it is there and whole; other runs that want it too wait meanwhile.

    Args:
        folder: its name must change with all that its content depends on.
        make: writes files into the folder it is given, which has another name; returns plain
            values to be kept with them.

    Returns:
        What ``make`` returned, now or then; and whether it was now.

    Raises:
        UserError: nothing can be written there.
        OSError: the disk is full; nothing is left of the attempt.
    """
    about = _about_if_whole(folder)
    if about is not None:
        return about, False
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _lock_file(folder).touch()
    except OSError as error:
        raise UserError(
            f"{folder.parent}, where a large dataset is kept, cannot be written "
            f"({error.strerror}); set HF_DATASETS_CACHE to another folder"
        ) from error
    with _locked(folder):
        about = _about_if_whole(folder)  # of a run that has been waited for
        if about is not None:
            return about, False
        if folder.exists():
            log.warning(f"Note: {folder} is damaged; making it anew")
            shutil.rmtree(folder)
        _remove_leftovers(folder)
        return _make(folder, make), True


def _make(folder: Path, make: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    unfinished = folder.with_name(folder.name + UNFINISHED)
    unfinished.mkdir()
    try:
        about = make(unfinished)
        sizes = {file.name: file.stat().st_size for file in unfinished.iterdir()}
        content = json.dumps({"content": about, "bytes": sizes}, indent=2)
        (unfinished / ABOUT).write_text(content, "utf-8")
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return about


def _about_if_whole(folder: Path) -> dict[str, Any] | None:
    """What was kept with the folder's files; None unless all are there, as long as they were."""
    try:
        about = json.loads((folder / ABOUT).read_text("utf-8"))
        sizes = {name: (folder / name).stat().st_size for name in about["bytes"]}
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return about["content"] if sizes == about["bytes"] else None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """While entered, no other run makes ``folder``; a run that dies lets go of it."""
    from filelock import Timeout

    lock = _lock_of(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("Another run is preparing the same data: waiting for it ...")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _lock_of(folder: Path) -> Any:
    from filelock import FileLock

    return FileLock(_lock_file(folder))


def _lock_file(folder: Path) -> Path:
    return folder.with_name(folder.name + ".lock")


def _remove_leftovers(folder: Path) -> None:
    """Remove unfinished folders beside ``folder``, which is locked, whose runs have died."""
    from filelock import Timeout

    for leftover in folder.parent.glob(f"*{UNFINISHED}"):
        if leftover.stem == folder.name:
            shutil.rmtree(leftover)
            continue
        try:
            with _lock_of(leftover.with_suffix("")).acquire(timeout=0):
                shutil.rmtree(leftover, ignore_errors=True)  # it may have been finished just now
        except Timeout:
            continue  # its run is alive
