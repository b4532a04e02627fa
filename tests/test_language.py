"""Every text is there in both languages, is used, and is what the reader gets."""

import ast
import json
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

import main
from utils import figure_writer, language
from utils.config import RunConfig
from utils.figure_writer import FigureWriter
from utils.language import CATALOGUES, LANGUAGES, Message, catalogue, message, text

ROOT = Path(__file__).parent.parent
CODE = [ROOT / "main.py", *(p for d in ("utils", "pytorch_version", "huggingface_version")
                            for p in sorted((ROOT / d).rglob("*.py")))]  # fmt: skip
OF_PAGE = "page."  # the page in a browser names many of its texts by what it shows
# Those that change with what is before them; only after a word that is written out.
PARTICLES = "은|는|이|가|을|를|과|와|으로|로|이나|나|이며|며|이면|면|이고|고|이랑|랑|아|야"


def places(form: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(form) if name is not None}


def first_arguments() -> Iterator[ast.expr]:
    """What the code asks messages for."""
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name in ("message", "text", "Message"):
                    yield node.args[0]


def keys_in_code() -> tuple[set[str], set[str]]:
    """Whole keys, and what the keys that are put together begin with."""
    whole, beginnings, asked = set(), set(), list(first_arguments())
    while asked:
        node = asked.pop()
        if isinstance(node, ast.IfExp):
            asked += [node.body, node.orelse]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            whole.add(node.value)
        elif isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
            beginnings.add(node.values[0].value)
    return {key for key in whole if "." in key}, beginnings  # Message.text("en") names no key


def test_both_languages_have_the_same_texts():
    english, korean = (catalogue(name) for name in LANGUAGES)
    assert english.keys() == korean.keys()
    for key in english:
        assert places(english[key]) == places(korean[key]), key
        assert english[key].strip(), key
        assert korean[key].strip(), key


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_catalogue_is_kept_sorted(name):
    written = (CATALOGUES / f"{name}.json").read_text("utf-8")
    assert written == (
        json.dumps(catalogue(name), ensure_ascii=False, indent=2, sort_keys=True) + "\n"
    )


def test_every_text_that_the_code_asks_for_is_there_and_no_other():
    whole, beginnings = keys_in_code()
    assert len(whole) > 150
    known = catalogue("en").keys()
    assert whole <= known
    for beginning in beginnings:
        assert any(key.startswith(beginning) for key in known), beginning
    unused = {key for key in known - whole if not key.startswith((OF_PAGE, *beginnings))}
    assert not unused


def test_korean_particles_fit_whatever_stands_before_them():
    """은 or 는, 이 or 가: that depends on the last sound, so none follows a value."""
    after_a_value = re.compile(r"\}[”’\"')]*(" + PARTICLES + r")(?![가-힣])")
    for key, form in catalogue("ko").items():
        # The page's values after which one stands are percentages: all end in the same sound.
        assert key.startswith(OF_PAGE) or not after_a_value.search(form), (key, form)
        assert not re.search(r"은\(는\)|이\(가\)|을\(를\)|[과와]\([과와]\)|\([으이]\)", form), (
            key,
            form,
        )


@pytest.mark.parametrize("key", sorted(k for k in catalogue("ko") if k.startswith("caption.")))
def test_korean_captions_are_polite_sentences(key):
    assert catalogue("ko")[key].endswith(("니다.", "{updates}"))


def test_a_message_says_what_stands_in_it_in_its_own_language():
    attention = message("label.attention.decoder_cross", layer="2")
    said = message("caption.qkv.by_layer", vector="K", attention=attention, head="3", rank="1.5")
    assert "The K of decoder 2 cross head 3 uses" in said.text()
    assert "디코더 2층 교차 어텐션 3번 헤드의 K 벡터" in said.text("ko")
    language.use("ko")
    assert said.text() == said.text("ko")
    assert text("caption.qkv.by_layer", **said.values) == said.text("ko")
    assert said.as_dict() == {
        "key": "caption.qkv.by_layer",
        "values": {
            "vector": "K",
            "attention": {"key": "label.attention.decoder_cross", "values": {"layer": "2"}},
            "head": "3",
            "rank": "1.5",
        },
    }


def test_a_value_may_look_like_a_place():
    assert "“{layer} {}”" in message(
        "caption.alignment.sentence", layer="1", head="1", sentence="{layer} {}", right="1",
        words="2",
    ).text("ko")  # fmt: skip


def test_a_text_that_is_not_there_is_an_error():
    with pytest.raises(KeyError, match="nothing"):
        text("caption.nothing")
    with pytest.raises(KeyError, match="layer"):
        Message("label.layer.encoder").text()


@pytest.mark.parametrize(
    ("variables", "spoken"),
    [
        ({}, "en"),
        ({"LANG": "ko_KR.UTF-8"}, "ko"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": "ko_KR.UTF-8", "LC_MESSAGES": "en_US.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "ko_KR"}, "ko"),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "de_DE", "LC_ALL": "ko"}, "ko"),
        ({"LANG": "ko_KR.UTF-8", "LC_ALL": ""}, "ko"),
    ],
)
def test_auto_speaks_the_language_of_the_system(monkeypatch, variables, spoken):
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    language.use("auto")
    assert language.in_use() == spoken
    assert text("label.layer.encoder", layer="1") == {"en": "encoder 1", "ko": "인코더 1층"}[spoken]


@pytest.mark.parametrize(("option", "spoken"), [((), "ko"), (("--lang", "en"), "en")])
def test_the_command_line_chooses_the_language(monkeypatch, option, spoken):
    monkeypatch.setenv("LC_ALL", "ko_KR.UTF-8")
    heard = []
    monkeypatch.setattr("utils.selfcheck.run_selfcheck", lambda _: heard.append(language.in_use()))
    main.main(["--version", "test", *option])
    assert heard == [spoken]


def test_processes_that_draw_speak_the_same_language(monkeypatch):
    monkeypatch.setattr(figure_writer, "PROCESSES", 2)
    language.use("ko")
    with FigureWriter(RunConfig(quiet=True)) as writer:
        assert writer._pool.submit(language.in_use).result() == "ko"


RUN = (
    "--version pytorch --dataset grammar --hidden_size 16 --num_layers 1 --num_heads 2 "
    "--train_size 96 --eval_size 16 --batch_size 16 --vocab_size 400 --device cpu --epochs 1"
).split()


def test_the_tour_of_a_run_is_told_in_korean(tmp_path, capsys):
    where = ["--output_dir", str(tmp_path), "--no_visualize"]
    assert main.main([*RUN, *where, "--quiet"]) == 0
    best = str(tmp_path / "results_pytorch" / "checkpoints" / "best_model.pt")
    analysis = ["--version", "analysis", "--checkpoint", best, "--device", "cpu"]
    capsys.readouterr()
    assert main.main([*analysis, *where, "--lang", "ko"]) == 0
    tour = capsys.readouterr().out
    assert "가장 잘 정렬하는 헤드" in tour
    told = [line.removeprefix("  * ") for line in tour.splitlines() if line.startswith("  * ")]
    assert len(told) >= 17
    assert all(caption.endswith("니다.") for caption in told)
    found = json.loads((tmp_path / "results_analysis" / "analysis.json").read_text("utf-8"))
    assert found["qkv"]["norm"]["name"] == "mean norm"  # what programs read is English
    assert found["attention"]["entropy"]["axes"]["attention"][0] == "encoder 1 self"


@pytest.mark.slow
def test_a_run_in_korean_draws_in_korean(tmp_path):
    """Also without a missing glyph: that would be an error."""
    options = ["--output_dir", str(tmp_path), "--visualize", "--quiet", "--lang", "ko"]
    assert main.main([*RUN, *options]) == 0
    manifest = tmp_path / "results_pytorch" / "visualizations" / "manifest.json"
    records = json.loads(manifest.read_text("utf-8"))
    captions = [record["caption"] for record in records if "caption" in record]
    assert len(captions) >= 17
    assert all(caption.endswith("니다.") for caption in captions)
    for record in records:  # what programs read is English
        assert not re.search("[가-힣]", f"{record['shows']} {record['axes']}")


def test_a_run_may_go_on_in_another_language(tmp_path, capsys):
    where = ["--output_dir", str(tmp_path), "--no_visualize", "--quiet"]
    assert main.main([*RUN, *where, "--max_steps", "2"]) == 0
    assert main.main([*RUN, *where, "--max_steps", "3", "--resume", "--lang", "ko"]) == 0
    assert language.in_use() == "ko"
    summary = json.loads((tmp_path / "results_pytorch" / "summary.json").read_text("utf-8"))
    assert summary["config"]["lang"] == "ko"
