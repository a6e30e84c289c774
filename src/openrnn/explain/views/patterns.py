"""Functions of torch that a step graph has in many operations, found again in it.

Each function is traced once, alone, and what comes out is looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openrnn.state import StateSpec
from openrnn.step.graph import Graph
from openrnn.step.trace import trace

_SIZE = 3
_SHAPE = (_SIZE,)

# What a picture calls a function, and the function, of a value h, a weight w and a bias b.
_FUNCTIONS: tuple[tuple[str, Callable[[Tensor, Tensor, Tensor], Tensor]], ...] = (
    ("layer norm", lambda h, w, b: F.layer_norm(h, _SHAPE, w, b)),
    ("layer norm", lambda h, w, b: F.layer_norm(h, _SHAPE, w)),
    ("layer norm", lambda h, w, b: F.layer_norm(h, _SHAPE)),
    ("RMS norm", lambda h, w, b: F.rms_norm(h, _SHAPE, w)),
    ("RMS norm", lambda h, w, b: F.rms_norm(h, _SHAPE)),
    ("normalize", lambda h, w, b: F.normalize(h, dim=-1)),
    ("softmax", lambda h, w, b: F.softmax(h, -1)),
    ("log softmax", lambda h, w, b: F.log_softmax(h, -1)),
    ("mean", lambda h, w, b: h.mean(-1, keepdim=True)),
    ("log σ", lambda h, w, b: F.logsigmoid(h)),
    ("softplus", lambda h, w, b: F.softplus(h)),
    ("mish", lambda h, w, b: F.mish(h)),
    ("silu", lambda h, w, b: F.silu(h)),
    ("gelu", lambda h, w, b: F.gelu(h)),
    ("gelu", lambda h, w, b: F.gelu(h, approximate="tanh")),
    ("elu", lambda h, w, b: F.elu(h)),
    ("selu", lambda h, w, b: F.selu(h)),
    ("leaky relu", lambda h, w, b: F.leaky_relu(h)),
    ("hard σ", lambda h, w, b: F.hardsigmoid(h)),
    ("clamp", lambda h, w, b: h.clamp(-0.25, 0.75)),
    ("min {}", lambda h, w, b: h.clamp(max=0.25)),
    ("max {}", lambda h, w, b: h.clamp(min=0.25)),
)


@dataclass(frozen=True)
class Found:
    """A function in a graph.

    name: what a picture calls it.
    input: the value that it is of.
    weights: its weight and bias, in this order, if it has them.
    inside: the operations that it is made of, the last of which is its result.
    """

    name: str
    input: int
    weights: tuple[int, ...]
    inside: frozenset[int]


def find(graph: Graph, weights: set[int]) -> dict[int, Found]:
    """The functions in a graph, by their results; none inside another.

    Args:
        graph: the step.
        weights: the nodes that depend on weights alone.
    """
    readers = graph.readers()
    results = {index for _, index in graph.outputs}
    found: dict[int, Found] = {}
    taken: set[int] = set()
    for index in reversed(range(len(graph.nodes))):
        if index in taken or index in weights:
            continue
        for name, template in _templates():
            match = _Match(graph, weights, template)
            if not match.at(index):
                continue
            inside = match.inside()
            kept = inside - {index}
            if any(i in results or not inside.issuperset(readers[i]) for i in kept):
                continue
            found[index] = Found(
                name.format(*match.numbers()), match.of("state"), match.weights(), frozenset(inside)
            )
            taken |= inside
            break
    return found


class _Function(nn.Module):
    state_sizes = {"h": _SIZE}  # noqa: RUF012  as cells write it

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(torch.ones(_SIZE)), nn.Parameter(torch.zeros(_SIZE))
        self.function = function

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return self.function(h, self.w, self.b).expand_as(h)


@lru_cache(maxsize=1)
def _templates() -> tuple[tuple[str, Graph], ...]:
    """The functions as graphs, the largest first."""
    spec = StateSpec(("h",), _SHAPE, single=True)
    found = []
    for name, function in _FUNCTIONS:
        cell = _Function(function)
        tensors = {"w": cell.w, "b": cell.b}
        found.append((name, trace(cell, tensors, spec, 1, torch.float32, torch.device("cpu"))))
    found = [(name, graph) for name, graph in found if len(list(_body(graph))) > 1]
    return tuple(sorted(found, key=lambda pair: -len(pair[1].nodes)))


def _body(graph: Graph) -> Iterator[int]:
    return (i for i, node in enumerate(graph.nodes) if node.op not in ("input", "constant"))


class _Match:
    """A template laid over a graph: for each of its nodes one of the graph's."""

    def __init__(self, graph: Graph, weights: set[int], template: Graph) -> None:
        self._graph, self._weights, self._template = graph, weights, template
        self._places: dict[int, int] = {}

    def at(self, index: int) -> bool:
        """Whether the template's result is this node."""
        ((_, last),) = self._template.outputs
        if self._template.nodes[last].op == "expand":
            (last,) = self._template.nodes[last].inputs
        return self._fits(last, index)

    def _fits(self, mine: int, index: int) -> bool:
        if mine in self._places:
            return self._places[mine] == index
        self._places[mine] = index
        node, other = self._template.nodes[mine], self._graph.nodes[index]
        if node.op == "input":
            is_weight: bool = node["kind"] == "parameter"
            return is_weight == (index in self._weights)
        if node.op != other.op or len(node.inputs) != len(other.inputs):
            return False
        if node.op == "constant":
            return node.shape == other.shape
        pairs = zip(node.inputs, other.inputs, strict=True)
        # Of values (B, features): a sum over the last dimension is one over dimension 1 then.
        alike = len(other.shape) == 2 and node.attributes == other.attributes
        return alike and all(self._fits(*pair) for pair in pairs)

    def inside(self) -> set[int]:
        return {self._places[i] for i in _body(self._template) if i in self._places}

    def of(self, kind: str) -> int:
        return next(self._places[i] for i, _ in self._template.inputs(kind))

    def weights(self) -> tuple[int, ...]:
        return tuple(self._places[i] for i, _ in self._template.inputs("parameter"))

    def numbers(self) -> list[str]:
        """The constants of the graph in the template's places."""
        constants = (i for i, node in enumerate(self._template.nodes) if node.op == "constant")
        return [self._graph.title(self._places[i]) for i in constants]
