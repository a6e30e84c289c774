"""Layers as ONNX models."""

from __future__ import annotations

from importlib import import_module
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch
from torch import nn

from openrnn.errors import ArgumentError
from openrnn.explain.evaluation import in_evaluation
from openrnn.extras import require_extra
from openrnn.files import atomic_file, check_writable_file
from openrnn.io.onnx_layers import ASKED, LayerGraph, Wanted
from openrnn.layers.int8layer import check_float
from openrnn.layers.layer import Layer, check_bool

OLDEST = 18  # of the operator sets: the first whose reductions all take their axes as an input
_MOST = 2**31 - 1  # bytes of a message of protobuf


def to_onnx(
    layer: nn.Module,
    path: str | PathLike[str],
    *,
    opset: int = OLDEST,
    lengths: bool = False,
    stream: bool = False,
    initial_state: bool = True,
    input_size: int | None = None,
) -> None:
    """Writes a layer as an ONNX model, with its weights, for any T ≥ 1 and B ≥ 1.

    The model computes what `layer.eval()` does, to rounding: nothing is dropped. A cell whose step
    is that of ONNX's LSTM (peepholes too), GRU (of either kind) or RNN becomes that operator, two
    directions of such become one, whoever wrote the cell; any other becomes a `Scan` over its step.

    | layer | states of the model |
    |---|---|
    | `LSTM`, `GRU`, `RNN` | `h_0`, `c_0` (D·L, B, H) |
    | `Recurrent` | `h_0`, `c_0`, or what the cell calls its states, (B, H) |
    | `Bidirectional` | the same, and `h_0_reverse` |
    | `Stack` | those of each layer, with `_l0`, `_l1`, … after their names: `h_0_l1` |

    The states after the last step are outputs: `h_n` for `h_0`, and so on.

    Args:
        layer: a layer of OpenRNN or of torch.nn, or a cell, which is written as one step.
        path: of the file; one that is there is replaced.
        opset: the version of ONNX's operators, 18 up to what onnx knows. Default: 18.
        lengths: the model also takes `lengths` (B) int64, the steps of each sequence, 0 to T.
            Default: False, all have T steps.
        stream: the model is one step: `x` is (B, I), and the states out are the next states in.
            Default: False.
        initial_state: the model takes the states to begin with. Default: True; False begins with
            zeros, or what is learned.
        input_size: features of x; needed only for a cell that has no `input_size`, in a layer that
            has not run yet. Default: what the cell says, or the layer has seen.

    Shapes:
        x: (T, B, I), or (B, T, I) with batch_first.
        output: (T, B, H), or (B, T, H); 0 behind a sequence's end.

    Raises:
        ArgumentTypeError: neither a layer nor a cell, or stream=True of a backward direction.
        ArgumentError: an unknown opset; lengths, or no initial state, for one step; unknown
            features of x; a path that cannot be written to; weights of 2 GiB or more.
        CellError: a cell that cannot be read, draws random numbers in evaluation, has another
            dtype than the others, or is quantized.
        MissingExtraError: onnx is not installed.

    Examples:
        >>> import tempfile, onnx
        >>> from openrnn import LSTM
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     to_onnx(LSTM(30, 20), f"{directory}/lstm.onnx")
        ...     model = onnx.load(f"{directory}/lstm.onnx")
        >>> print([i.name for i in model.graph.input], [o.name for o in model.graph.output])
        ['x', 'h_0', 'c_0'] ['output', 'h_n', 'c_n']
    """
    require_extra(ASKED, ("onnx",), "onnx")
    onnx = import_module("onnx")
    import_module("onnx.checker")
    flags = {"lengths": lengths, "stream": stream, "initial_state": initial_state}
    for name, value in flags.items():
        check_bool(f"{ASKED}: {name}", value)
    newest = onnx.defs.onnx_opset_version()
    if isinstance(opset, bool) or not isinstance(opset, int) or not OLDEST <= opset <= newest:
        raise ArgumentError(
            f"{ASKED}: expected opset from {OLDEST} to {newest}, which onnx {onnx.__version__} "
            f"knows, received {opset!r}; give for example opset={OLDEST}"
        )
    check_float(ASKED, layer)
    one_step = stream or not isinstance(layer, (Layer, nn.RNNBase))
    if one_step and (lengths or not initial_state):
        given = "lengths=True" if lengths else "initial_state=False"
        raise ArgumentError(
            f"{ASKED}: expected no {given} for one step, which takes x and the states; leave it "
            "out, or export a layer with stream=False"
        )
    with in_evaluation(layer) as own, torch.no_grad():
        wanted = Wanted(lengths, one_step, initial_state)
        model = _model(onnx, LayerGraph(own, wanted, input_size), opset)
    file = Path(fspath(path))
    check_writable_file(file, "model.onnx", f"{ASKED}, path")
    with atomic_file(file) as temporary:
        temporary.write_bytes(model)


def _model(onnx: Any, written: LayerGraph, opset: int) -> bytes:
    """The file's bytes, checked."""
    nodes = written.nodes
    size = sum(tensor.numel() * tensor.element_size() for tensor in nodes.initializers.values())
    if size > _MOST:
        raise ArgumentError(
            f"{ASKED}: expected weights of less than 2 GiB, as a file of ONNX holds, received "
            f"{size / 2**30:.1f} GiB; give layer.half(), or export its layers each"
        )
    graph = nodes.graph("openrnn")
    graph.initializer.extend(nodes.tensors())
    opsets = [onnx.helper.make_opsetid("", opset)]
    version = onnx.helper.find_min_ir_version_for(opsets)
    model = onnx.helper.make_model(
        graph, opset_imports=opsets, ir_version=version, producer_name="openrnn"
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
