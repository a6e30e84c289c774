"""The heights of the nodes, by the medians of their neighbours', so that most lines are level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from openrnn.explain.views.layered import Layout, Node

_SPACE = 14  # between two nodes of a column
_ALMOST = 10  # from level
_LANE = 9  # between two lines, or a line and a node


def align(found: Layout) -> None:
    """Brings nodes to the heights of their neighbours, so that most lines are level."""
    before, after = found.neighbours()
    for column in found.columns:
        for upper, node in pairwise(column):
            node.y = upper.y + _apart(upper, node)
        middle = (column[0].y + column[-1].y) / 2
        for node in column:
            node.y -= middle
    both = {node: before[node] + after[node] for node in before}
    for near in [before, after] * 4 + [both] * 12:
        columns = found.columns[::-1] if near is after else found.columns
        for column in columns:
            _settle(column, near)
    _close(found)
    _straighten(found, before, after)
    _close(found)
    for column in found.columns:
        for node in column:
            _snap(column, node, both[node])


def _close(found: Layout) -> None:
    """Takes out what is empty from the left to the right, from the top down."""
    nodes = sorted((n for column in found.columns for n in column), key=lambda node: node.y)
    for node in nodes:
        height = node.y
        free = float("inf")
        for column in found.columns:
            for upper, lower in pairwise(column):
                if upper.y <= height < lower.y:
                    free = min(free, lower.y - upper.y - _apart(upper, lower))
        if 0.5 < free < float("inf"):
            for lower in nodes:
                lower.y -= free * (lower.y > height)


def _straighten(
    found: Layout, before: dict[Node, list[Node]], after: dict[Node, list[Node]]
) -> None:
    """Makes one step of the many small ones that a line over several columns may have."""
    for column in found.columns:
        for first in column:
            if not first.is_place or before[first][0].is_place:
                continue
            run: list[Node] = []
            low, high = float("-inf"), float("inf")
            place: Node | None = first
            while place is not None:
                above, below = _room(found.columns[place.column], place)
                if max(low, above) > min(high, below):
                    _level(run, low, high, before, after)
                    run, low, high = [], float("-inf"), float("inf")
                run.append(place)
                low, high = max(low, above), min(high, below)
                place = next((n for n in after[place] if n.is_place), None)
            _level(run, low, high, before, after)


def _snap(column: list[Node], node: Node, near: list[Node]) -> None:
    """Makes a line level that is almost, if no other gets worse by more."""

    def slant(y: float) -> float:
        return sum(abs(other.y - y) * _weight(other, node) for other in near)

    high, low = _room(column, node)
    for other in near:
        near_enough = 0 < abs(other.y - node.y) < _ALMOST and high <= other.y <= low
        if near_enough and slant(other.y) <= slant(node.y) + 1e-9:
            node.y = other.y


def _room(column: list[Node], node: Node) -> tuple[float, float]:
    """How high and how low a node may be, between its neighbours in the column."""
    place = column.index(node)
    upper = column[place - 1].y + _apart(column[place - 1], node) if place else float("-inf")
    lower = float("inf")
    if place + 1 < len(column):
        lower = column[place + 1].y - _apart(node, column[place + 1])
    return upper, lower


def _level(
    run: list[Node],
    low: float,
    high: float,
    before: dict[Node, list[Node]],
    after: dict[Node, list[Node]],
) -> None:
    """Brings places to one height, if there is one for all, near that of the ends."""
    ends = [before[run[0]][0].y, *(n.y for place in run for n in after[place] if not n.is_place)]
    wanted = _median([(y, 1.0) for y in ends])
    for place in run:
        place.y = min(max(wanted, low), high)


def _apart(upper: Node, lower: Node) -> float:
    space = _LANE if upper.is_place or lower.is_place else _SPACE
    return upper.below + space + lower.above


def _weight(one: Node, other: Node) -> float:
    """How much it matters that a line is level: most of all where it passes columns."""
    left, right = (one, other) if one.column < other.column else (other, one)
    return 1.0 + 3 * left.is_place + 3 * right.is_place + 0.5 * (len(right.inputs) == 1)


def _settle(column: list[Node], near: Mapping[Node, Sequence[Node]]) -> None:
    """Brings each node as near as may be to the heights of others, in the order of the column.

    Neighbours that would come too near form a block, which goes to the median of their wishes.
    """
    offset, blocks = 0.0, list[tuple[list[tuple[float, float]], list[tuple[Node, float]], float]]()
    for number, node in enumerate(column):
        if number:
            offset += _apart(column[number - 1], node)
        wanted = [(other.y - offset, _weight(other, node)) for other in near[node]]
        wanted = wanted or [(node.y - offset, 0.01)]
        block = (wanted, [(node, offset)], _median(wanted))
        while blocks and blocks[-1][2] > block[2]:
            earlier = blocks.pop()
            wanted = earlier[0] + block[0]
            block = (wanted, earlier[1] + block[1], _median(wanted))
        blocks.append(block)
    for _, members, at in blocks:
        for node, offset in members:
            node.y = at + offset


def _median(wanted: list[tuple[float, float]]) -> float:
    """The weighted median; the mean of two if it lies between them."""
    wanted = sorted(wanted)
    half, total = sum(weight for _, weight in wanted) / 2, 0.0
    for number, (y, weight) in enumerate(wanted):
        total += weight
        if total > half + 1e-9:
            return y
        if total > half - 1e-9:
            return (y + wanted[number + 1][0]) / 2 if number + 1 < len(wanted) else y
    return wanted[-1][0]
