"""The documents under docs/: what they say of the code is true of it, in both languages."""

import functools
import importlib
import json
import re
import shlex
from collections import Counter
from pathlib import Path

import pytest
import torch

import main
from pytorch_version.model import hook_points, inside
from pytorch_version.saved import build_model
from utils.batching import collate
from utils.data import prepare
from utils.experiment import Experiment
from utils.insight import shown_pairs
from utils.language import CATALOGUES
from utils.operations import Kind, Variant, operations
from utils.trace import trace
from utils.trace_listing import lines
from utils.tracking import probe_pairs

ROOT = Path(main.__file__).parent
DOCS = ROOT / "docs"
PACKAGES = ("pytorch_version", "huggingface_version", "utils")
# transformers' own modules, by the name that the documents call them.
THEIRS = {
    "modeling_marian": "transformers.models.marian.modeling_marian",
    "sdpa_attention": "transformers.integrations.sdpa_attention",
    "generation.utils": "transformers.generation.utils",
    "masking_utils": "transformers.masking_utils",
    "cache_utils": "transformers.cache_utils",
    "trainer": "transformers.trainer",
    "trainer_seq2seq": "transformers.trainer_seq2seq",
}
FILE_ENDINGS = set(
    "bat html jpg js json jsonl log md npz pdf png pt py safetensors sh svg txt".split()
)
TOURS = ("forward_pass.md", "forward_pass.ko.md")
OURS = (*TOURS, "paper_map.md", "glossary.md")
CITING = [
    *sorted((ROOT / "pytorch_version").glob("*.py")),
    *sorted((ROOT / "huggingface_version").glob("*.py")),
    *(
        ROOT / "utils" / f"{name}.py"
        for name in ("objective", "operations", "checkpoint", "config")
    ),
]
# Terms that the program's Korean texts do not use; all others must be theirs.
NOT_IN_CATALOGUE = {
    "ablation", "beam search", "bf16", "causal mask", "checkpoint", "checkpoint averaging",
    "epoch", "gradient accumulation", "greedy search", "length penalty", "positional encoding",
    "probe", "ReLU", "subword (BPE)", "teacher forcing", "value-weighted attention", "vocabulary",
}  # fmt: skip

HANGUL = re.compile("[가-힣]")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
LINKED_SYMBOL = re.compile(r"\[`([\w.]+)`\]\(([^)\s]+\.py)\)")
CODE_SPAN = re.compile(r"`([^`\n]+)`")
STEP_ROW = re.compile(
    r"(?P<mark>\S) +(?P<name>\S+) +(?P<formula>.+?) +"
    r"(?P<section>\d\.\d(?:\.\d)?(?:-\d\.\d)?) +(?P<shape>\d+(?:x\d+)*|scalar)"
)


def every_document():
    return sorted(DOCS.glob("*.md"))


def read(name):
    return (DOCS / name).read_text("utf-8")


def prose(text):
    """Without what is fenced: commands and quoted output."""
    return FENCE.sub("", text)


def table_rows(text):
    """The cells of every row of every table but for the headings."""
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    rules = [i for i, row in enumerate(rows) if set("".join(row)) <= set("|-: ")]
    return [row for i, row in enumerate(rows) if i not in rules and i + 1 not in rules]


# Names of code ----------------------------------------------------------------------------------


@functools.cache
def module(name):
    return importlib.import_module(name)


def has(module_name, path):
    """Whether the dotted ``path`` leads somewhere from the module that defines its beginning."""
    found = module(module_name)
    for number, part in enumerate(path.split(".")):
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
        if number == 0 and getattr(found, "__module__", module_name) != module_name:
            return False  # only imported there
    return True


def linked_symbols(text):
    """(file.symbol, target) of every link from a name to a file of code."""
    found = LINKED_SYMBOL.findall(prose(text))
    return [(name, target) for name, target in found if not is_file_name(name)]


def unlinked_symbols(text):
    """Code spans of the form of file.symbol that are no link."""
    spans = CODE_SPAN.findall(LINKED_SYMBOL.sub("", prose(text)))
    return [s for s in spans if re.fullmatch(r"\w+(\.\w+)+", s) and not is_file_name(s)]


def is_file_name(name):
    return name.rpartition(".")[2] in FILE_ENDINGS


def candidates(name):
    """(module, path in it) for each module that the first part of ``name`` may be."""
    for short, full in THEIRS.items():
        if name.startswith(f"{short}."):
            return [(full, name.removeprefix(f"{short}."))]
    stem, _, path = name.partition(".")
    places = (p for p in PACKAGES if (ROOT / p / f"{stem}.py").exists())
    return [(f"{package}.{stem}", path) for package in places]


@pytest.mark.parametrize("file", every_document(), ids=lambda file: file.name)
def test_every_linked_name_is_in_the_file_that_its_link_leads_to(file):
    for name, target in linked_symbols(file.read_text("utf-8")):
        source = (DOCS / target).resolve()
        assert source.is_file(), f"{name}: no file {target}"
        stem, _, path = name.partition(".")
        assert source.stem == stem, f"{name} is linked to {target}"
        module_name = ".".join(source.relative_to(ROOT).with_suffix("").parts)
        assert has(module_name, path), f"{module_name} does not define {path}"


@pytest.mark.parametrize("file", every_document(), ids=lambda file: file.name)
def test_every_name_without_a_link_is_found_too(file):
    for name in unlinked_symbols(file.read_text("utf-8")):
        places = candidates(name)
        assert not places or any(has(*place) for place in places), f"{name} is nowhere"


@pytest.mark.parametrize("name", ["paper_map.md", *TOURS])
def test_map_and_tour_name_code_of_both_sides(name):
    text = read(name)
    targets = {target.split("/")[1] for _, target in linked_symbols(text)}
    assert targets == set(PACKAGES)
    theirs = [s for s in unlinked_symbols(text) if s.startswith("modeling_marian.Marian")]
    assert len(theirs) > 5


@pytest.mark.parametrize("file", every_document(), ids=lambda file: file.name)
def test_no_relative_link_is_broken(file):
    text = file.read_text("utf-8")
    for label, target in LINK.findall(prose(text)):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (file.parent / path).resolve() if path else file
        assert linked.exists(), f"[{label}]({target})"
        if anchor and linked.suffix == ".md":
            assert anchor in anchors(linked.read_text("utf-8")), f"[{label}]({target})"


def anchors(text):
    """What can be linked to in a document: ids, and headings as GitHub spells them."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    slugs = (re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)
    return {*re.findall(r'<a id="([^"]+)">', text), *slugs}


@pytest.mark.parametrize("name", OURS)
def test_every_option_named_is_one(name):
    parser = main.make_parser()
    known = {option for action in parser._actions for option in action.option_strings}
    text = read(name)
    named = set(re.findall(r"(?<![\w-])--[a-z_]+", text))
    assert named
    assert named <= known


# The paper map ----------------------------------------------------------------------------------


def map_rows():
    """The rows of the map itself: section, what, from scratch, on Hugging Face, letter."""
    return [row for row in table_rows(read("paper_map.md")) if len(row) == 5]


def sections_of(rows):
    return {number for row in rows for number in re.findall(r"\d(?:\.\d)*", row[0].split("eq.")[0])}


def test_every_section_that_the_code_cites_is_in_the_map():
    pattern = re.compile(r"[Ss]ections? (\d(?:\.\d)*(?:(?:, | and | to |-)\d(?:\.\d)*)*)")
    cited = {
        number
        for file in CITING
        for group in pattern.findall(file.read_text("utf-8"))
        for number in re.findall(r"\d(?:\.\d)*", group)
    }
    cited |= {n for o in described() for n in re.findall(r"\d(?:\.\d)+", o.section)}
    assert {"3.2.1", "3.4", "5.4", "6.1"} <= cited
    assert cited <= sections_of(map_rows())


def test_every_numbered_equation_and_every_figure_that_the_code_cites_is_in_the_map():
    text = " ".join(file.read_text("utf-8") for file in CITING)
    places = " ".join(row[0] for row in map_rows())
    for number in set(re.findall(r"equation (\d)", text)):
        assert f"eq. ({number})" in places
    for number in set(re.findall(r"figure (\d)", text)):
        assert f"figure {number}" in places


def test_every_row_of_the_map_names_code_or_says_that_it_is_the_same():
    for row in map_rows():
        assert "`" in row[2], row[0]
        assert "`" in row[3] or "the same" in row[3], row[0]


def test_every_letter_of_the_map_has_its_note_in_both_languages():
    text = read("paper_map.md")
    table, notes = text.split('<a id="leaves"></a>')
    letters = {row[4] for row in table_rows(table) if len(row) == 5} - {""}
    rows = table_rows(notes)
    assert [row[0] for row in rows] == sorted(letters)
    sections = {row[0]: row[1] for row in rows}
    for row in table_rows(table):
        if len(row) == 5 and row[4]:
            assert row[0].startswith(sections[row[4]])
    for _, _, english, korean in rows:
        assert HANGUL.search(korean)
        assert not HANGUL.search(english)
        assert Counter(CODE_SPAN.findall(english)).keys() <= set(CODE_SPAN.findall(korean))


# The tour of one forward pass -------------------------------------------------------------------


def described():
    """Every operation of the default model, without any model."""
    return operations(hook_points(2), Variant(), label_smoothing=0.03)


@pytest.fixture(scope="module")
def settings():
    """The options of the command that the tour shows."""
    words = shlex.split(command_of(read("forward_pass.md")))
    assert words[:2] == ["python", "main.py"]
    return main.parse(words[2:])


@pytest.fixture(scope="module")
def data(settings):
    return prepare(settings.data, settings.run.seed)


@pytest.fixture(scope="module")
def traced(settings, data):
    """The trace of that command but for the training: the sentence, and the shape of everything."""
    with torch.random.fork_rng():
        torch.manual_seed(settings.run.seed)
        model = build_model(settings.model, data.tokenizer, settings.data.max_length).eval()
    return trace(
        model,
        inside(model),
        collate([data.eval[probe_pairs(data.eval)[0]]]),
        settings.train.label_smoothing,
        variant=Variant(),
        pieces=data.tokenizer.pieces,
    )


@pytest.fixture(scope="module")
def listing(traced):
    return lines(traced, fold=False)


def command_of(text):
    (command,) = (body for kind, body in FENCE.findall(text) if kind == "bash")
    return command


def blocks_of(text):
    return [body for kind, body in FENCE.findall(text) if kind == "text"]


def quoted(text):
    return [line for block in blocks_of(text) for line in block.splitlines()]


def begins(line, quotation):
    """Whether a quotation is the beginning of a line, cut between words; columns may differ."""
    line, quotation = (" ".join(part.split()) for part in (line, quotation))
    return f"{line} ".startswith(f"{quotation} ")


def places_of(text, listing):
    """Where in the listing each quoted line stands, looking onwards from the one before."""
    places, start = [], 0
    for quotation in quoted(text):
        onwards = range(start, len(listing))
        place = next((i for i in onwards if begins(listing[i], quotation)), None)
        assert place is not None, f"not in the trace, or not here: {quotation!r}"
        places.append(place)
        start = place + 1
    return places


def forward_steps(traced, listing):
    """Line of the listing -> the operation that it tells of, on the way there."""
    marks = {kind.mark for kind in Kind}
    first = next(i for i, line in enumerate(listing) if line.startswith("FORWARD"))
    last = next(i for i, line in enumerate(listing) if line.startswith("BACKWARD"))
    rows = [i for i in range(first, last) if listing[i][:1] in marks and listing[i][1:2] == " "]
    return dict(zip(rows, traced.steps, strict=True))


@pytest.mark.parametrize("name", TOURS)
def test_every_quoted_line_is_one_of_the_trace_in_its_order(name, listing):
    places = places_of(read(name), listing)
    assert len(places) > 60


@pytest.mark.parametrize("name", TOURS)
def test_every_operation_of_one_layer_of_each_stack_is_shown(name, traced, listing):
    steps = forward_steps(traced, listing)
    shown = {steps[place].name for place in places_of(read(name), listing) if place in steps}
    layers = ("encoder.0.", "decoder.0.", "encoder.lookup", "encoder.embed", "decoder.lookup",
              "decoder.embed", "logits", "loss")  # fmt: skip
    wanted = {step.name for step in traced.steps if step.name.startswith(layers)}
    assert wanted <= shown
    assert {"encoder.1.out", "decoder.1.out"} <= shown


@pytest.mark.parametrize("name", TOURS)
def test_every_quoted_operation_is_described_so_and_without_its_statistics(name):
    """Against the descriptions themselves, whatever the listing makes of them."""
    there, back = operations_quoted(read(name))
    assert len(there) > 40
    onwards = iter(described())
    for line in there:
        row = STEP_ROW.fullmatch(line)
        assert row, f"not up to its shape: {line!r}"
        expected = (row["mark"], row["name"], row["formula"], row["section"])
        assert any(as_shown(operation) == expected for operation in onwards), line
    assert back
    onwards = reversed(described())
    for line in back:
        expected = tuple(line.split(maxsplit=2))
        assert any(as_shown_back(operation) == expected for operation in onwards), line


def operations_quoted(text):
    """The quoted lines that are operations: on the way there, and on the way back."""
    marks = {kind.mark for kind in Kind}
    there, back = [], []
    found = there
    for line in quoted(text):
        if line.startswith("BACKWARD"):
            found = back
        if line[:1] in marks and line[1:2] == " ":
            found.append(line)
    return there, back


def as_shown(operation):
    return operation.kind.mark, shown_name(operation), operation.formula, operation.section


def as_shown_back(operation):
    return operation.kind.mark, shown_name(operation), operation.backward


def shown_name(operation):
    parts = operation.name.split(".")
    return parts[-1] if len(parts) == 4 else operation.name


@pytest.mark.parametrize(("name", "words"), [
    (TOURS[0], {"linear": True, "not linear": False}),
    (TOURS[1], {"선형": True, "비선형": False}),
])  # fmt: skip
def test_the_marks_are_explained_as_the_program_means_them(name, words):
    used = {operation.kind for operation in described()}
    shown = {row[0].strip("`"): words[row[2]] for row in table_rows(read(name))}
    assert shown == {kind.mark: kind.is_linear for kind in used}


@pytest.mark.parametrize(("name", "language"), [(TOURS[0], "en"), (TOURS[1], "ko")])
def test_the_run_that_the_tour_speaks_of_is_that_of_its_command(name, language, settings, data):
    text = " ".join(read(name).split())
    assert shown_pairs(data)[0].src in text
    experiment = Experiment.plan(settings, data)
    assert re.search(rf"\b{experiment.num_steps}(스텝| steps)", text)
    assert f"{data.tokenizer.vocab_size:,}" in text
    assert text.count(f"{settings.train.label_smoothing:g}") > 0
    title = json.loads((CATALOGUES / f"{language}.json").read_text("utf-8"))["page.trace.title"]
    assert f'"{title}"' in text


def test_both_languages_have_the_same_stops_blocks_and_code():
    english, korean = (read(name) for name in TOURS)
    assert blocks_of(english) == blocks_of(korean)
    assert command_of(english) == command_of(korean)
    stops, parts = zip(*(by_stop(text) for text in (english, korean)), strict=True)
    assert stops[0] == stops[1]
    for number, one, two in zip(stops[0], *parts, strict=True):
        assert code_in(one) == code_in(two), number
    assert all(HANGUL.search(prose(part)) for part in parts[1])


def by_stop(text):
    """The numbers of the headings, and what stands under each."""
    _, *parts = re.split(r"^## (\d+)\. .*$", text, flags=re.MULTILINE)
    return parts[::2], parts[1::2]


def code_in(text):
    """All links, and all names of code without one."""
    return set(LINK.findall(prose(text))), set(unlinked_symbols(text))


# The glossary -----------------------------------------------------------------------------------


def terms():
    return table_rows(read("glossary.md"))


def korean_term(row):
    """The term itself, without the other names in parentheses."""
    return row[1].partition("(")[0].strip()


def test_the_terms_stand_in_alphabetical_order_and_only_once():
    names = [row[0].casefold() for row in terms()]
    assert len(names) >= 45
    assert names == sorted(set(names))


def test_no_korean_term_stands_for_two():
    names = [korean_term(row) for row in terms()]
    assert len(set(names)) == len(names)


def test_every_term_has_both_languages_and_a_place():
    for row in terms():
        assert len(row) == 5, row
        assert all(row), row
        assert HANGUL.search(row[1]), row
        assert HANGUL.search(row[3]), row
        assert not HANGUL.search(row[2]), row
        assert row[2].endswith("."), row
        assert row[3].endswith("니다."), row
        assert "`" in row[4], row


def test_korean_terms_are_those_that_the_program_uses():
    said = "\n".join(json.loads((CATALOGUES / "ko.json").read_text("utf-8")).values())
    unknown = {row[0] for row in terms() if korean_term(row) not in said}
    assert unknown == NOT_IN_CATALOGUE


def test_every_figure_of_the_glossary_is_one_that_is_drawn():
    sources = "\n".join(
        file.read_text("utf-8") for p in PACKAGES for file in (ROOT / p).glob("*.py")
    )
    figures = set(re.findall(r"`([\w/]+)\.png`", read("glossary.md")))
    assert len(figures) > 10
    for figure in figures:
        assert re.search(rf"[\"/]{figure.rpartition('/')[2]}[\".]", sources), figure
