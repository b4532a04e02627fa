"""Fonts: Hangul always renders, and where it cannot, the reader is told once."""

import importlib.metadata

import matplotlib
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure

from utils import visualization
from utils.results import log


@pytest.fixture
def fresh(monkeypatch):
    """As in a new process; afterwards the fonts are as before."""
    caches = (visualization.hangul_font, visualization._drawable)
    monkeypatch.setattr(font_manager.fontManager, "ttflist", font_manager.fontManager.ttflist[:])
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def no_system_font(fresh, monkeypatch):
    fonts = font_manager.fontManager.ttflist
    others = [font for font in fonts if font.name not in visualization.HANGUL_FONTS]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", others)


def test_a_system_font_comes_first(no_system_font):
    entry = font_manager.FontEntry(fname="noto.ttf", name="Noto Sans KR")
    font_manager.fontManager.ttflist.append(entry)
    assert visualization.hangul_font() == "Noto Sans KR"


def test_without_one_the_shipped_font_draws_all_syllables(no_system_font):
    assert visualization.hangul_font() == "NanumGothic"
    assert visualization.drawable("가힣▁−") == "가힣▁−"


def test_no_font_at_all_is_said_once_with_the_remedy(no_system_font, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    warnings = []
    monkeypatch.setattr(log, "warning", warnings.append)
    assert visualization.drawable("가 a") == "U+AC00 a"
    assert visualization.drawable("나") == "U+B098"
    (warning,) = warnings
    assert "pip install koreanize-matplotlib" in warning


def test_figures_leave_no_setting_behind(fresh):
    before = matplotlib.rcParams["font.family"]
    with matplotlib.rc_context(visualization.font_settings()):
        Figure()
    assert matplotlib.rcParams["font.family"] == before


@pytest.mark.parametrize("piece", ["▁", "$a_$", "−", "한글", "🙂", "ᚠ", "\u0000"])
def test_any_piece_can_be_a_label(piece):
    with matplotlib.rc_context(visualization.font_settings()):
        figure = Figure()
        ax = figure.subplots()
        visualization.label_tokens(ax.xaxis, [piece, "b"])
        figure.canvas.draw()  # a missing glyph is an error in tests
        (label, _) = ax.get_xticklabels()
    assert label.get_text() == visualization.drawable(piece)
