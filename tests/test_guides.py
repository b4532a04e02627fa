"""The guides: commands parse, options and files are as they are, both languages say the same."""

import ast
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import main
from benchmarks.guide_commands import COMMANDS

ROOT = Path(__file__).parent.parent
PAIRS = [("README.md", "README.ko.md"), ("INSTALL.md", "INSTALL.ko.md")]
GUIDES = [name for pair in PAIRS for name in pair]
DOCUMENTS = [*GUIDES, "CONTRIBUTING.md", "benchmarks/README.md"]
READMES = PAIRS[0]

# Promised commands that the guides leave out: shorter forms of others that they have.
SHORTER = {
    "--version both --epochs 2 --train_size 500 --eval_size 100",
    "--version both --epochs 2 --train_size 500",
    "--version both --epochs 3 --train_size 1000",
    "--version pytorch --epochs 2 --batch_size 4 --hidden_size 128 --train_size 500 "
    "--eval_size 100",
    "--version pytorch --epochs 3 --debug --visualize",
    "--version huggingface --epochs 3 --track_internals",
}


@cache
def read(name):
    return (ROOT / name).read_text("utf-8")


def blocks(name, *languages):
    """The code blocks of a document that are in one of the languages."""
    found = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", read(name), flags=re.M | re.S)
    return [code for language, code in found if language in languages]


def code_lines(code):
    """The lines of a code block without comments; a line that goes on is one with the next."""
    joined = re.sub(r" *(\\|\^|`)\n\s*", " ", code)
    lines = (re.sub(r"(^| +)(#|rem |REM ).*", "", line).strip() for line in joined.splitlines())
    return [line for line in lines if line]


def commands(name):
    """Everything that a reader may copy into a terminal: lines of blocks, and code within text."""
    text = read(name)
    for code in blocks(name, "bash", "cmd", "powershell"):
        yield from code_lines(code)
    prose = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S)
    yield from (code.replace("\\|", "|") for code in re.findall(r"`([^`\n]+)`", prose))


def calls_of_main(name):
    """Options of every call of ``main.py`` in a document, as lists of words."""
    starts = re.compile(
        r"^(?:[A-Z_]+=\S+ )*(?:python3? main\.py|\./setup_and_run\.sh|setup_and_run\.bat|"
        r"torchrun \S.* main\.py)(?: |$)(.*)"
    )
    for command in commands(name):
        if (match := starts.match(command)) and not re.search(r"OPTIONS|옵션|\.\.\.", command):
            yield shlex.split(match[1].split(" < ")[0])


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_call_of_the_program_is_accepted(name):
    for words in calls_of_main(name):
        if words[:1] == ["tests"] or words == ["--help"]:
            continue
        main.parse(words)


def test_the_documents_call_the_program():
    for name in GUIDES:
        assert len(list(calls_of_main(name))) > 5


@pytest.mark.parametrize("language", [0, 1])
def test_the_promised_commands_stand_in_the_guides(language):
    found = [words for pair in PAIRS for words in calls_of_main(pair[language])]
    promised = {command: command.removeprefix("MPLBACKEND=Agg ").split() for command in COMMANDS}
    assert {command for command, words in promised.items() if words not in found} == SHORTER


@pytest.mark.parametrize(("english", "korean"), PAIRS)
def test_both_languages_have_the_same_commands(english, korean):
    def of(name):
        return [
            code_lines(code) for code in blocks(name, "bash", "cmd", "powershell", "python", "text")
        ]

    assert of(english) == of(korean)
    assert list(calls_of_main(english)) == list(calls_of_main(korean))


@pytest.mark.parametrize(("english", "korean"), PAIRS)
def test_both_languages_have_the_same_sections(english, korean):
    def outline(name):
        prose = re.sub(r"^ *```.*?^ *```$", "", read(name), flags=re.M | re.S)
        kinds = r"^(#+) |^(\* |\d\. )|^(\|)(?!-)"
        return ["".join(found).strip() for found in re.findall(kinds, prose, flags=re.M)]

    assert outline(english) == outline(korean)
    assert f"]({korean})" in read(english).split("\n## ")[0]
    assert f"]({english})" in read(korean).split("\n## ")[0]


def slug(heading):
    """The anchor that GitHub gives a heading."""
    text = re.sub(r"[`*]|\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(file):
    text = re.sub(r"^ *```.*?^ *```$", "", file.read_text("utf-8"), flags=re.M | re.S)
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, flags=re.M)}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    document = ROOT / name
    for link in re.findall(r"\]\(([^)]+)\)", read(name)):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert target == ROOT or ROOT in target.parents, link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_named_in_code_exist(name):
    """``utils/corpus.py`` and the like; what a run writes is not there before a run."""
    folders = "pytorch_version|huggingface_version|utils|tests|tools|benchmarks|docs|assets"
    for path in re.findall(rf"`((?:{folders})/[\w./*{{}}-]+)`", read(name)):
        assert list(ROOT.glob(path)), path


# --- the table of options ---


def option_rows(name):
    """The rows of the table of options: (option, values, words)."""
    row = re.compile(r"^\| `--(\w+)`(?: `([^`]*)`)? \| (.*) \|$", flags=re.M)
    return [tuple(part.replace("\\|", "|") for part in found) for found in row.findall(read(name))]


def options_of_the_program():
    for action in main.make_parser()._actions:
        if action.dest == "help":
            continue
        values = "|".join(action.choices) if action.choices else action.metavar or ""
        yield action.option_strings[0][2:], values, action.help % {"default": action.default}


def test_the_table_of_options_is_what_help_says():
    assert option_rows("README.md") == list(options_of_the_program())


def test_the_korean_table_has_the_same_options_values_and_defaults():
    rows = option_rows("README.ko.md")
    assert [row[:2] for row in rows] == [row[:2] for row in options_of_the_program()]
    for (name, _, korean), (_, _, english) in zip(rows, options_of_the_program(), strict=True):
        assert re.search("[가-힣]", korean), name
        said = english.replace("a tenth", "1 of 10")
        assert numbers_in(korean) == numbers_in(said), name


def numbers_in(text):
    return set(re.findall(r"\d[\d,.]*\d|\d", text))


# --- the list of files ---


def listed_files(name):
    """Path -> words, of the list of every file."""
    listing = next(code for code in blocks(name, "") if "main.py " in code)
    rows = (line for line in listing.splitlines() if line and not line.startswith("# "))
    return dict(re.split(r" {2,}", row, maxsplit=1) for row in rows)


def files_of_the_project():
    """Every file, those in hidden places left out; a model counts as its folder."""
    try:
        known = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout.split("\n")  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: which files belong to the project cannot be told")
    files = {path for path in known if (ROOT / path).is_file() and not path.startswith(".git")}
    return {"assets/demo_model/" if path.startswith("assets/demo") else path for path in files}


@pytest.mark.parametrize("name", READMES)
def test_the_list_of_files_is_complete(name):
    assert set(listed_files(name)) == files_of_the_project()


def test_files_are_described_as_they_describe_themselves():
    for path, words in listed_files("README.md").items():
        text = (ROOT / path).read_text("utf-8") if not path.endswith(("/", ".png")) else ""
        if path.endswith(".py"):
            own = ast.get_docstring(ast.parse(text)).partition("\n\n")[0]
        elif path.endswith(".js") and "/*" in text:
            own = text.partition("/*")[2].partition("*/")[0]
        else:
            continue
        assert words == " ".join(own.split()), path


def test_every_file_is_described_in_korean():
    for path, words in listed_files("README.ko.md").items():
        assert re.search("[가-힣]", words) or words == "MIT.", path


# --- what is said can be done ---


@pytest.mark.parametrize("name", READMES)
def test_the_python_example_translates(name, tmp_path):
    (code,) = blocks(name, "python")
    results = tmp_path / "results_pytorch"
    results.mkdir()
    (results / "hf_export").symlink_to(ROOT / "assets" / "demo_model")
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, timeout=120,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    assert answer.stdout.decode().strip() == "['학생은 책을 샀어요.']", answer.stderr.decode()


def test_lines_of_text_are_translated_as_the_guide_says(tmp_path):
    (words,) = [words for words in calls_of_main("README.md") if "-" in words]
    words[words.index("results_huggingface")] = str(ROOT / "assets" / "demo_model")
    answer = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), *words], cwd=tmp_path, capture_output=True,
        input=b"The student bought a book.\n", timeout=120,
    )  # fmt: skip
    assert answer.stdout.decode().split("\n") == ["학생은 책을 샀어요.", ""], answer.stderr


def test_the_checks_of_the_install_run():
    checks = [line for line in commands("INSTALL.md") if re.match('python3? -c "', line)]
    assert checks
    for line in checks:
        code = shlex.split(line)[2]
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_the_refactoring_recipe_reads_what_runs_write():
    (recipe,) = [code for code in blocks("CONTRIBUTING.md", "bash") if "grep" in code]
    grep = recipe[recipe.index("grep") :].replace("results_pytorch/logs/metrics.jsonl |", "|")
    lines = ['{"kind": "train", "step": 1, "loss": 2.0, "tokens_per_sec": 9.9}', '{"kind": "eval"}']
    command = grep.strip().rpartition(" > ")[0]
    answer = subprocess.run(
        ["bash", "-c", command], input="\n".join(lines), capture_output=True, text=True, timeout=20
    )
    assert answer.stdout == '{"kind": "train", "step": 1, "loss": 2.0}\n'
