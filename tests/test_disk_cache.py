"""A folder is made once, whole or not at all, whatever happens to the runs that make it."""

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from utils import disk_cache
from utils.config import UserError
from utils.disk_cache import code_digest, digest, made_once

ROOT = Path(__file__).parent.parent
# Makes a folder, but waits in the middle until the file "go" is there.
SLOW_RUN = """
import sys, time
from pathlib import Path
from utils.disk_cache import made_once
here = Path(sys.argv[1])
def make(folder):
    (folder / "data").write_text("of the slow run")
    print("begun", flush=True)
    while not (here / "go").exists():
        time.sleep(0.01)
    return {"by": "the slow run"}
print(made_once(here / "name", make))
"""


def writes(text="data"):
    """A maker of a folder with one file, and the list of the folders it was called with."""
    calls = []

    def make(folder):
        calls.append(folder)
        (folder / "data").write_text(text)
        return {"text": text}

    return make, calls


def forbidden(folder):
    pytest.fail("made again")


def names_in(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


@pytest.fixture
def warnings(monkeypatch):
    said = []
    monkeypatch.setattr(disk_cache.log, "warning", said.append)
    return said


@pytest.fixture
def slow_run(tmp_path):
    """Another process in the middle of making ``tmp_path / "name"``."""
    command = [sys.executable, "-c", SLOW_RUN, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        yield process
        process.kill()


def test_a_folder_is_made_once(tmp_path):
    make, calls = writes()
    folder = tmp_path / "deep" / "name"
    assert made_once(folder, make) == ({"text": "data"}, True)
    assert calls[0] != folder  # under another name, so that a killed run leaves nothing behind
    assert made_once(folder, forbidden) == ({"text": "data"}, False)
    assert names_in(folder.parent) == ["name"]
    assert (folder / "data").read_text() == "data"


def damage_by_cutting(folder):
    (folder / "data").write_text("dat")


def damage_by_deleting(folder):
    (folder / "data").unlink()


def damage_by_losing_the_record(folder):
    (folder / "about.json").unlink()


def damage_of_the_record(folder):
    text = (folder / "about.json").read_text()
    (folder / "about.json").write_text(text[:-9])


@pytest.mark.parametrize(
    "damage",
    [
        damage_by_cutting,
        damage_by_deleting,
        damage_by_losing_the_record,
        damage_of_the_record,
    ],
)
def test_a_damaged_folder_is_made_anew_and_the_user_told(tmp_path, warnings, damage):
    folder = tmp_path / "name"
    made_once(folder, writes()[0])
    (folder / "inner").mkdir()  # of something that depends on it
    damage(folder)
    assert made_once(folder, writes("again")[0]) == ({"text": "again"}, True)
    assert (folder / "data").read_text() == "again"
    assert not (folder / "inner").exists()
    (line,) = warnings
    assert str(folder) in line
    assert "damaged" in line


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_an_attempt_that_fails_leaves_nothing(tmp_path, error):
    def fail(folder):
        (folder / "data").write_text("half")
        raise error

    with pytest.raises(type(error)) as raised:
        made_once(tmp_path / "name", fail)
    assert raised.value is error
    assert names_in(tmp_path) == []
    assert made_once(tmp_path / "name", writes()[0])[1]


@pytest.mark.parametrize("next_name", ["name", "other"])
def test_what_a_killed_run_left_is_removed(tmp_path, slow_run, next_name):
    assert names_in(tmp_path) == ["name.unfinished"]
    slow_run.kill()
    slow_run.wait()
    assert names_in(tmp_path) == ["name.unfinished"]
    assert made_once(tmp_path / next_name, writes()[0])[1]
    assert names_in(tmp_path) == [next_name]


def test_what_a_living_run_makes_is_left_alone(tmp_path, slow_run):
    made_once(tmp_path / "other", writes()[0])
    assert names_in(tmp_path) == ["name.unfinished", "other"]
    (tmp_path / "go").touch()
    assert "the slow run" in slow_run.stdout.read()
    assert names_in(tmp_path) == ["go", "name", "other"]


def test_of_two_runs_at_the_same_time_one_waits_for_the_other(tmp_path, slow_run, monkeypatch):
    waits = threading.Event()
    monkeypatch.setattr(disk_cache.log, "info", lambda line: waits.set())
    found = []
    thread = threading.Thread(target=lambda: found.append(made_once(tmp_path / "name", forbidden)))
    thread.start()
    assert waits.wait(20)
    (tmp_path / "go").touch()
    thread.join(20)
    assert found == [({"by": "the slow run"}, False)]


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"{tmp_path / 'file'}, where .*HF_DATASETS_CACHE"):
        made_once(tmp_path / "file" / "name", writes()[0])

    def refuse(self, *_):  # the tests may run as root, who may write everywhere
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.touch", refuse)
    with pytest.raises(UserError, match=f"{tmp_path}, where .*Permission denied"):
        made_once(tmp_path / "name", writes()[0])


def test_it_lies_in_the_cache_of_datasets():
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    code = "from utils.disk_cache import cache_root; print(cache_root().as_posix())"
    printed = subprocess.check_output(
        [sys.executable, "-c", code], text=True, cwd=ROOT, env=environment | {"HF_HOME": "/a"}
    )
    assert printed.strip() == "/a/datasets/transformer_tutorial"


def test_a_digest_changes_with_every_part():
    parts = [1, {"a": [None, "x"], "b": 2.5}, "y"]
    assert digest(*parts) == digest(*json.loads(json.dumps(parts)))
    others = [[2, *parts[1:]], [1, {"a": [None, "z"], "b": 2.5}, "y"], parts[:2], [1, parts[1:]]]
    assert len({digest(*parts), *(digest(*other) for other in others)}) == 5


def test_the_digest_of_code_changes_with_its_text(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_cache, "__file__", str(tmp_path / "disk_cache.py"))
    (tmp_path / "a.py").write_text("x = 1")
    (tmp_path / "b.py").write_text("y = 1")
    before = code_digest(["a"]), code_digest(["a", "b"])
    (tmp_path / "b.py").write_text("y = 2")
    assert code_digest(["a"]) == before[0]
    assert code_digest(["a", "b"]) != before[1]
