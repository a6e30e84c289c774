"""Nodes of ONNX in ONNX Runtime, or in ONNX's own reference, against what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from openrnn import (
    GRU,
    LSTM,
    RNN,
    ArgumentError,
    ArgumentTypeError,
    Bidirectional,
    ConversionError,
    DataError,
    Recurrent,
    Stack,
)
from openrnn.cells import OriginalGRUCell, PeepholeLSTMCell
from openrnn.io import from_onnx
from tests.io.compare import assert_equal, assert_plain, assert_streams

onnx = pytest.importorskip("onnx", reason="needs onnx, of the extra io")
runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime, of the extra io")
from onnx import TensorProto, helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

T, B, I, H = 6, 2, 3, 4  # noqa: E741
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def draw(*shape: int) -> Any:
    return torch.randn(*shape).numpy()


def value(name: str, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, None)


def weights(
    operator: str, directions: int = 1, roles: str = "WRB", size: int = I
) -> dict[str, Any]:
    rows = GATES[operator] * H
    shapes = {"W": (rows, size), "R": (rows, H), "B": (2 * rows,), "P": (3 * H,)}
    return {role: draw(directions, *shapes[role]) for role in roles}


def made(nodes: list[Any], numbers: dict[str, Any], inputs: dict[str, int] | None = None) -> Any:
    """A model that takes x, and gives y, y_h and, of an LSTM, y_c."""
    given = [value(name, kind) for name, kind in {"x": TensorProto.FLOAT, **(inputs or {})}.items()]
    outputs = [value(name) for node in nodes for name in node.output if name[:1] == "y"]
    constants = [onnx.numpy_helper.from_array(number, name) for name, number in numbers.items()]
    graph = helper.make_graph(nodes, "graph", given, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def node(operator: str, given: dict[str, Any], *more: str, **attributes: Any) -> Any:
    """A node whose inputs are named after their roles."""
    peephole = ["P"] if "P" in given else []
    more = (*more, *[""] * (3 - len(more))) if peephole else more
    inputs = ["x", "W", "R", "B" if "B" in given else "", *more, *peephole]
    outputs = ["y", "y_h", *["y_c"] * (operator == "LSTM")]
    return helper.make_node(operator, inputs, outputs, name="node", hidden_size=H, **attributes)


def run(model: Any, **feed: Any) -> list[Any]:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, feed))


def joined(output: Any) -> torch.Tensor:
    """From ONNX's (T, D, B, H) to (T, B, D·H)."""
    return torch.tensor(output).transpose(1, 2).flatten(2)


def assert_final(final: Any, theirs: list[Any], directions: int) -> None:
    """Ours are (D, B, H) in a drop-in layer, else a tensor or a tuple for each direction."""
    if isinstance(final, torch.Tensor):
        final = final if final.dim() == 3 else final[None]
        assert_equal(final, theirs[0])
    elif len(theirs) == 1:  # two directions of cells with one state
        assert_equal(torch.stack(final), theirs[0])
    else:
        if isinstance(final[0], tuple):
            final = [torch.stack(states) for states in zip(*final, strict=True)]
        for ours, state in zip(final, theirs, strict=True):
            assert_equal(ours if ours.dim() == 3 else ours[None], state)


CASES = {
    "LSTM": ("LSTM", {}, "WRB", LSTM),
    "LSTM without bias": ("LSTM", {}, "WR", LSTM),
    "LSTM with peepholes": ("LSTM", {}, "WRBP", Recurrent),
    "GRU": ("GRU", {"linear_before_reset": 1}, "WRB", GRU),
    "GRU, reset before": ("GRU", {}, "WRB", Recurrent),
    "GRU, reset before, without bias": ("GRU", {"linear_before_reset": 0}, "WR", Recurrent),
    "RNN": ("RNN", {}, "WRB", RNN),
    "RNN without bias": ("RNN", {}, "WR", RNN),
    "RNN relu": ("RNN", {"activations": ["Relu"]}, "WRB", RNN),
}


@pytest.mark.feature("an ONNX file")
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("case", CASES)
def test_a_node(case: str, direction: str) -> None:
    operator, attributes, roles, kind = CASES[case]
    directions = 2 if direction == "bidirectional" else 1
    attributes = {**attributes, "direction": direction}
    if "activations" in attributes:
        attributes["activations"] = attributes["activations"] * directions
    given = weights(operator, directions, roles)
    model = made([node(operator, given, **attributes)], given)
    x = draw(T, B, I)
    output, *states = run(model, x=x)
    ours = from_onnx(model)
    if kind is Recurrent and directions == 2:
        kind = Bidirectional
    assert type(ours) is (Recurrent if direction == "reverse" else kind)
    assert_plain(ours)
    result, final = ours(torch.tensor(x))
    assert_equal(result, joined(output))
    assert_final(final, states, directions)
    if direction == "forward":
        assert_streams(ours, torch.tensor(x), joined(output))


@pytest.mark.feature("an ONNX file", "Recurrent")
def test_the_cells_that_torch_has_not() -> None:
    given = weights("GRU")
    assert type(from_onnx(made([node("GRU", given)], given)).cell) is OriginalGRUCell
    given = weights("LSTM", roles="WRBP")
    assert type(from_onnx(made([node("LSTM", given)], given)).cell) is PeepholeLSTMCell


def test_two_directions_with_two_activations() -> None:
    given = weights("RNN", 2)
    two = node("RNN", given, direction="bidirectional", activations=["Relu", "Tanh"])
    model, x = made([two], given), draw(T, B, I)
    ours = from_onnx(model)
    assert type(ours) is Bidirectional
    assert_equal(ours(torch.tensor(x))[0], joined(run(model, x=x)[0]))


@pytest.mark.parametrize("directions", [1, 2])
def test_states_and_lengths_are_given_at_the_call(directions: int) -> None:
    given = weights("LSTM", directions)
    direction = "forward" if directions == 1 else "bidirectional"
    kinds = {"n": TensorProto.INT32, "h": TensorProto.FLOAT, "c": TensorProto.FLOAT}
    model = made([node("LSTM", given, "n", "h", "c", direction=direction)], given, kinds)
    x, h, c, lengths = draw(T, B, I), draw(directions, B, H), draw(directions, B, H), [4, 6]
    output, *states = run(model, x=x, h=h, c=c, n=np.array(lengths, "int32"))
    result, final = from_onnx(model)(
        torch.tensor(x), (torch.tensor(h), torch.tensor(c)), lengths=torch.tensor(lengths)
    )
    assert_equal(result, joined(output))
    assert_final(final, states, directions)


@pytest.mark.parametrize("case", ["LSTM", "LSTM with peepholes", "GRU, reset before", "GRU"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_states_that_the_model_begins_with(case: str, direction: str) -> None:
    operator, attributes, roles, _ = CASES[case]
    directions = 2 if direction == "bidirectional" else 1
    given = weights(operator, directions, roles)
    given["h"] = np.repeat(draw(directions, 1, H), B, axis=1)
    names = ["", "h"]
    if operator == "LSTM":  # c begins with zeros, as without
        given["c"], names = np.zeros((directions, B, H), "float32"), ["", "h", "c"]
    model = made([node(operator, given, *names, direction=direction, **attributes)], given)
    x = draw(T, B, I)
    ours = from_onnx(model)
    assert_equal(ours(torch.tensor(x))[0], joined(run(model, x=x)[0]))
    if direction == "forward":
        assert_streams(ours, torch.tensor(x), joined(run(model, x=x)[0]))


def test_zeros_are_no_initial_state_of_its_own() -> None:
    given = {**weights("RNN"), "h": np.zeros((1, B, H), "float32")}
    assert not from_onnx(made([node("RNN", given, "", "h")], given)).learn_initial_state


@pytest.mark.parametrize("operator", ["LSTM", "GRU", "RNN"])
def test_batch_first(operator: str) -> None:
    """ONNX Runtime has no layout=1."""
    given = weights(operator)
    model = made([node(operator, given, layout=1, linear_before_reset=1)
                  if operator == "GRU" else node(operator, given, layout=1)], given)  # fmt: skip
    x = draw(B, T, I)
    output = ReferenceEvaluator(model).run(["y"], {"x": x})[0]  # (B, T, D, H)
    ours = from_onnx(model)
    assert ours.batch_first
    assert_equal(ours(torch.tensor(x))[0], torch.tensor(output).flatten(2))


def test_batch_first_with_a_state_that_the_model_begins_with() -> None:
    given = {**weights("RNN"), "h": np.repeat(draw(1, 1, H), B, axis=0)}
    ours = from_onnx(made([node("RNN", given, "", "h", layout=1)], given))
    assert_equal(ours.h_0, given["h"][0])


def chain(*names: str) -> tuple[Any, dict[str, Any]]:
    """Two layers of LSTM, the second on the output of the first."""
    first, second = weights("LSTM"), weights("LSTM", size=H)
    numbers = {f"{role}{i}": w for i, g in enumerate((first, second)) for role, w in g.items()}
    numbers["axis"] = np.array([1])
    nodes = [
        helper.make_node("LSTM", ["x", "W0", "R0", "B0"], ["raw"], name=names[0], hidden_size=H),
        helper.make_node("Squeeze", ["raw", "axis"], ["between"]),
        helper.make_node("LSTM", ["between", "W1", "R1", "B1"], ["y"], names[1], hidden_size=H),
    ]
    return made(nodes, numbers), numbers


def test_several_nodes() -> None:
    model, _ = chain("first", "second")
    with pytest.raises(ArgumentError, match=r"2 recurrent nodes: 'first' \(LSTM\), 'second' \(L"):
        from_onnx(model)
    stack = Stack([from_onnx(model, node=name) for name in ("first", "second")])
    x = draw(T, B, I)
    output = joined(run(model, x=x)[0])
    assert_equal(stack(torch.tensor(x))[0], output)
    assert_streams(stack, torch.tensor(x), output)


def test_nodes_without_names_are_known_by_their_outputs() -> None:
    model, numbers = chain("", "")
    with pytest.raises(ArgumentError, match=r"'raw' \(LSTM\), 'y' \(LSTM\)"):
        from_onnx(model)
    order = [0, 2, 3, 1]
    expected = numbers["W1"].reshape(4, H, H)[order].reshape(4 * H, H)
    assert_equal(from_onnx(model, node="y").weight_ih_l0, expected)
    with pytest.raises(ArgumentError, match="no recurrent node 'z', but 'raw'"):
        from_onnx(model, node="z")


def test_weights_that_other_nodes_compute() -> None:
    """As some exporters write them: transposed, or by nodes Constant."""
    given = weights("GRU")
    r = helper.make_node("Constant", [], ["R"], value=onnx.numpy_helper.from_array(given["R"]))
    w = helper.make_node("Transpose", ["turned"], ["W"], perm=[0, 2, 1])
    numbers = {"turned": given["W"].transpose(0, 2, 1).copy(), "B": given["B"]}
    model = made([r, w, node("GRU", given, linear_before_reset=1)], numbers)
    x = draw(T, B, I)
    assert_equal(from_onnx(model)(torch.tensor(x))[0], joined(run(model, x=x)[0]))


def test_what_torch_exports(tmp_path: Path) -> None:
    """A path, and the states of zeros that torch computes from the size of the batch."""
    given = weights("RNN")
    zeros = [
        helper.make_node("Shape", ["x"], ["batch"], start=1, end=2),
        helper.make_node("Concat", ["one", "batch", "units"], ["shape"], axis=0),
        helper.make_node("ConstantOfShape", ["shape"], ["h"]),
    ]
    numbers = {**given, "one": np.array([1]), "units": np.array([H])}
    model, x = made([*zeros, node("RNN", given, "", "h")], numbers), draw(T, B, I)
    onnx.save(model, tmp_path / "model.onnx")
    for path in (tmp_path / "model.onnx", str(tmp_path / "model.onnx")):
        assert_equal(from_onnx(path)(torch.tensor(x))[0], joined(run(model, x=x)[0]))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtype_is_kept(dtype: str) -> None:
    kind = getattr(TensorProto, {"float32": "FLOAT", "float64": "DOUBLE"}.get(dtype, dtype.upper()))
    given = weights("RNN")
    tensors = [
        helper.make_tensor(role, kind, w.shape, w.flatten().tolist()) for role, w in given.items()
    ]
    model = made([node("RNN", given)], {})
    model.graph.initializer.extend(tensors)
    ours = from_onnx(model)
    assert {p.dtype for p in ours.parameters()} == {getattr(torch, dtype)}
    expected = torch.tensor(given["W"][0]).to(getattr(torch, dtype))
    assert torch.equal(ours.weight_ih_l0.detach(), expected)


def changed(operator: str, directions: int = 1, roles: str = "WRB", **attributes: Any) -> Any:
    given = weights(operator, directions, roles)
    return made([node(operator, given, **attributes)], given)


def from_the_input() -> Any:
    given = weights("RNN")
    return made([node("RNN", given)], {"R": given["R"], "B": given["B"]}, {"W": TensorProto.FLOAT})


def from_a_graph_inside() -> Any:
    """The branches of If read the model's input, which the node's own inputs do not show."""
    given = weights("RNN")
    branch = helper.make_graph([helper.make_node("Identity", ["w"], ["b"])], "b", [], [value("b")])
    choice = helper.make_node("If", ["yes"], ["W"], then_branch=branch, else_branch=branch)
    numbers = {"yes": np.array(True), "R": given["R"], "B": given["B"]}
    return made([choice, node("RNN", given)], numbers, {"w": TensorProto.FLOAT})


def with_states(*names: str, **states: Any) -> Any:
    given = weights("LSTM")
    inputs = {name: TensorProto.FLOAT for name in names if name not in states}
    return made([node("LSTM", given, "", *names)], {**given, **states}, inputs)


@pytest.mark.refused("what has no counterpart in ours")
@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: changed("LSTM", clip=3.0), "clip=3 has no counterpart"),
        (lambda: changed("LSTM", input_forget=1), "input_forget=1 has no counterpart"),
        (
            lambda: changed("LSTM", activations=["HardSigmoid", "Tanh", "Tanh"]),
            "expected activations Sigmoid, Tanh, Tanh for each direction, got HardSigmoid",
        ),
        (lambda: changed("GRU", activations=["Sigmoid", "Relu"]), "got Sigmoid, Relu"),
        (lambda: changed("RNN", activations=["Elu"]), "activations Tanh or Relu .* got Elu"),
        (lambda: changed("RNN", direction="sideways"), "bidirectional, got 'sideways'"),
        (
            lambda: changed("RNN", direction="bidirectional"),
            r"W to have 2 in its first dimension, .* got the shape \(1, 4, 3\)",
        ),
        (from_the_input, "expected its input W, 'W', to be a constant, .* depends on"),
        (from_a_graph_inside, "expected its input W, 'W', to be a constant, .* a graph inside"),
        (
            lambda: with_states("h", "c", h=draw(1, B, H)),
            "initial_h is a constant that is not the same for all sequences",
        ),
        (
            lambda: with_states("h", "c", c=np.ones((1, B, H), "float32")),
            "initial_h is given at a call, and the other",
        ),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(model: Any, message: str) -> None:
    with pytest.raises(ConversionError, match=f"^from_onnx: [A-Z]* 'node': .*{message}"):
        from_onnx(model())


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ArgumentTypeError, match=r"a path or an onnx.ModelProto, got Linear"):
        from_onnx(torch.nn.Linear(3, 4))
    with pytest.raises(ArgumentError, match="LSTM, GRU, RNN in the model's graph, found none"):
        from_onnx(made([helper.make_node("Relu", ["x"], ["y"])], {}))
    with pytest.raises(FileNotFoundError):
        from_onnx(tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(DataError, match=r"text.onnx is no ONNX model"):
        from_onnx(tmp_path / "text.onnx")
