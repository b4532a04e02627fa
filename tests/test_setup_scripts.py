"""The laws of setup_and_run.sh, checked with a fake Python: nothing is installed or downloaded."""

import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHELL_SCRIPT = ROOT / "setup_and_run.sh"
BATCH_SCRIPT = ROOT / "setup_and_run.bat"

# Every system tool that the script may call; nothing else, and no real Python, is on its PATH.
TOOLS = ["awk", "bash", "cmp", "cp", "df", "dirname", "grep", "mkdir", "rm", "uname"]

# Stands for python3 and for the environment's python. It notes each call in $CALLS, answers
# questions about itself with the real Python's help, and only pretends to do everything else.
FAKE_PYTHON = r"""#!/bin/sh
note() { printf '[%s]' "$@" >> "$CALLS"; printf '\n' >> "$CALLS"; }
case "$1 $2" in
"-c "*)
    changes="import sys"
    [ -z "$FAKE_VERSION" ] || changes="$changes; sys.version_info = $FAKE_VERSION"
    [ -z "$FAKE_NO_ENSUREPIP" ] || changes="$changes; sys.modules['ensurepip'] = None"
    exec "$REAL_PYTHON" -S -c "$changes
$2"
    ;;
"-m venv")
    note "$@"
    mkdir -p "$3/bin" && cp "$0" "$3/bin/python"
    ;;
"-m pip")
    [ "$3" != --version ] || exit 0
    note "$@"
    printf '%s\n' "$FAKE_PIP_LOG" > transformer_env/install.log
    exit "${FAKE_PIP_STATUS:-0}"
    ;;
*)
    note "$@"
    printf 'pid %s folder %s\n' "$$" "$PWD"
    exit "${FAKE_STATUS:-0}"
    ;;
esac
"""

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="setup_and_run.sh is for macOS and Linux; Windows has the .bat"
)


class Project:
    """A copy of the script in a folder of its own, with a fake Python on its PATH."""

    def __init__(self, tmp_path):
        self.folder = tmp_path / "my copy" / "transformer tutorial"
        self.folder.mkdir(parents=True)
        self.script = self.folder / SHELL_SCRIPT.name
        shutil.copy(SHELL_SCRIPT, self.script)
        for name in ("requirements.txt", "requirements-dev.txt"):
            (self.folder / name).write_text(f"# {name}\n", encoding="utf-8")

        self.bin = tmp_path / "bin"
        self.bin.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.calls_file = tmp_path / "calls"
        self.environment = self.folder / "transformer_env"
        self.add_python("python3")

    def add_python(self, name):
        python = self.bin / name
        python.write_text(FAKE_PYTHON, encoding="utf-8")
        python.chmod(0o755)

        self.variables = {
            "PATH": str(self.bin),
            "CALLS": str(self.calls_file),
            "REAL_PYTHON": sys.executable,
        }

    def run(self, *arguments, cwd=None, **fakes):
        """Run the script; returns (process, the calls that Python got this time)."""
        self.calls_file.write_text("", encoding="utf-8")
        process = subprocess.run(
            [self.script, *arguments],
            cwd=cwd or self.folder,
            env={**self.variables, **fakes},
            capture_output=True,
            encoding="utf-8",
            timeout=20,
        )
        return process, self.calls_file.read_text(encoding="utf-8").splitlines()


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def call(*arguments):
    return "".join(f"[{argument}]" for argument in arguments)


def kinds(calls):
    """What each call was for: venv, pip, pytest or main.py."""
    return [re.match(r"(?:\[-m\])?\[(.*?)\]", line)[1] for line in calls]


FIRST_RUN = "--version both --epochs 2 --train_size 500 --eval_size 100 --debug".split()


def assert_explained(process, english, korean):
    assert process.returncode == 1
    assert english in process.stderr
    assert korean in process.stderr
    assert process.stdout == ""


# What it runs


def test_first_call_sets_up_and_does_the_recommended_run(project):
    process, calls = project.run()
    assert process.returncode == 0, process.stderr
    assert kinds(calls) == ["venv", "pip", "main.py"]
    assert "[-r][requirements.txt]" in calls[1]
    assert calls[2] == call("main.py", *FIRST_RUN)


def test_second_call_installs_nothing_and_says_nothing(project):
    project.run()
    process, calls = project.run("--version", "test")
    assert calls == [call("main.py", "--version", "test")]
    assert process.stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--text", "I read a book."],
        ["--text", 'He said "hello" and it\'s $HOME * \\n', "--quiet"],
        ["--text", "나는 책을 읽는다.", "--text", ""],
        ["--help"],
    ],
)
def test_arguments_reach_main_unchanged(project, arguments):
    _, calls = project.run(*arguments)
    assert calls[-1] == call("main.py", *arguments)


def test_it_may_be_called_from_anywhere(project, tmp_path):
    process, calls = project.run(cwd=tmp_path, CDPATH=str(tmp_path))
    assert calls[-1] == call("main.py", *FIRST_RUN)
    assert process.stdout.rstrip().endswith(f"folder {project.folder}")


def test_exit_status_is_the_programs(project):
    process, _ = project.run(FAKE_STATUS="130")
    assert process.returncode == 130


def test_the_program_takes_the_scripts_place_so_that_ctrl_c_reaches_it(project):
    project.run()
    process = subprocess.Popen(
        [project.script],
        env=project.variables,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    output, _ = process.communicate(timeout=20)
    assert output.startswith(f"pid {process.pid} ")


def test_tests_installs_the_tests_needs_and_runs_pytest(project):
    project.run()
    process, calls = project.run("tests", "-k", "a or b", FAKE_STATUS="1")
    assert kinds(calls) == ["pip", "pytest"]
    assert "[-r][requirements-dev.txt]" in calls[0]
    assert calls[1] == call("-m", "pytest", "-k", "a or b")
    assert process.returncode == 1

    assert kinds(project.run("tests")[1]) == ["pytest"]
    assert kinds(project.run()[1]) == ["main.py"]  # what the tests need includes the rest


# When it installs


def test_changed_requirements_are_installed(project):
    project.run()
    with (project.folder / "requirements.txt").open("a", encoding="utf-8") as file:
        file.write("one-more\n")
    assert kinds(project.run()[1]) == ["pip", "main.py"]
    assert kinds(project.run()[1]) == ["main.py"]


@pytest.mark.parametrize("damage", ["empty", "no pip", "too old", "a file"])
def test_half_made_environment_is_made_again(project, damage):
    python = project.environment / "bin" / "python"
    if damage == "a file":
        project.environment.write_text("", encoding="utf-8")
    else:
        python.parent.mkdir(parents=True)
    if damage == "no pip":
        python.write_text('#!/bin/sh\n[ "$1" = -c ]\n', encoding="utf-8")
        python.chmod(0o755)
    if damage == "too old":
        python.write_text('#!/bin/sh\n[ "$1" != -c ]\n', encoding="utf-8")
        python.chmod(0o755)

    process, calls = project.run()
    assert process.returncode == 0
    assert kinds(calls) == ["venv", "pip", "main.py"]
    assert "transformer_env is incomplete or too old" in process.stderr
    assert "다시 만듭니다" in process.stderr


def test_an_environment_made_by_hand_is_kept(project):
    python = project.environment / "bin" / "python"
    python.parent.mkdir(parents=True)
    shutil.copy(project.bin / "python3", python)
    assert kinds(project.run()[1]) == ["pip", "main.py"]


def test_an_environment_is_made_again_even_while_it_is_activated(project):
    python = project.environment / "bin" / "python3"
    python.parent.mkdir(parents=True)
    shutil.copy(project.bin / "python3", python)  # works, but there is no bin/python
    process, calls = project.run(PATH=f"{python.parent}:{project.bin}")
    assert process.returncode == 0
    assert kinds(calls) == ["venv", "pip", "main.py"]


# What can go wrong


def test_missing_python_is_explained(project):
    (project.bin / "python3").unlink()
    process, calls = project.run()
    assert_explained(process, "Python was not found", "Python을 찾을 수 없습니다. 3.10")
    assert calls == []


def test_too_old_python_is_explained(project):
    process, calls = project.run(FAKE_VERSION="(3, 8, 18)")
    assert_explained(process, "Python 3.8.18 is too old: version 3.10", "Python 3.8.18 버전은 너무")
    assert calls == []
    assert not project.environment.exists()


@pytest.mark.parametrize("name", ["python", "python3.12"])
def test_python_may_have_another_name(project, name):
    (project.bin / "python3").unlink()
    project.add_python(name)
    process, calls = project.run()
    assert process.returncode == 0
    assert kinds(calls) == ["venv", "pip", "main.py"]


def test_newer_python_beside_an_old_python3_is_taken(project):
    project.add_python("python3.11")
    (project.bin / "python3").write_text(
        '#!/bin/sh\nFAKE_VERSION="(3, 9, 6)" exec python3.11 "$@"\n', encoding="utf-8"
    )
    assert kinds(project.run()[1]) == ["venv", "pip", "main.py"]


def test_missing_ensurepip_names_the_package_to_install(project):
    process, calls = project.run(FAKE_NO_ENSUREPIP="1")
    command = "sudo apt install python3-venv"
    assert_explained(process, f"run: {command}", f"실행하세요: {command}")
    assert calls == []


@pytest.mark.parametrize(
    ("log", "english", "korean"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full", "디스크 공간이 부족"),
        (
            "Retrying after NewConnectionError(...)\nNo matching distribution found for torch",
            "no network connection",
            "네트워크에 연결할 수 없습니다",
        ),
        (
            "No matching distribution found for torch",
            "no version for this",
            "맞는 패키지가 없습니다",
        ),
        ("something else", "install.log", "install.log"),
    ],
)
def test_failed_install_is_explained_and_tried_again(project, log, english, korean):
    process, calls = project.run(FAKE_PIP_STATUS="1", FAKE_PIP_LOG=log)
    assert_explained(process, english, korean)
    assert kinds(calls) == ["venv", "pip"]
    assert kinds(project.run()[1]) == ["pip", "main.py"]


def test_failed_update_is_tried_again_even_if_the_requirements_go_back(project):
    project.run()
    requirements = project.folder / "requirements.txt"
    before = requirements.read_text(encoding="utf-8")
    requirements.write_text("changed\n", encoding="utf-8")
    project.run(FAKE_PIP_STATUS="1")
    requirements.write_text(before, encoding="utf-8")
    assert kinds(project.run()[1]) == ["pip", "main.py"]


def test_on_windows_shells_the_batch_file_is_named(project):
    (project.bin / "uname").unlink()
    (project.bin / "uname").write_text("#!/bin/sh\necho MINGW64_NT-10.0\n", encoding="utf-8")
    (project.bin / "uname").chmod(0o755)
    process, _ = project.run()
    assert_explained(process, "On Windows run setup_and_run.bat", "setup_and_run.bat을 실행하세요")


# The files themselves


@pytest.mark.parametrize("script", [SHELL_SCRIPT, ROOT / ".ci" / "run"], ids=lambda p: p.name)
def test_shell_scripts_parse_and_are_executable(script):
    subprocess.run(["bash", "-n", script], check=True)
    assert script.stat().st_mode & stat.S_IXUSR
    assert b"\r" not in script.read_bytes()


def test_batch_file_has_windows_line_ends():
    content = BATCH_SCRIPT.read_bytes()
    assert content.count(b"\r\n") == content.count(b"\n") > 0
    assert not content.startswith(b"\xef\xbb\xbf")  # cmd would print a byte order mark


def test_batch_file_jumps_only_to_labels_that_it_has():
    text = BATCH_SCRIPT.read_text(encoding="utf-8")
    labels = re.findall(r"(?m)^:(\w+)", text)
    assert len(labels) == len(set(labels))
    assert set(re.findall(r"goto (\w+)", text)) <= set(labels)


@pytest.mark.parametrize(
    "shared",
    [
        " ".join(["main.py", *FIRST_RUN]),
        "import sys; sys.exit(sys.version_info < (3, 10))",
        "https://www.python.org/downloads/",
        "-m venv",
        "-m pip --version",
        "-m pip install --disable-pip-version-check --log",
        "install.log",
        "The install failed: the disk is full.",
        "The install failed: no network connection",
        "The install failed: a package has no version",
        "3.10 to 3.14",
        "-m pytest",
        "requirements-dev.txt",
        "transformer_env",
    ],
)
def test_both_scripts_take_the_same_steps(shared):
    shell = SHELL_SCRIPT.read_text(encoding="utf-8")
    if shared.startswith("main.py "):
        assert "set -- " + shared.removeprefix("main.py ") in shell
    else:
        assert shared in shell
    assert shared in BATCH_SCRIPT.read_text(encoding="utf-8")


def test_both_scripts_ask_for_the_python_that_the_project_declares():
    floor = re.search(r'requires-python = ">=(\d+)\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    for script in (SHELL_SCRIPT, BATCH_SCRIPT):
        text = script.read_text(encoding="utf-8")
        assert f"version_info < ({floor[1]}, {floor[2]})" in text
        assert f"Python {floor[1]}.{floor[2]}" in text or f"version {floor[1]}.{floor[2]}" in text


def test_both_scripts_know_the_same_signs_in_the_log():
    known = re.findall(r"log_says '([^']+)'", SHELL_SCRIPT.read_text(encoding="utf-8"))
    searched = re.findall(r"^findstr .*$", BATCH_SCRIPT.read_text(encoding="utf-8"), flags=re.M)
    assert len(known) == len(searched) == 3
    for signs, line in zip(known, searched, strict=True):
        assert set(signs.split("|")) <= set(re.findall(r'/c:"([^"]+)"', line))
