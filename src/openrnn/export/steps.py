"""A layer as the steps of its cells, each lowered to loops and products, and how they follow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from openrnn import backends
from openrnn.backends.backend import Call, States
from openrnn.backends.cpu.lower import lower
from openrnn.backends.cpu.plan import Plan
from openrnn.backends.cpu.rewrite import rewrite
from openrnn.binding import tensors_of
from openrnn.errors import ArgumentTypeError, BackendError, CellError
from openrnn.explain.evaluation import in_evaluation, numbers_of
from openrnn.explain.network import Lane, Network, example_input
from openrnn.explain.parts import read
from openrnn.export.weights import Weight, compute_weights
from openrnn.layers.layer import Layer
from openrnn.layers.stack import Stack
from openrnn.state import state_spec
from openrnn.step.graph import Graph, prune
from openrnn.step.program import traced
from openrnn.step.split import distribute

ASKED = "export_c"
_CPU = torch.device("cpu")
_DTYPES = (torch.float32, torch.float64)


@dataclass(frozen=True, eq=False)
class CellStep:
    """One cell, in evaluation.

    title: its class and options.
    dtype: of all its numbers.
    plan: what it does.
    weights: what the plan reads, by the label of the input.
    states: the features of its output, the first state, and of what it keeps from step to step.
    initial: what these begin with.
    """

    title: str
    dtype: torch.dtype
    plan: Plan
    weights: Mapping[str, Weight]
    states: Mapping[str, int]
    initial: Mapping[str, Tensor]

    @property
    def output_size(self) -> int:
        return next(iter(self.states.values()))


@dataclass(frozen=True)
class Link:
    """A value that a step of the layer makes: of a cell, or, without one, a residual sum.

    sources: the values that it is made of: 0 is x, the others follow in order.
    """

    cell: CellStep | None
    sources: tuple[int, ...]
    size: int


@dataclass
class Steps:
    """One step of a layer: its values in order, the last of which is the output."""

    title: str
    input_size: int
    links: list[Link] = field(default_factory=list)

    @property
    def cells(self) -> list[CellStep]:
        return [link.cell for link in self.links if link.cell is not None]

    def size(self, value: int) -> int:
        """The features of a value."""
        return self.links[value - 1].size if value else self.input_size

    @property
    def output_size(self) -> int:
        return self.size(len(self.links))


def read_steps(module: Any, input_size: int | None) -> Steps:
    """The steps of a layer, or of a cell.

    Args:
        module: a layer of OpenRNN or of torch.nn, or a cell.
        input_size: features of x, where the module does not say it.

    Raises:
        ArgumentTypeError: neither a layer nor a cell, or a direction that runs backward.
        ArgumentError: the features of x are not known.
        CellError: a cell that cannot be compiled, or draws random numbers in evaluation.
    """
    with in_evaluation(module) as own, torch.no_grad():
        network = read(own, ASKED, input_size)
        _check_forward(network)
        initial = _initial_states(own, network)
        cells = [
            _cell_step(own, lane, begin) for lane, begin in zip(network.lanes, initial, strict=True)
        ]
    dtypes = dict.fromkeys(str(cell.dtype) for cell in cells)
    if len(dtypes) > 1:
        raise CellError(
            f"{ASKED}: expected cells in one dtype, received {' and '.join(dtypes)} in "
            f"{network.title}; give layer.float()"
        )
    steps = Steps(network.title, network.levels[0].input_size)
    _connect(steps, own, 0, iter(cells))
    return steps


def _check_forward(network: Network) -> None:
    for lane in network.lanes:
        if lane.reverse:
            raise ArgumentTypeError(
                f"{ASKED}: expected a layer that takes one step after another, received "
                f"{network.title}, which runs from the last step to the first{_at(lane)}; "
                "export a layer with a forward direction alone"
            )


def _connect(steps: Steps, layer: nn.Module, x: int, cells: Iterator[CellStep]) -> int:
    """Adds what a layer makes of a value; its own value is returned."""
    if isinstance(layer, Stack):
        for inside in layer.layers:
            below, x = x, _connect(steps, inside, x, cells)
            if layer.residual and steps.size(below) == steps.size(x):
                steps.links.append(Link(None, (below, x), steps.size(x)))
                x = len(steps.links)
        return x
    for _ in range(layer.num_layers if isinstance(layer, nn.RNNBase) else 1):
        cell = next(cells)
        steps.links.append(Link(cell, (x,), cell.output_size))
        x = len(steps.links)
    return x


def _initial_states(module: nn.Module, network: Network) -> list[States]:
    """Of each cell the states with which a call begins that is given none."""
    if not isinstance(module, Layer):
        return [tuple(torch.zeros(size) for size in lane.states.values()) for lane in network.lanes]
    found: list[States] = []

    def stand_still(call: Call) -> tuple[States, States]:
        state = call.state or call.spec.zeros(call.sequence.data, 1)
        found.append(state)
        return state, state

    like = next(module.parameters(), torch.empty(0))
    with backends.instead(stand_still):
        module(like.new_zeros(1, 1, network.levels[0].input_size))
    return found


def _cell_step(module: nn.Module, lane: Lane, initial: States) -> CellStep:
    numbers = numbers_of(ASKED, lane, lane.tensors, tensors_of(module))
    tensors = {name: tensor.detach().cpu() for name, tensor in numbers.items()}
    like = example_input(lane.cell, tensors, lane.input_size)
    if like.dtype not in _DTYPES:
        raise CellError(
            f"{ASKED}: expected weights in float32 or float64, received {lane.name} in "
            f"{like.dtype}{_at(lane)}; give layer.float()"
        )
    spec = state_spec(lane.cell, like)
    try:
        graph = traced(lane.cell, tensors, spec, lane.input_size, like.dtype, _CPU).graph
        if graph.count("random"):
            raise CellError("it draws random numbers in evaluation, too")
        graph, weights = compute_weights(_needed(distribute(graph)), tensors, lane.names)
        graph = rewrite(graph)
        carried = {node["name"]: lane.states[node["name"]] for _, node in graph.inputs("state")}
        output = graph.outputs[0][0].removeprefix("state.")
        arrays = () if output in carried else (f"state.{output}",)
        plan = lower(graph, like.dtype, carried, arrays, (), "cell")
    except (CellError, BackendError) as error:
        raise CellError(
            f"{ASKED}: expected a cell that can be compiled, received {lane.name}{_at(lane)}: "
            f"{error}"
        ) from error
    kept = {output: lane.states[output], **carried}
    begin = {n: s.cpu().flatten() for n, s in zip(spec.names, initial, strict=True) if n in kept}
    return CellStep(lane.title, like.dtype, plan, weights, kept, begin)


def _needed(graph: Graph) -> Graph:
    """The step without the states that neither the output nor a later step needs."""
    output = graph.outputs[0][0]
    while True:
        carried = {node.label for _, node in graph.inputs("state")}
        outputs = tuple(each for each in graph.outputs if each[0] in {output, *carried})
        if outputs == graph.outputs:
            return graph
        graph = prune(Graph(graph.nodes, outputs))


def _at(lane: Lane) -> str:
    return f" (in {lane.place})" if lane.place else ""
