"""The folder a run writes to, in the same formats for every version."""

import errno
import json
import logging
import math
import sys
import tempfile
import time
from collections.abc import Iterable, Set
from pathlib import Path
from typing import Any

from utils import disk, distributed
from utils.config import UserError

log = logging.getLogger("transformer_tutorial")
PAGE = "report.html"
SUMMARY = "summary.json"  # written last: a run without it has not come to its end
TRANSLATIONS = "logs/translations.jsonl"  # of all evaluation sentences, by the best model
DPI = 150  # at which figures are saved
RESULT = 25  # log level of what --quiet still shows; between info and warning


class RunFailed(RuntimeError):
    """A run cannot go on; the message says where, why, and what to do."""


class ProcessLost(RunFailed):
    """One of the processes that train together has ended before the others."""


def check_writable(output_dir: Path) -> None:
    """Make sure that results can be written, before any long work.

    Raises:
        UserError: the folder cannot be made or written.
        WriteError: the disk is full.
    """
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output_dir) as file:
            file.write(b"x")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk.WriteError(error.errno, error.strerror, str(output_dir)) from error
        raise UserError(
            f"--output_dir {output_dir} cannot be written ({error.strerror}); name another folder"
        ) from error


class ResultsFolder:
    """One ``results_*`` folder: its log, metrics, figures and summary.

    Args:
        path: the folder; see `of` and `create`.

    Attributes:
        path: the folder.
        checkpoints: where ``.pt`` files go.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._metrics = path / "logs" / "metrics.jsonl"
        self._manifest = path / "visualizations" / "manifest.json"

    @classmethod
    def of(cls, output_dir: Path | str, version: str) -> "ResultsFolder":
        """Where ``version``, e.g. ``pytorch``, writes below ``output_dir``; nothing is made."""
        return cls(Path(output_dir) / f"results_{version}")

    @classmethod
    def create(cls, output_dir: Path, version: str, keep: bool = False) -> "ResultsFolder":
        """Make an empty folder; results of an earlier run are moved aside, never overwritten.

        Args:
            output_dir: where ``results_*`` folders go.
            version: e.g. ``pytorch``.
            keep: True goes on in the folder that is there. It is unfinished from now on, and what
                a process that was killed had begun to write is deleted.

        Raises:
            WriteError: the folder cannot be made.
        """
        folder = cls.of(output_dir, version)
        with disk.writing(folder.path):
            if keep:
                disk.drop(folder.path / SUMMARY)
                disk.drop_partial(folder.path)
            else:
                folder.move_aside()
            for part in ("logs", "visualizations"):
                (folder.path / part).mkdir(parents=True, exist_ok=True)
        folder._open_log()
        return folder

    def _open_log(self) -> None:
        """Let the log go to ``logs/train.log`` too."""
        for handler in [h for h in log.handlers if isinstance(h, logging.FileHandler)]:
            log.removeHandler(handler)  # of the folder before, where a command writes several
            handler.close()
        path = self.path / "logs" / "train.log"
        with disk.writing(path):
            handler = _FileHandler(path)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)

    def move_aside(self) -> None:
        """Give the folder another name, if it exists, so that nothing in it is overwritten."""
        if self.path.exists():
            aside = free_name(self.path)
            self.path.rename(aside)
            log.info("Earlier results moved to %s", aside)

    def append_metrics(self, records: Iterable[dict[str, Any]]) -> None:
        """Add lines to ``logs/metrics.jsonl``.

        Raises:
            WriteError: they could not be written; `drop_metrics_after` cuts what is left of them.
        """
        lines = "".join(_line(record) for record in records)
        with disk.writing(self._metrics), open(self._metrics, "ab") as file:
            file.write(lines.encode())

    def read_metrics(self, *kinds: str) -> list[dict[str, Any]]:
        """The lines of ``logs/metrics.jsonl`` so far: of these kinds, or all.

        A last line without its end is left out: it is being written, or its run was killed.
        """
        if not self._metrics.exists():
            return []
        whole_lines = self._metrics.read_bytes().split(b"\n")[:-1]
        records = map(json.loads, whole_lines)
        return [record for record in records if not kinds or record["kind"] in kinds]

    def drop_metrics_after(self, step: int) -> None:
        """Forget what was logged after ``step``: a resumed run makes those steps again."""
        kept = [record for record in self.read_metrics() if record["step"] <= step]
        disk.replace_text(self._metrics, "".join(map(_line, kept)))

    def save_figure(self, figure: Any, name: str, fmt: str, record: dict[str, Any]) -> None:
        """Write a figure as PNG (and ``fmt`` beside it) and say in the manifest what it shows.

        Args:
            figure: a matplotlib ``Figure``.
            name: path below ``visualizations``, without its ending.
            fmt: "png", "svg" or "pdf".
            record: what it shows, step, axis names and so on.
        """
        save_drawing(figure, str(self.figure_path(name)), fmt)
        self.record_figures([{"file": f"{name}.png"} | record])

    def figure_path(self, name: str) -> Path:
        """Where a figure goes, without its ending; its folder is made."""
        target = self.path / "visualizations" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def record_figures(self, records: Iterable[dict[str, Any]]) -> None:
        """Add records to the manifest, or replace those of the same file."""
        by_file = {entry["file"]: entry for entry in self.figures()}
        for record in records:
            by_file.pop(record["file"], None)
            by_file[record["file"]] = record
        self._write(self._manifest, list(by_file.values()))

    def has_figure(self, name: str) -> bool:
        """Whether a figure was written, whole: its record comes last."""
        return f"{name}.png" in (entry["file"] for entry in self.figures())

    def drop_figures(self, pattern: str, kept: Set[str]) -> None:
        """Delete figures and their records.

        Args:
            pattern: of names below ``visualizations``, without their ending, e.g. ``maps/step_*``.
            kept: names that stay.
        """
        root = self._manifest.parent
        files = [f for f in root.glob(f"{pattern}.*") if _name_below(f, root) not in kept]
        if not files:
            return
        gone = {f"{_name_below(file, root)}.png" for file in files}
        self._write(self._manifest, [e for e in self.figures() if e["file"] not in gone])
        for file in files:
            file.unlink()

    def figures(self) -> list[dict[str, Any]]:
        """The records of all figures, as the manifest has them."""
        return json.loads(self._manifest.read_text("utf-8")) if self._manifest.exists() else []

    def has_summary(self) -> bool:
        """Whether a run in this folder came to its end."""
        return (self.path / SUMMARY).exists()

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write ``summary.json``, with the list of all files of the run.

        What Weights & Biases keeps below ``wandb`` is not listed: still being written, and copies.
        """
        target = self.path / SUMMARY
        files = {p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if p.is_file()}
        files = {name for name in files if not name.startswith("wandb/")}
        self._write(target, summary | {"files": sorted(files | {target.name})})

    def write_json(self, name: str, content: Any) -> Path:
        """Write ``content`` as the file ``name`` of this folder; returns its path."""
        self._write(self.path / name, content)
        return self.path / name

    def write_text(self, name: str, lines: Iterable[str]) -> None:
        """Write ``lines`` as the file ``name`` of this folder."""
        disk.replace_text(self.path / name, "".join(f"{line}\n" for line in lines))

    def write_lines(self, name: str, records: Iterable[dict[str, Any]]) -> None:
        """Write ``records`` as the file ``name`` of this folder, one JSON object a line."""
        disk.replace_text(self.path / name, "".join(map(_line, records)))

    def read_lines(self, name: str) -> list[dict[str, Any]]:
        """The objects of a file with one JSON object a line."""
        # Not splitlines: a sentence may hold a character that Python takes for a line's end.
        lines = (self.path / name).read_text("utf-8").split("\n")
        return [json.loads(line) for line in lines if line]

    def _write(self, path: Path, content: Any) -> None:
        text = json.dumps(finite(content), ensure_ascii=False, indent=2)
        disk.replace_text(path, text + "\n")


def save_drawing(figure: Any, target: str, fmt: str) -> None:
    """Write a matplotlib ``Figure`` to ``target.png``, and as ``fmt`` beside it."""
    for ending in dict.fromkeys(("png", fmt)):
        # Packed less tightly than by default: a seventh of the time saved for a tenth more bytes.
        packing = {"pil_kwargs": {"compress_level": 3}} if ending == "png" else {}
        with disk.replacing(Path(f"{target}.{ending}")) as file:
            figure.savefig(file, format=ending, dpi=DPI, **packing)


def _name_below(file: Path, root: Path) -> str:
    """A file's path below ``root``, without its ending."""
    return file.relative_to(root).with_suffix("").as_posix()


def free_name(path: Path) -> Path:
    """``path.YYYYMMDD-HHMMSS``, or with a number behind it where that is taken."""
    stamp = path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S')}")
    name, number = stamp, 1
    while name.exists():
        number += 1
        name = stamp.with_name(f"{stamp.name}-{number}")
    return name


def _line(record: dict[str, Any]) -> str:
    """A record as one line of JSON."""
    return json.dumps(finite(record), ensure_ascii=False) + "\n"


def finite(value: Any) -> Any:
    """``value`` with null for infinities and NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _FileHandler(logging.FileHandler):
    """Writes to a file. An error is raised; Python's own handler would print it and go on."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8")
        self._path = path

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        with disk.writing(self._path):
            raise


class _ConsoleHandler(logging.Handler):
    """Prints to standard output, above a progress bar if one is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        with disk.writing("standard output"):
            tqdm.write(self.format(record), file=sys.stdout)
            sys.stdout.flush()  # so that a redirected run can be followed


def console_shows(level: int) -> bool:
    """Whether this process prints log lines of ``level``."""
    return any(isinstance(h, _ConsoleHandler) and h.level <= level for h in log.handlers)


def set_up_console(debug: bool, quiet: bool) -> None:
    """Send the log to the terminal; characters that it cannot show are replaced.

    Of several processes only the main one prints.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    if distributed.is_main():
        handler = _ConsoleHandler(RESULT if quiet else logging.DEBUG if debug else logging.INFO)
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    log.addHandler(logging.NullHandler())  # else Python would print warnings by itself
