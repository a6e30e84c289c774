"""A layer as an ONNX graph: its cells, what is between them, and its states by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from openrnn.binding import tensors_of
from openrnn.errors import ArgumentTypeError, CellError
from openrnn.explain.evaluation import numbers_of
from openrnn.explain.network import Lane, Level, Network, example_input
from openrnn.explain.parts import read
from openrnn.io.onnx_nodes import Nodes
from openrnn.io.onnx_operators import Form, form_of, write_operator
from openrnn.io.onnx_scan import CellScan
from openrnn.io.onnx_state import Ends, State, together
from openrnn.layers.bidirectional import Bidirectional
from openrnn.layers.recurrent import Recurrent
from openrnn.layers.stack import Stack

ASKED = "to_onnx"
_MERGES = {"sum": "ReduceSum", "mean": "ReduceMean"}


@dataclass(frozen=True)
class Wanted:
    """What the model takes; see `to_onnx`."""

    lengths: bool
    stream: bool
    initial_state: bool


class LayerGraph:
    """The graph of a layer, or of a cell, which is in evaluation.

    nodes: what was written; it has inputs, outputs and initializers.
    """

    def __init__(self, module: Any, wanted: Wanted, input_size: int | None) -> None:
        network = read(module, ASKED, input_size)
        self.nodes, self._wanted = Nodes(), wanted
        self._ends: Ends | None = None
        self._dtype = check(network, one_step=wanted.stream)
        own = tensors_of(module)
        self._tensors = {lane: numbers_of(ASKED, lane, _read(lane), own) for lane in network.lanes}
        self._levels = iter(network.levels)
        states = {name for lane in network.lanes for name in lane.states}
        endings = ("_0", "_n") if wanted.initial_state else ("_n",)
        self.nodes.reserve("x", "lengths", "output", *(n + e for n in states for e in endings))
        self._write(Recurrent(module) if network.is_cell else module, network)

    def _write(self, layer: Any, network: Network) -> None:
        nodes, size, stream = self.nodes, network.levels[0].input_size, self._wanted.stream
        steps = ["B"] if stream else ["B", "T"] if layer.batch_first else ["T", "B"]

        def turned(value: str) -> str:
            return nodes("Transpose", value, perm=[1, 0, 2]) if steps == ["B", "T"] else value

        x = nodes.input("x", self._dtype, [*steps, size])
        self._x = nodes("Unsqueeze", x, nodes.ints(0)) if stream else turned(x)
        if self._wanted.lengths:
            self._ends = Ends.of(nodes, nodes.input("lengths", torch.int64, ["B"]), self._x)
        output, size = self._layer(layer, self._x, size, "")
        output = nodes("Squeeze", output, nodes.ints(0)) if stream else turned(output)
        nodes.output("output", output, self._dtype, [*steps, size])
        nodes.outputs.insert(0, nodes.outputs.pop())

    def _layer(self, layer: nn.Module, x: str, size: int, where: str) -> tuple[str, int]:
        """What a layer makes of x, (T, B, size), and its features."""
        if isinstance(layer, Stack):
            for index, inside in enumerate(layer.layers):
                below, width = x, size
                x, size = self._layer(inside, x, size, f"{where}_l{index}")
                if layer.residual and width == size:
                    x = self.nodes("Add", x, below)
                    x = self._ends.cut(self.nodes, x, self._dtype) if self._ends else x
            return x, size
        if isinstance(layer, nn.RNNBase):
            return self._drop_in(layer, x, where)
        pair = isinstance(layer, Bidirectional)
        parts = (layer.forward_layer, layer.backward_layer) if pair else (layer,)
        endings = (where, f"{where}_reverse")
        level = next(self._levels)
        initial = [
            {name: State(self._begin(part, name, ending, [], size))
             for name, size in lane.states.items()}
            for part, lane, ending in zip(parts, level.lanes, endings, strict=False)
        ]  # fmt: skip
        x, last = self._level(level, x, initial)
        for lane, states, ending in zip(level.lanes, last, endings, strict=False):
            for name, size in lane.states.items():
                value = states[name].alone(self.nodes)
                self.nodes.output(f"{name}_n{ending}", value, self._dtype, ["B", size])
        return x, level.output_size

    def _drop_in(self, layer: nn.RNNBase, x: str, where: str) -> tuple[str, int]:
        """A layer whose states lie in one tensor, (D·L, B, H)."""
        levels = [next(self._levels) for _ in range(layer.num_layers)]
        count, sizes = sum(len(level.lanes) for level in levels), levels[0].lanes[0].states
        whole = {name: self._begin(layer, name, where, [count], size)
                 for name, size in sizes.items()}  # fmt: skip
        states = [{n: State(v, i, count) for n, v in whole.items()} for i in range(count)]
        last: dict[str, list[str]] = {name: [] for name in sizes}
        for level in levels:
            own, states = states[: len(level.lanes)], states[len(level.lanes) :]
            x, after = self._level(level, x, own)
            for name in sizes:
                last[name].append(together(self.nodes, [lane[name] for lane in after]))
        for name, size in sizes.items():
            parts = last[name]
            value = parts[0] if len(parts) == 1 else self.nodes("Concat", *parts, axis=0)
            self.nodes.output(f"{name}_n{where}", value, self._dtype, [count, "B", size])
        return x, levels[-1].output_size

    def _begin(self, layer: Any, state: str, where: str, count: list[int], size: int) -> str:
        """What a state of a layer begins with, (*count, B, size)."""
        nodes, name = self.nodes, f"{state}_0"
        if self._wanted.initial_state:
            return nodes.input(name + where, self._dtype, [*count, "B", size])
        learned = getattr(layer, name, None)
        if learned is None:
            learned = torch.zeros(*count, size, dtype=self._dtype)
        begin = nodes.weight(name + where, learned.detach().unsqueeze(-2))
        rows = nodes("Shape", self._x, start=1, end=2)
        sizes = [*[nodes.ints(1)] * len(count), rows, nodes.ints(1)]
        return nodes("Expand", begin, nodes("Concat", *sizes, axis=0))

    def _level(
        self, level: Level, x: str, initial: Sequence[Mapping[str, State]]
    ) -> tuple[str, list[dict[str, State]]]:
        """The cells that read x: their outputs, merged, (T, B, features), and last states."""
        nodes, lanes, size = self.nodes, level.lanes, level.output_size
        forms = [form_of(lane) for lane in lanes]
        kinds = {(lane.output_size, *self._tensors[lane]) for lane in lanes}
        if len(lanes) == 2 and forms[0] is not None and forms[0] == forms[1] and len(kinds) == 1:
            y, last = self._operator(forms[0], lanes, x, initial)
            if level.merge == "concat":
                y = nodes("Transpose", y, perm=[0, 2, 1, 3])
                return nodes("Reshape", y, nodes.ints(0, 0, size)), last
            return nodes(_MERGES[level.merge], y, nodes.ints(1), keepdims=0), last
        outputs, last = [], []
        for lane, form, begin in zip(lanes, forms, initial, strict=True):
            if form is None:
                y, own = self._scan(lane, x, begin)
            else:
                y, (own,) = self._operator(form, [lane], x, [begin])
                y = nodes("Squeeze", y, nodes.ints(1))
            outputs.append(y)
            last.append(own)
        if len(outputs) == 1:
            return outputs[0], last
        if level.merge == "concat":
            return nodes("Concat", *outputs, axis=2), last
        both = nodes("Concat", *(nodes("Unsqueeze", y, nodes.ints(1)) for y in outputs), axis=1)
        return nodes(_MERGES[level.merge], both, nodes.ints(1), keepdims=0), last

    def _scan(
        self, lane: Lane, x: str, initial: Mapping[str, State]
    ) -> tuple[str, dict[str, State]]:
        tensors = self._tensors[lane].items()
        parameters = {name: self.nodes.weight(lane.names[name], t) for name, t in tensors}
        given = parameters, x, lane.input_size, initial, self._ends
        one_step = self._wanted.stream
        scan = CellScan(self.nodes, lane.program, *given, reverse=lane.reverse, one_step=one_step)
        return scan.output, scan.last

    def _operator(
        self, form: Form, lanes: Sequence[Lane], x: str, initial: Sequence[Mapping[str, State]]
    ) -> tuple[str, list[dict[str, State]]]:
        tensors = [self._tensors[lane] for lane in lanes]
        return write_operator(self.nodes, form, lanes, tensors, x, initial, self._ends)


def check(network: Network, *, one_step: bool) -> torch.dtype:
    """The dtype of the layer, if it can be written.

    Raises:
        ArgumentTypeError: one step is asked for of a layer that runs backward.
        CellError: a cell that cannot be read, draws random numbers, or has another dtype.
    """
    dtypes: dict[torch.dtype, None] = {}
    for lane in network.lanes:
        where = f" (in {lane.place})" if lane.place else ""
        if lane.reverse and one_step:
            raise ArgumentTypeError(
                f"{ASKED}: expected, for stream=True, a layer that takes one step after another, "
                f"received {network.title}, which runs from the last step to the first{where}; "
                "export it over whole sequences, with stream=False"
            )
        expected = f"{ASKED}: expected a cell that can be read, received {lane.name}{where}"
        try:
            stages = lane.program.stages
        except CellError as error:
            raise CellError(f"{expected}: {error}") from error
        if stages.randoms:
            raise CellError(
                f"{expected}, which draws random numbers in evaluation, too; let it draw only "
                "where self.training is True"
            )
        dtypes[example_input(lane.cell, lane.tensors, lane.input_size).dtype] = None
    if len(dtypes) > 1 or not all(dtype.is_floating_point for dtype in dtypes):
        names = " and ".join(str(dtype) for dtype in dtypes)
        raise CellError(
            f"{ASKED}: expected cells in one floating-point dtype, received {names} in "
            f"{network.title}; give layer.float()"
        )
    return next(iter(dtypes))


def _read(lane: Lane) -> dict[str, Tensor]:
    """The tensors that the step reads: a cell may hold others."""
    return {node["name"]: lane.tensors[node["name"]] for _, node in lane.graph.inputs("parameter")}
