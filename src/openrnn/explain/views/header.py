"""What stands above a picture: its title, and what its colours mean."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from openrnn.explain.views.canvas import Canvas, text_width
from openrnn.explain.views.colors import Paint

_TITLE, _TEXT, _LINE = 15, 11, 18
_SWATCH = 12  # a square of a colour
_APART = 18  # from one item to the next
_GAP = 20  # from the header to the picture


@dataclass(frozen=True)
class Words:
    """A few words, with the colour or the sign that they explain."""

    text: str
    paint: Paint | None = None


def header(canvas: Canvas, title: str, ending: str, items: Iterable[Words]) -> None:
    """Draws the title with its ending, and the items, above all that is on the canvas."""
    colors = canvas.colors
    left = canvas.page_left
    wide = -2 * left
    rows = _rows(list(items), wide)
    y = canvas.top - _GAP - _LINE * len(rows) - _TITLE / 2
    canvas.text(
        left, y, shorten(title, wide, _TITLE, True, ending), _TITLE, bold=True, align="left"
    )
    y += _LINE * 1.2
    for row in rows:
        x = left
        for item in row:
            if item.paint is not None:
                canvas.box(x + _SWATCH / 2, y, _SWATCH, _SWATCH, item.paint, radius=3)
                x += _SWATCH + 6
            x += canvas.text(x, y, item.text, _TEXT, color=colors.quiet, align="left") + _APART
        y += _LINE


def shorten(text: str, width: float, size: float, bold: bool = False, ending: str = "") -> str:
    """The text and what it ends with; the end of the text is left out if that is wider."""
    if text_width(text + ending, size, bold) <= width:
        return text + ending
    while text and text_width(f"{text}…{ending}", size, bold) > width:
        text = text[:-1]
    return f"{text.rstrip(' ,(')}…{ending}"


def _rows(items: list[Words], wide: float) -> list[list[Words]]:
    """The items, as many to a line as there is room for."""
    rows: list[list[Words]] = []
    x = 0.0
    for item in items:
        width = text_width(item.text, _TEXT) + (_SWATCH + 6 if item.paint else 0)
        if not rows or x + width > wide:
            rows.append([])
            x = 0.0
        rows[-1].append(item)
        x += width + _APART
    return rows
