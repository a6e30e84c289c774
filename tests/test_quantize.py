"""Quantized layers: what they compute, how far that is from float32, and what a layer can do."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

import openrnn
from openrnn import ArgumentError, ArgumentTypeError, CellError, ShapeError
from openrnn.layers.int8cell import Int8Cell
from openrnn.layers.layer import Layer
from openrnn.step import int8
from openrnn.step.evaluate import Evaluator
from openrnn.step.graph import Builder, Graph
from openrnn.step.shape import concrete

from .cells.box import BOX

cells = pytest.mark.parametrize("name", BOX)


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.no_grad():
        yield


def flat(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    else:
        for part in value:
            yield from flat(part)


def on(layer: Layer, backend: str) -> Layer:
    """A copy of a layer on another backend."""
    other = copy.deepcopy(layer)
    parts = [*other.modules(), *getattr(other, "stack", nn.Module()).modules()]
    for part in parts:
        if hasattr(part, "backend"):
            part.backend = backend
    return other


def assert_alike(actual: Any, expected: Any) -> None:
    """Equal to rounding, but for one of the sequences side by side.

    A number within a rounding of the middle between two levels may go to the one or the other, and
    what comes later in its sequence is off by more than a rounding.
    """
    for a, b in zip(flat(actual), flat(expected), strict=True):
        assert a.shape == b.shape
        sequences = (a - b).abs().movedim(-2, 0).flatten(1).amax(1)
        assert (sequences > 2e-6 * max(1, b.abs().max())).sum() <= 1, sequences


# --- the same on every backend -------------------------------------------------------------------


@cells
def test_a_kernel_computes_what_torch_operations_do(name: str) -> None:
    layer = openrnn.quantize(openrnn.Recurrent(BOX[name](7, 14), backend="cpu"))
    x, done = torch.randn(6, 8, 7), torch.rand(6, 8) < 0.2
    lengths = torch.tensor([6, 3, 0, 6, 1, 5, 6, 2])
    for backend in ("reference", "eager"):
        other = on(layer, backend)
        assert_alike(layer(x), other(x))
        assert_alike(layer(x, lengths=lengths), other(x, lengths=lengths))
        assert_alike(layer(x, reset=done), other(x, reset=done))
        assert_alike(layer(x, return_states=True), other(x, return_states=True))


LAYERS = {
    "RNN": lambda: openrnn.RNN(7, 6, nonlinearity="relu", batch_first=True),
    "LSTM": lambda: openrnn.LSTM(7, 6, num_layers=2, bidirectional=True, dropout=0.5),
    "LSTM with a projection": lambda: openrnn.LSTM(7, 6, proj_size=4, bias=False),
    "GRU with all options": lambda: openrnn.GRU(
        *(7, 6, 2), zoneout=0.2, recurrent_dropout=0.3, weight_drop=0.3, layer_norm=True,
        learn_initial_state=True, checkpoint=2,
    ),
    "Recurrent": lambda: openrnn.Recurrent(
        nn.GRUCell(7, 6), reverse=True, learn_initial_state=True, batch_first=True
    ),
    "Bidirectional": lambda: openrnn.Bidirectional(
        openrnn.LSTMCell(7, 6), openrnn.cells.MGUCell(7, 6), merge="mean"
    ),
    "Stack": lambda: openrnn.Stack(
        [nn.LSTMCell(7, 7), openrnn.GRU(7, 6, 2), openrnn.Bidirectional(
            openrnn.RNNCell(6, 3), openrnn.RNNCell(6, 3)
        )],
        dropout=0.5, residual=True,
    ),
}  # fmt: skip
layers = pytest.mark.parametrize("kind", LAYERS)


@pytest.mark.feature("openrnn.quantize", "RNN", "LSTM", "GRU", "Recurrent", "Stack")
@layers
def test_every_kind_of_layer_is_called_as_before(kind: str) -> None:
    layer = LAYERS[kind]()
    for name, parameter in layer.named_parameters():
        if name.endswith("_0"):
            nn.init.normal_(parameter)
    small = openrnn.quantize(layer)
    layer.eval()  # what is left out in training, the quantized layer never leaves out
    x = torch.randn(8, 5, 7) if layer.batch_first else torch.randn(5, 8, 7)
    actual, expected = small(x, return_states=True), layer(x, return_states=True)
    for a, b in zip(flat(actual), flat(expected), strict=True):
        assert a.shape == b.shape
        assert 0 < rms(a - b) < 0.02 * max(1, rms(b))
    assert_alike(small(x)[0], on(small, "reference")(x)[0])
    # The state goes in as it comes out, as tuples or as lists, and so does one without a batch.
    state = small(x)[1]
    again = small(x, state)
    assert type(again[1]) is type(state)
    as_list = list(state) if isinstance(state, tuple) else state
    for a, b in zip(flat(small(x, as_list)), flat(again), strict=True):
        assert torch.equal(a, b)
    one = x[0] if layer.batch_first else x[:, 0]
    torch.testing.assert_close(small(one)[0].flatten(), small(x)[0].select(
        0 if layer.batch_first else 1, 0
    ).flatten(), rtol=0, atol=1e-5)  # fmt: skip


def rms(t: Tensor) -> float:
    return t.double().square().mean().sqrt().item()


# --- beside float32 ------------------------------------------------------------------------------


def noisy(graph: Graph) -> tuple[Graph, list[tuple[str, str]]]:
    """The step with exact products, to each of which a noise is added; and their weights' names."""
    builder, values, weights = Builder(), [], []
    outputs = {}
    for node in graph.nodes:
        inputs = [values[i] for i in node.inputs]
        if node.op != "int8_linear":
            values.append(builder.copy(node, inputs))
            continue
        x, weight, scale = inputs
        names = weight.node["name"], scale.node["name"]
        if len(scale.shape) > 1:
            scale = scale.reshape((*scale.shape[:-1], 1, scale.shape[-1]))
        product = x.matmul(weight.transpose()) * scale
        number = str(len(weights))
        weights.append(names)
        outputs[f"rows.{number}"] = x
        values.append(product + builder.input("noise", number, product.shape, product.dtype))
    outputs |= {label: values[index] for label, index in graph.outputs}
    return builder.finish(outputs), weights


def allowed(cell: Int8Cell, x: Tensor) -> Tensor:
    """How far outputs may be from those of float32, by the products' errors, to first order.

    In a product each weight is off by at most half of its scale, and each number of a row by at
    most half of the row's. What that makes of an output is the product's derivative.
    """
    graph, weights = noisy(cell.graph)
    run = Evaluator(graph, x.device)
    known = {f"parameter.{name}": tensor.double() for name, tensor in cell.named_buffers()}
    shapes = [concrete(n.shape, x.size(1)) for _, n in graph.inputs("noise")]
    order = [n["name"] for _, n in graph.inputs("noise")]
    bounds: list[Tensor] = []

    def outputs(*noises: Tensor) -> Tensor:
        bounds.clear()
        rest = iter(noises)
        state = {f"state.{n}": x.new_zeros(x.size(1), s) for n, s in cell.state_sizes.items()}
        found = []
        for x_t in x:
            given = {f"noise.{number}": next(rest) for number in order}
            made = run({"input.x": x_t, **state, **known, **given}, x.size(1))
            state = {label: made[label] for label in state}
            found.append(next(iter(state.values())))
            for number in order:
                rows, names = made[f"rows.{number}"], weights[int(number)]
                weight, scale = (known[f"parameter.{name}"] for name in names)
                _, of_rows = int8.quantize_rows(rows.float())
                of_weights = rows.abs().sum(-1, keepdim=True) * scale.unsqueeze(-2)
                used = (weight.abs().sum(-1) * scale).unsqueeze(-2)
                bounds.append((of_weights + of_rows * used) / 2)
        return torch.stack(found)

    noises = tuple(torch.zeros(shape, dtype=x.dtype) for _ in x for shape in shapes)
    slopes = torch.autograd.functional.jacobian(outputs, noises)
    return sum(  # type: ignore[return-value]
        (slope.abs() * bound).flatten(x.dim()).sum(-1)
        for slope, bound in zip(slopes, bounds, strict=True)
    )


@cells
def test_the_error_is_what_8_bits_explain(name: str) -> None:
    layer = openrnn.Recurrent(BOX[name](7, 6)).eval()
    small = openrnn.quantize(layer)
    x = torch.randn(3, 1, 7)
    error = (small(x)[0].double() - copy.deepcopy(layer).double()(x.double())[0]).abs()
    bound = allowed(small.cell, x.double())
    assert (error <= 1.5 * bound + 1e-6).all(), (error / bound).max()
    assert error.max() > 0
    assert rms(bound) < 0.5, "a bound that says something"


# --- time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["cpu", "eager"])
def test_a_stream_gives_what_the_whole_does(backend: str) -> None:
    layer = on(openrnn.quantize(openrnn.LSTM(7, 6, num_layers=2)), backend)
    x = torch.randn(9, 3, 7)
    whole, final = layer(x)
    stream = layer.stream(3)
    parts = [stream(x_t) for x_t in x[:5]] + [*stream(x[5:])]
    assert torch.equal(torch.stack(parts), whole)
    assert all(map(torch.equal, flat(stream.state), flat(final)))
    stream.reset([1])
    again = stream(x[0])
    assert torch.equal(again[1], whole[0, 1])
    assert not torch.equal(again[0], whole[0, 0])


def test_a_stream_sees_other_weights() -> None:
    layers = [openrnn.quantize(openrnn.GRU(7, 6)) for _ in range(2)]
    x, stream = torch.randn(1, 7), layers[0].stream()
    for _ in range(3):
        stream(x)
    layers[0].load_state_dict(layers[1].state_dict())
    stream.reset()
    assert torch.equal(stream(x), layers[1](x[None])[0][0])


def test_cuts_and_lengths() -> None:
    layer = openrnn.quantize(openrnn.GRU(7, 6, bidirectional=True))
    x, done = torch.randn(9, 2, 7), torch.zeros(9, 2, dtype=torch.bool)
    done[4, 0] = True
    output, _ = layer(x, reset=done)
    assert torch.equal(output[4:, :1], layer(x[4:, :1])[0])
    output, _ = layer(x, lengths=[9, 3])
    assert torch.equal(output[:3, 1:], layer(x[:3, 1:])[0])
    assert output[3:, 1].eq(0).all()


# --- sizes and numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["cpu", "reference", "eager"])
@pytest.mark.parametrize("sizes", [(1, 1), (5, 1), (1, 17), (33, 5)])
def test_odd_sizes(backend: str, sizes: tuple[int, int]) -> None:
    layer = openrnn.LSTM(*sizes)
    small = on(openrnn.quantize(layer), backend)
    for batch in (0, 1, 9):
        x = torch.randn(4, batch, sizes[0])
        torch.testing.assert_close(small(x)[0], layer(x)[0], rtol=0, atol=0.02)


@pytest.mark.parametrize("backend", ["cpu", "reference", "eager"])
@pytest.mark.parametrize("strange", [torch.nan, torch.inf])
def test_what_is_not_finite_does_not_vanish(backend: str, strange: float) -> None:
    layer = on(openrnn.quantize(openrnn.RNN(7, 6)), backend)
    x = torch.randn(4, 3, 7)
    x[2, 1, 3] = strange
    output, final = layer(x)
    assert output[2:, 1].isnan().all()
    assert final[0, 1].isnan().all()
    assert output[:2].isfinite().all()
    assert output[:, [0, 2]].isfinite().all()


def test_random_numbers_of_evaluation_are_the_same() -> None:
    class Noise(nn.Module):
        hidden_size = input_size = 6

        def __init__(self) -> None:
            super().__init__()
            self.hh = nn.Linear(6, 6)

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return torch.tanh(self.hh(h) + F.dropout(x, 0.5))

    layer, x, found = openrnn.quantize(openrnn.Recurrent(Noise())), torch.randn(4, 8, 6), []
    for backend in ("eager", "reference", "cpu"):
        torch.manual_seed(3)
        found.append(on(layer, backend)(x))
    assert_alike(found[1], found[0])
    assert_alike(found[2], found[0])


# --- as a module ---------------------------------------------------------------------------------


def test_the_layer_itself_stays() -> None:
    layer = openrnn.LSTM(7, 6, num_layers=2, dropout=0.5, learn_initial_state=True)
    calls: list[Any] = []
    layer.register_forward_hook(lambda *_: calls.append(1))
    before = {name: (p, p.clone(), p.requires_grad) for name, p in layer.named_parameters()}
    small = openrnn.quantize(layer)
    assert layer.training
    assert small.training
    assert [name for name, _ in layer.named_parameters()] == [*before]
    for name, parameter in layer.named_parameters():
        assert parameter is before[name][0]
        assert torch.equal(parameter, before[name][1])
        assert parameter.requires_grad is before[name][2]
    small(torch.randn(2, 1, 7))
    assert calls == [1], "hooks are taken over"
    with torch.no_grad():
        layer.weight_hh_l0.zero_()
        layer.h_0.fill_(1)
    assert small.weight_hh_l0.ne(0).any()
    assert small.h_0.eq(0).all(), "nothing is shared"


def test_a_quarter_of_the_memory() -> None:
    layer = openrnn.LSTM(128, 256)
    small = openrnn.quantize(layer)
    assert not [*small.parameters()]

    def size(tensors: Any) -> int:
        return sum(t.nbytes for t in tensors)

    assert size(small.buffers()) < 0.27 * size(layer.parameters())
    file, whole = io.BytesIO(), io.BytesIO()
    torch.save(small.state_dict(), file)
    torch.save(layer.state_dict(), whole)
    assert len(file.getvalue()) < 0.3 * len(whole.getvalue())


@layers
def test_copies_and_files(kind: str) -> None:
    layer = LAYERS[kind]()
    small, other = openrnn.quantize(layer), openrnn.quantize(LAYERS[kind]())
    x = torch.randn(8, 5, 7) if layer.batch_first else torch.randn(5, 8, 7)
    expected = small(x)[0]
    assert not torch.equal(other(x)[0], expected)
    file = io.BytesIO()
    torch.save(small.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    for twin in (other, copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        assert torch.equal(twin(x)[0], expected)
    assert "int8" in repr(small)


def test_names_are_those_of_torch() -> None:
    small = openrnn.quantize(openrnn.LSTM(7, 6, bidirectional=True))
    assert {name: tuple(t.shape) for name, t in small.state_dict().items()} == {
        f"{name}_l0{way}": shape
        for way in ("", "_reverse")
        for name, shape in {
            "weight_ih": (24, 7),
            "weight_ih_scale": (24,),
            "weight_hh": (24, 6),
            "weight_hh_scale": (24,),
            "bias_ih": (24,),
        }.items()
    }


def test_a_cell_at_two_places_is_one() -> None:
    cell = openrnn.GRUCell(6, 6)
    small = openrnn.quantize(openrnn.Stack([cell, cell]))
    assert small.layers[0].cell is small.layers[1].cell


@pytest.mark.parametrize("backend", ["auto", "cpu", "reference", "eager"])
def test_no_gradient(backend: str) -> None:
    small = on(openrnn.quantize(openrnn.LSTM(7, 6)), backend)
    x, h = torch.randn(4, 3, 7), torch.randn(1, 3, 6)
    with torch.enable_grad():
        assert not small(x)[0].requires_grad
        for given in ((x.clone().requires_grad_(),), (x, (h.clone().requires_grad_(), h))):
            with pytest.raises(CellError, match=r"no gradient. Call it under torch.no_grad\(\)"):
                small(*given)
            with torch.no_grad():
                assert not small(*given)[0].requires_grad


@pytest.mark.parametrize("backend", ["auto", "cpu", "reference", "eager"])
def test_other_dtypes(backend: str) -> None:
    small = on(openrnn.quantize(openrnn.LSTM(7, 6)), backend)
    x = torch.randn(4, 3, 7)
    for layer, given in ((small, x.double()), (copy.deepcopy(small).double(), x)):
        with pytest.raises(ShapeError, match=r"torch.float32, got torch.float64"):
            layer(given)
    with torch.autocast("cpu"):
        output, (_, c) = small(x.bfloat16())
    assert (output.dtype, c.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(output.float(), small(x)[0], rtol=0, atol=0.02)


def test_torch_compile() -> None:
    small = openrnn.quantize(openrnn.GRU(7, 6))
    x = torch.randn(4, 3, 7)
    compiled = torch.compile(small, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x)[0], small(x)[0])
    assert torch.equal(torch.export.export(small, (x,)).module()(x)[0], small(x)[0])


@pytest.mark.parametrize(
    "layer",
    [openrnn.LSTM(7, 6), openrnn.Stack([openrnn.cells.MGUCell(7, 6)])],
    ids=lambda layer: type(layer).__name__,
)
def test_what_looks_into_layers(layer: Layer) -> None:
    small = openrnn.quantize(layer)
    said = str(openrnn.explain(small, source=True))
    assert "products of rows and weights are in 8 bits" in said
    assert "int8_linear(x, weight_ih" in said
    assert "call.int8(" in said
    for view in ("cell", "parameters"):
        openrnn.draw(small, view=view)
    openrnn.equations(small)
    x = torch.randn(5, 8, 7)
    name = "h_l0" if isinstance(layer, openrnn.Stack) else "h"
    recorded = openrnn.record(small, x)[name]
    assert torch.equal(recorded, small(x)[0])
    assert "int8" in str(openrnn.to_torch(nn.Sequential(small)))
    assert openrnn.convert(nn.Sequential(small)).replaced == ()


@pytest.mark.refused("a quantized layer in C and ONNX")
@pytest.mark.parametrize("kind", ["LSTM", "Recurrent", "Stack"])
def test_what_writes_layers_down_refuses(kind: str, tmp_path: Any) -> None:
    small = openrnn.quantize(LAYERS[kind]())
    with pytest.raises(CellError, match="export_c: expected a layer with weights in float32"):
        openrnn.export_c(small, tmp_path / "c")
    assert not [*tmp_path.iterdir()]


def test_to_onnx_refuses(tmp_path: Any) -> None:
    pytest.importorskip("onnx")
    small = openrnn.quantize(openrnn.LSTM(7, 6))
    with pytest.raises(CellError, match="to_onnx: expected a layer with weights in float32"):
        openrnn.io.to_onnx(small, tmp_path / "model.onnx")
    assert not [*tmp_path.iterdir()]


# --- bad input -----------------------------------------------------------------------------------


class Sub(openrnn.LSTM):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return super().forward(*args, **kwargs)


class Branch(nn.Module):
    hidden_size = input_size = 6

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return x if h.sum() > 0 else h


class Sum(nn.Module):
    hidden_size = input_size = 6

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return x + h


def with_nan() -> nn.Module:
    layer = openrnn.GRU(7, 6)
    layer.weight_hh_l0[3, 2] = torch.nan
    return layer


def pruned() -> nn.Module:
    layer = openrnn.LSTM(7, 6)
    prune.l1_unstructured(layer, "weight_hh_l0", 0.5)  # type: ignore[no-untyped-call]
    return layer


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: nn.LSTM(7, 6), ArgumentTypeError, r"got LSTM. Convert it first: openrnn.convert"),
        (lambda: openrnn.LSTMCell(7, 6), ArgumentTypeError, r"Recurrent\(cell\)"),
        (lambda: nn.Sequential(openrnn.LSTM(7, 6)), ArgumentTypeError, "model.rnn = quantize"),
        (lambda: "LSTM", ArgumentTypeError, "got str"),
        (lambda: Sub(7, 6), ArgumentTypeError, "got Sub, a subclass"),
        (lambda: openrnn.quantize(openrnn.LSTM(7, 6)), ArgumentError, "quantized already"),
        (lambda: openrnn.LSTM(7, 6).double(), ArgumentError, "weight_ih_l0 in torch.float64"),
        (pruned, ArgumentError, "L1Unstructured computes before each call.*prune.remove"),
        (lambda: openrnn.LSTM(7, 6, device="meta"), CellError, "on the meta device"),
        (with_nan, ArgumentError, "weight_hh of GRUCell with NaN or infinity"),
        (lambda: openrnn.Recurrent(Branch()), CellError, "Branch: aten.sum"),
        (lambda: openrnn.Recurrent(Sum()), ArgumentError, "nothing to quantize"),
    ],
)
def test_bad_input(make: Any, error: type[Exception], said: str) -> None:
    layer = make()
    with pytest.raises(error, match=said):
        openrnn.quantize(layer)


def test_features_that_are_not_known() -> None:
    class Unsaid(nn.Module):
        hidden_size = 6

        def __init__(self) -> None:
            super().__init__()
            self.ih = nn.Linear(7, 6)

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return self.ih(x) + h

    layer = openrnn.Recurrent(Unsaid())
    with pytest.raises(ArgumentError, match=r"quantize\(layer, input_size=30\)"):
        openrnn.quantize(layer)
    small = openrnn.quantize(layer, input_size=7)
    with pytest.raises(ShapeError, match="expected input_size 7"):
        small(torch.randn(4, 3, 8))
    assert small(torch.randn(4, 3, 7))[0].shape == (4, 3, 6)
