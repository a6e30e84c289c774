"""A layer as the cells it is made of: where each of them stands, and what it reads and writes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from openrnn import cells
from openrnn.layers.int8cell import Int8Cell
from openrnn.state import state_spec
from openrnn.step.graph import Graph, Node
from openrnn.step.program import Program, traced
from openrnn.step.quantize import unrounded
from openrnn.step.shape import features


@dataclass(frozen=True, eq=False)
class Lane:
    """One cell and the direction in which it runs.

    place: "layer 1 backward" say; "" of a cell alone.
    tensors: what the cell reads, by its own names for it.
    states: their features, by name.
    backend: what the layer is asked to run by.
    path: where the cell's state is in that of the module: state[1][0] is (1, 0).
    names: of each of the tensors what the module calls it.
    number: which of the (D·L, B, H) states of the layer are the cell's, if they lie in one tensor.
    """

    cell: nn.Module
    place: str
    reverse: bool
    input_size: int
    tensors: Mapping[str, Tensor]
    states: Mapping[str, int]
    backend: str
    path: tuple[int, ...]
    names: Mapping[str, str]
    number: int | None = None

    @property
    def name(self) -> str:
        return class_name(self.cell)

    @property
    def title(self) -> str:
        """The cell's class and options."""
        return f"{self.name}({self.cell.extra_repr()})"

    @property
    def parameters(self) -> dict[str, Tensor]:
        """What is trained: of the tensors those that are no buffers."""
        if isinstance(self.cell, Int8Cell):  # whose weights were
            return dict(self.tensors)
        buffers = {name for name, _ in self.cell.named_buffers()}
        return {name: t for name, t in self.tensors.items() if name not in buffers}

    @property
    def gates(self) -> tuple[str, ...]:
        """The names that the cell gives its gates; of torch's own cells, those that ours have."""
        ours = getattr(cells, self.name, None)
        given = getattr(self.cell, "gates", getattr(ours, "gates", ()))
        named = isinstance(given, (tuple, list)) and all(isinstance(name, str) for name in given)
        return tuple(given) if named else ()

    @property
    def output_size(self) -> int:
        return next(iter(self.states.values()))

    @cached_property
    def program(self) -> Program:
        """The step.

        Raises:
            CellError: it cannot be traced.
        """
        like = example_input(self.cell, self.tensors, self.input_size)
        spec = state_spec(self.cell, like)
        return traced(self.cell, self.tensors, spec, self.input_size, like.dtype, like.device)

    @cached_property
    def graph(self) -> Graph:
        """The step, in real numbers."""
        return unrounded(self.program.graph)

    @property
    def form(self) -> Hashable:
        """What cells have in common that compute the same, on whatever sizes."""
        return self.name, form(self.graph)


@dataclass(frozen=True, eq=False)
class Level:
    """The cells that read the same x: one, or one for each direction.

    place: "layer 1" say.
    of_all: how many cells the tensors that hold the states are for, if they are for several.
    """

    lanes: tuple[Lane, ...]
    place: str
    merge: str = "concat"
    of_all: int | None = None

    @property
    def input_size(self) -> int:
        return self.lanes[0].input_size

    @property
    def output_size(self) -> int:
        sizes = [lane.output_size for lane in self.lanes]
        return sum(sizes) if self.merge == "concat" else sizes[0]


@dataclass(frozen=True, eq=False)
class Network:
    """A layer as levels, from the lowest up; a cell alone is one level."""

    module: nn.Module
    title: str
    levels: tuple[Level, ...]
    is_cell: bool
    batch_first: bool
    notes: tuple[str, ...] = field(default=())

    @property
    def lanes(self) -> list[Lane]:
        return [lane for level in self.levels for lane in level.lanes]


def form(graph: Graph) -> Hashable:
    """The steps of a computation without their sizes."""

    def attributes(node: Node) -> Hashable:
        if node.op != "slice":
            return node.attributes
        size = features(graph.nodes[node.inputs[0]].shape[node["dim"] :][:1])
        return node["dim"], node["start"] / size, node["stop"] / size, node["step"]

    nodes = ((node.op, node.inputs, node.name, attributes(node)) for node in graph.nodes)
    return tuple(nodes), graph.outputs


def class_name(module: nn.Module) -> str:
    """That of the user's class: a parametrization puts one of its own over it."""
    return type_before_parametrizations(module).__name__


def example_input(cell: nn.Module, tensors: Mapping[str, Tensor], size: int) -> Tensor:
    """An input of the cell."""
    floats = (t.dtype for t in tensors.values() if t.is_floating_point())
    dtype = next(floats, torch.get_default_dtype())
    device = next((p.device for p in cell.parameters()), torch.device("cpu"))
    return torch.empty(1, size, dtype=dtype, device=device)
