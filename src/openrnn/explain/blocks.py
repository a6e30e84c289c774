"""Which rows of a parameter make which gate, found in the step graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from itertools import pairwise

import torch
from torch import Tensor

from openrnn.step import ops
from openrnn.step.graph import Graph, Node, depends_on
from openrnn.step.shape import batch_dim, concrete, features

# Functions of one value that make no gate of a sum.
_LINEAR = frozenset({"neg", "detach", "convert", "logical_not"})
_NONE = -1  # in the place of a row: made of no row, or of several
_NOTHING = torch.tensor(_NONE, dtype=torch.int32)


@dataclass(frozen=True)
class Block:
    """The rows start:stop of a parameter, and the name of the gate that is made of them.

    Rows are the numbers along all dimensions but the last. With `columns` they are those along all
    but the first: of a weight in x @ W. A parameter that is in no product has its numbers as rows.

    function: where in the graph these rows, and no others, first go through a function of one
        value, as those of a gate through σ; None where they do not.
    """

    name: str
    start: int
    stop: int
    columns: bool = False
    function: int | None = None


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
    return {name: list(found) for name, found in _blocks(graph, tuple(gates)).items()}


@lru_cache(maxsize=64)  # cells of one structure share a graph
def _blocks(graph: Graph, gates: tuple[str, ...]) -> dict[str, list[Block]]:
    found: dict[str, list[Block]] = {}
    for index, node in graph.inputs("parameter"):
        if not node.shape:
            continue
        spans, rows, columns = _follow(graph, index)
        cuts = sorted({0, rows}.union(*spans.values()))
        pieces = list(pairwise(cuts))
        families = [[i for i, span in spans.items() if span == piece] for piece in pieces]
        names = _fall_back([_name(graph, f, len(families) == 1) for f in families], gates)
        found[str(node["name"])] = [
            Block(name, *piece, columns, _function(graph, family))
            for name, piece, family in zip(names, pieces, families, strict=True)
        ]
    known: dict[int | None, str] = {}
    for block in (block for one in found.values() for block in one):
        if block.function is not None and block.name:
            known.setdefault(block.function, block.name)
    return {
        name: [replace(block, name=block.name or known.get(block.function, "")) for block in one]
        for name, one in found.items()
    }


def block_shapes(found: Sequence[Block], whole: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The shape of each of a parameter's blocks, whose own shape is `whole`."""
    if len(found) == 1:
        return [whole]
    counts = [block.stop - block.start for block in found]
    if found[0].columns:
        return [(whole[0], count) for count in counts]
    if is_in_rows(found, whole):
        return [(count, whole[-1]) for count in counts]
    return [(count,) for count in counts]


def is_in_rows(found: Sequence[Block], whole: tuple[int, ...]) -> bool:
    """Whether the blocks are of rows or columns, and not of the numbers one by one."""
    rows = math.prod(whole[1:] if found[0].columns else whole[:-1])
    return len(whole) > 1 and found[-1].stop == rows


def _follow(graph: Graph, parameter: int) -> tuple[dict[int, tuple[int, int]], int, bool]:
    """The values that are made of some rows of the parameter, start:stop of each.

    And the number of rows, and whether these are columns.
    """
    shape = concrete(graph.nodes[parameter].shape, 1)
    best, is_columns = None, False
    # The right way is that in which a product keeps the rows apart.
    for columns in (False, True) if len(shape) > 1 else ():
        outer = (1, *shape[1:]) if columns else (*shape[:-1], 1)
        rows = torch.arange(math.prod(outer), dtype=torch.int32).view(outer)
        way = _Way(graph, parameter, rows)
        if way.most > (best.most if best else 0):
            best, is_columns = way, columns
        if way.most == way.count > 1:
            break
    if best is None:
        numbers = torch.arange(math.prod(shape), dtype=torch.int32).view(shape)
        best = _Way(graph, parameter, numbers)
    return best.spans, best.count, is_columns


class _Way:
    """For each value, of which row of a parameter each of its numbers is made.

    That is a tensor with the value's dimensions, of size 1 where it is the same all along.

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
        there[made.reshape(-1).long()] = True  # _NONE is the last
        number, whole = int(there[:-1].sum()), not there[-1]
        start, stop = int(made.min()), int(made.max()) + 1
        return ((start, stop) if whole and stop - start == number else None), number

    def _make(self, node: Node) -> Tensor | None:
        kind = ops.TABLE[node.op].kind
        if kind == "product":
            return self._product(node)
        if kind == "elementwise":
            if node.op == "mul" and self._is_gated(node):
                return None
            known = (self._known[i] for i in node.inputs if i in self._known)
            return _with_dims(reduce(_merge, known), len(node.shape))
        return self._view(node) if kind == "view" else None

    def _view(self, node: Node) -> Tensor | None:
        run = ops.TABLE[node.op].run
        assert run is not None
        attributes = dict(node.attributes)
        if node.op == "cat":
            return run(*self._pieces(node), **attributes)
        (source,) = node.inputs
        made = self._known[source]
        if node.op == "reshape":
            shape = concrete(self._graph.nodes[source].shape, 1)
            return run(made.expand(shape), size=concrete(node.shape, 1))
        if node.op == "expand":
            return _with_dims(made, len(node.shape))
        if node.op == "slice" and made.size(node["dim"]) == 1:
            return made
        return run(made, **attributes) if node.op != "unslice" else None

    def _pieces(self, node: Node) -> list[Tensor]:
        """What is known of the parts of a concatenation, in full along its dimension."""
        shapes = [concrete(self._graph.nodes[i].shape, 1) for i in node.inputs]
        known = [self._known.get(i, _NOTHING) for i in node.inputs]
        common = [max(sizes) for sizes in zip(*(k.shape for k in known if k.dim()), strict=True)]
        dim: int = node["dim"]
        return [
            k.expand(*common[:dim], shape[dim], *common[dim + 1 :])
            for k, shape in zip(known, shapes, strict=True)
        ]

    def _is_gated(self, node: Node) -> bool:
        """Whether two values of a step weigh each other: what comes out is of neither."""
        shapes = [self._graph.nodes[i].shape for i in node.inputs]
        return features(shapes[0]) == features(shapes[1]) and None not in map(batch_dim, shapes)

    def _product(self, node: Node) -> Tensor:
        """Each number of a product is made of the row that it was a sum over, if it was one."""
        made = _NOTHING
        for i, over in zip(node.inputs, (-1, -2), strict=True):
            if i in self._known and batch_dim(self._graph.nodes[i].shape) is None:
                low, high = self._known[i].aminmax(dim=over, keepdim=True)
                made = _merge(made, torch.where(low == high, low, _NONE))
        return _with_dims(made, len(node.shape))


def _merge(a: Tensor, b: Tensor) -> Tensor:
    """What is made of both, where both are of the same row or one is of none."""
    return torch.where(a == _NONE, b, torch.where((b == _NONE) | (a == b), a, _NONE))


def _with_dims(made: Tensor, count: int) -> Tensor:
    """With so many dimensions, new ones in front."""
    return made[(None,) * (count - made.dim())]


def _name(graph: Graph, family: list[int], whole: bool) -> str | None:
    """The gate of a block, from the values that are made of just its rows."""
    nodes = graph.nodes
    states = {index: label.partition(".")[2] for label, index in graph.outputs}
    gate = _function(graph, family)
    before = [nodes[i].name for i in family if gate is None or i < gate]
    after = sorted(depends_on(nodes, family))
    own = next((name for name in before if name), None)
    if own is not None:  # a_i is named after i, and r_x after r, however far that is
        parts = set(own.split("_")) - {own}
        found = next((nodes[i].name for i in after if nodes[i].name in parts), None)
        if found is not None:
            return found
    if gate is not None and (nodes[gate].name or gate in states):
        return nodes[gate].name or states[gate]
    if own is not None or not whole:
        return own
    return next((nodes[i].name or states[i] for i in after if nodes[i].name or i in states), None)


def _function(graph: Graph, family: list[int]) -> int | None:
    return next((index for index in family if _is_function(graph.nodes[index])), None)


def _is_function(node: Node) -> bool:
    op = ops.TABLE[node.op]
    return op.kind == "elementwise" and op.arity == 1 and node.op not in _LINEAR


def _fall_back(names: list[str | None], gates: Sequence[str]) -> list[str]:
    if None in names and gates and len(names) % len(gates) == 0:
        names = [*gates] * (len(names) // len(gates))
    return [name or "" for name in names]
