"""A layered layout: nodes in columns, by the longest path that leads to them.

Where an edge passes a column it has a place of its own there, so that no line crosses a shape or
its words. All edges from one node share these places, and their lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(eq=False)
class Node:
    """What is to be placed; the fields below the first line are found.

    above, below: how far it reaches from the height at which its lines come and go.
    column: that in which it has to be, "first" or "last"; else that of the longest path.
    earliest: the first column that it may be in.
    lowest: it has to be below all others in its column.
    """

    width: float
    above: float
    below: float
    inputs: list[Node] = field(default_factory=list)
    pinned: str = ""
    earliest: int = 0
    lowest: bool = False
    source: Node | None = None  # of a place on the way of an edge: where the edge comes from

    column: int = 0
    x: float = 0.0
    y: float = 0.0

    @property
    def is_place(self) -> bool:
        return self.source is not None


@dataclass
class Layout:
    """Nodes column by column from left to right, from the top down, and the edges between them.

    Each edge leads from one column to the next; an edge that passes columns is several.
    """

    columns: list[list[Node]]
    edges: list[tuple[Node, Node]]

    def gaps(self) -> list[list[tuple[Node, Node]]]:
        """The edges behind each column but the last."""
        found: list[list[tuple[Node, Node]]] = [[] for _ in self.columns[1:]]
        for edge in self.edges:
            found[edge[0].column].append(edge)
        return found

    def neighbours(self) -> tuple[dict[Node, list[Node]], dict[Node, list[Node]]]:
        """What each node is connected with in the column before, and in the one behind."""
        before: dict[Node, list[Node]] = {n: [] for column in self.columns for n in column}
        after: dict[Node, list[Node]] = {n: [] for column in self.columns for n in column}
        for left, right in self.edges:
            before[right].append(left)
            after[left].append(right)
        return before, after


def assign_columns(nodes: Sequence[Node]) -> None:
    """Finds the column of each node; each comes behind its inputs in the sequence."""
    for node in nodes:
        before = (i.column + 1 for i in node.inputs)
        node.column = 0 if node.pinned == "first" else max(before, default=node.earliest)
    last = max(node.column for node in nodes)
    readers = _readers(nodes)
    for node in reversed(nodes):
        if node.pinned == "last":
            node.column = max(last, 1)
        elif not node.pinned and not node.inputs and readers[node]:
            # What comes from nowhere stands before what it goes to.
            node.column = max(min(r.column for r in readers[node]) - 1, node.earliest)
    used = sorted({node.column for node in nodes})  # some may have been left by all
    for node in nodes:
        node.column = used.index(node.column)


def _readers(nodes: Sequence[Node]) -> dict[Node, list[Node]]:
    readers: dict[Node, list[Node]] = {node: [] for node in nodes}
    for node in nodes:
        for i in dict.fromkeys(node.inputs):
            readers[i].append(node)
    return readers


def with_places(nodes: Sequence[Node]) -> Layout:
    """The columns, with places where edges pass them."""
    columns: list[list[Node]] = [[] for _ in range(max(n.column for n in nodes) + 1)]
    for node in nodes:
        columns[node.column].append(node)
    edges: list[tuple[Node, Node]] = []
    for node, readers in _readers(nodes).items():
        at = node
        for column in range(node.column + 1, max((r.column for r in readers), default=0) + 1):
            edges += [(at, reader) for reader in readers if reader.column == column]
            if any(reader.column > column for reader in readers):
                place = Node(0, 3, 3, source=node, column=column)
                columns[column].append(place)
                edges.append((at, place))
                at = place
    return Layout(columns, edges)
