"""One band of a step: shapes in columns, and the lines between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openrnn.explain.views import Request
from openrnn.explain.views.canvas import MARGIN, WIDTH, Canvas, text_width
from openrnn.explain.views.colors import Colors, Paint
from openrnn.explain.views.flow import Item
from openrnn.explain.views.heights import align
from openrnn.explain.views.layered import Layout, Node, assign_columns, with_places
from openrnn.explain.views.rows import order
from openrnn.step.shape import Shape, batch_dim

_TEXT, _SMALL, _LINE = 11, 10, 14
_STATES = ("state", "next", "input", "start", "end")  # kinds that stand at the borders
_STEEP = 0.3  # of the height of the steepest line in a gap the width of the gap
_SHIFT = 7  # between lines that come in side by side
_RISE = 30  # from x to what it goes to


@dataclass(frozen=True)
class Fit:
    """How much room there is around words and between columns."""

    radius: float = 17
    padding: float = 14
    gap: float = 20
    widest: float = 64


LOOSE, TIGHT = Fit(), Fit(radius=16, padding=9, gap=14)


class Band:
    """Some items of a step, laid out.

    gates: the colours of functions by their names.
    """

    def __init__(
        self, request: Request, items: Sequence[Item], gates: Mapping[str, Paint], fit: Fit
    ) -> None:
        self.request, self.gates, self.fit = request, gates, fit
        self.colors: Colors = request.colors
        self.below: dict[Item, Item] = {}  # what goes up into an item from below
        self.nodes = {item: self._node(item) for item in items}
        self._hang_inputs()
        for item, node in self.nodes.items():
            node.inputs = [self.nodes[i] for i in item.inputs if self.below.get(item) is not i]
        hanging = set(self.below.values())
        self.placed = [node for item, node in self.nodes.items() if item not in hanging]
        assign_columns(self.placed)

    def fits(self) -> bool:
        """Whether it is no wider than a page."""
        widths: dict[int, float] = {}
        for node in self.placed:
            widths[node.column] = max(widths.get(node.column, 0), node.width)
        wide = sum(widths.values()) + self.fit.gap * max(widths)
        return wide <= WIDTH - 2 * MARGIN

    # --- what is to be placed --------------------------------------------------------------------

    def _node(self, item: Item) -> Node:
        width, height = self._size(item)
        above = below = height / 2
        if item.name:
            above += _LINE
            width = max(width, text_width(item.name, _TEXT, True))
        if _has_shape(item):
            below += _LINE
            width = max(width, text_width(self._show(item.shape), _SMALL))
        pinned = {"state": "first", "start": "first", "next": "last", "end": "last"}
        return Node(
            width, above, below, pinned=pinned.get(item.kind, ""), lowest=item.kind == "input"
        )

    def _hang_inputs(self) -> None:
        """An input that goes to one item comes from below it, into the lowest of its column.

        The shape of what comes out stands above such an item then, where no line comes in.
        """
        for item in self.nodes:
            mine = [reader for reader in self.nodes for i in reader.inputs if i is item]
            if item.kind == "input" and len(mine) == 1 and mine[0] not in self.below:
                self.below[mine[0]] = item
                node = self.nodes[mine[0]]
                node.lowest, node.earliest = True, 1
                if _has_shape(mine[0]):
                    node.above, node.below = node.above + _LINE, node.below - _LINE

    def _is_circle(self, item: Item) -> bool:
        (text, *more) = item.lines
        short = " " not in text or len(text) <= 3
        fits = short and text_width(text, _TEXT) <= 2 * self.fit.radius - 5
        return fits and not more and item.kind == "function"

    def _size(self, item: Item) -> tuple[float, float]:
        if self._is_circle(item):
            return 2 * self.fit.radius, 2 * self.fit.radius
        lines = self._text(item)
        widths = (text_width(line, _TEXT, self._is_bold(item, n)) for n, line in enumerate(lines))
        return max(widths) + self.fit.padding, _LINE * len(lines) + 10

    def _text(self, item: Item) -> list[str]:
        return [*item.lines, self._show(item.shape)] if item.kind in _STATES else item.lines

    def _is_bold(self, item: Item, line: int) -> bool:
        return line == 0 and item.kind not in ("function", "weighted", "random")

    def _show(self, shape: Shape) -> str:
        dims = ("B" if batch_dim((dim,)) is not None else dim for dim in shape)
        return self.request.show(*dims)

    # --- drawing ---------------------------------------------------------------------------------

    def draw(self, canvas: Canvas, top: float, fill: bool) -> float:
        """Draws it below this height, over the whole width if `fill`. Returns its lower end."""
        found = with_places(self.placed)
        order(found)
        align(found)
        for reader, item in self.below.items():
            upper, node = self.nodes[reader], self.nodes[item]
            node.y = upper.y + upper.below + _RISE + node.above
        for item, node in self.nodes.items():
            if item.kind == "input" and item not in self.below.values():  # with several readers
                for upper in (self.nodes[other] for other in self.nodes if item in other.inputs):
                    node.y = max(node.y, upper.y + upper.below + node.above)
        down = top - min(node.y - node.above for node in self.nodes.values())
        for node in {n for c in found.columns for n in c} | set(self.nodes.values()):
            node.y += down
        borders = self._spread(found, fill)
        for reader, item in self.below.items():
            self.nodes[item].x = self.nodes[reader].x
        self._lines(canvas, found, borders)
        for item, node in self.nodes.items():
            self._shape(canvas, item, node)
        return max(node.y + node.below for node in self.nodes.values())

    def _spread(self, found: Layout, fill: bool) -> list[tuple[float, float]]:
        """The columns from left to right, as far apart as lines are steep: their borders."""
        least = self.fit.gap
        gaps = []
        for edges in found.gaps():
            steep = max((abs(left.y - right.y) for left, right in edges), default=0)
            gaps.append(min(max(steep * _STEEP, least), self.fit.widest))
        widths = [max(node.width for node in column) for column in found.columns]
        room = max(WIDTH - 2 * MARGIN - sum(widths), least * len(gaps))
        wider = sum(gaps) - least * len(gaps)
        if sum(gaps) > room:
            gaps = [least + (gap - least) * (room - least * len(gaps)) / wider for gap in gaps]
        else:
            gaps = [gap * min(room / sum(gaps), 9 if fill else 1.5) for gap in gaps]
        x, borders = -(sum(widths) + sum(gaps)) / 2, []
        for column, width, gap in zip(found.columns, widths, [*gaps, 0], strict=True):
            for node in column:
                node.x = x + width / 2
            borders.append((x, x + width))
            x += width + gap
        return borders

    def _lines(self, canvas: Canvas, found: Layout, borders: list[tuple[float, float]]) -> None:
        items = {node: item for item, node in self.nodes.items()}
        kinds: dict[Node, set[str]] = {}  # of what a line leads to
        for left, right in reversed(found.edges):
            onward = kinds[right] if right.is_place else {items[right].kind}
            kinds.setdefault(left, set()).update(onward)
        shifts = self._shifts(found)
        for left, right in found.edges:
            shift, start, end = shifts[left, right], left.x, right.x
            if not left.is_place:
                start += self._size(items[left])[0] / 2
            if not right.is_place:
                half, circle = self._size(items[right])[0] / 2, self._is_circle(items[right])
                end -= (half**2 - shift**2) ** 0.5 if circle else half
            points = [
                (start, left.y),
                (borders[left.column][1], left.y),
                (borders[right.column][0], right.y + shift),
                (end, right.y + shift),
            ]
            onward = kinds[right] if right.is_place else {items[right].kind}
            color = self._line(items[left.source or left], onward)
            canvas.path(points, color, curved=True, arrow=not right.is_place)
        for reader, item in self.below.items():
            upper, lower = self.nodes[reader], self.nodes[item]
            points = [(lower.x, lower.y - lower.above), (upper.x, upper.y + upper.below)]
            canvas.path(points, self.colors.input.edge)

    def _shifts(self, found: Layout) -> dict[tuple[Node, Node], float]:
        """How far above or below a node's middle each line comes in, so that none hides another."""
        shifts = dict.fromkeys(found.edges, 0.0)
        lines: dict[Node, list[tuple[Node, Node]]] = {}
        for edge in found.edges:
            lines.setdefault(edge[1], []).append(edge)
        for node, edges in lines.items():
            steep = sorted(edges, key=lambda edge: abs(edge[0].y - node.y))
            for sign in (-1, 1) if len(edges) > 1 else ():
                side = [edge for edge in steep if (edge[0].y - node.y) * sign > 1]
                for number, edge in enumerate(side, start=1):
                    shifts[edge] = sign * min(_SHIFT * number, 0.85 * self.fit.radius)
        return shifts

    def _line(self, source: Item, onward: set[str]) -> str:
        kinds = {"state": self.colors.state, "input": self.colors.input}
        if source.kind in kinds:
            return kinds[source.kind].edge
        return self.colors.result.edge if onward == {"next"} else self.colors.line

    def _paint(self, item: Item) -> Paint:
        colors = self.colors
        kinds = {
            "state": colors.state, "next": colors.result, "input": colors.input,
            "product": colors.weight, "norm": colors.weight, "weighted": colors.weight,
        }  # fmt: skip
        plain = self.gates.get(item.base, colors.plain) if item.kind == "function" else colors.plain
        return kinds.get(item.kind, plain)

    def _shape(self, canvas: Canvas, item: Item, node: Node) -> None:
        width, height = self._size(item)
        if self._is_circle(item):
            canvas.circle(node.x, node.y, self.fit.radius, self._paint(item))
        else:
            square = item.kind in ("product", "norm") or len(item.lines) > 1
            radius = 5 if square else height / 2
            dashed = item.kind in ("random", "start", "end")
            canvas.box(
                node.x, node.y, width, height, self._paint(item), radius=radius, dashed=dashed
            )
        lines = self._text(item)
        for number, line in enumerate(lines):
            y = node.y + (number - (len(lines) - 1) / 2) * _LINE
            canvas.text(node.x, y, line, _TEXT, bold=self._is_bold(item, number))
        over, under = node.y - height / 2 - _LINE / 2 - 1, node.y + height / 2 + _LINE / 2 + 1
        if _has_shape(item):
            y = over if item in self.below else under
            over -= _LINE if item in self.below else 0
            canvas.text(node.x, y, self._show(item.shape), _SMALL, color=self.colors.quiet)
        if item.name:
            canvas.text(node.x, over, item.name, _TEXT, bold=True)


def _has_shape(item: Item) -> bool:
    """Whether the shape of its value stands beside it."""
    return item.tells and item.kind not in _STATES
