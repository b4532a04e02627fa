"""What ``report.html`` holds: results, words, fonts, its size. How it looks is tested elsewhere."""

import base64
import io
import json
import re
from itertools import pairwise

import numpy as np
import pytest
from fontTools.ttLib import TTFont

import main
from tests.outcomes import data_of_page
from utils import page, page_data
from utils.corpus import Pair, generate
from utils.history import History
from utils.language import LANGUAGES, Message, catalogue
from utils.page import as_script
from utils.page_data import DETAILS
from utils.page_fonts import font_faces
from utils.page_words import SECTIONS, explanations
from utils.results import ResultsFolder
from utils.subject import Pieces

TINY = (
    "--version", "pytorch", "--epochs", "2", "--train_size", "120", "--eval_size", "30",
    "--batch_size", "8", "--vocab_size", "400", "--hidden_size", "16", "--num_layers", "2",
    "--num_heads", "2", "--track_internals", "--no_visualize", "--quiet",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The results folder of a short run."""
    folder = tmp_path_factory.mktemp("trained")
    assert main.main([*TINY, "--output_dir", str(folder)]) == 0
    return folder / "results_pytorch"


def data_of(folder):
    return data_of_page(folder / "report.html")


def unpacked(packed):
    numbers = np.frombuffer(base64.b64decode(packed["data"]), "<" + packed["type"])
    scale = 65535 if packed["type"] == "u2" else 1
    return numbers.reshape(packed["shape"]) / scale


# What is in it


def test_results_are_those_of_the_files(trained):
    found = data_of(trained)["models"][0]
    summary = json.loads((trained / "summary.json").read_text("utf-8"))
    assert found["summary"] == {key: summary[key] for key in summary if key != "files"}
    lines = ResultsFolder(trained).read_metrics()
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    np.testing.assert_allclose(found["curves"]["train"]["loss"], losses, rtol=1e-4)
    nlls = [line["nll"] for line in lines if line["kind"] == "eval"]
    np.testing.assert_allclose(found["curves"]["eval"]["nll"], nlls, rtol=1e-4)
    probes = [line for line in lines if line["kind"] == "probe"]
    norms = found["followed"]["residual"]["norm"]
    place = norms["axes"]["name"].index("encoder.embed")
    expected = [probe["residual"]["encoder.embed"]["norm"] for probe in probes]
    np.testing.assert_allclose(norms["values"][place], expected, rtol=1e-4)


def test_maps_over_training_are_those_that_were_followed(trained):
    history = History.load(trained, ResultsFolder(trained).read_metrics("probe"))
    found = data_of(trained)["models"][0]["attention"]["over_training"]
    assert [at["step"] for at in found] == list(history.maps)
    for at in found:
        assert at["maps"].keys() == history.maps[at["step"]].keys()
        for name, maps in at["maps"].items():
            for place, packed in maps.items():
                expected = history.maps[at["step"]][name][int(place)]
                np.testing.assert_allclose(unpacked(packed), expected, atol=1e-5)


def test_the_newest_map_is_that_of_the_model_where_the_last_step_is_the_best(trained):
    """Without averaging; the tiny run gets better with every epoch."""
    found = data_of(trained)["models"][0]
    last = found["attention"]["over_training"][-1]
    if found["step"] != last["step"]:
        pytest.fail("the run is not what this test needs: its last step is not its best")
    for name, maps in last["maps"].items():
        finished = unpacked(found["attention"]["finished"][name][0])
        np.testing.assert_allclose(finished, unpacked(maps["0"]), atol=2e-5)


def test_vectors_make_the_maps(trained):
    """softmax(q k^T / sqrt(d_k)) of the encoder's packed vectors is its packed map."""
    found = data_of(trained)["models"][0]
    vectors = found["vectors"][0]["encoder.0.self_attn"]
    q, k = unpacked(vectors["q"]), unpacked(vectors["k"])
    scores = np.exp(q @ k.transpose(0, 2, 1) / q.shape[-1] ** 0.5)
    weights = unpacked(found["attention"]["finished"]["encoder.0.self_attn"][0])
    np.testing.assert_allclose(weights, scores / scores.sum(-1, keepdims=True), atol=2e-5)


def test_every_section_is_explained(trained):
    (said,) = data_of(trained)["explanations"]
    assert tuple(said) == SECTIONS
    for messages in said.values():
        assert messages
        for entry in messages:
            for language in LANGUAGES:
                text = as_message(entry).text(language)
                assert "{" not in text


@pytest.mark.parametrize(
    ("rates", "key"), [([1e-3, 3e-3, 2e-3], "rate"), ([1e-3, 2e-3, 3e-3], "rising")]
)
def test_a_run_that_ends_in_its_warm_up_is_told_so(trained, rates, key):
    model = data_of(trained)["models"][0]
    train = {"step": [1, 2, 3], "loss": [3.0, 2.0, 1.0], "lr": rates}
    model["curves"] = model["curves"] | {"train": train}
    said = explanations("training", model, None)["training"]
    assert said[-1].key == f"page.training.{key}"
    assert said[-1].values["peak"] == "0.003"


def as_message(entry):
    values = {
        name: as_message(value) if isinstance(value, dict) else value
        for name, value in entry["values"].items()
    }
    return Message(entry["key"], values)


def test_a_page_is_the_last_line_and_in_the_list_of_files(trained, capsys):
    folder = trained.parent
    options = ["--version", "pytorch", "--resume", "--epochs", "3", "--no_visualize"]
    assert main.main([*options, "--output_dir", str(folder)]) == 0
    assert capsys.readouterr().out.rstrip().splitlines()[-1] == str(trained / "report.html")
    assert "report.html" in json.loads((trained / "summary.json").read_text("utf-8"))["files"]


# Its size


def test_a_page_that_would_be_too_large_leaves_things_out(trained, tmp_path, monkeypatch, caplog):
    sizes = []

    class Some:
        def content(self, detail):
            sizes.append(detail)
            return content_of(detail, data_of(trained))

    def content_of(detail, whole):
        return whole | {"filler": "x" * (400_000 * (len(DETAILS) - len(sizes)))}

    fixed = len(page.render(data_of(trained)))
    monkeypatch.setattr(page, "MOST_BYTES", fixed + 500_000)
    path = page.write(Some(), tmp_path)
    assert path.stat().st_size <= fixed + 500_000
    assert sizes == list(DETAILS[:4])  # the first that fits


def test_less_detail_is_less(trained, tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(page, "render", lambda content: found.append(content) or b"x" * 10**9)
    main.main(["--version", "analysis", "--checkpoint", str(trained / "checkpoints/best_model.pt"),
               "--no_visualize", "--quiet", "--output_dir", str(tmp_path)])  # fmt: skip
    sizes = [len(json.dumps(content)) for content in found]
    assert len(sizes) == len(DETAILS)
    assert all(b <= a + len("e") for a, b in pairwise(sizes))  # true, false
    assert sizes[-1] < 0.6 * sizes[0]
    assert [content["is_whole"] for content in found] == [True] + [False] * (len(DETAILS) - 1)
    steps = [len(content["models"][0]["attention"]["over_training"]) for content in found]
    assert steps[-1] <= 4
    vectors = [content["models"][0]["vectors"][0] for content in found]
    assert len(vectors[0]) == 6  # of two layers in either stack
    assert list(vectors[-1]) == [
        "encoder.1.self_attn",
        "decoder.1.self_attn",
        "decoder.1.cross_attn",
    ]


# What is not said in so many words


def test_numbers_keep_five_digits():
    assert page_data.rounded({"a": [1.23456789, 3, "x", None, float("nan")], "b": (1e-17,)}) == {
        "a": [1.2346, 3, "x", None, None],
        "b": [1e-17],
    }


def test_text_inside_a_script_cannot_end_it():
    nasty = {"a": "</script><!-- \u2028 & <script>", "b": '"quoted" \\ \x00'}
    written = as_script(nasty)
    assert json.loads(written) == nasty
    assert not set("<>&\u2028") & set(written)
    assert as_script({"a": [1.5, float("nan")]}) == '{"a":[1.5,null]}'


def test_best_and_worst_translations():
    lines = [
        {"src": "a", "reference": "one two three", "hypothesis": hypothesis}
        for hypothesis in ("one two three", "one two", "x", "one two three four", "", "three")
    ]
    found = page_data.best_and_worst(lines)
    assert [line["hypothesis"] for line in found["worst"]][:2] == ["x", ""]
    assert found["best"][0]["hypothesis"] == "one two three"
    assert found["best"][0]["chrf"] == pytest.approx(100)
    assert len(found["best"]) + len(found["worst"]) == len(lines)  # none twice
    assert page_data.best_and_worst([]) == {"best": [], "worst": []}


def test_gold_links_go_from_token_to_token():
    """The article has no sure link; cat -> 고양이가, in two tokens; slept -> 잤어요."""
    pair = Pair("the cat slept", "고양이가 잤어요", ((1, 0), (2, 1)), ((0, 0),), tgt_stems=(3, 1))
    pieces = Pieces(
        src=["▁the", "▁cat", "▁sl", "ept", "</s>"],
        inputs=["<s>", "▁고양이", "가", "▁잤어요"],
        tgt=["▁고양이", "가", "▁잤어요", "</s>"],
    )
    assert page_data.gold_links(pair, pieces) == [
        [0, 0, False], [0, 1, True], [1, 0, False], [1, 1, True], [2, 2, True], [2, 3, True],
    ]  # fmt: skip
    assert page_data.gold_links(None, pieces) is None
    assert page_data.gold_links(Pair("a", "b"), pieces) is None


def test_the_fonts_hold_every_sign_of_the_page():
    text = "".join(pair.src + pair.tgt for pair in generate("grammar", "test", 200, 0)) + "▁é√"
    css, families = font_faces(text)
    held = set()
    for data in re.findall(r"base64,([\w+/=]+)", css):
        held |= set(TTFont(io.BytesIO(base64.b64decode(data))).getBestCmap())
    assert {ord(c) for c in text} <= held
    assert css.count("@font-face") == families.count("'Page ")
    assert len(css) < 200_000


# Words

SCRIPTS = "".join(path.read_text("utf-8") for path in sorted(page.TEMPLATES.glob("*.js")))
TEMPLATE = (page.TEMPLATES / "report.html.j2").read_text("utf-8")
WORDS = (page.TEMPLATES.parent / "page_words.py").read_text("utf-8")
KEYS = [key for key in catalogue("en") if key.startswith("page.")]


def patterns():
    """Keys that the page names, as patterns: what is put into a template literal can be any."""
    named = re.findall(r'["`](page\.[^"`]*)["`]', SCRIPTS + TEMPLATE + WORDS)
    for name in named:
        parts = re.split(r"\$?\{+[^{}]*\}+", name.strip())
        yield ".+".join(map(re.escape, parts))


@pytest.mark.parametrize("key", KEYS)
def test_every_text_of_the_catalogue_is_used(key):
    assert any(re.fullmatch(pattern, key) for pattern in patterns())


@pytest.mark.parametrize("pattern", sorted(set(patterns()) - {re.escape("page.")}))
def test_every_text_that_is_named_is_in_the_catalogue(pattern):
    assert any(re.fullmatch(pattern, key) for key in KEYS)
