"""Files are written whole or not at all, and what goes wrong is said in one line."""

import errno
import os
import tempfile
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

import main
from tests.test_train import SMALL
from utils import checkpoint, disk
from utils.disk import WriteError
from utils.results import ResultsFolder, log

TENSORS = {"weight": torch.zeros(100_000)}


def files_in(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "full"), WriteError),
        (KeyError("x"), KeyError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_what_is_not_finished_leaves_the_earlier_file(tmp_path, error, kind):
    def write_half():
        with disk.replacing(tmp_path / "a.txt") as file:
            file.write(b"half")
            raise error

    disk.replace_text(tmp_path / "a.txt", "한글")
    with pytest.raises(kind):
        write_half()
    assert files_in(tmp_path) == {"a.txt": "한글".encode()}


def test_a_file_is_replaced_only_once_it_is_whole(tmp_path):
    disk.replace_text(tmp_path / "a.txt", "old")
    with disk.replacing(tmp_path / "a.txt") as file:
        file.write(b"new")
        file.flush()
        assert (tmp_path / "a.txt").read_text() == "old"
    assert files_in(tmp_path) == {"a.txt": b"new"}


def fill_half(folder):
    with disk.filling(folder) as new:
        (new / "a.txt").write_text("new")
        raise OSError(errno.ENOSPC, "full")


def test_a_folder_is_filled_once_all_files_are_whole(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "b.txt").write_text("stays")
    with pytest.raises(WriteError):
        fill_half(tmp_path)
    assert files_in(tmp_path) == {"a.txt": b"old", "b.txt": b"stays"}
    with disk.filling(tmp_path) as new:
        (new / "a.txt").write_text("new")
        assert (tmp_path / "a.txt").read_text() == "old"
    assert files_in(tmp_path) == {"a.txt": b"new", "b.txt": b"stays"}


def test_what_a_killed_process_had_begun_is_deleted(tmp_path):
    for name in ("a.pt", "a.pt.partial", "sub/files.partial/model.bin", "sub/partial.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    disk.drop_partial(tmp_path)
    assert files_in(tmp_path).keys() == {"a.pt", "sub/partial.txt"}


# What libraries raise when they cannot write


@contextmanager
def files_at_most(size):
    """While entered, no file can grow beyond ``size`` bytes, as on a full disk."""
    resource = pytest.importorskip("resource", reason="Windows has no limits on files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _with_python(write):
    def to(path):
        with open(path, "wb") as file:
            write(file)

    return to


def _log_line(path):
    folder = ResultsFolder(path)
    (path / "logs").mkdir(parents=True)
    folder._open_log()
    log.warning("x" * 10_000)


WORDS = Tokenizer(models.WordLevel({f"word{n}": n for n in range(9999)}, unk_token="word0"))
WRITERS = {
    "safetensors": lambda path: save_file(TENSORS, path),
    "torch, by name": lambda path: torch.save(TENSORS, path),
    "torch, by file": _with_python(lambda file: torch.save(TENSORS, file)),
    "tokenizers": lambda path: WORDS.save(str(path)),
    "numpy": _with_python(lambda file: np.savez(file, a=np.zeros(100_000))),
    "png": lambda path: Figure(figsize=(30, 30)).savefig(path, format="png"),
    "svg": lambda path: Figure(figsize=(30, 30)).savefig(path, format="svg"),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_library_s_error_names_the_file_and_the_reason(tmp_path, writer):
    target = tmp_path / "target"
    with pytest.raises(WriteError) as caught, files_at_most(500), disk.writing(target):
        WRITERS[writer](target)
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename == str(target)


def test_a_log_that_cannot_be_written_is_an_error(tmp_path, capsys):
    try:
        with pytest.raises(WriteError) as caught, files_at_most(500):
            _log_line(tmp_path)
    finally:
        main.set_up_console(debug=False, quiet=False)  # closes the log
    assert caught.value.filename == str(tmp_path / "logs" / "train.log")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("shapes do not match"), ValueError])
def test_other_errors_are_left_as_they_are(tmp_path, error):
    kind = error if isinstance(error, type) else type(error)
    with pytest.raises(kind), disk.writing(tmp_path):
        raise error


def test_the_innermost_name_is_said():
    with pytest.raises(WriteError) as caught, disk.writing("folder"), disk.writing("folder/file"):
        raise OSError(errno.ENOSPC, "full")
    assert caught.value.filename == "folder/file"


def test_only_errors_of_writing_are_problems_of_the_disk():
    assert disk.problem(FileNotFoundError(errno.ENOENT, "no such file", "corpus.tsv")) is None
    assert disk.problem(PermissionError(errno.EACCES, "denied", "corpus.tsv")) is None
    full = OSError(errno.ENOSPC, "No space left on device")
    assert disk.problem(full) == "the disk is full; make room"
    gone = WriteError(errno.ENOENT, "No such file or directory", "a/b")
    assert disk.problem(gone) == "No such file or directory (writing a/b); see to it"


# Through the command line


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "the disk is full (writing {}); make room"),
        (errno.EDQUOT, "the disk quota is used up (writing {}); make room"),
        (errno.EROFS, "the disk is read-only (writing {}); make it writable"),
        (errno.EACCES, "permission was denied (writing {}); give permission to write"),
        (errno.EIO, "the disk failed (writing {}); look into it"),
    ],
)
def test_what_is_wrong_with_the_disk_is_one_line(tmp_path, monkeypatch, capsys, code, words):
    def fail(content, file):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(checkpoint.torch, "save", fail)
    monkeypatch.chdir(tmp_path)
    assert main.main([*SMALL, "--epochs", "1", "--no_visualize", "--quiet"]) == 1
    message = capsys.readouterr().err
    problem = words.format("results_pytorch/checkpoints/best_model.pt")
    assert message.startswith(f"main.py: {problem}, then go on with: python main.py --version pyt")
    assert message.count("\n") == 1


def test_a_disk_that_is_full_from_the_beginning_is_said(tmp_path, monkeypatch, capsys):
    def fail(**options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    monkeypatch.setattr("utils.data.load_corpus", lambda *_: pytest.fail("work was begun"))
    for version in ("pytorch", "huggingface", "both"):
        assert main.main(["--version", version, "--output_dir", str(tmp_path)]) == 1
        message = capsys.readouterr().err
        assert message.startswith(f"main.py: the disk is full (writing {tmp_path}); make room")
        assert message.count("\n") == 1


def test_an_analysis_is_to_be_run_again(tmp_path, monkeypatch, capsys):
    def fail(settings):
        raise WriteError(errno.ENOSPC, "full", "results_analysis/analysis.json")

    monkeypatch.setattr("utils.guided_tour.run_analysis", fail)
    assert main.main(["--version", "analysis"]) == 1
    assert capsys.readouterr().err == (
        "main.py: the disk is full (writing results_analysis/analysis.json); make room, then run "
        "it again\n"
    )


def test_other_errors_of_the_system_are_not_hidden(monkeypatch):
    def fail(settings):
        raise FileNotFoundError(errno.ENOENT, "No such file", "a mistake of ours")

    monkeypatch.setattr("utils.guided_tour.run_analysis", fail)
    with pytest.raises(FileNotFoundError):
        main.main(["--version", "analysis"])
