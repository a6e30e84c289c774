"""One time step as a graph: frozen nodes, a builder for them, a print that a person reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from openrnn.step import ops
from openrnn.step.shape import Batch, Shape, broadcast, features, show_shape


@dataclass(frozen=True)
class Node:
    """One operation. Name and line are for people: nodes that differ in them alone are equal."""

    op: str
    inputs: tuple[int, ...]
    attributes: tuple[tuple[str, Any], ...]
    shape: Shape
    dtype: torch.dtype
    name: str | None = field(default=None, compare=False)  # the user's own variable
    line: str | None = field(default=None, compare=False)  # where in the user's source

    def __getitem__(self, attribute: str) -> Any:
        return dict(self.attributes)[attribute]

    @property
    def label(self) -> str:
        """Of an input: what it is called in the graph, "state.h" say."""
        return f"{self['kind']}.{self['name']}"


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which they can be computed, and which of them are results, by name."""

    nodes: tuple[Node, ...]
    outputs: tuple[tuple[str, int], ...]

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Worked out once: evaluators are looked up by their graph at every call."""
        return hash((self.nodes, self.outputs))

    def __getstate__(self) -> dict[str, Any]:
        """Without the hash, which is another in another process."""
        return {"nodes": self.nodes, "outputs": self.outputs}

    def inputs(self, kind: str | None = None) -> Iterator[tuple[int, Node]]:
        """The input nodes, all or of one kind, with their places."""
        for index, node in enumerate(self.nodes):
            if node.op == "input" and kind in (None, node["kind"]):
                yield index, node

    def readers(self) -> list[list[int]]:
        """For each node, those that read it."""
        found: list[list[int]] = [[] for _ in self.nodes]
        for index, node in enumerate(self.nodes):
            for i in node.inputs:
                found[i].append(index)
        return found

    def count(self, op: str) -> int:
        return sum(node.op == op for node in self.nodes)

    def __str__(self) -> str:
        width = max((len(self._left(i)) for i in range(len(self.nodes))), default=0)
        lines = [
            f"{self._left(i):<{width}} = {self._right(i)}"
            + (f"    # {self.nodes[i].line}" if self.nodes[i].line else "")
            for i in range(len(self.nodes))
        ]
        results = ", ".join(f"{name} = {self.title(index)}" for name, index in self.outputs)
        return "\n".join([*lines, f"return {results}"])

    def title(self, index: int) -> str:
        node = self.nodes[index]
        if node.op == "input":
            return str(node["name"])
        if node.op == "constant" and node.shape == ():
            return f"{node['value'][0]:g}" if node.dtype != torch.bool else str(node["value"][0])
        return f"%{index}" if node.name is None else f"{node.name}%{index}"

    def _left(self, index: int) -> str:
        node = self.nodes[index]
        dtype = "" if node.dtype.is_floating_point else f" {str(node.dtype).removeprefix('torch.')}"
        return f"{self.title(index)} {show_shape(node.shape)}{dtype}"

    def _right(self, index: int) -> str:
        node = self.nodes[index]
        shown = [
            f"{key}={f'{len(value)} numbers' if key == 'value' and len(value) > 4 else value}"
            for key, value in node.attributes
        ]
        return f"{node.op}({', '.join([*map(self.title, node.inputs), *shown])})"

    def check(self) -> None:
        """Raises an AssertionError unless the graph is well formed."""
        for index, node in enumerate(self.nodes):
            op = ops.TABLE[node.op]
            assert all(0 <= i < index for i in node.inputs), f"node {index} reads a later one"
            assert op.arity in (None, len(node.inputs)), f"node {index}: {op.name} takes {op.arity}"
            shapes = [self.nodes[i].shape for i in node.inputs]
            if op.shape is not None:
                shape = op.shape(shapes, dict(node.attributes))
                assert shape == node.shape, (
                    f"node {index}: {node.op} gives {shape}, not {node.shape}"
                )
            if node.op == "reshape":
                assert features(shapes[0]) == features(node.shape), f"node {index}: reshape"
            if node.op == "expand":
                assert broadcast([*shapes, node.shape]) == node.shape, f"node {index}: expand"
            assert sum(isinstance(dim, Batch) for dim in node.shape) <= 1, f"node {index}: B·B"
        names = [name for name, _ in self.outputs]
        assert len(set(names)) == len(names), "two outputs of one name"
        assert all(0 <= index < len(self.nodes) for _, index in self.outputs)


@dataclass(frozen=True)
class Value:
    """A node under construction, with arithmetic."""

    builder: Builder
    index: int

    @property
    def node(self) -> Node:
        return self.builder.nodes[self.index]

    @property
    def shape(self) -> Shape:
        return self.node.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.node.dtype

    def _apply(self, op: str, *others: Any, **attributes: Any) -> Value:
        # A number takes the dtype of its partner: of where(condition, a, b), not of the condition.
        dtype = next((o.dtype for o in others if isinstance(o, Value)), self.dtype)
        operands = [self, *(self.builder.lift(o, dtype) for o in others)]
        return self.builder.add(op, operands, **attributes)

    def __add__(self, other: Any) -> Value:
        return self._apply("add", other)

    def __sub__(self, other: Any) -> Value:
        return self._apply("sub", other)

    def __mul__(self, other: Any) -> Value:
        return self._apply("mul", other)

    def __truediv__(self, other: Any) -> Value:
        return self._apply("div", other)

    def __neg__(self) -> Value:
        return self._apply("neg")

    def __rsub__(self, other: Any) -> Value:
        return self.builder.lift(other, self.dtype) - self

    def __getattr__(self, op: str) -> Callable[..., Value]:
        """`value.tanh()`, `value.sum(dims=(1,))`: any operation of the table."""
        if op not in ops.TABLE:
            raise AttributeError(op)
        return lambda *others, **attributes: self._apply(op, *others, **attributes)

    def reshape(self, shape: Shape) -> Value:
        if shape == self.shape:
            return self
        if self.node.op == "reshape":  # of the two the last alone counts
            return Value(self.builder, self.node.inputs[0]).reshape(shape)
        return self.builder.add("reshape", [self], shape=shape)

    def expand(self, shape: Shape) -> Value:
        return self if shape == self.shape else self.builder.add("expand", [self], shape=shape)

    def permute(self, dims: Iterable[int]) -> Value:
        dims = tuple(dims)
        if dims == tuple(range(len(dims))):
            return self
        if self.node.op == "permute":  # two in one
            first = self.node["dims"]
            return Value(self.builder, self.node.inputs[0]).permute(first[d] for d in dims)
        return self._apply("permute", dims=dims)

    def transpose(self) -> Value:
        """The last two dimensions exchanged."""
        rank = len(self.shape)
        return self.permute((*range(rank - 2), rank - 1, rank - 2))


class Builder:
    """Makes a graph, node by node. Equal nodes are made once."""

    table: Mapping[str, ops.Op] = ops.TABLE

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._known: dict[Node, int] = {}

    def add(
        self,
        op: str,
        inputs: Iterable[Value] = (),
        *,
        shape: Shape | None = None,
        dtype: torch.dtype | None = None,
        **attributes: Any,
    ) -> Value:
        """A node of this operation. Shape and dtype are given only where the inputs do not tell."""
        entry, operands = self.table[op], list(inputs)
        if entry.shape is not None:
            shape = entry.shape([operand.shape for operand in operands], attributes)
        if dtype is None:
            dtype = entry.dtype or operands[-1].dtype
        assert shape is not None
        places = tuple(operand.index for operand in operands)
        return self._keep(Node(op, places, tuple(sorted(attributes.items())), shape, dtype))

    def _keep(self, node: Node) -> Value:
        if node not in self._known:
            self._known[node] = len(self.nodes)
            self.nodes.append(node)
        return Value(self, self._known[node])

    def lift(self, value: Any, dtype: torch.dtype) -> Value:
        """A number as a constant of this dtype; a value as it is."""
        if isinstance(value, Value):
            return value
        if value != value:
            value = math.nan  # the one object, so that nodes of it are equal
        kind = float if dtype.is_floating_point else bool if dtype == torch.bool else int
        return self.add("constant", dtype=dtype, shape=(), value=(kind(value),))

    def input(
        self, kind: str, name: str, shape: Shape, dtype: torch.dtype, **attributes: Any
    ) -> Value:
        return self.add("input", dtype=dtype, shape=shape, kind=kind, name=name, **attributes)

    def copy(self, node: Node, inputs: Iterable[Value]) -> Value:
        """The node, on inputs of this graph."""
        return self._keep(replace(node, inputs=tuple(value.index for value in inputs)))

    def finish(self, outputs: Mapping[str, Value]) -> Graph:
        """The graph of these results, without the nodes that no result needs."""
        return prune(Graph(tuple(self.nodes), tuple((n, v.index) for n, v in outputs.items())))


def ancestors(nodes: Iterable[Node], indices: Iterable[int]) -> set[int]:
    """These nodes and all that they are computed from."""
    table, found, todo = list(nodes), set[int](), list(indices)
    while todo:
        index = todo.pop()
        if index not in found:
            found.add(index)
            todo.extend(table[index].inputs)
    return found


def depends_on(nodes: Iterable[Node], sources: Iterable[int]) -> set[int]:
    """These nodes and all that are computed from any of them."""
    found = set(sources)
    for index, node in enumerate(nodes):
        if any(i in found for i in node.inputs):
            found.add(index)
    return found


def prune(graph: Graph) -> Graph:
    """The graph without the nodes that no output needs.

    Random nodes stay: what is drawn after them depends on that they are drawn.
    """
    drawn = (index for index, node in enumerate(graph.nodes) if node.op == "random")
    needed = sorted(ancestors(graph.nodes, [*drawn, *(index for _, index in graph.outputs)]))
    place = {index: i for i, index in enumerate(needed)}
    nodes = tuple(
        replace(graph.nodes[index], inputs=tuple(place[i] for i in graph.nodes[index].inputs))
        for index in needed
    )
    return Graph(nodes, tuple((name, place[index]) for name, index in graph.outputs))
