"""What parameters, and parts of them, are called."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from openrnn.explain.mathematics import formula as paper
from openrnn.explain.mathematics.formula import Formula, Symbol
from openrnn.explain.mathematics.symbols import of_block, of_parameters, of_weight
from openrnn.step.graph import Graph, Node


class Weights:
    """The parameters of a graph.

    Args:
        graph: of a step, or of a step and its gradient.
        gates: names of the values that have an equation, after which parts of weights are named.
    """

    def __init__(self, graph: Graph, gates: Collection[str]) -> None:
        norms = {
            str(graph.nodes[i]["name"])
            for node in graph.nodes
            if node.op in ("norm", "norm_back")
            for i in node.inputs[1 if node.op == "norm" else 2 :]
        }
        shapes = {str(node["name"]): node.shape for _, node in graph.inputs("parameter")}
        self._graph, self._symbols = graph, of_parameters(shapes, norms)
        inputs = (node for _, node in graph.inputs() if node["kind"] in ("input", "state"))
        self._given = {str(node["name"]) for node in inputs}
        self._gates = set(gates) - self._given

    def wanted(self, index: int, gate: str, own: str | None) -> Symbol | None:
        """The symbol of a parameter, or of a part of one; None of a whole in another shape.

        Args:
            index: its place.
            gate: the value in whose equation it stands; "" of none, but of a gradient's.
            own: the value inside that equation that it helps to make.
        """
        node = self._graph.nodes[index]
        whole = self._symbols[str(self._graph.nodes[self._source(index)]["name"])]
        if node.op == "input":
            return whole
        if node.op == "matrix":
            return replace(whole, base=whole.base.upper())
        if node.name is not None:
            return of_weight(node.name, matrix=len(node.shape) > 1)
        if not self._is_part(index):
            return None
        if node.op == "slice" and node["dim"] == 1:
            return replace(whole, below=(*whole.below, self._multiplied(node)))
        if not gate:
            return replace(whole, below=(*whole.below, self._place(node)))
        return of_block(whole, self._label(gate, own))

    def origin(self, index: int) -> Formula:
        """What it is of a parameter, which goes by its own name."""
        node = self._graph.nodes[index]
        if node.op == "input":
            return paper.symbol(Symbol(str(node["name"])), node.shape)
        inner = self.origin(node.inputs[0])
        return paper.call(node.op, (inner,), node.shape, **dict(node.attributes))

    def _source(self, index: int) -> int:
        node = self._graph.nodes[index]
        return index if node.op == "input" else self._source(node.inputs[0])

    def _is_part(self, index: int) -> bool:
        node = self._graph.nodes[index]
        return node.op in ("slice", "matrix") or any(map(self._is_part, node.inputs))

    def _label(self, gate: str, own: str | None) -> str:
        """Of i = σ(a_i) the gate, i; of what the user calls rz_x, its own name, rz."""
        tokens = (own or gate).split("_")
        for token in tokens:
            if token == gate or token in self._gates:
                return token
        return "_".join(token for token in tokens if token not in self._given) or gate

    def _place(self, node: Node) -> str:
        while node.op != "slice":
            node = self._graph.nodes[node.inputs[0]]
        start, stop = node["start"], node["stop"]
        return str(start) if stop == start + 1 else f"{start}:{stop}"

    def _multiplied(self, columns: Node) -> str:
        """The name of what a weight's columns multiply, of [x; h] the x, say."""
        nodes = self._graph.nodes
        for node in nodes:
            if node.op != "matmul":
                continue
            vector, turned = (nodes[i] for i in node.inputs)
            if vector.op == "cat" and turned.op == "permute" and turned.inputs == columns.inputs:
                start = 0
                for piece in (nodes[i] for i in vector.inputs):
                    size = piece.shape[-1]
                    assert isinstance(size, int)
                    here = (start, start + size) == (columns["start"], columns["stop"])
                    if here and piece.op == "input":
                        return str(piece["name"])
                    start += size
        return f"{columns['start']}:{columns['stop']}"
