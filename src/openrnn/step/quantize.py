"""A step whose products with fixed weights are in 8 bits, made from the step in float32."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from openrnn.step.evaluate import Evaluator
from openrnn.step.graph import Builder, Graph, Node, Value, ancestors
from openrnn.step.int8 import DEEPEST, quantize_weight
from openrnn.step.shape import batch_dim
from openrnn.step.split import distribute

_VIEWS = ("slice", "permute", "expand", "reshape")


class Quantized(NamedTuple):
    """A step, and what it reads: weights in int8, each with `<name>_scale`, and what is float."""

    graph: Graph
    tensors: dict[str, Tensor]

    @property
    def weights(self) -> list[str]:
        """The names of those in int8."""
        return [name for name, tensor in self.tensors.items() if tensor.dtype == torch.int8]


def quantize(graph: Graph, tensors: Mapping[str, Tensor]) -> Quantized:
    """The step graph with int8_linear for each product of rows and a weight.

    What depends on parameters alone is computed now, once and for all.

    Args:
        graph: of one step, in float32.
        tensors: the parameters that it reads, by name.
    """
    return _Rewrite(distribute(graph), tensors).run()


def unrounded(graph: Graph) -> Graph:
    """The same step in real numbers, for who looks at it: (x Wᵀ) s, with no rounding of x."""
    if not graph.count("int8_linear"):
        return graph
    builder = Builder()
    values: list[Value] = []
    for node in graph.nodes:
        inputs = [values[i] for i in node.inputs]
        if node.op == "int8_linear":
            x, weight, scale = inputs
            if len(scale.shape) > 1:
                scale = scale.reshape((*scale.shape[:-1], 1, scale.shape[-1]))
            values.append(x.matmul(weight.transpose()) * scale)
        elif node.dtype == torch.int8:
            values.append(builder.copy(replace(node, dtype=torch.float32), inputs))
        else:
            values.append(builder.copy(node, inputs))
    return builder.finish({label: values[index] for label, index in graph.outputs})


class _Rewrite:
    def __init__(self, graph: Graph, tensors: Mapping[str, Tensor]) -> None:
        self.graph, self._given = graph, tensors
        self.fixed = _fixed(graph.nodes)  # what depends on parameters alone, and constants
        self.builder = Builder()
        self.values: dict[int, Value] = {}
        self.tensors: dict[str, Tensor] = {}
        self._weights: dict[tuple[int, bool], tuple[Value, Value]] = {}

    def run(self) -> Quantized:
        for index, node in enumerate(self.graph.nodes):
            if index not in self.fixed:
                found = self._product(node) if node.op == "matmul" else None
                self.values[index] = self._named(found or self._copy(node), node)
        outputs = {label: self._take(index) for label, index in self.graph.outputs}
        graph = self.builder.finish(outputs)
        read = {node["name"] for _, node in graph.inputs("parameter")}
        return Quantized(graph, {n: t for n, t in self.tensors.items() if n in read})

    def _copy(self, node: Node) -> Value:
        return self.builder.copy(node, [self._take(i) for i in node.inputs])

    def _named(self, value: Value, node: Node) -> Value:
        """The value, which the user knows by the name and line of this node."""
        new = value.node
        if new.name is None and new.line is None:
            self.builder.nodes[value.index] = replace(new, name=node.name, line=node.line)
        return value

    def _take(self, index: int) -> Value:
        """A value; what is fixed becomes a parameter of its own, under its views."""
        if index not in self.values:
            node = self.graph.nodes[index]
            if not self._on_parameters(index) or node.op in _VIEWS:
                value = self._copy(node)
            else:
                value = self._parameter(self._name(index), self._number(index))
            self.values[index] = value
        return self.values[index]

    def _product(self, node: Node) -> Value | None:
        """Of rows and a weight: in 8 bits. W x is the transpose of xᵀ Wᵀ."""
        left, right = node.inputs
        if node.dtype != torch.float32 or (left in self.fixed) == (right in self.fixed):
            return None
        turned = left in self.fixed
        rows, weight = (right, left) if turned else (left, right)
        if not self._on_parameters(weight) or self.graph.nodes[left].shape[-1] > DEEPEST:  # type: ignore[operator]
            return None
        x = self._take(rows)
        product = (x.transpose() if turned else x).int8_linear(*self._weight(weight, turned))
        return product.transpose() if turned else product

    def _weight(self, index: int, turned: bool) -> tuple[Value, Value]:
        """A weight (columns, depth), and its scale; `turned`: that is how it stands in the step."""
        key = index, turned
        if key not in self._weights:
            name, number = self._name(index), self._number(index)
            weight, scale = quantize_weight(number if turned else number.mT)
            self._weights[key] = (
                self._parameter(name, weight),
                self._parameter(f"{name}_scale", scale),
            )
        return self._weights[key]

    def _parameter(self, name: str, tensor: Tensor) -> Value:
        self.tensors[name] = tensor.detach().clone(memory_format=torch.contiguous_format)
        return self.builder.input("parameter", name, tuple(tensor.shape), tensor.dtype)

    def _on_parameters(self, index: int) -> bool:
        nodes = self.graph.nodes
        return any(nodes[i].op == "input" for i in ancestors(nodes, [index]))

    def _number(self, index: int) -> Tensor:
        """What is fixed, computed."""
        nodes = self.graph.nodes
        needed = sorted(ancestors(nodes, [index]))
        place = {i: new for new, i in enumerate(needed)}
        own = (replace(nodes[i], inputs=tuple(place[j] for j in nodes[i].inputs)) for i in needed)
        graph = Graph(tuple(own), (("value", place[index]),))
        given = {node.label: self._given[node["name"]] for _, node in graph.inputs()}
        device = next(iter(given.values())).device
        return Evaluator(graph, device)(given, 0)["value"]

    def _name(self, index: int) -> str:
        """A name that no other has, after the first parameter that a value depends on."""
        nodes = self.graph.nodes
        sources = (nodes[i] for i in sorted(ancestors(nodes, [index])) if nodes[i].op == "input")
        name = str(next(sources)["name"]).replace(".", "_")
        names = [name, *(f"{name}_{n}" for n in range(2, 2 + len(self.tensors)))]
        return next(n for n in names if n not in self.tensors)


def _fixed(nodes: Iterable[Node]) -> set[int]:
    """The nodes without rows that depend neither on x nor on a state, nor on chance."""
    found = set[int]()
    for index, node in enumerate(nodes):
        given = node.op == "input" and node["kind"] == "parameter"
        computed = node.op not in ("input", "random") and all(i in found for i in node.inputs)
        if (given or computed) and batch_dim(node.shape) is None:
            found.add(index)
    return found
