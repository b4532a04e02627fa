"""Figures as they will be seen: drawn without complaint, and nothing beyond the page."""

import copy
import warnings

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

HANGUL = ["▁학생", "은", "▁도서관", "에서", "▁책", "을", "▁샀어요", ".", "▁어제", "</s>"]


def draw(function, *arguments, **options) -> Figure:
    """The figure that ``function`` gives, drawn; any warning on the way is an error."""
    before = copy.deepcopy(dict(matplotlib.rcParams))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a missing glyph is a warning
        warnings.simplefilter("ignore", DeprecationWarning)  # of matplotlib's, inside
        figure = function(*arguments, **options)
        FigureCanvasAgg(figure)  # a Figure's own canvas knows no sizes
        figure.draw_without_rendering()  # all texts are laid out, which takes their glyphs
    assert isinstance(figure, Figure)
    assert dict(matplotlib.rcParams) == before
    return figure


def fits(figure):
    """Whether nothing reaches beyond the page."""
    drawn, page = figure.get_tightbbox(), figure.bbox_inches.padded(0.01)
    return page.x0 < drawn.x0 and drawn.x1 < page.x1 and page.y0 < drawn.y0 and drawn.y1 < page.y1
