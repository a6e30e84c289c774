"""Runs a graph in torch operations: the meaning that every generated kernel must have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from openrnn.step import ops
from openrnn.step.graph import Graph, Node
from openrnn.step.shape import concrete

Matmul = Callable[[Tensor, Tensor], Tensor]
Step = Callable[[list[Tensor], int], Tensor]


class Evaluator:
    """A graph, ready to be run again and again on one device."""

    def __init__(self, graph: Graph, device: torch.device, matmul: Matmul = torch.matmul) -> None:
        self._inputs = [(index, node.label) for index, node in graph.inputs()]
        self._constants = [
            (index, _constant(node, device))
            for index, node in enumerate(graph.nodes)
            if node.op == "constant"
        ]
        self._count = len(graph.nodes)
        self._outputs = graph.outputs
        self._steps = _steps(graph, device, matmul)

    def __call__(self, given: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
        """The graph's outputs by name, for inputs by label, with B = rows."""
        values: list[Any] = [None] * self._count
        for index, label in self._inputs:
            values[index] = given[label]
        for index, constant in self._constants:
            values[index] = constant
        for index, step in self._steps:
            values[index] = step(values, rows)
        return {name: values[index] for name, index in self._outputs}


def _constant(node: Node, device: torch.device) -> Tensor:
    flat = torch.tensor(node["value"], dtype=node.dtype, device=device)
    return flat.reshape(concrete(node.shape, 0))


def _steps(graph: Graph, device: torch.device, matmul: Matmul) -> list[tuple[int, Step]]:
    """What computes each node, in order; a bias is added by the product that it follows."""
    biased = _biased(graph)
    folded = set(biased.values())
    return [
        (
            index,
            _sum(graph, index, biased[index], matmul)
            if index in biased
            else _step(node, device, matmul),
        )
        for index, node in enumerate(graph.nodes)
        if node.op not in ("input", "constant") and index not in folded
    ]


def _biased(graph: Graph) -> dict[int, int]:
    """Sums of a product (rows, n), which nothing else reads, and a bias (n): sum to product."""
    reads = Counter(i for node in graph.nodes for i in node.inputs)
    reads.update(index for _, index in graph.outputs)
    found = {}
    for index, node in enumerate(graph.nodes):
        if node.op == "add" and graph.nodes[node.inputs[0]].op == "matmul":
            product, bias = (graph.nodes[i] for i in node.inputs)
            fits = len(product.shape) == 2 and bias.shape == product.shape[1:]
            if fits and reads[node.inputs[0]] == 1 and product.shape == node.shape:
                found[index] = node.inputs[0]
    return found


def _sum(graph: Graph, index: int, product: int, matmul: Matmul) -> Step:
    (a, b), bias = graph.nodes[product].inputs, graph.nodes[index].inputs[1]
    if matmul is torch.matmul:
        return lambda values, rows: torch.addmm(values[bias], values[a], values[b])
    return lambda values, rows: matmul(values[a], values[b]).add_(values[bias])


def _step(node: Node, device: torch.device, matmul: Matmul) -> Step:
    if node.op == "random":
        return lambda values, rows: draw(node, rows, device)
    run: Any = matmul if node.op == "matmul" else ops.TABLE[node.op].run
    assert run is not None, f"{node.op} is not to be computed from others"
    attributes, inputs = dict(node.attributes), node.inputs
    if node.op in ("reshape", "expand"):
        shape = node.shape
        return lambda values, rows: run(values[inputs[0]], size=concrete(shape, rows))
    if node.op == "convert":
        attributes["dtype"] = node.dtype
    if len(inputs) == 1 and not attributes:
        return lambda values, rows: run(values[inputs[0]])
    return lambda values, rows: run(*[values[i] for i in inputs], **attributes)


def draw(node: Node, rows: int, device: torch.device) -> Tensor:
    """The random numbers of one node for one step: the very calls that torch makes in the cell."""
    size, kind = concrete(node.shape, rows), node["distribution"]
    if kind == "bernoulli":
        return torch.empty(size, dtype=node.dtype, device=device).bernoulli_(node["p"])
    if kind == "bernoulli of a tensor":
        return torch.bernoulli(torch.full(size, node["p"], dtype=node.dtype, device=device))
    make = {"uniform": torch.rand, "normal": torch.randn}[kind]
    return make(size, dtype=node.dtype, device=device)


@lru_cache(maxsize=1024)
def evaluator(graph: Graph, device: torch.device, matmul: Matmul = torch.matmul) -> Evaluator:
    """The evaluator of a graph, made once."""
    return Evaluator(graph, device, matmul)
