"""The weights to scale, stacked from the blocks of the gates."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest

from matplotlib.figure import Figure

from openrnn.errors import CellError
from openrnn.explain.blocks import Block, block_shapes, blocks, is_in_rows
from openrnn.explain.parts import Lane, Network
from openrnn.explain.views import Request
from openrnn.explain.views.canvas import MARGIN, WIDTH, Canvas, text_width
from openrnn.explain.views.colors import Paint
from openrnn.explain.views.header import Words, header, shorten
from openrnn.explain.views.words import places
from openrnn.step.shape import show_shape

_TALLEST = 330  # pixels of the longest parameter
_UNIT = 16  # pixels of a number, at most
_LEAST = 22  # pixels of a matrix's width
_BLOCK = 15  # pixels of a block's height, at least
_BAR = 16  # pixels of a vector's width
_APART = 22  # from one parameter to the next
_BETWEEN = 40  # from what is compared to what it is compared with
_TEXT, _SMALL, _LINE = 11, 10, 15


def draw(request: Request) -> Figure:
    """The figure of this view."""
    canvas = Canvas(request.colors)
    networks = [request.network, *([request.compare] if request.compare else [])]
    wide = (WIDTH - 2 * MARGIN - _BETWEEN * (len(networks) - 1)) / len(networks)
    columns = [_panels(network) for network in networks]
    panels = [panel for column in columns for panel in column]
    unit = min(panel.unit(wide) for panel in panels)
    names = dict.fromkeys(b.name for p in panels for s in p.sheets for b in s.blocks if b.name)
    paints = {name: request.colors.gate(number) for number, name in enumerate(names)}
    painter = _Painter(canvas, paints, unit)
    lefts = [MARGIN - WIDTH / 2 + number * (wide + _BETWEEN) for number in range(len(networks))]
    top = 0.0
    if len(networks) > 1:
        for left, network in zip(lefts, networks, strict=True):
            text = shorten(network.title, wide, 13, True, f": {_count(network)}")
            canvas.text(left, 0, text, 13, bold=True, align="left")
        top = 30
    for row in zip_longest(*columns):
        beside = zip(lefts, row, strict=True)
        ends = [painter.draw(panel, left, top, wide) for left, panel in beside if panel]
        top = max(ends) + 2 * _LINE
    title = " and ".join(network.title for network in networks)
    ending = f": {_count(networks[0])}" if len(networks) == 1 else ""
    items = [Words(name, paints[name]) for name in names]
    items.append(Words("to scale, but for the thinnest" if painter.clamped else "to scale"))
    header(canvas, title, ending, items)
    return canvas.finish()


@dataclass(frozen=True, eq=False)
class _Sheet:
    """A parameter: a matrix, or a vector as a thin bar."""

    name: str
    shape: tuple[int, ...]
    blocks: Sequence[Block]

    @cached_property
    def is_vector(self) -> bool:
        return not is_in_rows(self.blocks, self.shape)

    @cached_property
    def size(self) -> tuple[int, int]:
        """Rows and columns, of a vector its numbers as rows."""
        count = math.prod(self.shape)
        if self.is_vector:
            return count, 1
        if self.blocks[0].columns:
            return self.shape[0], count // self.shape[0]
        return count // self.shape[-1], self.shape[-1]

    def extent(self, unit: float) -> tuple[float, float]:
        """Width and height in pixels, neither too small for what is written in it."""
        rows, columns = self.size
        split = len(self.blocks)
        if self.is_vector:
            return _BAR, max(rows * unit, split * _BLOCK)
        if self.blocks[0].columns:
            return max(columns * unit, split * _LEAST), max(rows * unit, _BLOCK)
        return max(columns * unit, _LEAST), max(rows * unit, split * _BLOCK)

    @cached_property
    def words(self) -> list[str]:
        """The name, of a vector in two lines if it has two parts, and the shape."""
        first, dot, last = self.name.rpartition(".")
        name = [first + dot, last] if self.is_vector and dot else [self.name]
        return [*name, show_shape(self.shape)]

    def width(self, unit: float) -> float:
        *name, shape = self.words
        words = [*(text_width(line, _TEXT, True) for line in name), text_width(shape, _SMALL)]
        return max(self.extent(unit)[0], *words)


@dataclass(frozen=True, eq=False)
class _Panel:
    """The parameters of cells that have the same."""

    title: str
    ending: str
    sheets: Sequence[_Sheet]

    def unit(self, wide: float) -> float:
        """The most pixels for a number with which these fit into this width."""
        tallest = max((sheet.size[0] for sheet in self.sheets), default=1)
        unit = min(_TALLEST / tallest, _UNIT)
        matrices = [sheet for sheet in self.sheets if not sheet.is_vector]
        if not matrices:
            return unit
        columns = sum(sheet.size[1] for sheet in matrices)
        bars = sum(sheet.width(0) + _APART for sheet in self.sheets if sheet.is_vector)
        room = wide - _APART * (len(matrices) - 1)
        beside = (room - bars) / columns
        # Vectors go to the next line rather than make matrices less than half as large.
        return min(unit, beside if beside > unit / 2 else room / columns)


def _panels(network: Network) -> list[_Panel]:
    groups: dict[object, list[Lane]] = {}
    for lane in network.lanes:
        shapes = tuple((name, tuple(t.shape)) for name, t in lane.parameters.items())
        groups.setdefault((lane.title, shapes), []).append(lane)
    return [_panel(lanes, network) for lanes in groups.values()]


def _panel(lanes: list[Lane], network: Network) -> _Panel:
    lane = lanes[0]
    found = _blocks(lane)
    sheets = [
        _Sheet(name, tuple(tensor.shape), found[name]) for name, tensor in lane.parameters.items()
    ]
    # Matrices first: the vectors stand beside them.
    sheets.sort(key=lambda sheet: sheet.is_vector)
    title, ending = "" if network.is_cell else lane.title, ""
    if lane.place:
        title = f"{places([lane.place for lane in lanes])}: {title}"
    if len(lanes) > 1 or len(network.lanes) > 1:
        count = sum(math.prod(sheet.shape) for sheet in sheets)
        ending = f", {count:,} parameters{' each' if len(lanes) > 1 else ''}"
    return _Panel(title, ending, sheets)


def _blocks(lane: Lane) -> dict[str, Sequence[Block]]:
    """The blocks of each parameter, also of those that no step reads."""
    try:
        found = blocks(lane.graph, lane.gates)
    except CellError:  # the cell can be drawn without being read
        found = {}
    return {name: found.get(name) or _whole(tuple(t.shape)) for name, t in lane.parameters.items()}


def _whole(shape: tuple[int, ...]) -> list[Block]:
    return [Block("", 0, math.prod(shape[:-1]) if len(shape) > 1 else math.prod(shape))]


def _count(network: Network) -> str:
    count = sum(t.numel() for lane in network.lanes for t in lane.parameters.values())
    return f"{count:,} parameters"


class _Painter:
    def __init__(self, canvas: Canvas, paints: dict[str, Paint], unit: float) -> None:
        self.canvas, self.colors, self.paints, self.unit = canvas, canvas.colors, paints, unit
        self.clamped = False

    def draw(self, panel: _Panel, left: float, top: float, wide: float) -> float:
        """Draws it below this height. Returns its lower end."""
        if panel.title:
            text = shorten(panel.title, wide, 12, True, panel.ending)
            self.canvas.text(left, top, text, 12, bold=True, align="left")
            top += 24
        for row in self._rows(panel, wide):
            top += _LINE * max(len(sheet.words) for sheet in row)
            x, bottom = left, top
            for sheet in row:
                bottom = max(bottom, self._sheet(sheet, x, top))
                x += sheet.width(self.unit) + _APART
            top = bottom + _LINE
        return top

    def _rows(self, panel: _Panel, wide: float) -> Iterator[list[_Sheet]]:
        row: list[_Sheet] = []
        used = 0.0
        for sheet in panel.sheets:
            width = sheet.width(self.unit)
            if row and used + width > wide + 0.5:
                yield row
                row, used = [], 0.0
            row.append(sheet)
            used += width + _APART
        if row:
            yield row

    def _sheet(self, sheet: _Sheet, x: float, top: float) -> float:
        """The blocks, and over them name and shape. Returns the lower end."""
        canvas, colors = self.canvas, self.colors
        *name, shape = sheet.words
        canvas.text(x, top - _LINE, shape, _SMALL, color=colors.quiet, align="left")
        for number, line in enumerate(reversed(name), start=2):
            canvas.text(x, top - number * _LINE, line, _TEXT, bold=True, align="left")
        top -= 3
        width, height = sheet.extent(self.unit)
        rows, columns = sheet.size
        self.clamped |= height > rows * self.unit + 1 or (
            not sheet.is_vector and width > columns * self.unit + 1
        )
        total = sheet.blocks[-1].stop
        # The gate with the block's shape where there is room for all of them, or the gate alone.
        shapes = map(show_shape, block_shapes(sheet.blocks, sheet.shape))
        labels = [f"{b.name}  {shown}" for b, shown in zip(sheet.blocks, shapes, strict=True)]
        room = width * (1 / len(labels) if sheet.blocks[0].columns else 1) - 6
        if sheet.is_vector or max(text_width(label, _SMALL) for label in labels) > room:
            labels = [block.name for block in sheet.blocks]
        for block, label in zip(sheet.blocks, labels, strict=True):
            start, stop = block.start / total, block.stop / total
            if block.columns:
                at = (x + width * (start + stop) / 2, top + height / 2)
                size = (width * (stop - start), height)
            else:
                at = (x + width / 2, top + height * (start + stop) / 2)
                size = (width, height * (stop - start))
            canvas.box(*at, *size, self.paints.get(block.name, colors.plain), radius=0)
            if block.name and size[1] >= 11 and text_width(label, _SMALL) <= size[0] - 4:
                canvas.text(*at, label, _SMALL)
        if not sheet.is_vector:  # of a vector the shape says it
            under, count = top + height + _LINE * 0.7, f"{math.prod(sheet.shape):,}"
            canvas.text(x, under, count, _SMALL, color=colors.quiet, align="left")
        return top + height + _LINE
