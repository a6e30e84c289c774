"""A layer unrolled over time: layers upwards, steps to the right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.figure import Figure

from openrnn.explain.parts import Lane, Level
from openrnn.explain.views import Request
from openrnn.explain.views.canvas import MARGIN, WIDTH, Canvas, text_width
from openrnn.explain.views.header import Words, header
from openrnn.explain.views.words import before, class_lines, now

_BOX, _HEIGHT = 78, 44  # of a cell
_SHIFT = 17  # of the cells of two directions to either side, so that lines get past them
_ASIDE = 36  # of these lines
_STRIP = 30  # height of a tensor over time
_RISE = 40  # from one level to the next
_GAP = 44  # from the states to the first cell, and from the last to the states
_SPACING = 200  # at most, from one step to the next
_MOST = 6  # levels that are drawn one by one
_TEXT, _SMALL, _LINE = 11, 10, 15


def draw(request: Request) -> Figure:
    """The figure of this view."""
    canvas = Canvas(request.colors)
    _Unrolled(request, canvas).draw()
    return canvas.finish()


@dataclass(frozen=True)
class _Column:
    """A step, and its place. Without a number it stands for those left out."""

    step: str | None
    x: float


class _Unrolled:
    def __init__(self, request: Request, canvas: Canvas) -> None:
        self.request, self.canvas, self.colors = request, canvas, request.colors
        self.network = request.network
        self.alone = self.network.is_cell  # one step of a cell
        sides = _SHIFT if any(len(level.lanes) == 2 for level in self.network.levels) else 0
        self.reach = _BOX / 2 + sides
        self.pill = 16 + max(
            text_width(text, _TEXT)
            for lane in self.network.lanes
            for final in (False, True)
            for text in self._states(lane, final)
        )
        self.columns = list(self._columns())
        self.left, self.right = self.columns[0].x - self.reach, self.columns[-1].x + self.reach

    def _columns(self) -> Iterator[_Column]:
        steps = self.request.steps
        places: list[tuple[str | None, float]] = [("0", 0), ("1", 1), (None, 1.6), ("T-1", 2.2)]
        if self.alone:
            places = [("0", 0)]
        elif steps is not None and steps <= 4:
            places = [(str(step), step) for step in range(steps)]
        elif steps is not None:
            places[-1] = (str(steps - 1), 2.2)
        room = WIDTH - 2 * (MARGIN + self.pill + _GAP + self.reach)
        spacing = min(room / max(places[-1][1], 1), _SPACING)
        for step, place in places:
            yield _Column(step, (place - places[-1][1] / 2) * spacing)

    def draw(self) -> None:
        levels, size = self.network.levels, self.network.levels[0].input_size
        below, name = self._strip("X", 0, size, "the input"), "x"
        left_out = range(2, len(levels) - 1) if len(levels) > _MOST else range(0)
        for number, level in enumerate(levels):
            if number not in left_out:
                below = self._level(level, below, f"{name} {self.request.show('B', size)}")
            elif number == left_out[0]:
                below = self._left_out(level, levels[left_out[-1]], below)
            size, name = level.output_size, next(iter(level.lanes[0].states))
        if not self.alone:
            y = below - _RISE - _STRIP / 2
            for column in self._steps():
                self._rise(column, 0, below, y + _STRIP / 2 + 6)
            self._size(0, below, f"{name} {self.request.show('B', size)}")
            both = ["in both directions"] * (len(levels[-1].lanes) == 2)
            self._strip("out", y, size, f"the last layer's {name}", *both, "at every step")
        steps = "T" if self.request.steps is None else self.request.steps
        ending = ": one step" if self.alone or steps == 1 else f": {steps} steps"
        header(self.canvas, self.network.title, ending, self._legend())

    # --- the input and the output ----------------------------------------------------------------

    def _strip(self, name: str, y: float, size: int, *meaning: str) -> float:
        """A tensor over time. Returns where its upper edge is."""
        canvas, paint = self.canvas, self.colors.input if name == "X" else self.colors.result
        if self.alone:
            shape = self.request.show("B", size)
            canvas.box(0, y, _BOX + 30, _STRIP, paint)
            canvas.text(0, y, f"{now('x')}  {shape}", _TEXT)
            return y - _STRIP / 2
        middle = (self.left + self.right) / 2
        canvas.box(middle, y, self.right - self.left + 16, _STRIP + 12, paint, radius=8)
        for column in self.columns:
            if column.step is None:
                canvas.text(column.x, y, "…", 14)
                continue
            canvas.box(column.x, y, _BOX, _STRIP, paint)
            index = f":, {column.step}" if self.network.batch_first else column.step
            canvas.text(column.x, y, f"{name}[{index}]", _TEXT)
            if name == "X":
                canvas.text(
                    column.x, y + _STRIP, f"t = {column.step}", _SMALL, color=self.colors.quiet
                )
        dims = ("B", "T") if self.network.batch_first else ("T", "B")
        lines = [(f"{name} {self.request.show(*dims, size)}", True), *((m, False) for m in meaning)]
        x, top = self.left - 20, y - _LINE * (len(lines) - 1) / 2
        for number, (line, bold) in enumerate(lines):
            color = self.colors.text if bold else self.colors.quiet
            at = top + number * _LINE
            canvas.text(
                x, at, line, _TEXT if bold else _SMALL, color=color, bold=bold, align="right"
            )
        return y - _STRIP / 2 - 6

    # --- a level ---------------------------------------------------------------------------------

    def _level(self, level: Level, below: float, x: str) -> float:
        """The cells that read the same x, at every step. Returns where their output comes out."""
        two = len(level.lanes) == 2
        y, middles = below, []
        for lane in level.lanes:
            slot = max(_HEIGHT, _LINE * len(lane.states) + 10)
            y -= _RISE + slot / 2
            middles.append(y)
            y -= slot / 2
        for number, (lane, middle) in enumerate(zip(level.lanes, middles, strict=True)):
            shift = (_SHIFT if number else -_SHIFT) if two else 0
            aside = (_ASIDE if number else -_ASIDE) if two else 0
            for column in self._steps():
                self._rise(column, aside, below, middle + _HEIGHT / 2)
                self._cell(lane, column.x + shift, middle)
            self._through_time(lane, middle, shift)
        if not self.alone:
            self._size(_ASIDE if two else 0, below, x)
        top = min(middles) - _HEIGHT / 2
        return self._merge(level, middles, min(top, y)) if two else top

    def _cell(self, lane: Lane, x: float, y: float) -> None:
        self.canvas.box(x, y, _BOX, _HEIGHT, self.colors.weight, radius=6)
        lines = class_lines(lane.name)
        size = min(_TEXT, *(_TEXT * (_BOX - 8) / text_width(line, _TEXT, True) for line in lines))
        for number, line in enumerate(lines):
            at = y + (number - (len(lines) - 1) / 2) * (size + 2)
            self.canvas.text(x, at, line, size, bold=True)

    def _merge(self, level: Level, middles: list[float], top: float) -> float:
        y = top - _RISE * 0.55 - 9
        for column in self._steps():
            self._rise(column, -_ASIDE, middles[0] - _HEIGHT / 2, y + 9)
            self._rise(column, _ASIDE, middles[1] - _HEIGHT / 2, y + 9)
            self.canvas.box(column.x, y, 2 * _ASIDE + 16, 18, self.colors.plain, radius=9)
            self.canvas.text(column.x, y, level.merge, _SMALL)
        return y - 9

    def _through_time(self, lane: Lane, y: float, shift: float) -> None:
        """The states before, their way from step to step, and the states after."""
        ends = [self.left - _GAP, self.right + _GAP]
        stops = [(ends[0], ends[0])]
        for column in self.columns:
            reach = _BOX / 2 if column.step is not None else 14
            x = column.x + (shift if column.step is not None else 0)
            stops.append((x - reach, x + reach))
            if column.step is None:
                self.canvas.text(x, y, "⋯", 16, color=self.colors.line)
        stops.append((ends[1], ends[1]))
        for (_, start), (end, _) in pairwise(stops):
            points = [(start, y), (end, y)]
            self.canvas.path(points[::-1] if lane.reverse else points, self.colors.state.edge)
        if len(stops) > 3:
            middle = (stops[1][1] + stops[2][0]) / 2
            self.canvas.text(
                middle, y - 9, ", ".join(lane.states), _SMALL, color=self.colors.state.edge
            )
        first = ends[0] - self.pill / 2
        for x, final in ((first, lane.reverse), (ends[1] + self.pill / 2, not lane.reverse)):
            self._pill(lane, x, y, final)
        if lane.place:
            above = y - max(_LINE * len(lane.states) + 10, 30) / 2 - 10
            self.canvas.text(
                ends[0] - self.pill, above, lane.place, _SMALL, bold=True, align="left"
            )

    def _pill(self, lane: Lane, x: float, y: float, final: bool) -> None:
        lines = self._states(lane, final)
        paint = self.colors.result if final else self.colors.state
        self.canvas.box(x, y, self.pill, _LINE * len(lines) + 10, paint, radius=8)
        for number, line in enumerate(lines):
            self.canvas.text(x, y + (number - (len(lines) - 1) / 2) * _LINE, line, _TEXT)

    def _states(self, lane: Lane, final: bool) -> list[str]:
        """The states with their shapes, a line each."""
        lines = []
        for state, size in lane.states.items():
            name = f"{state}_n" if final else f"{state}_0"
            if self.alone:
                name = now(state) if final else before(state)
            index = "" if lane.number is None else f"[{lane.number}]"
            lines.append(f"{name}{index} {self.request.show('B', size)}")
        return lines

    # --- the header ------------------------------------------------------------------------------

    def _legend(self) -> Iterator[Words]:
        if self.alone:
            yield Words("the state before the step", self.colors.state)
            yield Words("the state after it", self.colors.result)
        else:
            yield Words(f"{self._tensors('_0')}: before the first step", self.colors.state)
            yield Words(f"{self._tensors('_n')}: after the last step", self.colors.result)
            yield Words("the same weights at every step", self.colors.weight)
        yield from map(Words, self.network.notes)

    def _tensors(self, ending: str) -> str:
        """The states of all cells, with the shape of the tensor that holds them, if one does."""
        names: dict[str, set[tuple[object, ...]]] = {}
        for level in self.network.levels:
            for lane in level.lanes:
                for state, size in lane.states.items():
                    names.setdefault(state + ending, set()).add((level.of_all, size))
        by_shape: dict[object, list[str]] = {}
        for name, shapes in names.items():
            count, features = next(iter(shapes))
            same = len(shapes) == 1 and count is not None
            shape = f" {self.request.show(count, 'B', features)}" if same else ""
            by_shape.setdefault(shape, []).append(name)
        return ", ".join(f"{', '.join(names)}{shape}" for shape, names in by_shape.items())

    # --- lines upwards ---------------------------------------------------------------------------

    def _steps(self) -> Iterator[_Column]:
        return (column for column in self.columns if column.step is not None)

    def _rise(self, column: _Column, aside: float, start: float, end: float) -> None:
        x = column.x + aside
        self.canvas.path([(x, start), (x, end)], self.colors.line)

    def _size(self, aside: float, below: float, text: str) -> None:
        """What goes up, beside the line of the first step."""
        x = self.columns[0].x + aside + 6
        self.canvas.text(x, below - 14, text, _SMALL, color=self.colors.quiet, align="left")

    def _left_out(self, first: Level, last: Level, below: float) -> float:
        """Dots for the levels between. Returns where the line to the next one begins."""
        y = below - _RISE
        for column in self._steps():
            self._rise(column, 0, below, below - 0.6 * _RISE)
            self.canvas.text(column.x, y, "⋮", 16, color=self.colors.line)
        text = f"{first.place} … {last.place}"
        x = self.left - _GAP - self.pill
        self.canvas.text(x, y, text, _SMALL, bold=True, align="left")
        return y - 0.4 * _RISE
