"""A step graph as text, for what cannot hold an object: an operator's argument, a file."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import torch

from openrnn.step.graph import Graph, Node
from openrnn.step.shape import Batch, Shape


def write(graph: Graph) -> str:
    """JSON, a list for each node; names and lines of the user's source are left out."""
    nodes = [
        [
            node.op,
            node.inputs,
            dict(node.attributes),
            list(map(_of_dim, node.shape)),
            _of(node.dtype),
        ]
        for node in graph.nodes
    ]
    return json.dumps([nodes, graph.outputs], separators=(",", ":"))


@lru_cache(maxsize=256)
def read(text: str) -> Graph:
    """The graph of `write`: the same object for the same text."""
    nodes, outputs = json.loads(text)
    return Graph(
        tuple(
            Node(
                op,
                tuple(inputs),
                tuple(sorted((name, _tuples(value)) for name, value in attributes.items())),
                _shape(shape),
                getattr(torch, dtype),
            )
            for op, inputs, attributes, shape, dtype in nodes
        ),
        tuple((label, index) for label, index in outputs),
    )


def _of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _of_dim(dim: int | Batch) -> Any:
    return [dim.times] if isinstance(dim, Batch) else dim


def _shape(dims: list[Any]) -> Shape:
    return tuple(Batch(dim[0]) if isinstance(dim, list) else dim for dim in dims)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
