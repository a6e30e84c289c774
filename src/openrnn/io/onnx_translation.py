"""Our operator in what torch.onnx.export writes: a function of the model, with a Scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from importlib import import_module
from typing import Any

import torch

from openrnn.errors import ArgumentError
from openrnn.extras import require_extra
from openrnn.io.onnx_nodes import Nodes
from openrnn.io.onnx_scan import CellScan
from openrnn.io.onnx_state import Ends, State
from openrnn.step import text
from openrnn.step.graph import Graph
from openrnn.step.program import Program

_ASKED = "onnx_translations"
_DOMAIN = "openrnn"
_OPSET = 18  # in which torch.onnx.export writes, whatever version it converts the model to


def onnx_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """What `torch.onnx.export` needs to write a model with our layers in it.

        torch.onnx.export(model, args, dynamo=True, custom_translation_table=onnx_translations())

    Each layer and direction becomes a function of the model around one `Scan`; for a layer alone
    `to_onnx` writes ONNX's own operators. The model must be in evaluation, and its layers be called
    without `reset` and `return_states`.

    Returns:
        The table: our operator of torch.export, to what writes it.

    Raises:
        MissingExtraError: onnxscript, which torch.onnx.export itself needs, is not installed.
    """
    require_extra(_ASKED, ("onnx", "onnxscript"), "onnx onnxscript")
    return {torch.ops.openrnn.scan.default: _translate}


def _translate(
    engine: Any,
    graph: Any,
    names: Any,
    given: Any,
    begins: Any,
    restarts: Any,
    lengths: Any,
    resets: Any,
    wanted: Any,
    reverse: Any,
    every: Any,
) -> list[Any]:
    """The outputs of a node that calls the function; torch.onnx.export calls this."""
    program = Program(text.read(graph))
    asked = {"reset=": resets is not None, "return_states=True": every}
    if unknown := [name for name, is_asked in asked.items() if is_asked]:
        raise ArgumentError(
            f"{_ASKED}: expected a layer that is called with x, a state and lengths, received a "
            f"call with {unknown[0]}; leave it out of the model's forward"
        )
    if program.stages.randoms:
        raise ArgumentError(
            f"{_ASKED}: expected a model in evaluation, received a cell that draws random numbers; "
            "call model.eval() first"
        )
    is_ragged = lengths is not None
    key = repr((graph, names, begins, is_ragged, reverse))
    name = f"scan_{sha256(key.encode()).hexdigest()[:12]}"
    script, ir = import_module("onnxscript"), import_module("onnx_ir")
    recorder = script.evaluator.default()
    made = _function(name, program, names, has_state=begins, is_ragged=is_ragged, reverse=reverse)
    function = ir.serde.deserialize_function(made)
    recorder.functions[function.identifier()] = function
    inputs = [*given, *[lengths] * is_ragged]
    node = ir.Node(_DOMAIN, name, inputs, num_outputs=1 + len(program.states))
    recorder.nodes.append(node)
    return list(node.outputs)


def _function(
    name: str,
    program: Program,
    names: Sequence[str],
    *,
    has_state: bool,
    is_ragged: bool,
    reverse: bool,
) -> Any:
    """From x, the states and the lengths if they are given, and what the cell reads, to the output
    and the last states.
    """
    nodes = Nodes()
    states = [f"{state}_0" for state in program.states]
    nodes.reserve("x", "lengths", *states, *names)
    initial = {state: State(value) for state, value in zip(program.states, states, strict=True)}
    if not has_state:
        rows = nodes("Shape", "x", start=1, end=2)
        sizes = nodes("Concat", rows, nodes.ints(1), axis=0)
        for state, size in program.features.items():
            zeros = nodes.constant(torch.zeros(1, size, dtype=_dtype(program.graph)))
            initial[state] = State(nodes("Expand", zeros, sizes))
    input_size = next(node.shape[-1] for _, node in program.graph.inputs("input"))
    assert isinstance(input_size, int)
    parameters = {own: own for own in names}
    ends = None
    if is_ragged:
        ends = Ends.of(nodes, nodes("Cast", "lengths", to=nodes.kind(torch.int64)), "x")
    scan = CellScan(nodes, program, parameters, "x", input_size, initial, ends, reverse=reverse)
    outputs = [scan.output, *(scan.last[state].value for state in program.states)]
    helper = nodes.onnx.helper
    constants = [
        helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in nodes.tensors()
    ]
    return helper.make_function(
        _DOMAIN,
        name,
        ["x", *(states if has_state else []), *names, *["lengths"] * is_ragged],
        outputs,
        [*constants, *nodes.list],
        [helper.make_opsetid("", _OPSET)],
    )


def _dtype(graph: Graph) -> torch.dtype:
    return graph.nodes[graph.outputs[0][1]].dtype
