"""One node LSTM, GRU or RNN of ONNX."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from openrnn.cells.base import Cell
from openrnn.cells.gru import GRUCell
from openrnn.cells.lstm import LSTMCell
from openrnn.cells.originalgru import OriginalGRUCell
from openrnn.cells.peepholelstm import PeepholeLSTMCell
from openrnn.cells.rnn import RNNCell
from openrnn.errors import ConversionError
from openrnn.io.assemble import assemble
from openrnn.io.functions import REMEDY
from openrnn.io.onnx_constants import Constants
from openrnn.io.weights import cell_with, reorder, tensor
from openrnn.layers.layer import Layer


class Operator(NamedTuple):
    """How ONNX writes what a cell of ours does."""

    order: tuple[int, ...]  # where torch's gates are among ONNX's
    activations: tuple[tuple[str, ...], ...]  # of one direction: those that a cell of ours has
    states: tuple[str, ...]


OPERATORS = {
    "LSTM": Operator((0, 2, 3, 1), (("Sigmoid", "Tanh", "Tanh"),), ("h", "c")),  # i, o, f, c
    "GRU": Operator((1, 0, 2), (("Sigmoid", "Tanh"),), ("h",)),  # z, r, h
    "RNN": Operator((0,), (("Tanh",), ("Relu",)), ("h",)),
}
_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
_DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


def name_of(node: Any) -> str:
    """The node's name; one without is known by its first output."""
    return node.name or next(filter(None, node.output), "")


def layer_of(onnx: Any, constants: Constants, node: Any) -> Layer:
    """The layer that does what the node does."""
    operator, owner = OPERATORS[node.op_type], f"from_onnx: {node.op_type} {name_of(node)!r}"
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    inputs = {role: name for role, name in zip(_INPUTS, node.input, strict=False) if name}
    for name in ("clip", "input_forget"):
        if attributes.get(name):
            raise ConversionError(
                f"{owner}: {name}={attributes[name]:g} has no counterpart. {REMEDY}"
            )
    direction = attributes.get("direction", b"forward").decode()
    directions = _DIRECTIONS.get(direction)
    if directions is None:
        raise ConversionError(
            f"{owner}: expected direction to be {', '.join(_DIRECTIONS)}, got {direction!r}"
        )
    activations = _activations(owner, operator, attributes, directions)

    weights: dict[str, Tensor] = {}
    for role in ("W", "R", "B", "P"):
        if role not in inputs:
            continue
        value = constants.read(inputs[role])
        if value is None:
            raise ConversionError(
                f"{owner}: expected its input {role}, {inputs[role]!r}, to be a constant, or made "
                "of constants, got one that depends on the model's input, or on a node with a "
                "graph inside"
            )
        weights[role] = tensor(owner, role, value)
        if weights[role].dim() < 2 or weights[role].size(0) != directions:
            raise ConversionError(
                f"{owner}: expected {role} to have {directions} in its first dimension, for "
                f"direction={direction!r}, got the shape {tuple(weights[role].shape)}"
            )
    cells = [
        _cell(
            owner,
            node.op_type,
            {role: value[number] for role, value in weights.items()},
            attributes,
            activations[number],
        )
        for number in range(directions)
    ]
    batch_first = bool(attributes.get("layout"))
    return assemble(
        [cells],
        reverse=direction == "reverse",
        batch_first=batch_first,
        initial=_initial(owner, operator, constants, inputs, cells, 0 if batch_first else 1),
    )


def _cell(
    owner: str,
    op_type: str,
    weights: dict[str, Tensor],
    attributes: dict[str, Any],
    activations: tuple[str, ...],
) -> Cell:
    order = OPERATORS[op_type].order
    given = {"weight_ih": weights["W"], "weight_hh": weights["R"]}
    if "B" in weights:
        given["bias_ih"], given["bias_hh"] = weights["B"].chunk(2)
    given = {name: reorder(value, order) for name, value in given.items()}
    if op_type == "RNN":
        return cell_with(owner, RNNCell, given, nonlinearity=activations[0].lower())
    if op_type == "GRU":
        after = attributes.get("linear_before_reset")
        return cell_with(owner, GRUCell if after else OriginalGRUCell, given)
    if "P" not in weights:
        return cell_with(owner, LSTMCell, given)
    given["peephole"] = reorder(weights["P"], (0, 2, 1))  # i, o, f in ONNX
    return cell_with(owner, PeepholeLSTMCell, given)


def _activations(
    owner: str, operator: Operator, attributes: dict[str, Any], directions: int
) -> list[tuple[str, ...]]:
    """Those of each direction."""
    known = operator.activations
    given = tuple(name.decode() for name in attributes.get("activations", ()))
    count = len(known[0])
    # Some who write RNN nodes leave two activations for one direction: ONNX's own default.
    parts = [given[i * count : (i + 1) * count] for i in range(directions)] if given else []
    if any(part not in known for part in parts):
        expected = " or ".join(", ".join(each) for each in known)
        raise ConversionError(
            f"{owner}: expected activations {expected} for each direction, got "
            f"{', '.join(given)}. {REMEDY}"
        )
    return parts or [known[0]] * directions


def _initial(
    owner: str,
    operator: Operator,
    constants: Constants,
    inputs: dict[str, str],
    cells: list[Cell],
    batch: int,
) -> dict[str, Tensor] | None:
    """The initial states that the model itself has, (D, H) by name, if any is not zero."""
    like = cells[0].weight_ih
    initial, calls = {}, []
    for state in operator.states:
        role = f"initial_{state}"
        initial[f"{state}_0"] = like.new_zeros(len(cells), cells[0].hidden_size)
        if role not in inputs:
            continue
        value = constants.read(inputs[role])
        if value is None:
            calls.append(role)
            continue
        values = tensor(owner, role, value).to(like.dtype)
        first = values.narrow(batch, 0, 1)
        if not values.equal(first.expand_as(values)):
            raise ConversionError(
                f"{owner}: {role} is a constant that is not the same for all sequences of a "
                "batch. Remove it from the node, and give the layer its state"
            )
        initial[f"{state}_0"] = first.squeeze(batch)
    if not any(values.any() for values in initial.values()):
        return None
    if calls:
        raise ConversionError(
            f"{owner}: {calls[0]} is given at a call, and the other initial state is a constant. "
            "Remove that from the node, and give the layer both"
        )
    return initial
