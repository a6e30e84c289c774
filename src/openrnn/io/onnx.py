"""The recurrent operators of ONNX: LSTM, GRU and RNN."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from openrnn.errors import ArgumentError, ArgumentTypeError, DataError
from openrnn.extras import require_extra
from openrnn.io.onnx_constants import Constants
from openrnn.io.onnx_node import OPERATORS, layer_of, name_of
from openrnn.layers.layer import Layer


def from_onnx(model: Any, node: str | None = None) -> Layer:
    """A recurrent node of an ONNX model, with its weights, as a layer of ours.

    | ONNX | openrnn |
    |---|---|
    | `LSTM` | `LSTM` |
    | `LSTM` with peepholes P | `Recurrent(PeepholeLSTMCell)` |
    | `GRU`, linear_before_reset=1 | `GRU` |
    | `GRU`, linear_before_reset=0, ONNX's default | `Recurrent(OriginalGRUCell)` |
    | `RNN`, activation Tanh or Relu | `RNN` |
    | direction="bidirectional" | a bidirectional layer, or `Bidirectional` |
    | direction="reverse" | `Recurrent(cell, reverse=True)` |

    The output is (T, B, D·H), where that of ONNX is (T, D, B, H). What the node is given at a call
    is given to the layer at a call: X, `lengths` for sequence_lens, and the initial states. Initial
    states that are constants of the model, and not zeros, become those that the layer begins with,
    `h_0` and `c_0`, as with learn_initial_state=True.

    Args:
        model: a path to a file, or an `onnx.ModelProto`. It is not changed.
        node: the name of the node, or of one of its outputs. Default: the only one. Nodes in
            subgraphs and in functions are not found.

    Returns:
        The layer, on torch's default device, with copies of the weights in their dtype; batch first
        if the node has layout=1, where the states of ONNX are batch first as well, and ours not.

    Raises:
        ConversionError: the node has something without a counterpart: another activation, clip,
            input_forget, weights that depend on the input. The message names it.
        ArgumentError: there is no such node, none at all, or there are several and none is named.
        ArgumentTypeError: model is neither a path nor a model.
        DataError: the file is no ONNX model.
        MissingExtraError: onnx is not installed.

    Examples:
        >>> import onnx
        >>> from onnx import TensorProto, helper
        >>> weights = {"W": torch.randn(1, 80, 30), "R": torch.randn(1, 80, 20)}
        >>> node = helper.make_node("LSTM", ["x", "W", "R"], ["y"], hidden_size=20)
        >>> x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy")
        >>> numbers = [onnx.numpy_helper.from_array(w.numpy(), n) for n, w in weights.items()]
        >>> from_onnx(helper.make_model(helper.make_graph([node], "g", [x], [y], numbers)))
        LSTM(30, 20, bias=False)
    """
    require_extra("from_onnx", ("onnx",), "onnx")
    onnx = import_module("onnx")
    import_module("onnx.reference")
    model = _read(onnx, model)
    found = [
        candidate
        for candidate in model.graph.node
        if candidate.op_type in OPERATORS and candidate.domain in ("", "ai.onnx")
    ]
    return layer_of(onnx, Constants(onnx, model), _choose(found, node))


def _read(onnx: Any, model: Any) -> Any:
    if isinstance(model, onnx.ModelProto):
        return model
    if not isinstance(model, (str, os.PathLike)):
        raise ArgumentTypeError(
            f"from_onnx: expected a path or an onnx.ModelProto, got {type(model).__name__}"
        )
    try:
        return onnx.load(model)
    except import_module("google.protobuf.message").DecodeError as error:
        raise DataError(f"from_onnx: {os.fspath(model)} is no ONNX model: {error}") from error


def _choose(found: list[Any], name: str | None) -> Any:
    """The node that is meant."""
    listed = ", ".join(f"{name_of(node)!r} ({node.op_type})" for node in found)
    if not found:
        raise ArgumentError(
            f"from_onnx: expected a node {', '.join(OPERATORS)} in the model's graph, found none"
        )
    if name is None:
        if len(found) > 1:
            raise ArgumentError(
                f"from_onnx: the model has {len(found)} recurrent nodes: {listed}. Say which by "
                "node=; several of them go into an openrnn.Stack"
            )
        return found[0]
    for node in found:
        if name == node.name or name in node.output:
            return node
    raise ArgumentError(f"from_onnx: the model has no recurrent node {name!r}, but {listed}")
