"""Sending what a run writes to Weights & Biases too (``--wandb``).

The results folder stays the place where everything is: whatever goes wrong with Weights & Biases
costs a warning, never the run. Its package takes a second to import, so that only a run that asks
for it does.
"""

import importlib.util
import json
import os
import shlex
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from utils.config import RunConfig, Settings, UserError
from utils.results import PAGE, ResultsFolder, log

MODES = ("online", "offline", "disabled")  # of the environment variable WANDB_MODE
FOLDER = "wandb"  # below a results folder; the package calls it so
RUN_ID = f"{FOLDER}/run_id"  # by which a resumed run goes on as the same one
STEP = "step"  # the x axis: a resumed run, and one sent later, has another count of log calls
SECONDS_TO_BEGIN, SECONDS_TO_END = 20, 60  # that are waited for the network


def require(run: RunConfig) -> None:
    """Make sure that ``--wandb`` can be honoured, before any long work; imports nothing.

    Raises:
        UserError: the package is missing, or ``WANDB_MODE`` is none that there is.
    """
    if not run.wandb:
        return
    mode = os.environ.get("WANDB_MODE")
    if mode and mode not in MODES:
        raise UserError(f"WANDB_MODE is {mode!r}; it must be one of {', '.join(MODES)}, or unset")
    package = importlib.util.find_spec("wandb")
    # Any folder called wandb can be imported; the package has a file.
    if mode != "disabled" and (package is None or package.origin is None):
        raise UserError("--wandb needs the package wandb; run: pip install wandb")


def begin(folder: ResultsFolder, settings: Settings, kind: str) -> "WandbLog":
    """Open the log of a run; without ``--wandb`` one that takes everything and keeps nothing.

    Args:
        folder: of the results. What Weights & Biases keeps lies in it too.
        settings: all options.
        kind: of run: a version, "comparison" or "analysis".
    """
    opened = WandbLog(folder, settings.run)
    if settings.run.wandb and os.environ.get("WANDB_MODE") != "disabled":
        opened.start(settings, kind)
    return opened


class WandbLog:
    """The log of one run at Weights & Biases, or none.

    Args:
        folder: of the results.
        run: options.
    """

    def __init__(self, folder: ResultsFolder, run: RunConfig) -> None:
        self._folder, self._options = folder, run
        self._run: Any = None  # wandb's; None: nothing is logged
        self._kept_in = shlex.quote(str(folder.path / FOLDER))
        self._newest: dict[str, int] = {}

    def start(self, settings: Settings, kind: str) -> None:
        """Begin to log, online if somebody is logged in, and say where; never ask for a login.

        Args:
            settings: all options.
            kind: of run.
        """
        with self._whatever_happens():
            import wandb
            from wandb.sdk.lib.import_hooks import unregister_all_post_import_hooks

            options = self._wanted(wandb, settings, kind)
            # Before anything else: the settings of the environment and of wandb's own files.
            mode = wandb.setup(wandb.Settings(silent=True)).settings.mode
            reason = ""
            if mode == "online":
                reason = self._go_online(wandb, options)
            if self._run is None and mode != "disabled":
                self._run = wandb.init(mode="offline", **options)
                log.info(
                    f"Weights & Biases: {reason}offline; send it later with: "
                    f"wandb sync {self._kept_in}"
                )
            # After each import of a package that it knows it would write, and one could fail so.
            unregister_all_post_import_hooks()
            if self._run is not None:
                self._run.define_metric(STEP)
                self._run.define_metric("*", step_metric=STEP)
                self._folder.write_text(RUN_ID, [self._run.id])

    def _wanted(self, wandb: Any, settings: Settings, kind: str) -> dict[str, Any]:
        """Arguments of ``wandb.init``, but for the mode."""
        known = self._folder.path / RUN_ID
        run_id = known.read_text("utf-8").strip() if known.exists() else None
        return {
            "project": self._options.wandb_project,
            "dir": str(self._folder.path),
            "config": settings.flat(),
            "job_type": kind,
            "id": run_id,
            "name": None if run_id else f"{kind} {time.strftime('%Y-%m-%d %H:%M')}",
            "resume": "allow" if run_id else None,
            "reinit": "create_new",  # a run that failed is not taken for this one
            "settings": wandb.Settings(
                silent=True,
                console="off",  # it would take standard output over
                init_timeout=SECONDS_TO_BEGIN,
                finish_timeout=SECONDS_TO_END,
                finish_timeout_raises=True,
                symlink=False,
            ),
        }

    def _go_online(self, wandb: Any, options: Mapping[str, Any]) -> str:
        """Begin to log over the network; otherwise returns why not."""
        try:
            if not wandb.login(prompt=False, verify=False):
                return "nobody is logged in (wandb login), so "
            self._run = wandb.init(mode="online", **options)
        except Exception as error:  # see `_whatever_happens`
            log.debug("Weights & Biases:", exc_info=error)
            return f"not reached ({_in_one_line(error)}), so "
        log.info(f"Weights & Biases: {self._run.url}")
        return ""

    def log(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Log lines of ``metrics.jsonl``, each under its kind and step."""
        if self._run is None:
            return
        rows = [row_of(line) for line in lines]
        with self._whatever_happens():
            for row in rows:
                self._run.log(row)
                self._newest = {STEP: row[STEP]}

    def finish(self, results: str, *sections: str) -> None:
        """Log the results, the figures and the page, and end.

        Args:
            results: a JSON file of the results folder.
            *sections: of its content; numbers in lists are left out.
        """
        if self._run is None:
            return
        content = json.loads((self._folder.path / results).read_text("utf-8"))
        final: dict[str, Any] = {}
        for section in sections:
            final |= flat(content.get(section) or {}, section)
        with self._whatever_happens():
            self._run.summary.update(final)
            if shown := self._shown():
                self._run.log(shown | self._newest)
            self._run.finish()
            self._end()

    def _shown(self) -> dict[str, Any]:
        """The figures and the page, as the package wants them."""
        import wandb

        shown: dict[str, Any] = {}
        if self._options.visualize is not False:
            for record in self._folder.figures():
                name, file = record["file"], self._folder.figure_path(record["file"])
                caption = record.get("caption") or record.get("shows")
                shown[f"figures/{Path(name).with_suffix('').as_posix()}"] = wandb.Image(
                    str(file), caption=caption
                )
        if (page := self._folder.path / PAGE).exists():
            shown["report"] = wandb.Html(str(page), inject=False)
        return shown

    @contextmanager
    def _whatever_happens(self) -> Iterator[None]:
        """While entered, the package is used; an error of its is said, and ends only the log.

        All errors, for its own have no type in common, and there are others besides: of sockets
        (a process of its own writes the log), of time, of files.
        """
        try:
            yield
        except Exception as error:
            log.warning(
                f"Note: Weights & Biases failed ({_in_one_line(error)}); the run goes on "
                f"without it. To send what it had: wandb sync --include-online {self._kept_in}"
            )
            log.debug("Weights & Biases:", exc_info=error)
            self._end()

    def _end(self) -> None:
        """Log no more, and let the package's own process end, now and not as Python does."""
        self._run = None
        try:
            if package := sys.modules.get("wandb"):
                package.teardown()
        except (Exception, SystemExit) as error:  # that process may have failed, or be gone
            log.debug("Weights & Biases:", exc_info=error)


def row_of(line: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a line of ``metrics.jsonl`` by name: ``train/loss``, ``eval/bleu`` ...

    A list of numbers, one for each head, becomes their mean.
    """
    common = {name: line[name] for name in (STEP, "epoch")}
    numbers = {
        name: value
        for name, value in line.items()
        if name not in common and not isinstance(value, str)
    }
    return common | flat(numbers, line["kind"], of_list=_mean)


def flat(
    values: Mapping[str, Any],
    prefix: str,
    of_list: Callable[[Sequence[float]], float] | None = None,
) -> dict[str, Any]:
    """Nested values as one dictionary; what is unknown is left out.

    Args:
        values: dictionaries, plain values and lists.
        prefix: of all names.
        of_list: makes a number of a list of numbers; None leaves lists out.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}/{name}".replace(".", "/")  # a dot would be taken for nesting
        if isinstance(value, Mapping):
            found |= flat(value, key, of_list)
        elif isinstance(value, list):
            if of_list and value:
                found[key] = of_list(value)
        elif value is not None:
            found[key] = value
    return found


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


def _in_one_line(error: Exception) -> str:
    """What went wrong, short; all of it is in ``logs/train.log``."""
    return textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder=" ...")
