"""ONNX's own LSTM, GRU and RNN, for the cells that compute the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn

from openrnn import cells
from openrnn.explain.network import Lane
from openrnn.explain.parts import read
from openrnn.io.onnx_node import OPERATORS
from openrnn.io.onnx_nodes import Nodes
from openrnn.io.onnx_state import Ends, State, together
from openrnn.io.weights import reorder
from openrnn.step.graph import Graph


@dataclass(frozen=True)
class Form:
    """An operator with its attributes, and the cells whose step it is.

    activation: of each direction, where it is not the first that ONNX has.
    options: of the cells.
    """

    operator: str
    cells: tuple[Any, ...]
    attributes: tuple[tuple[str, int], ...] = ()
    activation: str = ""
    options: tuple[tuple[str, str], ...] = ()


_FORMS = (
    Form("LSTM", (cells.LSTMCell, nn.LSTMCell, cells.PeepholeLSTMCell)),
    Form("GRU", (cells.GRUCell, nn.GRUCell), (("linear_before_reset", 1),)),
    Form("GRU", (cells.OriginalGRUCell,)),
    Form("RNN", (cells.RNNCell, nn.RNNCell)),
    Form("RNN", (cells.RNNCell, nn.RNNCell), (), "Relu", (("nonlinearity", "relu"),)),
)


# ONNX Runtime has the operators in no other; a Scan runs in all.
_DTYPES = (torch.float32, torch.float16)


def form_of(lane: Lane) -> Form | None:
    """The operator whose step is that of the cell, if there is one."""
    weight, sizes = lane.tensors.get("weight_ih"), set(lane.states.values())
    if weight is None or len(sizes) > 1 or weight.dtype not in _DTYPES:
        return None
    step = digests(lane.graph)
    for form in _FORMS:
        if tuple(lane.states) == OPERATORS[form.operator].states:
            for make in form.cells:
                for bias in (True, False):
                    of = make, lane.input_size, lane.output_size, bias, weight.dtype, form.options
                    if _digests_of(*of) == step:
                        return form
    return None


@lru_cache(maxsize=256)
def _digests_of(
    make: Any, size: int, hidden: int, bias: bool, dtype: torch.dtype, options: Any
) -> tuple[str, ...]:
    cell = make(size, hidden, bias, device="meta", dtype=dtype, **dict(options))
    return digests(read(cell).lanes[0].graph)


def digests(graph: Graph) -> tuple[str, ...]:
    """One for each output, the same for the same computation in whatever order it is written."""
    found: list[str] = []
    for node in graph.nodes:
        inputs = [found[i] for i in node.inputs]
        if node.op in ("add", "mul"):
            inputs.sort()
        text = repr((node.op, inputs, node.attributes, node.shape, node.dtype))
        found.append(sha256(text.encode()).hexdigest())
    return tuple(f"{label} {found[index]}" for label, index in graph.outputs)


def write_operator(
    nodes: Nodes,
    form: Form,
    lanes: Sequence[Lane],
    tensors: Sequence[Mapping[str, Tensor]],
    x: str,
    initial: Sequence[Mapping[str, State]],
    ends: Ends | None,
) -> tuple[str, list[dict[str, State]]]:
    """One node for a cell, or for a forward and a backward cell.

    Args:
        tensors: the numbers of the cells, by the cells' own names.
        x: (T, B, I).
        initial: the states of each cell, by name.
        ends: of the sequences, if they differ.

    Returns:
        Y, (T, D, B, H), and the last states of each cell.
    """
    operator, count = OPERATORS[form.operator], len(lanes)
    name = nodes.new_name(form.operator.lower())
    given = [
        nodes.weight(f"{name}.{role}", torch.stack([part[role] for part in parts]))
        if all(role in part for part in parts)
        else ""
        for parts in ([_weights(form, own) for own in tensors],)
        for role in "WRBP"
    ]
    states = [together(nodes, [own[state] for own in initial]) for state in operator.states]
    states += [""] * (2 - len(states))
    inputs = [x, *given[:3], ends.short if ends else "", *states, given[3]]
    while not inputs[-1]:
        inputs.pop()
    direction = "bidirectional" if count == 2 else "reverse" if lanes[0].reverse else "forward"
    attributes: dict[str, Any] = {
        **dict(form.attributes),
        "hidden_size": lanes[0].output_size,
        "direction": direction,
    }
    if form.activation:
        attributes["activations"] = [form.activation] * count
    outputs = nodes.several(form.operator, inputs, 1 + len(operator.states), name, **attributes)
    last = dict(zip(operator.states, outputs[1:], strict=True))
    if ends is not None:  # ONNX does not say what the operator does with an empty sequence
        pairs = zip(last.items(), states, strict=False)
        last = {name: ends.last(nodes, value, begin) for (name, value), begin in pairs}
    return outputs[0], [
        {state: State(value, i, count) for state, value in last.items()} for i in range(count)
    ]


def _weights(form: Form, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """W, R, B and P of one direction, from torch's order of the gates to ONNX's."""
    order = OPERATORS[form.operator].order
    turned = [order.index(gate) for gate in range(len(order))]
    own = {name: reorder(tensors[name], turned) for name in ("weight_ih", "weight_hh")}
    found = {"W": own["weight_ih"], "R": own["weight_hh"]}
    if "bias_ih" in tensors:
        biases = (reorder(tensors[name], turned) for name in ("bias_ih", "bias_hh"))
        found["B"] = torch.cat(list(biases))
    if "peephole" in tensors:
        found["P"] = reorder(tensors["peephole"], (0, 2, 1))  # i, o, f in ONNX
    return found
