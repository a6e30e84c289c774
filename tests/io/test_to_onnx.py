"""Layers as ONNX models, in ONNX Runtime, against the layers themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from openrnn import (
    GRU,
    LSTM,
    RNN,
    ArgumentError,
    ArgumentTypeError,
    Bidirectional,
    CellError,
    Recurrent,
    Stack,
    cells,
)
from openrnn.io import from_onnx, onnx_translations, to_onnx
from openrnn.io.onnx_nodes import Nodes
from openrnn.io.onnx_step import TABLE, write
from openrnn.step import ops
from openrnn.step.evaluate import evaluator
from openrnn.step.graph import Builder, Value
from openrnn.step.shape import Batch
from tests.cells.box import BOX, as_given, random_states
from tests.citizen.cases import NAMES, Everything
from tests.io.compare import assert_equal

onnx = pytest.importorskip("onnx", reason="needs onnx, of the extra io")
runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime, of the extra io")

T, B, I, H = 5, 3, 3, 4  # noqa: E741
RECURRENT = ("LSTM", "GRU", "RNN", "Scan")
OPERATORS = {
    **dict.fromkeys(("RNNCell", "RNNCell relu"), "RNN"),
    **dict.fromkeys(("LSTMCell", "RecurrentDropoutLSTMCell", "WeightDropLSTMCell"), "LSTM"),
    **dict.fromkeys(("GRUCell", "OriginalGRUCell"), "GRU"),
    "PeepholeLSTMCell": "LSTM",
}


class Exported:
    """A layer's model in ONNX Runtime, from a file."""

    def __init__(self, layer: nn.Module, path: Path, **options: Any) -> None:
        to_onnx(layer, path / "model.onnx", **options)
        self.model = onnx.load(path / "model.onnx")
        settings = runtime.SessionOptions()
        settings.intra_op_num_threads, settings.log_severity_level = 1, 3
        self.session = runtime.InferenceSession(
            str(path / "model.onnx"), settings, providers=["CPUExecutionProvider"]
        )
        self.inputs = [each.name for each in self.session.get_inputs()]
        self.outputs = [each.name for each in self.session.get_outputs()]

    @property
    def recurrent(self) -> list[str]:
        return [n.op_type for n in self.model.graph.node if n.op_type in RECURRENT]

    def __call__(self, x: Tensor, state: Any = (), lengths: Tensor | None = None) -> list[Tensor]:
        given = [x, *([] if lengths is None else [lengths]), *flat(state)]
        feed = {name: t.detach().numpy() for name, t in zip(self.inputs, given, strict=True)}
        return [torch.tensor(value) for value in self.session.run(None, feed)]


def flat(state: Any) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else [t for part in state for t in flat(part)]


def assert_same(exported: Exported, layer: Any, x: Tensor, state: Any, **options: Any) -> None:
    layer.eval()
    with torch.no_grad():
        output, last = layer(x, state, **options)
    theirs = exported(x, state, options.get("lengths"))
    for ours, value in zip([output, *flat(last)], theirs, strict=True):
        assert ours.shape == value.shape
        assert_equal(ours, value)


@pytest.mark.parametrize("name", BOX)
def test_cells_of_the_box(name: str, tmp_path: Path) -> None:
    """Both directions, T and B not known before, some sequences without steps."""
    forward, backward = (BOX[name](I, H) for _ in range(2))
    layer = Bidirectional(forward, backward)
    exported, ragged = (Exported(layer, tmp_path, lengths=given) for given in (False, True))
    operator = OPERATORS.get(name)
    assert exported.recurrent == ([operator] if operator else ["Scan", "Scan"])
    states = list(forward.state_sizes)
    expected = [*(f"{n}_0" for n in states), *(f"{n}_0_reverse" for n in states)]
    assert exported.inputs == ["x", *expected]
    assert exported.outputs == ["output", *(each.replace("_0", "_n") for each in expected)]
    assert ragged.inputs == ["x", "lengths", *expected]
    for steps, rows in [(T, B), (1, 1)]:
        x = torch.randn(steps, rows, I)
        state = tuple(as_given(random_states(cell, rows)) for cell in (forward, backward))
        assert_same(exported, layer, x, state)
        lengths = torch.tensor([steps, 0, 2][:rows])
        assert_same(ragged, layer, x, state, lengths=lengths)


DROP_INS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "LSTM": (lambda: LSTM(I, H, 2, bidirectional=True, batch_first=True), ["LSTM"] * 2),
    "GRU": (lambda: GRU(I, H, 3, dropout=0.5), ["GRU"] * 3),
    "GRU without bias": (lambda: GRU(I, H, bias=False), ["GRU"]),
    "RNN": (lambda: RNN(I, H, bidirectional=True, nonlinearity="relu"), ["RNN"]),
    "projections": (lambda: LSTM(I, H, 2, proj_size=2, bidirectional=True), ["Scan"] * 4),
    "norms": (lambda: LSTM(I, H, layer_norm=True), ["Scan"]),
    "zoneout": (lambda: GRU(I, H, 2, zoneout=0.3), ["Scan"] * 2),
    "float64": (lambda: LSTM(I, H, dtype=torch.float64), ["Scan"]),
    "torch LSTM": (lambda: nn.LSTM(I, H, 2, bidirectional=True), ["LSTM"] * 2),
    "torch GRU": (lambda: nn.GRU(I, H, bias=False, batch_first=True), ["GRU"]),
    "torch RNN": (lambda: nn.RNN(I, H, nonlinearity="relu"), ["RNN"]),
}


@pytest.mark.feature("to_onnx")
@pytest.mark.feature("lengths in ONNX")
@pytest.mark.parametrize("name", DROP_INS)
def test_drop_ins(name: str, tmp_path: Path) -> None:
    layer = DROP_INS[name][0]()
    exported, ragged = (Exported(layer, tmp_path, lengths=given) for given in (False, True))
    assert layer.training
    assert exported.recurrent == DROP_INS[name][1]
    dtype = next(layer.parameters()).dtype
    for steps, rows in [(T, B), (1, 2)]:
        shape = (rows, steps) if layer.batch_first else (steps, rows)
        count = layer.num_layers * (2 if layer.bidirectional else 1)
        h = torch.randn(count, rows, layer.proj_size or H, dtype=dtype)
        state = (h, torch.randn(count, rows, H, dtype=dtype)) if "c_0" in exported.inputs else h
        x = torch.randn(*shape, I, dtype=dtype)
        assert_same(exported, layer, x, state)
        if not isinstance(layer, (LSTM, GRU, RNN)):  # torch's take no lengths
            continue
        lengths = torch.tensor([steps, 0, 2][:rows])
        assert_same(ragged, layer, x, state, lengths=lengths)


@pytest.mark.parametrize("merge", ["concat", "sum", "mean"])
@pytest.mark.parametrize("other", [nn.LSTMCell, nn.GRUCell])
def test_merged_directions(merge: str, other: Any, tmp_path: Path) -> None:
    """Two cells of one kind in one operator, of two kinds each in its own."""
    layer = Bidirectional(nn.LSTMCell(I, H), other(I, H), merge=merge)
    exported, pair = Exported(layer, tmp_path), (torch.randn(B, H), torch.randn(B, H))
    assert exported.recurrent == (["LSTM"] if other is nn.LSTMCell else ["LSTM", "GRU"])
    state = (pair, pair if other is nn.LSTMCell else pair[0])
    assert_same(exported, layer, torch.randn(T, B, I), state)


def stack(**options: Any) -> Stack:
    inner = Stack([cells.QRNNCell(H, H), nn.RNNCell(H, H)], residual=True)
    return Stack([nn.GRUCell(H, H), LSTM(H, H, 2), inner], residual=True, dropout=0.5, **options)


@pytest.mark.feature("to_onnx", "Stack")
@pytest.mark.feature("lengths in ONNX", "Stack")
def test_a_stack_with_residuals_and_lengths(tmp_path: Path) -> None:
    layer = stack(batch_first=True)
    exported = Exported(layer, tmp_path, lengths=True)
    assert exported.recurrent == ["GRU", "LSTM", "LSTM", "Scan", "RNN"]
    names = ["h_0_l0", "h_0_l1", "c_0_l1", "h_0_l2_l0", "c_0_l2_l0", "h_0_l2_l1"]
    assert exported.inputs == ["x", "lengths", *names]
    x, lengths = torch.randn(B, T, H), torch.tensor([2, T, 0])
    state = layer(torch.randn(B, 1, H))[1]
    assert_same(exported, layer, x, state, lengths=lengths)


STREAMS: dict[str, Callable[[], Any]] = {
    "RNN": lambda: RNN(H, H),
    "LSTM": lambda: LSTM(H, H, 2),
    "GRU": lambda: GRU(H, H, zoneout=0.1),
    "Recurrent": lambda: Recurrent(cells.SLSTMCell(H, H)),
    "Stack": stack,
}


@pytest.mark.feature("a stream in ONNX")
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_one_step_with_states_in_and_out(name: str, tmp_path: Path) -> None:
    layer = STREAMS[name]().eval()
    exported = Exported(layer, tmp_path, stream=True)
    assert "Scan" not in exported.recurrent
    x = torch.randn(T, B, H)
    with torch.no_grad():
        output, last = layer(x)
        state = flat(layer(x[:1])[1])
    outputs = [output[0]]
    for step in x[1:]:
        y, *state = exported(step, state)
        outputs.append(y)
    assert_equal(output, torch.stack(outputs))
    for ours, theirs in zip(flat(last), state, strict=True):
        assert_equal(ours, theirs)


@pytest.mark.feature("to_onnx")
@pytest.mark.feature("a stream in ONNX")
@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell", "MGUCell"])
def test_a_cell_is_one_step(name: str, tmp_path: Path) -> None:
    cell = getattr(cells, name)(I, H)
    x, state = torch.randn(B, I), as_given(random_states(cell, B))
    expected = flat(cell(x, state))
    for ours, theirs in zip(
        (expected[0], *expected), Exported(cell, tmp_path)(x, state), strict=True
    ):
        assert_equal(ours, theirs)


@pytest.mark.parametrize("learned", [False, True])
def test_the_model_begins_with_zeros_or_what_is_learned(learned: bool, tmp_path: Path) -> None:
    layer = stack(learn_initial_state=learned).eval()
    layer.layers[1] = LSTM(H, H, 2, learn_initial_state=learned).eval()
    for name, parameter in layer.named_parameters():
        if name.endswith("_0"):
            nn.init.normal_(parameter)
    exported = Exported(layer, tmp_path, initial_state=False)
    assert exported.inputs == ["x"]
    x = torch.randn(T, B, H)
    output, last = layer(x)
    for ours, theirs in zip([output, *flat(last)], exported(x), strict=True):
        assert_equal(ours, theirs)


class Own(nn.Module):
    """A cell of one's own: what is in training only, a buffer, and names of its own."""

    state_sizes = {"m": H, "seen": 1}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(I + H, H)
        self.register_buffer("scale", torch.rand(H))
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        m, seen = state
        m = torch.tanh(self.mix(torch.cat([x, m], -1))) * self.scale
        m = nn.functional.dropout(m, 0.5, self.training)
        return m.softmax(-1), seen + m.amax(-1, keepdim=True)


@pytest.mark.feature("to_onnx", "Recurrent")
@pytest.mark.feature("lengths in ONNX", "Recurrent")
def test_a_cell_of_ones_own(tmp_path: Path) -> None:
    layer = Recurrent(Own(), reverse=True)
    exported = Exported(layer, tmp_path, input_size=I)
    assert exported.inputs == ["x", "m_0", "seen_0"]
    numbers = {i.name for i in exported.model.graph.initializer}
    assert {"cell.mix.weight", "cell.mix.bias", "cell.scale"} <= numbers
    assert not any("unused" in name for name in numbers)
    state, x = (torch.randn(B, H), torch.randn(B, 1)), torch.randn(T, B, I)
    assert_same(exported, layer, x, state)
    ragged = Exported(layer, tmp_path, lengths=True)
    assert_same(ragged, layer, x, state, lengths=torch.tensor([T, 0, 2]))


class OwnLSTM(nn.Module):
    """An LSTM with operands the other way round, and parameters that no step reads."""

    def __init__(self) -> None:
        super().__init__()
        self.input_size, self.hidden_size = I, H
        shapes = {"weight_ih": (4 * H, I), "weight_hh": (4 * H, H)}
        for name, shape in {**shapes, "bias_ih": (4 * H,), "peephole": (3 * H,)}.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape)))

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h, c = state
        from_h = nn.functional.linear(h, self.weight_hh)
        i, f, g, o = (from_h + nn.functional.linear(x, self.weight_ih)).chunk(4, -1)
        c = g.tanh() * i.sigmoid() + c * f.sigmoid()
        return c.tanh() * o.sigmoid(), c


def test_a_cell_of_ones_own_becomes_an_operator(tmp_path: Path) -> None:
    layer = Recurrent(OwnLSTM())
    exported = Exported(layer, tmp_path)
    assert exported.recurrent == ["LSTM"]
    assert_same(exported, layer, torch.randn(T, B, I), (torch.randn(B, H), torch.randn(B, H)))


def test_an_operator_is_taken_for_its_step_not_for_a_name(tmp_path: Path) -> None:
    class LSTMCell(cells.LSTMCell):
        def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
            h, c = super().step(x, h, c)
            return h + 1, c

    layer = Recurrent(LSTMCell(I, H))
    exported = Exported(layer, tmp_path)
    assert exported.recurrent == ["Scan"]
    assert_same(exported, layer, torch.randn(T, B, I), (torch.randn(B, H), torch.randn(B, H)))


@pytest.mark.parametrize("make", [LSTM, GRU, RNN])
def test_there_and_back(make: Any, tmp_path: Path) -> None:
    layer = make(I, H, bidirectional=True)
    to_onnx(layer, tmp_path / "model.onnx")
    back = from_onnx(tmp_path / "model.onnx")
    assert type(back) is make
    for name, parameter in layer.state_dict().items():
        assert torch.equal(parameter, back.state_dict()[name]), name


@pytest.mark.parametrize("opset", [18, 21, 22])
def test_opsets(opset: int, tmp_path: Path) -> None:
    layer = Stack([LSTM(I, H), cells.SLSTMCell(H, H)]).eval()
    exported = Exported(layer, tmp_path, opset=opset, initial_state=False)
    assert exported.model.opset_import[0].version == opset
    x = torch.randn(T, B, I)
    assert_equal(layer(x)[0], exported(x)[0])


class Model(nn.Module):
    """Our layers in a larger model, with and without a state, in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.cells = nn.Linear(I, H), Recurrent(cells.SLSTMCell(H, H))
        self.layer = LSTM(H, H, bidirectional=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, (h, *_) = self.cells(self.before(x))
        z, (h, c) = self.layer(y, (torch.stack([h, -h]), torch.stack([h, h])))
        return z, h, c


def by_torch(model: nn.Module, *inputs: Tensor) -> Callable[..., list[Tensor]]:
    """What torch.onnx.export writes, run; all but the features is dynamic."""
    pytest.importorskip("onnxscript", reason="needs onnxscript, as torch.onnx.export does")
    exported = torch.onnx.export(
        model.eval(),
        inputs,
        dynamo=True,
        verbose=False,
        dynamic_shapes=tuple(
            dict.fromkeys(range(max(x.dim() - 1, 1)), torch.export.Dim.DYNAMIC) for x in inputs
        ),
        custom_translation_table=onnx_translations(),
    )
    session = runtime.InferenceSession(
        exported.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [each.name for each in session.get_inputs()]

    def run(*inputs: Tensor) -> list[Tensor]:
        feed = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        return [torch.tensor(value) for value in session.run(None, feed)]

    return run


@pytest.mark.filterwarnings("ignore")
def test_in_a_model_that_torch_exports() -> None:
    model = Model()
    exported = by_torch(model, torch.randn(T, B, I))
    for steps, rows in [(T, B), (2, 4)]:
        x = torch.randn(steps, rows, I)
        for ours, theirs in zip(model(x), exported(x), strict=True):
            assert_equal(ours, theirs)


@pytest.mark.feature("torch.onnx.export", *NAMES)
@pytest.mark.filterwarnings("ignore")
def test_one_of_each_kind_in_a_model_that_torch_exports() -> None:
    model = Everything(lengths=True)
    exported = by_torch(model, *Everything.inputs(T, B))
    for steps, rows in [(T, B), (2, 4)]:
        inputs = Everything.inputs(steps, rows)
        for ours, theirs in zip(model(*inputs), exported(*inputs), strict=True):
            assert_equal(ours, theirs)


class Asking(nn.Module):
    """A model that asks of its layer what cannot be written so."""

    def __init__(self, option: str) -> None:
        super().__init__()
        self.layer, self.option = LSTM(I, H), option

    def forward(self, x: Tensor) -> Tensor:
        options = {"reset": x[..., 0] > 0, "return_states": True}
        return self.layer(x, **{self.option: options[self.option]})[0]  # type: ignore[no-any-return]


@pytest.mark.refused("reset= and return_states= in torch.onnx.export")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("option", ["reset", "return_states"])
def test_what_torch_cannot_export(option: str) -> None:
    with pytest.raises(Exception, match="onnx_translations: expected a layer") as caught:
        by_torch(Asking(option), torch.randn(T, B, I))
    assert f"received a call with {option}=" in str(caught.value)


# --- each operation of the table -----------------------------------------------------------------

_POSITIVE = ("log", "log2", "log10", "sqrt", "rsqrt", "pow")
_WITHIN_ONE = ("asin", "acos", "atanh")


def _operands(name: str, builder: Builder) -> Iterator[tuple[Value, Tensor]]:
    """Inputs that the operation takes, with numbers."""
    count = {"cat": 2}.get(name, ops.TABLE[name].arity or 0)
    for i in range(count):
        shape = (4, 2) if name == "matmul" and i == 1 else (B, 4)
        numbers = torch.randn(shape)
        if name in _POSITIVE:
            numbers = numbers.abs() + 0.1
        if name in _WITHIN_ONE:
            numbers = numbers.tanh()
        if name == "acosh":
            numbers = numbers.abs() + 1
        if name in ("expm1", "log1p"):  # to rounding about 0 and far from it
            numbers = torch.tensor([[1e-9, -1e-9, 3e-4, -0.5], [20, 1e-3, 0, 5], [2, 1, 3, 80]])
        if name in ("eq", "ne", "le", "ge", "maximum", "minimum", "first_max", "round"):
            numbers = (2 * numbers).round() / 2
        truth = name.startswith("logical") or (name == "where" and i == 0)
        if truth:
            numbers = numbers > 0
        dims = (Batch() if shape[0] == B else shape[0], shape[1])
        yield builder.input("input", f"x{i}", dims, numbers.dtype), numbers


_ATTRIBUTES: dict[str, list[dict[str, Any]]] = {
    "convert": [{"dtype": torch.int64}, {"dtype": torch.bool}],
    "reshape": [{"shape": (2, Batch(2))}, {"shape": (Batch(), 2, 1, 2)}],
    "expand": [{"shape": (5, Batch(), 4)}],
    "permute": [{"dims": (1, 0)}],
    "slice": [{"dim": 1, "start": 1, "stop": 4, "step": 2}],
    "unslice": [{"dim": 1, "start": 1, "stop": 9, "step": 2, "size": 10}],
    "cat": [{"dim": 1}],
    "flip": [{"dim": 1}],
    **{name: [{"dims": (1,)}] for name in ("sum", "amax", "amin")},
    **{name: [{"dim": 1}] for name in ("first_max", "cumsum")},
}


def run_graph(graph: Any, given: dict[str, Tensor], rows: int) -> dict[str, Tensor]:
    """A step graph as a model, in ONNX Runtime."""
    nodes = Nodes()
    values = {
        node.label: nodes.input(node["name"], node.dtype, [None] * len(node.shape))
        for _, node in graph.inputs()
    }
    made = write(graph, values, nodes, lambda: nodes.ints(rows))
    for label, index in graph.outputs:
        node = graph.nodes[index]
        nodes.output(label, made[label], node.dtype, [None] * len(node.shape))
    body = nodes.graph("graph")
    body.initializer.extend(nodes.tensors())
    model = onnx.helper.make_model(
        body, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8
    )
    onnx.checker.check_model(model, full_check=True)
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feed = {label.partition(".")[2]: tensor.numpy() for label, tensor in given.items()}
    found = session.run(None, feed)
    return dict(zip((label for label, _ in graph.outputs), map(torch.tensor, found), strict=True))


# What is in a step that is written: a quantized layer is refused by name.
OPERATIONS = set(ops.TABLE) - {"input", "constant", "random", "int8_linear"}


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_each_operation(name: str) -> None:
    builder, results = Builder(), {}
    operands = [*_operands(name, builder)]
    values = [value for value, _ in operands]
    given = {f"input.x{i}": numbers for i, (_, numbers) in enumerate(operands)}
    for i, attributes in enumerate(_ATTRIBUTES.get(name, [{}])):
        results[f"y{i}"] = builder.add(name, values, **attributes)
    graph = builder.finish(results)
    expected = evaluator(graph, torch.device("cpu"))(given, B)
    for label, value in run_graph(graph, given, B).items():
        ours = expected[label]
        assert ours.dtype == value.dtype
        assert ours.shape == value.shape
        atol = 1e-12 if name in ("expm1", "log1p") else 1e-6
        torch.testing.assert_close(value, ours, rtol=2e-6, atol=atol)


def test_every_operation_is_in_the_table() -> None:
    assert set(TABLE) == OPERATIONS


def test_expand_to_rows() -> None:
    """The one operation that must know B."""
    builder = Builder()
    x = builder.input("input", "x", (1, 4), torch.float32)
    graph = builder.finish({"y": x.expand((Batch(2), 4))})
    given = {"input.x": torch.randn(1, 4)}
    assert_equal(given["input.x"].expand(2 * B, 4), run_graph(graph, given, B)["y"])


# --- what is refused -----------------------------------------------------------------------------


class Drawing(nn.Module):
    hidden_size = H
    input_size = I

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return h + torch.rand_like(h)


class Branching(Drawing):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return h if h.sum() > 0 else -h


@pytest.mark.refused("a stream that runs backward")
@pytest.mark.refused("random numbers in evaluation")
@pytest.mark.parametrize(
    ("make", "options", "error", "message"),
    [
        (lambda: nn.Linear(3, 4), {}, ArgumentTypeError, "a layer of OpenRNN or torch.nn"),
        (lambda: LSTM(I, H), {"opset": 17}, ArgumentError, "opset from 18 to .*, received 17"),
        (lambda: LSTM(I, H), {"opset": 10**3}, ArgumentError, "received 1000"),
        (lambda: LSTM(I, H), {"lengths": 1}, ArgumentTypeError, "lengths should be of type bool"),
        (
            lambda: GRU(I, H, bidirectional=True),
            {"stream": True},
            ArgumentTypeError,
            r"received GRU\(.*which runs from the last step to the first \(in layer 0 backward\)",
        ),
        (
            lambda: LSTM(I, H),
            {"stream": True, "lengths": True},
            ArgumentError,
            "no lengths=True for one step",
        ),
        (
            lambda: nn.GRUCell(I, H),
            {"initial_state": False},
            ArgumentError,
            "no initial_state=False for one step",
        ),
        (lambda: Recurrent(Drawing()), {}, CellError, "received Drawing, which draws random"),
        (
            lambda: Stack([nn.GRUCell(I, I), Branching()]),
            {},
            CellError,
            r"received Branching \(in layer 1\): ",
        ),
        (
            lambda: Stack([nn.GRUCell(I, I), nn.GRUCell(I, H).double()]),
            {},
            CellError,
            "one floating-point dtype, received torch.float32 and torch.float64",
        ),
        (lambda: LSTM(I, H, device="meta"), {}, CellError, "received LSTMCell on the meta device"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_anything_is_written(
    make: Any, options: dict[str, Any], error: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=f"^to_onnx: .*{message}"):
        to_onnx(make(), tmp_path / "model.onnx", **options)
    assert not list(tmp_path.iterdir())


def test_a_path_that_cannot_be_written_to(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="received the directory"):
        to_onnx(LSTM(I, H), tmp_path)


def test_the_layer_stays_as_it_was(tmp_path: Path) -> None:
    layer = Stack([LSTM(I, H, zoneout=0.2), nn.GRUCell(H, H)])
    before = {name: p.clone() for name, p in layer.state_dict().items()}
    to_onnx(layer, tmp_path / "model.onnx")
    assert all(part.training for part in layer.modules())
    assert layer.layers[0].stack.training
    for name, parameter in layer.state_dict().items():
        assert torch.equal(parameter, before[name])
    assert math.isfinite(layer(torch.randn(T, B, I))[0].sum().item())
