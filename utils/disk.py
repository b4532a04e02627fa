"""Writing to disk: a file is there whole or not at all, and what goes wrong names the file."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PARTIAL = ".partial"  # behind the name of what is being written

# What is wrong, and what the user can do about it.
PROBLEMS = {
    errno.ENOSPC: ("the disk is full", "make room"),
    errno.EDQUOT: ("the disk quota is used up", "make room"),
    errno.EFBIG: ("the file would be larger than is allowed here", "raise the limit"),
    errno.EROFS: ("the disk is read-only", "make it writable"),
    errno.EACCES: ("permission was denied", "give permission to write"),
    errno.EPERM: ("permission was denied", "give permission to write"),
    errno.EIO: ("the disk failed", "look into it"),
    errno.EPIPE: ("nobody reads on", "let it be read to the end"),
}
# Of these an error is about writing, whoever raised it.
ONLY_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EPIPE)


class WriteError(OSError):
    """Something could not be written; ``errno`` says why and ``filename`` what."""


@contextmanager
def writing(what: Path | str) -> Iterator[None]:
    """While entered, ``what`` is written, by whoever; an error names it.

    Raises:
        WriteError: it could not be written. Other errors are left as they are.
    """
    try:
        yield
    except WriteError:  # says what already
        raise
    except Exception as error:  # libraries not written in Python have types of their own
        if (code := _error_number(error, what)) is None:
            raise
        raise WriteError(code, os.strerror(code), str(what)) from error


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of ``path`` at the end by one atomic rename.

    If anything goes wrong, an earlier file at ``path`` is untouched and nothing else is left.

    Raises:
        WriteError: it could not be written.
    """
    partial = path.with_name(path.name + PARTIAL)
    with writing(path):
        try:
            with open(partial, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """An empty folder to write files into, which replace those of ``folder`` at the end.

    If anything goes wrong before, the files of ``folder`` are untouched and nothing else is left.

    Raises:
        WriteError: one could not be written.
    """
    partial = folder / f"files{PARTIAL}"
    with writing(folder):
        try:
            drop(partial)
            partial.mkdir(parents=True)
            yield partial
            for path in sorted(partial.iterdir()):
                sync(path)
                os.replace(path, folder / path.name)
        finally:
            drop(partial)


def sync(path: Path) -> None:
    """Return once a file is on the disk, not only on its way there."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def replace_text(path: Path, text: str) -> None:
    """Write ``text`` as the file ``path``; see `replacing`."""
    with replacing(path) as file:
        file.write(text.encode())


def drop(path: Path) -> None:
    """Delete a file, or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def drop_partial(folder: Path) -> None:
    """Delete what a process that was killed had begun to write anywhere below ``folder``."""
    for path in list(folder.rglob(f"*{PARTIAL}")):
        drop(path)


def problem(error: OSError) -> str | None:
    """What kept something from being written, and what to do; None for errors of other kinds."""
    if not isinstance(error, WriteError) and error.errno not in ONLY_OF_WRITING:
        return None
    what, remedy = PROBLEMS.get(error.errno, (error.strerror, "see to it"))
    place = f" (writing {error.filename})" if error.filename else ""
    return f"{what}{place}; {remedy}"


def _error_number(error: Exception, what: Path | str) -> int | None:
    """Why ``what`` could not be written; None if that is not what the error is about."""
    if isinstance(error, OSError):
        return error.errno
    for code in PROBLEMS:  # from Rust: "I/O error: No space left on device (os error 28)"
        if os.strerror(code) in str(error):
            return code
    if "inline_container" not in str(error):
        return None
    # PyTorch has written less than it meant to and does not say why.
    if isinstance(error.__context__, OSError):
        return error.__context__.errno
    return _found_out(Path(what))


def _found_out(place: Path) -> int:
    """The number of the error that writing beside or into ``place`` gives."""
    try:
        with tempfile.TemporaryFile(dir=place if place.is_dir() else place.parent) as file:
            file.write(bytes(2**20))
    except OSError as error:
        return error.errno
    return errno.EIO
