"""Lengths, resets, states, streams and options that make no sense: what the error says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

import openrnn
from openrnn import (
    GRU,
    LSTM,
    RNN,
    ArgumentError,
    ArgumentTypeError,
    Bidirectional,
    Recurrent,
    ShapeError,
    Stack,
    StateError,
)

STEPS, BATCH, INPUT, HIDDEN = 4, 3, 5, 6
# What else an error is: what torch, or Python, raises in its place.
BUILTINS: dict[type[Exception], tuple[type[Exception], ...]] = {
    ArgumentError: (ValueError,),
    ArgumentTypeError: (TypeError,),
    ShapeError: (ValueError, RuntimeError),
    StateError: (ShapeError, TypeError, IndexError),
}
LAYERS: dict[str, Callable[..., Any]] = {
    "RNN": lambda **o: RNN(INPUT, HIDDEN, **o),
    "LSTM": lambda **o: LSTM(INPUT, HIDDEN, 2, bidirectional=True, **o),
    "GRU": lambda **o: GRU(INPUT, HIDDEN, **o),
    "Recurrent": lambda **o: Recurrent(nn.GRUCell(INPUT, HIDDEN), **o),
    "Bidirectional": lambda **o: Bidirectional(
        nn.GRUCell(INPUT, HIDDEN), openrnn.LSTMCell(INPUT, HIDDEN), **o
    ),
    "Stack": lambda **o: Stack([nn.GRUCell(INPUT, HIDDEN), openrnn.LSTMCell(HIDDEN, HIDDEN)], **o),
}
layers = pytest.mark.parametrize("name", LAYERS)
backends = pytest.mark.parametrize("backend", ["auto", "eager"])


def x(*shape: int) -> Tensor:
    return torch.randn(*(shape or (STEPS, BATCH)), INPUT)


def flags(*shape: int) -> Tensor:
    return torch.ones(shape or (STEPS, BATCH), dtype=torch.bool)


def raises(error: type[Exception], message: str) -> Any:
    """Exactly this error, which is the builtin as well, with a message that matches."""
    assert issubclass(error, openrnn.OpenRNNError)
    assert all(issubclass(error, builtin) for builtin in BUILTINS[error])
    return pytest.raises(error, match=message, check=lambda raised: type(raised) is error)


def short(value: Any) -> str:
    """The name of a case."""
    return value.__name__ if isinstance(value, type) else str(value)[:24]


# --- lengths ---


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        ([4, 5, 0], ArgumentError, r"lengths from 0 to T = 4, .* got lengths\[1\] = 5"),
        (torch.tensor([-1, 2, 9]), ArgumentError, r"lengths from 0 .* got lengths\[0\] = -1"),
        (
            torch.tensor([1.0, 2.0, 3.0]),
            ArgumentTypeError,
            r"lengths to be integers.*torch.float32",
        ),
        ([1.5, 2, 3], ArgumentTypeError, r"lengths to be integers"),
        (torch.tensor([True, True, False]), ArgumentTypeError, r"lengths to be integers.*bool"),
        ([True, True, False], ArgumentTypeError, r"lengths to be integers.*bool"),
        (torch.tensor([1 + 1j, 2, 3]), ArgumentTypeError, r"lengths to be integers.*complex64"),
        ([1, 2], ShapeError, r"lengths to be one number for each .* \(3,\), got shape \(2,\)"),
        ([1, 2, 3, 4], ShapeError, r"lengths to be one number .* got shape \(4,\)"),
        ([], ShapeError, r"lengths to be one number .* got shape \(0,\)"),
        (torch.tensor([[1, 2, 3]]), ShapeError, r"lengths to be one number .* \(1, 3\)"),
        (torch.tensor(4), ShapeError, r"lengths to be one number .* got shape \(\)"),
        (4, ShapeError, r"lengths to be one number .* got shape \(\)"),
        (True, ArgumentTypeError, r"lengths to be a Tensor of integers, got bool"),
        ("4", ArgumentTypeError, r"lengths to be a Tensor of integers, got str"),
        ({1, 2, 3}, ArgumentTypeError, r"lengths to be a Tensor of integers, got set"),
        ([[1, 2], [3]], ArgumentTypeError, r"lengths"),
        (["1", "2", "3"], ArgumentTypeError, r"lengths"),
        ([None, 1, 2], ArgumentTypeError, r"lengths"),
    ],
    ids=short,
)
@layers
def test_lengths(name: str, lengths: Any, error: type[Exception], message: str) -> None:
    with raises(error, f"{name}: expected {message}"):
        LAYERS[name]()(x(), lengths=lengths)


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        (5, ArgumentError, r"lengths from 0 to T = 4, .* got lengths.* = 5"),
        (torch.tensor(-1), ArgumentError, r"lengths from 0 to T = 4"),
        ([4], ShapeError, r"lengths to be one number, as the input has no batch, got shape \(1,\)"),
        (torch.tensor(4.0), ArgumentTypeError, r"lengths to be integers"),
    ],
    ids=short,
)
@layers
def test_lengths_without_a_batch(
    name: str, lengths: Any, error: type[Exception], message: str
) -> None:
    with raises(error, f"{name}: expected {message}"):
        LAYERS[name]()(x(STEPS), lengths=lengths)


@layers
def test_lengths_of_a_packed_sequence(name: str) -> None:
    packed = pack_sequence([x(4), x(2)])
    with raises(ArgumentTypeError, f"{name}: a PackedSequence has its own lengths"):
        LAYERS[name]()(packed, lengths=[4, 2])


def test_lengths_count_the_steps_of_batch_first() -> None:
    layer = GRU(INPUT, HIDDEN, batch_first=True)
    with raises(ArgumentError, r"GRU: expected lengths from 0 to T = 4"):
        layer(x(BATCH, STEPS), lengths=[5, 1, 1])
    with raises(ShapeError, r"GRU: expected lengths .* \(3,\), got shape \(4,\)"):
        layer(x(BATCH, STEPS), lengths=[1, 1, 1, 1])


# --- resets ---


@pytest.mark.parametrize(
    ("reset", "error", "message"),
    [
        (flags(STEPS), ShapeError, r"reset of shape \(4, 3\), \(T, B\) .* got \(4,\)"),
        (flags(BATCH, STEPS), ShapeError, r"reset of shape \(4, 3\), \(T, B\) .* got \(3, 4\)"),
        (flags(STEPS, BATCH, 1), ShapeError, r"reset of shape \(4, 3\), .* got \(4, 3, 1\)"),
        (flags(STEPS, BATCH, INPUT), ShapeError, r"reset of shape \(4, 3\), .* got \(4, 3, 5\)"),
        (flags(STEPS, 1), ShapeError, r"reset of shape \(4, 3\), .* got \(4, 1\)"),
        (flags().int(), ArgumentTypeError, r"reset of dtype torch.bool, got torch.int32"),
        (flags().float(), ArgumentTypeError, r"reset of dtype torch.bool, got torch.float32"),
        (flags().byte(), ArgumentTypeError, r"reset of dtype torch.bool, got torch.uint8"),
        (flags().tolist(), ArgumentTypeError, r"reset to be a Tensor of bool, got list"),
        (True, ArgumentTypeError, r"reset to be a Tensor of bool, got bool"),
        (2, ArgumentTypeError, r"reset to be a Tensor of bool, got int"),
    ],
    ids=lambda value: "" if isinstance(value, Tensor) else short(value),
)
@layers
def test_resets(name: str, reset: Any, error: type[Exception], message: str) -> None:
    with raises(error, f"{name}: expected {message}"):
        LAYERS[name]()(x(), reset=reset)


def test_resets_lie_as_the_input() -> None:
    layer = GRU(INPUT, HIDDEN, batch_first=True)
    with raises(ShapeError, r"GRU: expected reset of shape \(3, 4\), \(B, T\) .* got \(4, 3\)"):
        layer(x(BATCH, STEPS), reset=flags(STEPS, BATCH))
    with raises(ShapeError, r"GRU: expected reset of shape \(4,\), \(T,\) .* got \(4, 1\)"):
        layer(x(STEPS), reset=flags(STEPS, 1))
    with raises(ShapeError, r"GRU: expected reset of shape \(4, 2\), \(T, B\) .* got \(2, 4\)"):
        layer(pack_sequence([x(4), x(2)]), reset=flags(2, 4))


@pytest.mark.parametrize("reset_to", ["default", torch.zeros(1, BATCH, HIDDEN)], ids=type)
@layers
def test_reset_to_without_reset(name: str, reset_to: Any) -> None:
    with raises(ArgumentError, rf"{name}: got reset_to, .* but no reset"):
        LAYERS[name]()(x(), reset_to=reset_to)


@pytest.mark.parametrize(
    ("reset_to", "error", "message"),
    [
        (torch.zeros(BATCH, HIDDEN), ShapeError, r"state h_0 of shape \(1, 3, 6\)"),
        (torch.zeros(1, BATCH + 1, HIDDEN), ShapeError, r"state h_0 of shape \(1, 3, 6\)"),
        (torch.zeros(2, BATCH, HIDDEN), ShapeError, r"state h_0 of shape \(1, 3, 6\)"),
        (torch.zeros(1, BATCH, HIDDEN).double(), ShapeError, r"dtype torch.float32, got"),
        ((torch.zeros(1, BATCH, HIDDEN),) * 2, StateError, r"a Tensor \(h_0\), got a tuple of"),
        ("zeros", StateError, r"got a str"),
        (0, StateError, r"got a int"),
        (True, StateError, r"got a bool"),
    ],
    ids=lambda value: "" if isinstance(value, (Tensor, tuple)) else short(value),
)
@pytest.mark.parametrize("kind", [RNN, GRU], ids=["RNN", "GRU"])
def test_reset_to_of_a_drop_in(
    kind: Any, reset_to: Any, error: type[Exception], message: str
) -> None:
    with raises(error, f"{kind.__name__}: reset_to: expected .*{message}"):
        kind(INPUT, HIDDEN)(x(), reset=flags(), reset_to=reset_to)


@pytest.mark.parametrize(
    ("name", "reset_to", "message"),
    [
        ("LSTM", torch.zeros(4, BATCH, HIDDEN), r"a tuple or list of Tensors \(h_0, c_0\)"),
        ("LSTM", (torch.zeros(4, BATCH, HIDDEN),), r"2 states \(h_0, c_0\), got 1"),
        ("Recurrent", (torch.zeros(BATCH, HIDDEN),) * 2, r"the state to be a Tensor"),
        ("Recurrent", "zeros", r"the state to be a Tensor \(h\), got a str"),
        ("Bidirectional", torch.zeros(BATCH, HIDDEN), r"a pair.*, got a Tensor"),
        ("Bidirectional", [None], r"a pair.*, got 1 states"),
        ("Bidirectional", (None, torch.zeros(BATCH, HIDDEN)), r"a tuple or list of Tensors"),
        ("Stack", torch.zeros(BATCH, HIDDEN), r"one for each of its 2 layers, got a Tensor"),
        ("Stack", [None, None, None], r"one for each of its 2 layers, got 3 states"),
        ("Stack", ["default", torch.zeros(BATCH, HIDDEN)], r"a tuple or list of Tensors"),
        ("Stack", ["default", "zeros"], r"got a str"),
        ("Stack", "zeros", r"got a str"),
    ],
)
def test_reset_to_of_the_wrong_form(name: str, reset_to: Any, message: str) -> None:
    with raises(StateError, rf"reset_to.*{message}"):
        LAYERS[name]()(x(), reset=flags(), reset_to=reset_to)


@layers
def test_a_reset_to_that_is_wrong_is_told_where_no_reset_is(name: str) -> None:
    """Whatever the flags happen to be."""
    with raises(StateError, "reset_to"):
        LAYERS[name]()(x(), reset=~flags(), reset_to={"h": 1})


# --- states ---

STATES: dict[str, Any] = {
    "RNN": torch.zeros(1, BATCH, HIDDEN),
    "LSTM": (torch.zeros(4, BATCH, HIDDEN),) * 2,
    "Recurrent": torch.zeros(BATCH, HIDDEN),
    "Bidirectional": (torch.zeros(BATCH, HIDDEN), (torch.zeros(BATCH, HIDDEN),) * 2),
    "Stack": (torch.zeros(BATCH, HIDDEN), (torch.zeros(BATCH, HIDDEN),) * 2),
}


@backends
@pytest.mark.parametrize("of", STATES)
@pytest.mark.parametrize("name", STATES)
def test_a_state_of_another_layer(name: str, of: str, backend: str) -> None:
    layer = LAYERS[name](backend=backend)
    fits = name == of or {name, of} == {"Bidirectional", "Stack"}
    for lengths in (None, [4, 0, 2]):
        if fits:
            layer(x(), STATES[of], lengths=lengths)
        else:
            with pytest.raises(ShapeError, match=r"expected (the )?(state|\d states)"):
                layer(x(), STATES[of], lengths=lengths)


@pytest.mark.parametrize("backend", ["auto", "cpu", "reference", "eager"])
@pytest.mark.parametrize(
    "shape", [(BATCH - 1, INPUT), (BATCH + 1, INPUT), (1, INPUT), (INPUT,), (1, BATCH, INPUT)]
)
def test_states_of_the_wrong_shape_for_a_cell_that_says_no_sizes(
    shape: tuple[int, ...], backend: str
) -> None:
    """A kernel would read memory that is not theirs."""

    class Bare(nn.Module):
        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return torch.tanh(x + h)

    layer, state = Recurrent(Bare(), backend=backend), torch.zeros(BATCH, INPUT)
    assert layer(x(), state)[0].shape == (STEPS, BATCH, INPUT)
    with raises(ShapeError, r"Recurrent\(Bare\): expected state"):
        layer(x(), torch.zeros(shape))
    with raises(ShapeError, r"Recurrent\(Bare\): reset_to: expected state"):
        layer(x(), state, reset=flags(), reset_to=torch.zeros(shape))


@pytest.mark.parametrize("backend", ["auto", "cpu", "reference", "eager"])
def test_reset_to_with_other_features_than_the_state(backend: str) -> None:
    class Bare(nn.Module):
        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return torch.tanh(x + h)

    layer = Recurrent(Bare(), backend=backend)
    with raises(ShapeError, "reset_to"):
        layer(x(), torch.zeros(BATCH, INPUT), reset=flags(), reset_to=torch.zeros(BATCH, 1))
    pair = (torch.zeros(BATCH, INPUT),) * 2
    with raises(StateError, "reset_to"):
        layer(x(), torch.zeros(BATCH, INPUT), reset=flags(), reset_to=pair)


@layers
def test_a_state_that_is_no_tensor(name: str) -> None:
    for state in ("zeros", 0, {"h": 1}):
        with raises(StateError, r"expected the state"):
            LAYERS[name]()(x(), state)


@pytest.mark.parametrize("value", [1, None, "yes", torch.tensor(True)], ids=str)
@layers
def test_return_states_that_is_no_bool(name: str, value: Any) -> None:
    with raises(ArgumentTypeError, "return_states should be of type bool, got"):
        LAYERS[name]()(x(), return_states=value)


def test_arguments_of_time_go_by_name() -> None:
    for layer in (GRU(INPUT, HIDDEN), Recurrent(nn.GRUCell(INPUT, HIDDEN))):
        with pytest.raises(TypeError, match="positional"):
            layer(x(), None, [4, 0, 2])


# --- options ---


@pytest.mark.parametrize("checkpoint", [0, -3, 1.0, True, "4", [2]], ids=str)
@layers
def test_checkpoints(name: str, checkpoint: Any) -> None:
    with raises(ArgumentError, r": expected checkpoint to be a number of steps, .* ≥ 1, .*got"):
        LAYERS[name](checkpoint=checkpoint)


@pytest.mark.parametrize("value", [1, None, "h_0"])
@layers
def test_learn_initial_state_that_is_no_bool(name: str, value: Any) -> None:
    with raises(ArgumentTypeError, "learn_initial_state should be of type bool, got"):
        LAYERS[name](learn_initial_state=value)


def test_residual_that_is_no_bool() -> None:
    with raises(ArgumentTypeError, "residual should be of type bool, got: int"):
        Stack([nn.GRUCell(INPUT, HIDDEN)], residual=1)  # type: ignore[arg-type]


def test_layer_norm_that_is_no_bool_or_does_not_go_with_a_projection() -> None:
    with raises(ArgumentTypeError, "layer_norm should be of type bool, got: int"):
        GRU(INPUT, HIDDEN, layer_norm=1)  # type: ignore[arg-type]
    with raises(ArgumentError, r"LSTM: layer_norm=True takes no projection"):
        LSTM(INPUT, HIDDEN, layer_norm=True, proj_size=3)


@pytest.mark.parametrize("option", ["recurrent_dropout", "zoneout", "weight_drop"])
@pytest.mark.parametrize("value", [-0.1, 1.1, True, "0.5", None, float("nan")], ids=str)
@pytest.mark.parametrize("kind", [RNN, LSTM, GRU], ids=["RNN", "LSTM", "GRU"])
def test_probabilities(kind: Any, option: str, value: Any) -> None:
    with raises(ArgumentError, rf"{kind.__name__}: expected {option} in the range 0 to 1, got"):
        kind(INPUT, HIDDEN, **{option: value})


def test_zoneout_of_several_states() -> None:
    with raises(ArgumentError, r"LSTM: expected zoneout .* h, c, got \(0.1, 0.2, 0.3\)"):
        LSTM(INPUT, HIDDEN, zoneout=(0.1, 0.2, 0.3))
    with raises(ArgumentError, r"GRU: expected zoneout .* h, got \(0.1, 0.2\)"):
        GRU(INPUT, HIDDEN, zoneout=(0.1, 0.2))
    with raises(ArgumentError, r"LSTM: expected zoneout in the range 0 to 1, got 2"):
        LSTM(INPUT, HIDDEN, zoneout=(0.1, 2))


@pytest.mark.parametrize("kind", [RNN, LSTM, GRU], ids=["RNN", "LSTM", "GRU"])
def test_unknown_options(kind: Any) -> None:
    with raises(ArgumentTypeError, rf"{kind.__name__}: got an unexpected .* 'zone_out'.*zoneout"):
        kind(INPUT, HIDDEN, zone_out=0.1)


def test_a_learned_state_whose_sizes_the_cell_does_not_say() -> None:
    """Without input_size it cannot be tried; that its forward does not fit is not the reason."""

    class Leaky(nn.Module):
        hidden_size = HIDDEN

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(INPUT, HIDDEN)

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return 0.9 * h + torch.tanh(self.linear(x))

    Recurrent(Leaky())(x())
    with pytest.raises(openrnn.CellError, match=r"learn_initial_state.*(state_sizes|input_size)"):
        Recurrent(Leaky(), learn_initial_state=True)


# --- streams ---


@pytest.mark.parametrize("batch_size", [0, -1, 1.0, True, "1", None, [1]], ids=str)
def test_batch_sizes_of_a_stream(batch_size: Any) -> None:
    with raises(ArgumentError, r"stream: expected batch_size to be an integer ≥ 1, got"):
        GRU(INPUT, HIDDEN).stream(batch_size)


@pytest.mark.parametrize("started", [False, True], ids=["first", "later"])
@pytest.mark.parametrize(
    ("count", "shape", "message"),
    [
        (
            3,
            (2, 5),
            r"one step, \(3, features\), or some, \(T, 3, features\), .* got shape \(2, 5\)",
        ),
        (3, (5,), r"one step, \(3, features\), or some, .* got shape \(5,\)"),
        (3, (3, 4, 5), r"one step, \(3, features\), or some, .* got shape \(3, 4, 5\)"),
        (3, (1, 1, 3, 5), r"one step, \(3, features\), .* got shape \(1, 1, 3, 5\)"),
        (1, (2, 5), r"one step, \(1, features\) or \(features\), or some, .* got shape \(2, 5\)"),
        (1, (), r"one step, \(1, features\) or \(features\), .* got shape \(\)"),
        (3, (3, 6), r"input_size 5 .* got 6"),
        (1, (6,), r"input_size 5 .* got 6"),
        (3, (0, 3, 5), r"at least one time step"),
    ],
)
def test_inputs_of_a_stream(
    count: int, shape: tuple[int, ...], message: str, started: bool
) -> None:
    stream = GRU(INPUT, HIDDEN).eval().stream(count)
    if started:
        stream(x(count))
        stream(x(count))
    with raises(ShapeError, rf"(stream|GRU): expected {message}"):
        stream(torch.zeros(shape))


def test_inputs_of_a_stream_with_batch_first() -> None:
    stream = GRU(INPUT, HIDDEN, batch_first=True).eval().stream(3)
    with raises(
        ShapeError, r"or some, \(3, T, features\), for batch_size 3, got shape \(4, 3, 5\)"
    ):
        stream(x(4, 3))


@pytest.mark.parametrize("started", [False, True], ids=["first", "later"])
@pytest.mark.parametrize("value", [None, [1.0] * INPUT, 1], ids=str)
def test_inputs_of_a_stream_that_are_no_tensors(value: Any, started: bool) -> None:
    stream = GRU(INPUT, HIDDEN).eval().stream()
    if started:
        stream(x(1))
    with raises(ArgumentTypeError, r"stream: expected the input to be a Tensor, got"):
        stream(value)
    with raises(ArgumentTypeError, r"to be a Tensor, got PackedSequence"):
        stream(pack_sequence([x(4)]))


@pytest.mark.parametrize("started", [False, True], ids=["first", "later"])
@pytest.mark.parametrize("name", [name for name in STATES if name not in ("LSTM", "Bidirectional")])
def test_states_of_a_stream(name: str, started: bool) -> None:
    layer = LAYERS[name]().eval()
    for state in ("zeros", 0, (torch.zeros(1, 1),) * 3):
        stream = layer.stream(BATCH)
        if started:
            stream(x(BATCH))
        with raises(StateError, r"expected the state"):
            stream.state = state
            stream(x(BATCH))
        with raises(StateError, r"expected the state"):
            layer.stream(BATCH, state)(x(BATCH))


@pytest.mark.parametrize("started", [False, True], ids=["first", "later"])
@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (3, ArgumentError, r"rows to be indices from 0 to 2, or a mask of bool, got 3"),
        (-1, ArgumentError, r"rows to be indices from 0 to 2, .* got -1"),
        ([0, 5], ArgumentError, r"rows to be indices from 0 to 2, .* got \[0, 5\]"),
        ([0.0], ArgumentError, r"rows to be indices from 0 to 2, .* got \[0.0\]"),
        (1.0, ArgumentError, r"rows to be indices from 0 to 2, .* got 1.0"),
        (flags(2), ShapeError, r"a mask of rows of shape \(3,\), batch_size, got \(2,\)"),
        (flags(3, 1), ShapeError, r"a mask of rows of shape \(3,\), batch_size, got \(3, 1\)"),
        ("all", ArgumentError, r"rows to be indices .* got 'all'"),
        (True, ArgumentError, r"rows to be indices .* got True"),
    ],
)
def test_rows_of_a_reset(rows: Any, error: type[Exception], message: str, started: bool) -> None:
    stream = GRU(INPUT, HIDDEN).eval().stream(BATCH)
    if started:
        stream(x(BATCH))
    with raises(error, f"stream: expected {message}"):
        stream.reset(rows)
