"""Runs a graph in torch operations: the meaning that every generated kernel must have."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor

from openrnn.step import ops
from openrnn.step.graph import Graph, Node
from openrnn.step.shape import concrete


class Evaluator:
    """A graph, ready to be run again and again on one device."""

    def __init__(self, graph: Graph, device: torch.device) -> None:
        self.graph = graph
        self._device = device
        self._constants = {
            index: self._constant(node)
            for index, node in enumerate(graph.nodes)
            if node.op == "constant"
        }

    def __call__(self, given: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
        """The graph's outputs by name, for inputs by label, with B = rows."""
        values: list[Tensor] = []
        for index, node in enumerate(self.graph.nodes):
            if node.op == "input":
                values.append(given[node.label])
            elif node.op == "constant":
                values.append(self._constants[index])
            else:
                values.append(_run(node, [values[i] for i in node.inputs], rows))
        return {name: values[index] for name, index in self.graph.outputs}

    def _constant(self, node: Node) -> Tensor:
        flat = torch.tensor(node["value"], dtype=node.dtype, device=self._device)
        return flat.reshape(concrete(node.shape, 0))


def _run(node: Node, inputs: list[Tensor], rows: int) -> Tensor:
    attributes = dict(node.attributes)
    if node.op in ("reshape", "expand"):
        attributes["size"] = concrete(node.shape, rows)
    elif node.op == "convert":
        attributes["dtype"] = node.dtype
    run = ops.TABLE[node.op].run
    assert run is not None, f"{node.op} is not to be computed from others"
    return run(*inputs, **attributes)


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
def evaluator(graph: Graph, device: torch.device) -> Evaluator:
    return Evaluator(graph, device)
