"""Any cell over a sequence in ONNX: what is for all steps at once, and a Scan for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch

from openrnn.io.onnx_nodes import Nodes
from openrnn.io.onnx_state import Ends, State
from openrnn.io.onnx_step import write
from openrnn.step.graph import Graph, Node
from openrnn.step.program import Program
from openrnn.step.shape import Batch, rows_dim
from openrnn.step.split import is_value


class CellScan:
    """A cell over x, (T, B, I): its stages, each written where it belongs.

    output: (T, B, H).
    last: the last states, by name.
    """

    def __init__(
        self,
        nodes: Nodes,
        program: Program,
        parameters: Mapping[str, str],
        x: str,
        input_size: int,
        initial: Mapping[str, State],
        ends: Ends | None = None,
        *,
        reverse: bool = False,
        one_step: bool = False,
    ) -> None:
        self._nodes, self._program, self._x, self._ends = nodes, program, x, ends
        self._input_size, self._reverse, self._one_step = input_size, reverse, one_step
        self._stages, self._states = program.stages, program.features
        self._initial = {name: state.alone(nodes) for name, state in initial.items()}
        self._known = {f"parameter.{name}": value for name, value in parameters.items()}
        self._results: dict[str, str] = {}  # (T·B, H) by label
        self.last: dict[str, State] = {}

        self._known["input.x"] = nodes("Reshape", x, nodes.ints(-1, input_size))
        self._run(self._stages.parameters)
        self._run(self._stages.inputs)
        if one_step:
            self._known |= {f"state.{name}": value for name, value in self._initial.items()}
            self._run(self._stages.recurrence)
            self.last = {n: State(self._results[f"state.{n}"]) for n in self._stages.carried}
        elif self._stages.carried:
            self._scan()
        self._run(self._stages.outputs)
        self.output = self._over_time(program.states[0])
        alone = [name for name in program.states if name not in self.last]  # that no step reads
        self.last |= {name: State(self._last_of(name)) for name in alone}

    def _run(self, graph: Graph) -> None:
        """A stage for all rows of all steps."""
        if graph.outputs:
            self._sort(write(graph, self._known, self._nodes, lambda: self._all_rows))

    def _sort(self, results: Mapping[str, str]) -> None:
        for label, value in results.items():
            (self._known if is_value(label) else self._results)[label] = value

    @cached_property
    def _all_rows(self) -> str:
        """T·B."""
        return self._nodes("Shape", self._known["input.x"], start=0, end=1)

    @cached_property
    def _steps(self) -> str:
        """T."""
        nodes = self._nodes
        return nodes.ints(1) if self._one_step else nodes("Shape", self._x, start=0, end=1)

    @cached_property
    def _rows(self) -> str:
        """B."""
        return self._nodes("Shape", self._x, start=1, end=2)

    def _scan(self) -> None:
        nodes, graph, carried = self._nodes, self._stages.recurrence, self._stages.carried
        body, given, scanned, axes = Nodes(nodes), dict(self._known), [], []
        for name in carried:
            node = self._stages.next_state(name)
            given[f"state.{name}"] = body.input(f"{name}_t", node.dtype, _sizes(node))
        for _, node in graph.inputs():
            if node["kind"] != "state" and any(isinstance(dim, Batch) for dim in node.shape):
                scanned.append(self._apart(node))
                axes.append(rows_dim(node.shape))
                wanted = node.label.replace(".", "_")
                given[node.label] = body.input(wanted, node.dtype, _sizes(node))
        within = None
        if self._ends is not None:
            within = body.input("within_t", torch.bool, ["B", 1])
            scanned.append(self._ends.within)
            axes.append(0)
        if not scanned:  # a Scan goes as far as what it scans
            body.input("x_t", self._dtype, ["B", self._input_size])
            scanned.append(self._x)
            axes.append(0)

        made = write(graph, given, body, lambda: self._rows)
        output = f"state.{self._program.states[0]}"
        places = dict(graph.outputs)
        of_steps = self._stages.wanted([output])
        for name in carried:
            value, node = made[f"state.{name}"], self._stages.next_state(name)
            if within is not None:
                value = body("Where", within, value, given[f"state.{name}"])
            body.output(f"{name}_next", value, node.dtype, _sizes(node))
        for label in of_steps:
            node = graph.nodes[places[label]]
            wanted = label.replace(".", "_")
            body.output(f"{wanted}_step", made[label], node.dtype, _sizes(node))

        result_axes = [rows_dim(graph.nodes[places[label]].shape) for label in of_steps]
        way = int(self._reverse)
        results = nodes.several(
            "Scan",
            [*(self._initial[name] for name in carried), *scanned],
            len(carried) + len(of_steps),
            body=body.graph("step"),
            num_scan_inputs=len(scanned),
            scan_input_axes=axes,
            scan_input_directions=[way] * len(scanned),
            scan_output_axes=result_axes,
            scan_output_directions=[way] * len(of_steps),
        )
        self.last = {name: State(value) for name, value in zip(carried, results, strict=False)}
        for label, value in zip(of_steps, results[len(carried) :], strict=True):
            self._sort({label: self._joined(graph.nodes[places[label]], value)})

    def _apart(self, node: Node) -> str:
        """A value of all rows with the steps in a dimension of their own."""
        if node.label == "input.x":
            return self._x
        dim, nodes = rows_dim(node.shape), self._nodes
        before, after = node.shape[:dim], node.shape[dim + 1 :]
        sizes = [nodes.ints(*_ints(before))] if before else []
        sizes += [self._steps, nodes.ints(-1, *_ints(after))]
        return nodes("Reshape", self._known[node.label], nodes("Concat", *sizes, axis=0))

    def _joined(self, node: Node, value: str) -> str:
        """The inverse."""
        sizes = (-1 if isinstance(dim, Batch) else dim for dim in node.shape)
        return self._nodes("Reshape", value, self._nodes.ints(*sizes))

    def _over_time(self, name: str) -> str:
        """A state of all steps, (T, B, H)."""
        nodes, size = self._nodes, self._states[name]
        sizes = nodes("Concat", self._steps, nodes.ints(-1, size), axis=0)
        value = nodes("Reshape", self._results[f"state.{name}"], sizes)
        return self._ends.cut(nodes, value, self._dtype) if self._ends else value

    @property
    def _dtype(self) -> torch.dtype:
        graph = self._program.graph
        return graph.nodes[graph.outputs[0][1]].dtype

    def _last_of(self, name: str) -> str:
        """The last of the steps of a state that no step reads."""
        nodes, ends = self._nodes, self._ends
        value = self.output if name == self._program.states[0] else self._over_time(name)
        zero, one = (nodes.number(i, torch.int64) for i in (0, 1))
        if self._reverse:
            found = nodes("Gather", value, zero, axis=0)
        elif ends is None:
            found = nodes("Gather", value, nodes.number(-1, torch.int64), axis=0)
        else:
            place = nodes("Max", nodes("Sub", ends.lengths, one), zero)
            sizes = nodes("Concat", nodes.ints(1), nodes("Shape", self._initial[name]), axis=0)
            places = nodes("Expand", nodes("Unsqueeze", place, nodes.ints(0, 2)), sizes)
            found = nodes("GatherElements", value, places, axis=0)
            found = nodes("Squeeze", found, nodes.ints(0))
        return ends.last(nodes, found, self._initial[name]) if ends else found


def _sizes(node: Node) -> list[int | str]:
    return [
        dim if isinstance(dim, int) else "B" if dim.times == 1 else f"{dim.times}B"
        for dim in node.shape
    ]


def _ints(dims: tuple[int | Batch, ...]) -> list[int]:
    return [dim for dim in dims if isinstance(dim, int)]
