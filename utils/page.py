"""``report.html``: one page that tells all of a run, in every language, without a network."""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from utils import disk
from utils.language import LANGUAGES, catalogue
from utils.page_data import DETAILS, MAP_STEPS, Detail, ModelResults
from utils.page_fonts import font_faces
from utils.page_words import GOOD_AER, SECTIONS, explanations
from utils.results import PAGE, RunFailed, finite, log

MOST_BYTES = 8_000_000
TEMPLATES = Path(__file__).parent / "templates"
STYLE = "page.css"
# In this order: each uses what those before it define.
SCRIPTS = (
    "words.js", "data.js", "charts.js", "tokens.js", "arithmetic.js", "parts.js", "overview.js",
    "attention.js", "qkv.js", "layer.js", "proof.js", "page.js",
)  # fmt: skip
OF_PAGE = ("page.", "label.", "compare.")  # what the keys of a page's texts begin with


@dataclass(frozen=True, kw_only=True)
class Page:
    """What one page tells.

    Attributes:
        kind: "training", "comparison" or "analysis".
        models: one, or both of a comparison.
        comparison: content of ``comparison.json``, with the rows of its table (``quantities``) and
            what is said of the paired training (``paired_words``) as messages; None of other pages.
    """

    kind: str
    models: Sequence[ModelResults]
    comparison: Mapping[str, Any] | None = None

    def content(self, detail: Detail) -> dict[str, Any]:
        """As plain values, for the scripts."""
        models = [model.content(detail) for model in self.models]
        return {
            "kind": self.kind,
            "models": models,
            "comparison": self.comparison,
            "explanations": [self._explained(model) for model in models],
            "is_whole": detail == DETAILS[0],
            "map_steps": MAP_STEPS,
            "good_aer": GOOD_AER,
        }

    def _explained(self, model: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
        words = explanations(self.kind, model, self.comparison)
        return {section: [said.as_dict() for said in part] for section, part in words.items()}


def write(page: Page, folder: Path) -> Path:
    """Write ``report.html`` into a results folder, small enough to open.

    Returns:
        Its path.

    Raises:
        WriteError: it could not be written.
    """
    path = folder / PAGE
    for detail in DETAILS:
        html = render(page.content(detail))
        if len(html) <= MOST_BYTES:
            break
        log.debug("%s: %.1f MB with %s", path, len(html) / 1e6, detail)
    else:
        log.warning("Note: %s has %.1f MB; it may open slowly", path, len(html) / 1e6)
    with disk.replacing(path) as file:
        file.write(html)
    return path


def render(content: Mapping[str, Any]) -> bytes:
    """The page in UTF-8.

    Args:
        content: plain values; see `Page.content`.
    """
    data = as_script(content)
    words = {language: _of_page(catalogue(language)) for language in LANGUAGES}
    faces, families = font_faces(data + json.dumps(words, ensure_ascii=False))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return (
        environment.get_template("report.html.j2")
        .render(
            plotly=plotly_script(),
            font_faces=faces,
            font_family=families,
            style=_template(STYLE),
            scripts=[_template(name) for name in SCRIPTS],
            sections=SECTIONS,
            data=data,
            words=as_script(words),
        )
        .encode("utf-8", "replace")
    )


def as_script(value: Any) -> str:
    """``value`` as JSON that may stand inside a ``<script>`` of a page.

    What a user's text may hold, such as ``</script>`` or ``<!--``, must not end or open anything.
    Infinities and NaN, which JSON does not have, become null.
    """
    text = json.dumps(finite(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _of_page(texts: Mapping[str, str]) -> dict[str, str]:
    return {key: text for key, text in texts.items() if key.startswith(OF_PAGE)}


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text("utf-8")


@functools.cache
def plotly_script() -> str:
    """Plotly's script, without importing the package: that would take a second.

    Raises:
        RunFailed: it is missing.
    """
    spec = importlib.util.find_spec("plotly")
    if spec is None or spec.origin is None:
        raise RunFailed("the package plotly is missing: pip install -r requirements.txt")
    return (Path(spec.origin).parent / "package_data" / "plotly.min.js").read_text("utf-8")
