"""``report.html`` as its reader meets it: opened from disk in a browser without a network."""

import io
import json
import sys

import numpy as np
import pytest

import main
from tests.browser import (
    chart,
    choose,
    chromium,
    draw,
    draw_stale,
    faults,
    opened,
    slide,
    texts,
)
from utils.language import catalogue
from utils.page_words import SECTIONS

pytestmark = pytest.mark.slow
TRAINED = (
    "--epochs", "2", "--train_size", "300", "--eval_size", "40", "--batch_size", "8", "--debug",
    "--track_internals", "--no_visualize", "--quiet",
)  # fmt: skip
HOSTILE = '<script>alert(1)</script> & "quoted" <b>bold</b> </script> \x00 %{x} $x^2$'
PAGES = ("pytorch", "huggingface", "comparison", "analysis")


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A folder with the results of both versions, of their comparison and of an analysis."""
    folder = tmp_path_factory.mktemp("pages")
    out = ("--output_dir", str(folder))
    assert main.main(["--version", "both", *TRAINED, *out]) == 0
    best = folder / "results_pytorch" / "checkpoints" / "best_model.pt"
    analysed = ["--version", "analysis", "--checkpoint", str(best), "--text", "-", "--no_visualize"]
    with pytest.MonkeyPatch.context() as patch:
        lines = f"{HOSTILE}\nThe student bought a book.\n".encode()
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
        assert main.main([*analysed, "--debug", *out]) == 0
    return folder


@pytest.fixture
def page_of(results):
    return lambda name: results / f"results_{name}" / "report.html"


def of(results, version, file):
    return json.loads((results / f"results_{version}" / file).read_text("utf-8"))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_without_a_network_and_every_section_is_filled(browser, page_of, name):
    """`opened` fails on any complaint and on any request."""
    with opened(browser, page_of(name)) as page:
        for section in SECTIONS:
            assert page.locator(f"#{section} .explanation").inner_text().strip()
            assert page.locator(f"#{section} .content > *").count()
            empty = page.locator(f"#{section} .empty").count()
            assert bool(empty) == (section == "parity" and name != "comparison")


@pytest.mark.parametrize(
    ("name", "width"),
    [("comparison", 375), ("comparison", 1280), ("comparison", 2560), ("analysis", 375)],
)
def test_nothing_overlaps_or_is_cut(browser, page_of, name, width):
    with opened(browser, page_of(name), width=width) as page:
        for language in ("English", "한국어"):
            page.get_by_role("button", name=language).click()
            draw(page)
            page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
            page.wait_for_timeout(300)
            assert faults(page) == []


def test_the_step_slider_shows_what_was_followed(browser, results, page_of):
    """Maps are rounded to 1/65535 on the page."""
    with np.load(results / "results_pytorch" / "logs" / "tracking.npz") as tracked:
        maps = {key: tracked[key] for key in tracked.files if key.startswith("maps/")}
    steps = sorted({int(key.split("/")[1]) for key in maps})
    with opened(browser, page_of("pytorch"), "attention") as page:
        names = page.evaluate("attentionOf().names")
        for place, name in ((0, names[0]), (len(names) - 1, names[-1])):
            choose(page, "attention", "attention", place)
            for sentence, head in ((0, 1), (1, 3)):
                choose(page, "attention", "sentence", sentence)
                choose(page, "attention", "head", head)
                for number in (0, len(steps) - 1):
                    slide(page, "step-slider", number)
                    expected = maps[f"maps/{steps[number]}/{name}/{sentence}"][head]
                    np.testing.assert_allclose(chart(page, "attention-map"), expected, atol=1e-5)
        shown = page.locator("#row-numbers td").all_inner_texts()
        np.testing.assert_allclose([float(text) for text in shown], expected[0], atol=6e-5)


def test_pointing_at_a_token_shows_its_row(browser, page_of):
    with opened(browser, page_of("pytorch"), "attention") as page:
        expected = chart(page, "attention-map")[2]
        page.locator("#token-view .queries button").nth(2).hover()
        shown = page.locator("#row-numbers td").all_inner_texts()
        np.testing.assert_allclose([float(text) for text in shown], expected, atol=6e-5)
        strong = [weight for weight in expected if weight >= 0.02]
        drawn = page.locator("#token-view line").evaluate_all(
            "(lines) => lines.filter((line) => line.getAttribute('class') === ''"
            " && line.style.strokeWidth === '3').map((line) => Number(line.style.strokeOpacity))"
        )
        np.testing.assert_allclose(sorted(drawn), sorted(strong), atol=1e-5)


def test_the_analysis_shows_the_maps_of_its_json(browser, results, page_of):
    found = of(results, "analysis", "analysis.json")
    with opened(browser, page_of("analysis"), "attention") as page:
        for number, sentence in enumerate(found["sentences"]):
            ((name, maps),) = sentence["cross_attention"].items()
            choose(page, "attention", "sentence", number)
            choose(page, "attention", "attention", page.evaluate("attentionOf().names").index(name))
            for head in (0, len(maps) - 1):
                choose(page, "attention", "head", head)
                np.testing.assert_allclose(chart(page, "attention-map"), maps[head], atol=1e-5)


def test_the_arithmetic_of_a_row_comes_to_the_weights_of_the_map(browser, page_of):
    """Computed in the page from q, k and v; the map was captured after the model's softmax."""
    with opened(browser, page_of("pytorch"), "attention", "qkv") as page:
        for place in (0, 2, 3):  # of an encoder, masked, and of a decoder to the source
            choose(page, "qkv", "attention", place)
            choose(page, "qkv", "query", 3)
            row = page.evaluate("arithmeticNow()")
            expected = chart(page, "attention-map")[3]
            np.testing.assert_allclose(row["weights"], expected, atol=2e-5)
            q, keys = np.array(row["q"]), np.array(row["keys"])
            np.testing.assert_allclose(row["products"], keys @ q, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(
                row["context"], np.array(row["weights"]) @ row["values"], atol=1e-5
            )
            cells = page.locator("#row-table tbody tr").all_inner_texts()
            shown = [line.replace("−", "-").split("\t") for line in cells]
            np.testing.assert_allclose([float(c[5]) for c in shown], row["weights"], atol=6e-5)
            np.testing.assert_allclose([float(c[1]) for c in shown], row["products"], atol=6e-4)
            np.testing.assert_allclose(
                [float(c[2]) for c in shown], np.array(row["products"]) / len(q) ** 0.5, atol=6e-4
            )


def test_a_head_of_the_grid_can_be_jumped_to(browser, page_of):
    with opened(browser, page_of("comparison"), "attention") as page:
        page.locator('[data-head="encoder.1.self_attn/2"]').click()
        chosen = page.evaluate("[Chosen.attention, Chosen.head]")
        assert chosen == ["encoder.1.self_attn", 2]
        assert page.locator('[data-head="encoder.1.self_attn/2"]').evaluate(
            "(button) => button === document.activeElement"
        )


def test_the_gradient_slider_shows_what_was_followed(browser, results, page_of):
    lines = (results / "results_pytorch" / "logs" / "metrics.jsonl").read_text().splitlines()
    probes = [record for record in map(json.loads, lines) if record["kind"] == "probe"]
    with opened(browser, page_of("pytorch"), "gradients") as page:
        for number in (0, len(probes) - 1):
            slide(page, "gradient-slider", number)
            shown = chart(page, "gradient-map")
            expected = probes[number]["weights"]["encoder.0.self_attn.q"]["gradient_norm"]
            assert 10 ** shown[0][0] == pytest.approx(expected, rel=1e-4)


def test_numbers_are_those_of_the_files(browser, results, page_of):
    """Percentages have one digit after the point, other numbers four significant ones."""
    summary = of(results, "pytorch", "summary.json")
    compared = of(results, "comparison", "comparison.json")
    with opened(browser, page_of("pytorch"), "overview") as page:
        rows = dict(
            line.split("\t")
            for line in page.locator("#overview .key-value tr").all_inner_texts()[:9]
        )
        said = catalogue("en")
        for name in ("eval_nll", "eval_ppl", "bleu", "chrf", "aer"):
            shown = float(rows[said[f"page.metric.{name}"]].replace(",", ""))
            assert shown == pytest.approx(summary["metrics"][name], rel=5e-4, abs=1e-9)
        accuracy = rows[said["page.metric.token_accuracy"]]
        assert accuracy == f"{100 * summary['metrics']['token_accuracy']:.1f} %"
    with opened(browser, page_of("comparison"), "overview", "parity") as page:
        points = page.locator("#parity-table tbody tr").all_inner_texts()
        assert page.evaluate("DATA.comparison.parity") == compared["parity"]
        page.locator("#parity-table summary").click()
        points = [line.split("\t") for line in page.locator("#parity-table tr").all_inner_texts()]
        assert [line[0] for line in points[1:]] == [row["point"] for row in compared["parity"]]
        for line, row in zip(points[1:], compared["parity"], strict=True):
            shown = float(line[1].replace("−", "-"))
            assert shown == pytest.approx(row["max_abs_fp64"], rel=0.05)
        own = compared["paired_training"]["fp32"]["max_abs_loss_difference_of_own_attention_paths"]
        assert f"come to {own:.0e}" in page.locator("#parity").inner_text()
        for version in ("pytorch", "huggingface"):
            column = 1 + ("pytorch", "huggingface").index(version)
            cells = page.locator("#overview .scroll tbody tr").all_inner_texts()
            assert cells[0].split("\t")[column] == f"{compared['metrics'][version]['eval_nll']:.4f}"


def test_the_grid_of_heads_has_the_numbers_of_the_analysis(browser, results, page_of):
    found = of(results, "analysis", "analysis.json")
    entropy, ablation = found["attention"]["entropy"], found["head_ablation"]["nll"]
    shift = found["alignment"]["best"]["shift"]
    rates = {
        (row["layer"], row["head"]): row["aer"]
        for row in found["alignment"]["table"]
        if row["shift"] == shift
    }
    with opened(browser, page_of("analysis"), "attention") as page:
        for i, label in enumerate(entropy["axes"]["attention"]):
            stack, layer, site = label.split()
            for head in range(len(entropy["values"][i])):
                name = f"{stack}.{int(layer) - 1}.{site}_attn/{head}"
                shown = page.locator(f'[data-head="{name}"]').inner_text().split("\n")
                expected = [f"H {entropy['values'][i][head]:.2f}"]
                if site == "cross":
                    expected.append(f"AER {rates[int(layer), head + 1]:.2f}")
                place = ablation["axes"]["attention"].index(label)
                expected.append(f"Δ {ablation['values'][place][head]:.2f}".replace("-", "−"))
                assert shown == expected


def test_the_inside_of_layers_has_the_numbers_of_the_analysis(browser, results, page_of):
    found = of(results, "analysis", "analysis.json")
    lens, sparsity = found["logit_lens"], found["ffn"]["sparsity"]
    with opened(browser, page_of("analysis"), "layer") as page:
        rows = page.locator("#layer .of-tokens").first.locator("tbody tr")
        for i, tokens in enumerate(lens["tokens"]):
            cells = rows.nth(i).locator("td")
            shown = [text.split("\n")[0] for text in cells.all_inner_texts()]
            assert [s.strip() for s in shown] == [token.strip() for token in tokens]
            is_right = cells.evaluate_all("(cells) => cells.map((c) => c.className === 'right')")
            assert is_right == [rank == 1 for rank in lens["right_rank"]["values"][i]]
        neuron = found["ffn"]["neurons"][0]
        units = page.locator("#layer tr", has_text=neuron["tokens"][0][0]).locator("td.number")
        assert str(neuron["unit"] + 1) in units.all_inner_texts()  # from 1, as figures count
        shares = np.array(chart(page, "ffn-use", "y")) / 100
        np.testing.assert_allclose(shares, sparsity["values"], rtol=1e-4)
        first = found["embeddings"]["layers"]["encoder"]
        np.testing.assert_allclose(
            [chart(page, "ways", "x"), chart(page, "ways", "y")],
            np.transpose(first["coordinates"][0]),
            rtol=1e-4,
            atol=1e-6,
        )


def test_curves_are_those_of_the_metrics(browser, results, page_of):
    lines = (results / "results_pytorch" / "logs" / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    train = [record for record in records if record["kind"] == "train"]
    evals = [record for record in records if record["kind"] == "eval"]
    with opened(browser, page_of("pytorch"), "training") as page:
        for name, key in (
            ("chart-loss", "loss"),
            ("chart-rate", "lr"),
            ("chart-gradient", "grad_norm"),
        ):
            assert chart(page, name, "x") == [record["step"] for record in train]
            np.testing.assert_allclose(chart(page, name, "y"), [r[key] for r in train], rtol=1e-4)
        np.testing.assert_allclose(
            page.evaluate("document.getElementById('chart-loss').data[1].y"),
            [record["nll"] for record in evals],
            rtol=1e-4,
        )
        timed = [record for record in train if "tokens_per_sec" in record]
        assert timed
        np.testing.assert_allclose(
            chart(page, "chart-speed", "y"), [r["tokens_per_sec"] for r in timed], rtol=1e-4
        )


def test_every_operation_is_listed_and_coloured_by_its_kind(browser, results, page_of):
    found = of(results, "pytorch", "logs/trace.json")
    linear = {step["name"]: step["linear"] for step in found["forward"]}
    with opened(browser, page_of("pytorch"), "trace") as page:
        page.evaluate(
            "document.querySelectorAll('#trace details').forEach((d) => { d.open = true; })"
        )
        shown = page.locator("#trace .operation").evaluate_all(
            "(rows) => rows.map((row) => [row.children[1].textContent,"
            " row.children[0].classList.contains('linear'), row.children[2].textContent])"
        )
        expected = [*found["forward"], *found["backward"]]
        assert [row[0] for row in shown] == [step["name"] for step in expected]
        assert [row[1] for row in shown] == [linear[step["name"]] for step in expected]
        assert all(
            row[2].startswith(step["formula"]) for row, step in zip(shown, expected, strict=True)
        )


def untranslated(page, other):
    """Texts of the page that stand word for word in the catalogue of the ``other`` language."""
    mine = {"en": "ko", "ko": "en"}[other]
    foreign = {
        text
        for key, text in catalogue(other).items()
        if key.startswith(("page.", "label.", "compare."))
        and "{" not in text
        and catalogue(mine)[key] != text
    }
    return [text for text in texts(page) if text in foreign and any(map(str.isalpha, text))]


@pytest.mark.parametrize("name", ["comparison", "analysis"])
def test_the_language_switch_leaves_nothing_behind(browser, page_of, name):
    with opened(browser, page_of(name), language="ko-KR") as page:
        assert page.locator("html").get_attribute("lang") == "ko"
        assert untranslated(page, "en") == []
    with opened(browser, page_of(name), language="en-US") as page:
        assert untranslated(page, "ko") == []
        english = page.locator(".explanation").all_inner_texts()
        page.get_by_role("button", name="한국어").click()
        draw_stale(page)
        assert untranslated(page, "en") == []
        korean = page.locator(".explanation").all_inner_texts()
        assert not set(english) & set(korean)
        assert all(any("가" <= c <= "힣" for c in text) for text in korean)
        page.get_by_role("button", name="English").click()
        draw_stale(page)
        assert page.locator(".explanation").all_inner_texts() == english


def test_a_users_text_is_never_markup(browser, page_of):
    """Scripts, tags, quotes, a null character and what Plotly takes for templates."""
    with opened(browser, page_of("analysis"), "overview", "attention", "qkv", "layer") as page:
        assert page.evaluate("sentenceNow().src") == HOSTILE
        shown = HOSTILE.replace("\x00", "U+0000")
        assert shown in page.locator("#attention [data-choose=sentence] option").first.inner_text()
        assert page.locator("#overview").inner_text().count("<script>alert(1)</script>") >= 1
        tokens = page.evaluate("sentenceNow().src_tokens.map(visible)")
        assert "<" in "".join(tokens)
        buttons = page.locator("#token-view .keys button").all_inner_texts()
        assert [text.strip() for text in buttons] == [token.strip() for token in tokens]
        ticks = page.locator("#attention-map .xtick text").evaluate_all(
            "(labels) => labels.map((label) => label.textContent)"
        )
        assert [t.strip() for t in ticks] == [token.strip() for token in tokens]
        for name, kind in (("ways", ".textpoint text"), ("v-vectors", ".ytick text")):
            labels = page.locator(f"#{name} {kind}").evaluate_all(
                "(labels) => labels.map((label) => label.textContent)"
            )
            own = {label.strip().partition("v(")[2].removesuffix(")") or label for label in labels}
            assert own & {token.strip() for token in tokens if "<" in token or "&" in token}
        # No token of this vocabulary is a whole tag; others' vocabularies have such.
        tags = ["<b>bold</b>", "&lt;", "<a href='x'>y</a>", "<br>", "a\x00b"]
        page.evaluate(
            """(tags) => draw(
                 document.getElementById("attention-map"),
                 [heatmap([tags.map(() => 1)])],
                 { xaxis: tokenAxis("<i>x</i>", tags) },
               )""",
            tags,
        )
        labels = page.locator("#attention-map .xtick text, #attention-map .xtitle").evaluate_all(
            "(labels) => labels.map((label) => label.textContent)"
        )
        assert labels == [*tags[:4], "aU+0000b", "<i>x</i>"]
        assert page.locator("main script").count() == 0
        assert page.locator("main b, .chart b, main .content script").count() == 0


def test_the_keyboard_reaches_everything_that_can_be_chosen(browser, page_of):
    with opened(browser, page_of("pytorch"), "attention", "qkv", "layer", "gradients") as page:
        reached = set()
        page.evaluate("document.body.focus()")
        for _ in range(200):
            page.keyboard.press("Tab")
            active = page.evaluate_handle("document.activeElement")
            reached.add(active.evaluate("(element) => element.dataset.choose ?? element.id"))
        wanted = {"sentence", "attention", "head", "query", "key", "step-slider", "gradient-slider"}
        assert wanted | {"theme", "gold", "ways", "quantity-qkv"} <= reached
        page.locator("#attention [data-choose=head]").focus()
        page.keyboard.press("ArrowDown")
        page.wait_for_timeout(200)
        assert page.evaluate("Chosen.head") == 1
        focused = page.evaluate("document.activeElement.dataset.choose")
        assert focused == "head"  # though the list was made anew


def test_dark_and_light(browser, page_of):
    with opened(browser, page_of("pytorch"), "training", scheme="dark") as page:
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        font = page.evaluate("document.getElementById('chart-loss').layout.font.color")
        page.locator("#theme").click()
        draw(page, "training")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
        assert page.evaluate("document.getElementById('chart-loss').layout.font.color") != font


def test_both_models_can_be_chosen_in_a_comparison(browser, results, page_of):
    with opened(browser, page_of("comparison"), "training", "attention") as page:
        first = chart(page, "attention-map")
        page.locator("#model").select_option("Hugging Face")
        draw_stale(page)
        assert page.evaluate("model().version") == "huggingface"
        # Without dropout both have learnt the same.
        np.testing.assert_allclose(chart(page, "attention-map"), first, atol=1e-2)
        names = [
            trace["name"] for trace in page.evaluate("document.getElementById('chart-loss').data")
        ]
        assert any(n.startswith("PyTorch") for n in names)
        assert any(n.startswith("Hugging Face") for n in names)


def test_hangul_is_drawn_with_the_pages_own_font(browser, page_of):
    with opened(browser, page_of("pytorch"), "overview", "training", language="ko-KR") as page:
        fonts = page.evaluate("[...document.fonts].map((font) => [font.family, font.status])")
        states = [status for family, status in fonts if "1" in family]
        assert states
        assert set(states) == {"loaded"}
        family = page.evaluate("document.getElementById('chart-loss').layout.font.family")
        assert "Page 1" in family
