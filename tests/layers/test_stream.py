"""Streams: a layer fed step by step gives what it gives for all steps at once."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

import openrnn
from openrnn import GRU, LSTM, RNN, Recurrent, Stack, cells
from openrnn.cells.weightdroplstm import DropConnect
from openrnn.layers.stream import Stream
from tests.backends.cpu.scripts import run
from tests.cells.box import BOX, as_given, random_states

from .test_time import on_tensors

STEPS, BATCH, INPUT, HIDDEN = 8, 3, 5, 6
ONE = 0  # one step, (B, I), and not a chunk of one step
PARTS = [(ONE,) * STEPS, (1,) * STEPS, (3, 3, 2), (STEPS,), (ONE, ONE, 3, ONE, 1, 1)]
parts = pytest.mark.parametrize("parts", PARTS, ids=["steps", "1", "3", "all", "mixed"])
each_backend = pytest.mark.parametrize("backend", ["cpu", "eager"])


def feed(stream: Stream, x: Tensor, parts: tuple[int, ...] = (ONE,) * STEPS) -> Tensor:
    """The outputs (T, B, H) of a stream that is given x (T, B, I) in such parts."""
    batch_first, outputs, start = stream.layer.batch_first, [], 0
    for count in parts:
        if count == ONE:
            outputs.append(stream(x[start]).unsqueeze(0))
        elif batch_first:
            outputs.append(stream(x[start : start + count].transpose(0, 1)).transpose(0, 1))
        else:
            outputs.append(stream(x[start : start + count]))
        start += max(count, 1)
    return torch.cat(outputs)


def at_once(layer: Any, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
    """The layer's own output (T, B, H), and its final state."""
    with torch.no_grad():
        output, final = layer(x.transpose(0, 1) if layer.batch_first else x, state)
    return output.transpose(0, 1) if layer.batch_first else output, final


def random_state(layer: Any, count: int = BATCH) -> Any:
    x = torch.zeros(1, count, INPUT, dtype=next(layer.parameters()).dtype)
    return on_tensors(torch.randn_like, at_once(layer, x)[1])


def assert_equal(actual: Any, expected: Any, backend: str = "cpu") -> None:
    """Bit for bit; in the eager loop torch's products may depend on where in memory a row lies."""
    exact = {"rtol": 0, "atol": 0} if backend == "cpu" else {}
    on_tensors(lambda a, b: torch.testing.assert_close(a, b, **exact), actual, expected)


def twin_stack(backend: str) -> Stack:
    own = [openrnn.GRUCell(INPUT, INPUT), cells.LSTMPCell(INPUT, HIDDEN, 3), nn.RNNCell(3, 3)]
    above = LSTM(3, 4, 2, backend=backend)
    return Stack([*own, above, Stack([openrnn.LSTMCell(4, 4)], backend=backend)],
                 residual=True, backend=backend)  # fmt: skip


LAYERS: dict[str, Callable[[str], Any]] = {
    "RNN": lambda backend: RNN(INPUT, HIDDEN, 2, nonlinearity="relu", backend=backend),
    "LSTM": lambda backend: LSTM(INPUT, HIDDEN, 2, batch_first=True, proj_size=3, backend=backend),
    "GRU": lambda backend: GRU(INPUT, HIDDEN, 3, backend=backend),
    "options": lambda backend: LSTM(
        INPUT, HIDDEN, 2, dropout=0.5, zoneout=0.3, recurrent_dropout=0.5, weight_drop=0.5,
        layer_norm=True, learn_initial_state=True, checkpoint=2, backend=backend,
    ),
    "Recurrent": lambda backend: Recurrent(nn.LSTMCell(INPUT, HIDDEN), backend=backend),
    "Stack": twin_stack,
}  # fmt: skip
layers = pytest.mark.parametrize("name", LAYERS)


def make(name: str = "GRU", backend: str = "cpu") -> tuple[Any, Tensor]:
    """A layer in evaluation, and an input (T, B, I)."""
    return LAYERS[name](backend).eval(), torch.randn(STEPS, BATCH, INPUT)


def started(name: str = "GRU", backend: str = "cpu", steps: int = 2) -> tuple[Any, Tensor, Stream]:
    """The same with a stream that has made some steps, so that all is ready for the next."""
    layer, x = make(name, backend)
    stream = layer.stream(BATCH)
    for x_t in x[:steps]:
        stream(x_t)
    return layer, x, stream


# --- values ---


@parts
@pytest.mark.parametrize("with_state", [False, True], ids=["no-state", "state"])
@pytest.mark.parametrize("name", BOX)
def test_every_cell_bit_for_bit(name: str, with_state: bool, parts: tuple[int, ...]) -> None:
    cell = BOX[name](INPUT, HIDDEN).double().eval()
    layer = Recurrent(cell, backend="cpu")
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64)
    state = as_given(random_states(cell, BATCH, dtype=torch.float64)) if with_state else None
    stream = layer.stream(BATCH, state)
    expected, final = at_once(layer, x, state)
    assert torch.equal(feed(stream, x, parts), expected)
    assert_equal(stream.state, final)


@parts
@pytest.mark.parametrize("count", [1, BATCH])
@each_backend
@layers
def test_every_layer(name: str, backend: str, count: int, parts: tuple[int, ...]) -> None:
    layer, x = make(name, backend)
    x, state = x[:, :count], random_state(layer, count)
    for given in (None, state):
        stream = layer.stream(count, given)
        expected, final = at_once(layer, x, given)
        assert_equal(feed(stream, x, parts), expected, backend)
        assert_equal(stream.state, final, backend)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "f16"])
@pytest.mark.parametrize("name", ["GRU", "LSTM"])
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    """States are rounded between steps, and in a kernel over all steps they are not."""
    layer, x = make(name)
    layer, x = layer.to(dtype), x.to(dtype)
    actual = feed(layer.stream(BATCH), x)
    assert actual.dtype == dtype
    torch.testing.assert_close(actual, at_once(layer, x)[0], rtol=0.05, atol=0.05)


def test_shapes() -> None:
    layer = LSTM(INPUT, HIDDEN).eval()
    first = LSTM(INPUT, HIDDEN, batch_first=True).eval()
    one, two = layer.stream(), layer.stream(2)
    for _ in range(2):  # before all is ready, and then
        assert one(torch.randn(INPUT)).shape == (HIDDEN,)
        assert one(torch.randn(1, INPUT)).shape == (1, HIDDEN)
        assert one(torch.randn(7, 1, INPUT)).shape == (7, 1, HIDDEN)
        assert two(torch.randn(2, INPUT)).shape == (2, HIDDEN)
        assert two(torch.randn(7, 2, INPUT)).shape == (7, 2, HIDDEN)
        assert first.stream(2)(torch.randn(2, 7, INPUT)).shape == (2, 7, HIDDEN)
    h, c = two.state
    assert h.shape == c.shape == (1, 2, HIDDEN)


def test_one_sequence_without_a_batch() -> None:
    layer, x = make()
    stream = layer.stream()
    actual = torch.stack([stream(x_t) for x_t in x[:, 0]])
    assert torch.equal(actual, at_once(layer, x[:, :1])[0][:, 0])


def test_batch_size_may_be_an_integer_of_numpy() -> None:
    numpy = pytest.importorskip("numpy")
    layer, x = make()
    assert torch.equal(feed(layer.stream(numpy.int64(BATCH)), x), at_once(layer, x)[0])


def test_inputs_that_lie_apart_in_memory() -> None:
    layer, x = make()
    apart = torch.stack((x, x), -1)[..., 0]
    assert torch.equal(feed(layer.stream(BATCH), apart), at_once(layer, x)[0])
    same = x[0, :1].expand(BATCH, INPUT)
    expected = at_once(layer, same.expand(STEPS, BATCH, INPUT))[0]
    assert torch.equal(feed(layer.stream(BATCH), same.expand(STEPS, BATCH, INPUT)), expected)


def test_an_input_whose_memory_is_used_again() -> None:
    layer, x = make()
    stream, place, outputs = layer.stream(BATCH), torch.empty(BATCH, INPUT), []
    for x_t in x:
        outputs.append(stream(place.copy_(x_t)))
        place.fill_(torch.nan)
    assert torch.equal(torch.stack(outputs), at_once(layer, x)[0])


@each_backend
@layers
def test_outputs_are_the_users_own_memory(name: str, backend: str) -> None:
    layer, x = make(name, backend)
    stream, outputs = layer.stream(BATCH), []
    for x_t in x:
        output = stream(x_t)
        outputs.append(output.clone())
        output.fill_(torch.nan)  # changes nothing that is to come
    assert_equal(torch.stack(outputs), at_once(layer, x)[0], backend)


@pytest.mark.parametrize("what", ["step", "chunk", "set", "reset", "reset of some"])
@pytest.mark.parametrize("name", BOX)
def test_nothing_changes_an_earlier_output(name: str, what: str) -> None:
    cell = BOX[name](INPUT, HIDDEN).double().eval()
    stream = Recurrent(cell, backend="cpu").stream(BATCH)
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64)
    kept = [stream(x_t) for x_t in x]
    copies = [output.clone() for output in kept]
    if what in ("step", "chunk"):
        stream(x[0] if what == "step" else x)
    elif what == "set":
        stream.state = as_given(random_states(cell, BATCH, dtype=torch.float64))
    else:
        stream.reset(None if what == "reset" else [1])
    assert_equal(tuple(kept), tuple(copies))


@pytest.mark.parametrize("name", ["GRU", "LSTM", "Recurrent"])
@each_backend
def test_nothing_has_a_gradient(backend: str, name: str) -> None:
    layer, x = make(name, backend)
    x.requires_grad_()
    stream = layer.stream(BATCH, on_tensors(lambda s: s.requires_grad_(), random_state(layer)))
    for _ in range(3):
        assert not stream(x[0]).requires_grad
    assert not stream(x if not layer.batch_first else x.transpose(0, 1)).requires_grad
    on_tensors(lambda s: pytest.fail("has a gradient") if s.requires_grad else None, stream.state)


# --- cells and layers without a kernel ---


class Sorting(nn.Module):
    """No kernel sorts."""

    input_size, hidden_size = INPUT, HIDDEN

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(INPUT + HIDDEN, HIDDEN)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.linear(torch.cat((x, h), -1))).sort(-1).values


@parts
def test_a_cell_that_has_no_kernel(parts: tuple[int, ...]) -> None:
    layer, x = Recurrent(Sorting()), torch.randn(STEPS, BATCH, INPUT)
    torch.testing.assert_close(feed(layer.stream(BATCH), x, parts), at_once(layer, x)[0])


def test_a_layer_of_which_one_has_no_kernel() -> None:
    layer = Stack([openrnn.GRUCell(INPUT, INPUT), Sorting()], residual=True).eval()
    x = torch.randn(STEPS, BATCH, INPUT)
    torch.testing.assert_close(feed(layer.stream(BATCH), x), at_once(layer, x)[0])


@pytest.mark.parametrize("name", ["weight_norm", "orthogonal"])
def test_parametrized_layers(name: str) -> None:
    layer, x = make("Recurrent")
    other, _ = make("RNN")
    for module, weight in ((layer.cell, "weight_hh"), (other, "weight_hh_l0")):
        getattr(parametrizations, name)(module, weight)
    for each in (layer, other):
        torch.testing.assert_close(feed(each.stream(BATCH), x), at_once(each, x)[0])


# --- the state ---


@each_backend
@layers
def test_the_state_may_be_read_and_set(name: str, backend: str) -> None:
    layer, x, stream = started(name, backend)
    middle = stream.state
    assert_equal(middle, at_once(layer, x[:2])[1], backend)
    first = stream(x[2])
    stream(x[3])
    stream.state = middle  # back in time
    assert_equal(stream(x[2]), first, backend)
    other = random_state(layer)
    stream.state = other
    expected, final = at_once(layer, x, other)
    assert_equal(feed(stream, x), expected, backend)
    assert_equal(stream.state, final, backend)
    stream.state = None
    assert_equal(feed(stream, x), at_once(layer, x)[0], backend)


def test_the_state_before_the_first_step() -> None:
    layer, x = make()
    state = random_state(layer)
    assert layer.stream(BATCH).state is None
    assert_equal(layer.stream(BATCH, state).state, state)
    stream = layer.stream(BATCH)
    stream.state = state
    assert_equal(stream.state, state)
    assert torch.equal(feed(stream, x), at_once(layer, x, state)[0])


@each_backend
@pytest.mark.parametrize("name", ["GRU", "LSTM", "Stack"])
def test_a_state_that_was_read_is_the_users_own(name: str, backend: str) -> None:
    _, x, stream = started(name, backend)
    state = stream.state
    before = on_tensors(torch.clone, state)
    expected = stream(x[2])
    assert_equal(state, before)
    stream.state = state
    on_tensors(lambda s: s.fill_(torch.nan), state)
    assert_equal(stream(x[2]), expected, backend)
    on_tensors(lambda s: s.fill_(torch.nan), stream.state)
    assert stream(x[3]).isfinite().all()


@each_backend
def test_the_state_in_which_a_stream_begins_is_its_own(backend: str) -> None:
    """It goes back to that, whatever has become of the tensor that it was given."""
    layer, x = make("GRU", backend)
    state = random_state(layer)
    expected = at_once(layer, x, state.clone())[0]
    stream = layer.stream(BATCH, state)
    state.fill_(torch.nan)
    assert_equal(feed(stream, x), expected, backend)
    stream.reset()
    assert_equal(feed(stream, x), expected, backend)


@each_backend
@pytest.mark.parametrize("with_state", [False, True], ids=["no-state", "state"])
@layers
def test_reset_of_all(name: str, with_state: bool, backend: str) -> None:
    layer, x = make(name, backend)
    state = random_state(layer) if with_state else None
    stream = layer.stream(BATCH, state)
    first = feed(stream, x)
    for _ in range(2):
        stream.reset()
        assert_equal(feed(stream, x), first, backend)


ROWS: dict[str, tuple[Any, list[int]]] = {
    "index": (1, [1]),
    "list": ([0, 2], [0, 2]),
    "tuple": ((2, 2), [2]),
    "indices": (torch.tensor([2, 1]), [1, 2]),
    "number": (torch.tensor(0), [0]),
    "narrow indices": (torch.tensor([0], dtype=torch.uint8), [0]),
    "mask": (torch.tensor([True, False, True]), [0, 2]),
    "mask as a list": ([False, True, False], [1]),
    "empty mask": (torch.zeros(BATCH, dtype=torch.bool), []),
    "no indices": ([], []),
}


@each_backend
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", ["LSTM", "Stack", "options"])
def test_reset_of_some(name: str, rows: str, backend: str) -> None:
    given, chosen = ROWS[rows]
    layer, x = make(name, backend)
    for start in (None, random_state(layer)):
        stream = layer.stream(BATCH, start)
        before, _ = at_once(layer, x, start)
        feed(stream, x[:4], (ONE,) * 4)
        stream.reset(given)
        again = feed(stream, x[4:], (ONE,) * 4)
        afresh, _ = at_once(layer, x[4:], start)
        for row in range(BATCH):
            expected = afresh if row in chosen else before[4:]
            assert_equal(again[:, row], expected[:, row], backend)


def test_reset_before_the_first_step() -> None:
    layer, x = make()
    state, other = random_state(layer), random_state(layer)
    stream = layer.stream(BATCH, state)
    stream.reset()
    stream.reset([1])
    assert torch.equal(feed(stream, x), at_once(layer, x, state)[0])
    stream = layer.stream(BATCH, state)
    stream.state = other
    stream.reset([1])
    mixed = other.clone()
    mixed[:, 1] = state[:, 1]
    assert torch.equal(feed(stream, x), at_once(layer, x, mixed)[0])


def test_reset_goes_to_what_is_learned_by_now() -> None:
    layer, x, stream = started("options")
    for rows in (None, range(BATCH)):
        with torch.no_grad():
            layer.h_0.normal_()
            layer.c_0.normal_()
        stream.reset(rows if rows is None else list(rows))
        assert torch.equal(feed(stream, x), at_once(layer, x)[0])


def test_a_state_that_does_not_fit_changes_nothing() -> None:
    layer, x, stream = started("Stack")
    before = stream.state
    wrong = (*random_state(layer)[:-1], (torch.zeros(BATCH, 5),))
    with pytest.raises(openrnn.ShapeError):
        stream.state = wrong
    assert_equal(stream.state, before)
    assert torch.equal(stream(x[2]), at_once(layer, x[:3])[0][2])


@pytest.mark.parametrize("shape", [(BATCH + 1, INPUT), (BATCH, INPUT + 1), (INPUT,)])
def test_an_input_that_does_not_fit_changes_nothing(shape: tuple[int, ...]) -> None:
    layer, x, stream = started()
    with pytest.raises(openrnn.ShapeError):
        stream(torch.zeros(shape))
    assert torch.equal(stream(x[2]), at_once(layer, x[:3])[0][2])


# --- changes of the layer between steps ---


def scale(parameter: Tensor) -> None:
    with torch.no_grad():
        parameter.mul_(1.5)


def replace(module: nn.Module, name: str) -> None:
    setattr(module, name, nn.Parameter(torch.randn_like(getattr(module, name))))


def train_a_step(layer: nn.Module) -> None:
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    layer(torch.randn(STEPS, BATCH, INPUT))[0].square().sum().backward()
    optimizer.step()


CHANGES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "a weight in place": ("GRU", lambda layer: scale(layer.weight_hh_l1)),
    "a bias in place": ("GRU", lambda layer: scale(layer.bias_ih_l0)),
    "a projection in place": ("LSTM", lambda layer: scale(layer.weight_hr_l0)),
    "a cell's weight in place": ("Stack", lambda layer: scale(layer.layers[0].cell.weight_ih)),
    "another weight": ("GRU", lambda layer: replace(layer, "weight_hh_l1")),
    "another weight of a cell": ("Recurrent", lambda layer: replace(layer.cell, "weight_hh")),
    "another weight in a stack": (
        "Stack",
        lambda layer: replace(layer.layers[4].layers[0].cell, "weight_ih"),
    ),
    "a step of training": ("GRU", train_a_step),
    "a state dict": (
        "GRU",
        lambda layer: layer.load_state_dict(GRU(INPUT, HIDDEN, 3).state_dict()),
    ),
    "no residual": ("Stack", lambda layer: setattr(layer, "residual", False)),
    "zoneout": ("Recurrent zoneout", lambda layer: setattr(layer.cell, "zoneout", 0.9)),
    "the activation": ("Recurrent RNN", lambda layer: setattr(layer.cell, "nonlinearity", "relu")),
    "an option": ("options", lambda layer: setattr(layer, "zoneout", 0.9)),
    "another cell": (
        "Recurrent",
        lambda layer: setattr(layer, "cell", nn.LSTMCell(INPUT, HIDDEN)),
    ),
    "the backend": ("Recurrent", lambda layer: setattr(layer, "backend", "eager")),
    "a parametrization": (
        "GRU",
        lambda layer: parametrize.register_parametrization(layer, "weight_hh_l0", nn.Tanh()),
    ),
}
OTHERS: dict[str, Callable[[], Any]] = {
    "Recurrent zoneout": lambda: Recurrent(cells.ZoneoutGRUCell(INPUT, HIDDEN, zoneout=0.1)),
    "Recurrent RNN": lambda: Recurrent(openrnn.RNNCell(INPUT, HIDDEN)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes_of_the_layer_are_noticed(change: str) -> None:
    name, apply = CHANGES[change]
    layer = (OTHERS[name]() if name in OTHERS else LAYERS[name]("auto")).eval()
    x, stream = torch.randn(STEPS, BATCH, INPUT), layer.stream(BATCH)
    for _ in range(2):  # once more when all is ready anew
        feed(stream, x[:3], (ONE,) * 3)
        state = stream.state
        without = at_once(layer, x[3:], state)[0]
        apply(layer)
        expected, final = at_once(layer, x[3:], state)
        actual = feed(stream, x[3:], (ONE,) * (STEPS - 3))
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(stream.state, final, rtol=0, atol=1e-6)
        if change not in ("the backend", "no residual", "zoneout", "an option", "the activation"):
            assert not torch.equal(actual, without)


@pytest.mark.parametrize("place", ["parameter", "buffer", "attribute"])
def test_changes_of_any_tensor_of_a_cell_are_noticed(place: str) -> None:
    class Own(nn.Module):
        input_size, hidden_size = INPUT, HIDDEN

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(INPUT, HIDDEN)
            weight = torch.randn(HIDDEN, HIDDEN)
            if place == "parameter":
                self.weight = nn.Parameter(weight)
            elif place == "buffer":
                self.register_buffer("weight", weight)
            else:
                self.weight = weight

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return torch.tanh(self.linear(x) + h @ self.weight)

    layer, x = Recurrent(Own(), backend="cpu"), torch.randn(STEPS, BATCH, INPUT)
    stream = layer.stream(BATCH)
    feed(stream, x[:3], (ONE,) * 3)
    state = stream.state
    scale(layer.cell.weight)
    assert torch.equal(stream(x[3]), at_once(layer, x[3:4], state)[0][0])
    layer.cell.weight = type(layer.cell.weight)(torch.randn(HIDDEN, HIDDEN))
    state = stream.state
    assert torch.equal(stream(x[4]), at_once(layer, x[4:5], state)[0][0])


@pytest.mark.parametrize("name", ["options", "WeightDropLSTMCell", "RecurrentDropoutLSTMCell"])
def test_the_mode_is_the_layers(name: str) -> None:
    """In training each step is a call of the layer, which draws its numbers."""
    layer = make(name)[0] if name in LAYERS else Recurrent(BOX[name](INPUT, HIDDEN)).eval()
    x, stream = torch.randn(STEPS, BATCH, INPUT), layer.stream(BATCH)
    feed(stream, x[:2], (ONE, ONE))
    for training in (True, False, True):
        layer.train(training)
        state, expected = stream.state, []
        torch.manual_seed(3)
        for x_t in x:
            output, state = at_once(layer, x_t.unsqueeze(0), state)
            expected.append(output)
        torch.manual_seed(3)
        before = stream.state
        actual = feed(stream, x)
        assert torch.equal(actual, torch.cat(expected))
        stream.state = before
        assert torch.equal(actual, feed(stream, x)) != training


def test_a_parametrization_that_draws_numbers() -> None:
    layer = GRU(INPUT, HIDDEN)
    parametrize.register_parametrization(layer, "weight_hh_l0", DropConnect(0.5))
    x, stream = torch.randn(BATCH, INPUT), layer.stream(BATCH, torch.randn(1, BATCH, HIDDEN))
    outputs = []
    for _ in range(4):
        outputs.append(stream(x))
        stream.reset()
    assert not any(torch.equal(outputs[i], outputs[j]) for i in range(4) for j in range(i))


def test_another_dtype() -> None:
    layer, x, stream = started()
    layer.double()
    with pytest.raises(openrnn.ShapeError, match=r"dtype torch.float32 .* torch.float64"):
        stream(x[2])
    with pytest.raises(openrnn.ShapeError, match=r"state h_0 .* dtype torch.float64, got"):
        stream(x[2].double())
    state = stream.state.double()
    stream.state = state
    expected, _ = at_once(layer, x.double(), state)
    assert torch.equal(feed(stream, x.double()), expected)
    stream.reset()
    assert torch.equal(feed(stream, x.double()), at_once(layer, x.double())[0])
    layer.float()
    stream.reset()
    assert torch.equal(feed(stream, x), at_once(layer, x)[0])


@pytest.mark.parametrize(
    "kind", ["hook", "pre-hook", "later hook", "hook at all modules", "subclass"]
)
def test_each_step_is_a_call_of_the_layer(kind: str, request: pytest.FixtureRequest) -> None:
    """Hooks run, and a forward of the user's own, at each step."""

    class Doubled(GRU):
        def forward(self, input: Any, hx: Any = None, **options: Any) -> Any:
            output, *rest = super().forward(input, hx, **options)
            return 2 * output, *rest

    def double(_: Any, __: Any, result: Any) -> Any:
        return 2 * result[0], *result[1:]

    layer = (Doubled if kind == "subclass" else GRU)(INPUT, HIDDEN).eval()
    x, stream = torch.randn(STEPS, BATCH, INPUT), layer.stream(BATCH)
    if kind == "later hook":
        feed(stream, x)
        stream.reset()
    if kind == "pre-hook":
        layer.register_forward_pre_hook(lambda _, args: (2 * args[0], *args[1:]))
    elif "all" in kind:
        feed(stream, x)
        stream.reset()
        register = torch.nn.modules.module.register_module_forward_hook
        request.addfinalizer(
            register(lambda m, *args: double(m, *args) if m is layer else None).remove
        )
    elif "hook" in kind:
        layer.register_forward_hook(double)
    torch.testing.assert_close(feed(stream, x), at_once(layer, x)[0])


# --- several at once ---


def test_several_streams_of_a_layer() -> None:
    layer, x = make("LSTM")
    inputs = [torch.randn(STEPS, count, INPUT) for count in (1, 3, 3, 2)]
    streams = [layer.stream(x.size(1)) for x in inputs]
    outputs: list[list[Tensor]] = [[] for _ in streams]
    for t in range(STEPS):
        for stream, x, output in zip(streams, inputs, outputs, strict=True):
            output.append(stream(x[t]))
        if t == 3:
            streams[1].reset()
    for number, (x, output) in enumerate(zip(inputs, outputs, strict=True)):
        expected = at_once(layer, x)[0]
        if number == 1:
            expected = torch.cat((expected[:4], at_once(layer, x[4:])[0]))
        assert torch.equal(torch.stack(output), expected)


@each_backend
@pytest.mark.parametrize("name", ["GRU", "Stack"])
def test_streams_in_several_threads(name: str, backend: str) -> None:
    layer, _ = make(name, backend)
    inputs = [torch.randn(STEPS, 1 + i % 3, INPUT) for i in range(24)]
    with ThreadPoolExecutor(6) as pool:
        actual = list(pool.map(lambda x: feed(layer.stream(x.size(1)), x), inputs))
    for output, x in zip(actual, inputs, strict=True):
        assert_equal(output, at_once(layer, x)[0], backend)


def test_a_stream_that_goes_from_thread_to_thread() -> None:
    layer, x, stream = started(steps=1)
    outputs = [at_once(layer, x[:1])[0][0]]
    for x_t in x[1:]:
        with ThreadPoolExecutor(1) as pool:
            outputs.append(pool.submit(stream, x_t).result())
    assert torch.equal(torch.stack(outputs), at_once(layer, x)[0])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("count", [1, 40])
def test_several_threads_in_a_step(count: int, threads: int) -> None:
    layer, x = LSTM(70, 200).eval(), torch.randn(6, count, 70)
    before = torch.get_num_threads()
    expected = at_once(layer, x)[0]
    stream = layer.stream(count)
    outputs = [stream(x[0])]
    torch.set_num_threads(threads)
    try:
        outputs += [stream(x_t) for x_t in x[1:]]
    finally:
        torch.set_num_threads(before)
    assert torch.equal(torch.stack(outputs), expected)


def test_a_forked_child() -> None:
    script = """
import os, signal, torch, openrnn
torch.set_num_threads(2)
layer, x = openrnn.LSTM(5, 13, 2).eval(), torch.randn(6, 200, 5)
expected = layer(x)[0]
stream = layer.stream(200)
for x_t in x[:3]:
    stream(x_t)
child = os.fork()
if child == 0:
    signal.alarm(60)
    torch.set_num_threads(1)
    rest = torch.stack([stream(x_t) for x_t in x[3:]])
    os._exit(0 if torch.equal(rest, expected[3:]) else 1)
rest = torch.stack([stream(x_t) for x_t in x[3:]])
assert torch.equal(rest, expected[3:])
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run(script)[0] == "0"


# --- under torch's modes ---


@parts
@each_backend
@pytest.mark.parametrize("name", ["GRU", "Recurrent", "Stack"])
def test_inference_mode(name: str, backend: str, parts: tuple[int, ...]) -> None:
    layer, x = make(name, backend)
    with torch.inference_mode():
        stream = layer.stream(BATCH)
        actual = feed(stream, x, parts)
        assert_equal(actual, layer(x)[0], backend)
        stream.reset([0])
        stream.state = stream.state
        stream.reset()
        assert_equal(feed(stream, x, parts), actual, backend)


@pytest.mark.parametrize("inside_first", [True, False], ids=["in-out", "out-in"])
@pytest.mark.parametrize("use", ["steps", "chunk", "set", "reset", "reset of some", "read"])
@each_backend
def test_in_and_out_of_inference_mode(backend: str, use: str, inside_first: bool) -> None:
    layer, x = make("LSTM", backend)
    stream, middle = layer.stream(BATCH), at_once(layer, x[:3])[1]
    with torch.inference_mode(inside_first):
        feed(stream, x[:3], (ONE,) * 3)
    with torch.inference_mode(not inside_first):
        if use == "set":
            stream.state = on_tensors(torch.clone, middle)
        elif use == "read":
            assert_equal(stream.state, middle, backend)
        elif "reset" in use:
            stream.reset(None if use == "reset" else list(range(BATCH)))
            middle = None
        expected, final = at_once(layer, x[3:], middle)
        rest = feed(stream, x[3:], (5,) if use == "chunk" else (ONE,) * 5)
    assert_equal(rest, expected, backend)
    assert_equal(stream.state, final, backend)
    stream.reset()
    assert_equal(feed(stream, x), at_once(layer, x)[0], backend)


def test_a_layer_whose_weights_are_of_inference_mode() -> None:
    """They do not tell of changes."""
    with torch.inference_mode():
        layer, x = make()
        stream = layer.stream(BATCH)
        feed(stream, x[:3], (ONE,) * 3)
        state = stream.state
        layer.weight_hh_l0.mul_(1.5)
        assert torch.equal(stream(x[3]), layer(x[3:4], state)[0][0])


def test_autocast_for_some_steps() -> None:
    layer, x, stream = started()
    expected = at_once(layer, x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        middle = stream(x[2])
    torch.testing.assert_close(middle.float(), expected[2], rtol=0.05, atol=0.05)
    rest = feed(stream, x[3:], (ONE,) * 5)
    torch.testing.assert_close(rest, expected[3:], rtol=0.05, atol=0.05)


def test_a_stream_in_vmap() -> None:
    layer, x = make()
    actual = torch.func.vmap(lambda x: feed(layer.stream(BATCH), x))(torch.stack((x, -x)))
    for output, own in zip(actual, (x, -x), strict=True):
        torch.testing.assert_close(output, at_once(layer, own)[0])


# --- what is refused ---


@pytest.mark.parametrize(
    "layer",
    [
        LSTM(INPUT, HIDDEN, bidirectional=True),
        Recurrent(nn.GRUCell(INPUT, HIDDEN), reverse=True),
        openrnn.Bidirectional(nn.GRUCell(INPUT, HIDDEN), nn.GRUCell(INPUT, HIDDEN)),
        Stack([Stack([Recurrent(nn.GRUCell(INPUT, HIDDEN), reverse=True)])]),
    ],
    ids=["LSTM", "Recurrent", "Bidirectional", "Stack"],
)
def test_layers_that_run_backward(layer: Any) -> None:
    with pytest.raises(openrnn.ArgumentTypeError, match=r"stream: .* needs all steps at once"):
        layer.stream()


def test_a_copy_of_a_layer_that_has_a_stream() -> None:
    layer, x, stream = started()
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        scale(twin.weight_hh_l0)
        assert torch.equal(feed(twin.stream(BATCH), x), at_once(twin, x)[0])
    assert torch.equal(stream(x[2]), at_once(layer, x[:3])[0][2])
