"""Which rows of a parameter make which gate, found in the step graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from openrnn.step import ops
from openrnn.step.graph import Graph, Node, depends_on
from openrnn.step.shape import batch_dim, concrete

# Functions of one value that make no gate of a sum.
_LINEAR = frozenset({"neg", "detach", "convert", "logical_not"})
_NONE = -1  # in the place of a row: made of no row, or of several


@dataclass(frozen=True)
class Block:
    """The rows start:stop of a parameter, and the name of the gate that is made of them.

    Rows are the numbers along all dimensions but the last. With `columns` they are those along all
    but the first: of a weight in x @ W. A parameter that is in no product has its numbers as rows.
    """

    name: str
    start: int
    stop: int
    columns: bool = False


def blocks(graph: Graph, gates: Sequence[str] = ()) -> dict[str, list[Block]]:
    """The blocks of every parameter that a step reads, from the first row to the last.

    A parameter is followed through its products, sums and norms to the slices of what comes out; or
    it is sliced itself. A slice is named after the gate that is made of it: a_i after i = σ(a_i).

    Args:
        graph: the step.
        gates: the cell's gates, for blocks that have no name in the graph, if their number fits.

    Returns:
        By the parameter's name. Where nothing is sliced the list has one block. A block that
        nothing names has the name "".

    Examples:
        >>> from openrnn import GRUCell
        >>> from openrnn.explain.parts import read
        >>> (lane,) = read(GRUCell(30, 20)).lanes
        >>> [(block.name, block.start, block.stop) for block in blocks(lane.graph)["weight_hh"]]
        [('r', 0, 20), ('z', 20, 40), ('n', 40, 60)]
    """
    found = {}
    for index, node in graph.inputs("parameter"):
        if not node.shape:
            continue
        spans, rows, columns = _follow(graph, index)
        cuts = sorted({0, rows}.union(*spans.values()))
        pieces = list(zip(cuts, cuts[1:], strict=False))
        families = [[i for i, span in spans.items() if span == piece] for piece in pieces]
        names = _fall_back([_name(graph, f, len(families) == 1) for f in families], gates)
        found[str(node["name"])] = [
            Block(name, *piece, columns) for name, piece in zip(names, pieces, strict=True)
        ]
    return found


def _follow(graph: Graph, parameter: int) -> tuple[dict[int, tuple[int, int]], int, bool]:
    """The values that are made of some rows of the parameter, start:stop of each.

    And the number of rows, and whether these are columns.
    """
    shape = concrete(graph.nodes[parameter].shape, 1)
    by_rows = torch.arange(math.prod(shape[:-1])).view(*shape[:-1], 1).expand(shape)
    by_columns = torch.arange(math.prod(shape[1:])).view(1, *shape[1:]).expand(shape)
    by_numbers = torch.arange(math.prod(shape)).view(shape)
    ways = [(by_rows, False), (by_columns, True)] if len(shape) > 1 else []
    best = (_Way(graph, parameter, by_numbers), False)
    for rows, columns in ways:  # the right way is that in which a product keeps the rows apart
        way = _Way(graph, parameter, rows)
        if way.most > best[0].most:
            best = (way, columns)
    return best[0].spans, best[0].count, best[1]


class _Way:
    """For each value, of which row of a parameter each of its numbers is made.

    spans: of the values that are made of neighbours, each of one.
    most: the rows that a product keeps apart.
    """

    def __init__(self, graph: Graph, parameter: int, rows: Tensor) -> None:
        self.count, self.most = int(rows.max()) + 1, 0
        self.spans: dict[int, tuple[int, int]] = {}
        self._graph = graph
        self._known = {parameter: rows}
        for index, node in enumerate(graph.nodes):
            if not self._known.keys().isdisjoint(node.inputs):
                made = self._make(node)
                if made is None or bool((made == _NONE).all()):
                    continue
                self._known[index] = made
                span, distinct = self._span(made)
                if span is not None:
                    self.spans[index] = span
                if node.op == "matmul":
                    self.most = max(self.most, distinct)

    def _span(self, made: Tensor) -> tuple[tuple[int, int] | None, int]:
        there = torch.zeros(self.count + 1, dtype=torch.bool)
        there[made.reshape(-1)] = True  # _NONE is the last
        number, whole = int(there[:-1].sum()), not there[-1]
        start, stop = int(made.min()), int(made.max()) + 1
        return ((start, stop) if whole and stop - start == number else None), number

    def _make(self, node: Node) -> Tensor | None:
        kind, shape = ops.TABLE[node.op].kind, concrete(node.shape, 1)
        if kind == "product":
            return self._product(node, shape)
        if kind == "elementwise":
            made = torch.tensor(_NONE).expand(shape)
            for i in node.inputs:
                if i in self._known:
                    made = _merge(made, self._known[i].expand(shape))
            return made
        if kind == "view":
            run = ops.TABLE[node.op].run
            assert run is not None
            given = [self._rows_of(i) for i in node.inputs]
            if node.op in ("reshape", "expand"):
                return run(*given, size=shape)
            return run(*given, **dict(node.attributes)) if node.op != "unslice" else None
        return None

    def _rows_of(self, index: int) -> Tensor:
        nothing = torch.tensor(_NONE).expand(concrete(self._graph.nodes[index].shape, 1))
        return self._known.get(index, nothing)

    def _product(self, node: Node, shape: tuple[int, ...]) -> Tensor:
        """Each number of a product is made of the row that it was a sum over, if it was one."""
        made = torch.tensor(_NONE).expand(shape)
        for i, over in zip(node.inputs, (-1, -2), strict=True):
            if i in self._known and batch_dim(self._graph.nodes[i].shape) is None:
                low, high = self._known[i].aminmax(dim=over, keepdim=True)
                made = _merge(made, torch.where(low == high, low, _NONE).expand(shape))
        return made


def _merge(a: Tensor, b: Tensor) -> Tensor:
    """What is made of both, where both are of the same row or one is of none."""
    return torch.where(a == _NONE, b, torch.where((b == _NONE) | (a == b), a, _NONE))


def _name(graph: Graph, family: list[int], whole: bool) -> str | None:
    """The gate of a block, from the values that are made of just its rows."""
    nodes = graph.nodes
    states = {index: label.partition(".")[2] for label, index in graph.outputs}
    gate = next((i for i in family if _is_function(nodes[i])), None)
    before = [nodes[i].name for i in family if gate is None or i < gate]
    after = sorted(depends_on(nodes, family))
    own = next((name for name in before if name), None)
    if own is not None:  # a_i is named after i, and r_x after r, however far that is
        parts = set(own.split("_")) - {own}
        found = next((nodes[i].name for i in after if nodes[i].name in parts), None)
        if found is not None:
            return found
        if _is_function(nodes[_behind_views(graph, family)]):  # a slice of gates is one
            return own
    if gate is not None and (nodes[gate].name or gate in states):
        return nodes[gate].name or states[gate]
    if own is not None or not whole:
        return own
    return next((nodes[i].name or states[i] for i in after if nodes[i].name or i in states), None)


def _behind_views(graph: Graph, family: list[int]) -> int:
    """What the first named value is a view of."""
    index = next(i for i in family if graph.nodes[i].name)
    while ops.TABLE[graph.nodes[index].op].kind == "view":
        index = graph.nodes[index].inputs[0]
    return index


def _is_function(node: Node) -> bool:
    op = ops.TABLE[node.op]
    return op.kind == "elementwise" and op.arity == 1 and node.op not in _LINEAR


def _fall_back(names: list[str | None], gates: Sequence[str]) -> list[str]:
    if None in names and gates and len(names) % len(gates) == 0:
        names = [*gates] * (len(names) // len(gates))
    return [name or "" for name in names]
