"""One step as mathematics, with the shape of each symbol beneath it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import groupby
from textwrap import wrap

from matplotlib.figure import Figure

from openrnn.explain.equations import CellEquations, of_network
from openrnn.explain.mathematics.layout import Ruler, rows
from openrnn.explain.mathematics.style import PICTURE
from openrnn.explain.views import Request
from openrnn.explain.views.canvas import MARGIN, WIDTH, Canvas, text_width
from openrnn.explain.views.header import Words, header, shorten

_SIZE, _SMALL, _NOTE = 17, 10, 11
_ROW = 48  # from one line of mathematics to the next
_SHAPE = 15.5  # from a line to the shapes beneath it
_LINE = 17  # of notes
_APART = 30  # from one cell to the next
_WIDE = WIDTH - 2 * MARGIN
_LEFT = -_WIDE / 2


def _shown(piece: str) -> str:
    return piece if "$" in piece else piece.replace("-", "−")


_RULER = Ruler(
    page=_WIDE,
    letter=6,
    piece=lambda piece: text_width(_shown(piece), _SIZE),
    shape=partial(text_width, size=_SMALL),
)


def draw(request: Request) -> Figure:
    """The figure of this view."""
    canvas = Canvas(request.colors)
    found = of_network(request.network)
    y = 0.0
    for cell in found.cells:
        if not request.network.is_cell:
            title = shorten(cell.title, _WIDE, 12, True)
            canvas.text(_LEFT, y, title, 12, bold=True, align="left")
            y += 36
        y = _draw_cell(canvas, cell, y) + _APART
    header(canvas, found.title, ": one step", _legend(request, found.cells))
    return canvas.finish()


def _draw_cell(canvas: Canvas, cell: CellEquations, y: float) -> float:
    """The equations from the line y on, and below them what the parameters are called."""
    colors = _colors(canvas, cell)
    for row in rows(cell.system.equations, _RULER, style=PICTURE):
        # What stands between two symbols is one piece of text.
        for _, run in groupby(row, key=lambda placed: "$" in placed.piece[0] and placed):
            (first, x, shape, shape_x), *others = run
            shown = _shown("".join([first[0], *(placed.piece[0] for placed in others)]))
            at = _LEFT + x + text_width(shown[: len(shown) - len(shown.lstrip())], _SIZE)
            if shown := shown.strip():
                color = colors.get(shown.removesuffix(PICTURE.turned))
                canvas.text(at, y, shown, _SIZE, color=color, align="left", line=True)
            if shape:
                beneath = (_LEFT + shape_x, y + _SHAPE)
                canvas.text(*beneath, shape, _SMALL, color=canvas.colors.quiet, align="left")
        y += _ROW
    y += _LINE / 2
    letters = int(_WIDE // text_width("m", _NOTE, mono=True))
    for note in cell.notes:
        for line in wrap(note, letters, subsequent_indent="    ", break_on_hyphens=False):
            canvas.text(_LEFT, y, line, _NOTE, color=canvas.colors.quiet, mono=True, align="left")
            y += _LINE
    return y


def _colors(canvas: Canvas, cell: CellEquations) -> dict[str, str]:
    """What is written in a colour: x, the states and the weights."""
    colors, equations = canvas.colors, cell.system.equations
    computed = {symbol.data for equation in equations for symbol in equation.left}
    states = {
        symbol.data.base
        for equation in equations
        for symbol in equation.right.symbols()
        if symbol.data.time == "t-1"
    }
    found = {}
    for equation in equations:
        for symbol in (*equation.left, *equation.right.symbols()):
            of = symbol.data
            if of in cell.system.reader.drawn:
                color = colors.text
            elif of.time == "t-1":
                color = colors.state.edge
            elif of in computed:
                after = of.base in states and not of.primes
                color = colors.result.edge if after else colors.text
            else:
                color = colors.weight.edge if not of.time else colors.input.edge
            found[PICTURE.symbol(of)] = color
    return found


def _legend(request: Request, cells: tuple[CellEquations, ...]) -> Iterator[Words]:
    colors = request.colors
    yield Words("the input", colors.input)
    yield Words("the states before", colors.state)
    yield Words("the states after", colors.result)
    yield Words("weights", colors.weight)
    text = "".join(line.text for cell in cells for line in cell.lines)
    if "⊙" in text:
        yield Words("⊙: element by element")
    if "σ" in text:
        yield Words("σ: logistic function")
    yield Words("beneath each symbol its shape, for one row of the batch")
    yield from map(Words, request.network.notes)
