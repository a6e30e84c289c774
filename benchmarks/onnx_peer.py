"""The same layer in ONNX Runtime."""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import Contender

NAME = "ONNX Runtime"
_OPSET = 17
# ONNX stacks the gates of a weight in another order than torch: i, o, f, g and z, r, n.
STATES = {"LSTM": ("h", "c"), "GRU": ("h",), "RNN": ("h",)}
_ORDER = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}


def available() -> bool:
    """Whether its packages are installed."""
    return find_spec("onnx") is not None and find_spec("onnxruntime") is not None


def contender(
    layer: str, module: nn.RNNBase, x: Tensor, threads: int, *, int8: bool = False
) -> Contender:
    """A call of a session that computes the output of torch's layer for x.

    `int8`: with weights in int8, by ONNX Runtime's own tool, which knows LSTM alone.
    """
    session = _session(_model(layer, module), threads, int8)
    feed = {"x": x.detach().numpy()}
    return lambda: session.run(["y"], feed)


def stream(
    layer: str, module: nn.RNNBase, x: Tensor, threads: int, *, int8: bool = False
) -> Contender:
    """A call that makes one step for x, (1, B, I), and keeps the state for the next."""
    session = _session(_model(layer, module, states=STATES[layer]), threads, int8)
    feed = {"x": x.detach().numpy()}
    for name in STATES[layer]:
        feed[name] = torch.zeros(1, x.size(1), module.hidden_size).numpy()
    names = [f"{name}_n" for name in STATES[layer]]

    def step() -> Any:
        output, *final = session.run(["y", *names], feed)
        feed.update(zip(STATES[layer], final, strict=True))
        return [output]

    return step


def _session(model: Any, threads: int, int8: bool) -> Any:
    runtime = import_module("onnxruntime")
    if int8:
        model = _quantized(model)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Its threads wait busily within a call, and not while the other contenders run.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return runtime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _quantized(model: Any) -> Any:
    quantize = import_module("onnxruntime.quantization").quantize_dynamic
    logging.disable(logging.WARNING)  # it advises another tool, which does nothing here
    try:
        with TemporaryDirectory() as folder:
            quantize(model, f"{folder}/model.onnx")
            return import_module("onnx").load(f"{folder}/model.onnx")
    finally:
        logging.disable(logging.NOTSET)


def _model(layer: str, module: nn.RNNBase, states: tuple[str, ...] = ()) -> Any:
    """`states` come in and go out, of one layer in one direction; else they begin with zeros."""
    onnx = import_module("onnx")
    helper = onnx.helper
    directions = 2 if module.bidirectional else 1
    # The output of a node is (T, D, B, H): for one direction the axis D goes, for two it moves.
    form = torch.tensor([1] if directions == 1 else [0, 0, -1])
    nodes, constants, last = [], [onnx.numpy_helper.from_array(form.numpy(), "form")], "x"
    options: dict[str, Any] = {"hidden_size": module.hidden_size}
    if layer == "GRU":
        options["linear_before_reset"] = 1
    if directions == 2:
        options["direction"] = "bidirectional"
    for number in range(module.num_layers):
        names = [f"{kind}{number}" for kind in ("W", "R", "B")]
        for name, value in zip(names, _weights(layer, module, number, directions), strict=True):
            constants.append(onnx.numpy_helper.from_array(value.numpy(), name))
        raw, turned = f"raw{number}", f"turned{number}"
        output = "y" if number == module.num_layers - 1 else f"y{number}"
        given, gives = [last, *names, *([""] * bool(states)), *states], [f"{s}_n" for s in states]
        nodes.append(helper.make_node(layer, given, [raw, *gives], **options))
        if directions == 1:
            nodes.append(helper.make_node("Squeeze", [raw, "form"], [output]))
        else:
            nodes.append(helper.make_node("Transpose", [raw], [turned], perm=[0, 2, 1, 3]))
            nodes.append(helper.make_node("Reshape", [turned, "form"], [output]))
        last = output
    inside = helper.make_tensor_value_info(
        "x", onnx.TensorProto.FLOAT, ["T", "B", module.input_size]
    )
    outside = helper.make_tensor_value_info(
        "y", onnx.TensorProto.FLOAT, ["T", "B", directions * module.hidden_size]
    )
    kept = ["1", "B", module.hidden_size]
    kind = onnx.TensorProto.FLOAT
    begin, end = (
        [helper.make_tensor_value_info(f"{name}{suffix}", kind, kept) for name in states]
        for suffix in ("", "_n")
    )
    graph = helper.make_graph(nodes, layer, [inside, *begin], [outside, *end], constants)
    opset = helper.make_opsetid("", _OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8)


def _weights(layer: str, module: nn.RNNBase, number: int, directions: int) -> tuple[Tensor, ...]:
    """(D, G·H, I), (D, G·H, H) and (D, 2·G·H), the gates in ONNX's order."""

    def ordered(name: str) -> Tensor:
        gates = getattr(module, name).detach().chunk(len(_ORDER[layer]))
        return torch.cat([gates[gate] for gate in _ORDER[layer]])

    ends = [f"l{number}{suffix}" for suffix in ("", "_reverse")[:directions]]
    biases = [torch.cat([ordered(f"bias_ih_{end}"), ordered(f"bias_hh_{end}")]) for end in ends]
    return (
        torch.stack([ordered(f"weight_ih_{end}") for end in ends]),
        torch.stack([ordered(f"weight_hh_{end}") for end in ends]),
        torch.stack(biases),
    )
