"""Bad input: the class of exception that torch raises, and a message with both sides in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import openrnn

# Of torch's other classes (an AttributeError for a tuple given to a GRU) none is meant.
DELIBERATE = (RuntimeError, ValueError, TypeError, IndexError)


@dataclass
class Case:
    call: Callable[[Any], Any]  # on torch.nn, then on openrnn
    words: tuple[str, ...]  # what our message says: expected and received


def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(shape, dtype=dtype)


def packed() -> PackedSequence:
    return pack_sequence([torch.ones(4, 3), torch.ones(2, 3)])


LAYERS = {
    "rank 1": Case(lambda nn: nn.LSTM(3, 5)(zeros(3)), ("LSTM", "3-D", "1-D", "(3,)")),
    "rank 4": Case(lambda nn: nn.RNN(3, 5)(zeros(1, 2, 2, 3)), ("RNN", "3-D", "4-D")),
    "features": Case(lambda nn: nn.LSTM(3, 5)(zeros(4, 2, 6)), ("input_size 3", "got 6")),
    "features unbatched": Case(lambda nn: nn.GRU(3, 5)(zeros(4, 6)), ("input_size 3", "got 6")),
    "batch of state": Case(
        lambda nn: nn.GRU(3, 5)(zeros(4, 2, 3), zeros(1, 7, 5)), ("h_0", "(1, 2, 5)", "(1, 7, 5)")
    ),
    "batch of c": Case(
        lambda nn: nn.LSTM(3, 5)(zeros(4, 2, 3), (zeros(1, 2, 5), zeros(1, 7, 5))),
        ("c_0", "(1, 2, 5)", "(1, 7, 5)"),
    ),
    "hidden size of state": Case(
        lambda nn: nn.RNN(3, 5)(zeros(4, 2, 3), zeros(1, 2, 6)), ("(1, 2, 5)", "(1, 2, 6)")
    ),
    "hidden size of h": Case(
        lambda nn: nn.LSTM(3, 5)(zeros(4, 2, 3), (zeros(1, 2, 6), zeros(1, 2, 5))),
        ("h_0", "(1, 2, 5)", "(1, 2, 6)"),
    ),
    "hidden size of h, projected": Case(
        lambda nn: nn.LSTM(3, 5, proj_size=2)(zeros(4, 2, 3), (zeros(1, 2, 5), zeros(1, 2, 5))),
        ("h_0", "(1, 2, 2)", "(1, 2, 5)"),
    ),
    "layers of state": Case(
        lambda nn: nn.GRU(3, 5, 2, bidirectional=True)(zeros(4, 2, 3), zeros(2, 2, 5)),
        ("(4, 2, 5)", "(2, 2, 5)"),
    ),
    "rank of state": Case(
        lambda nn: nn.GRU(3, 5)(zeros(4, 2, 3), zeros(2, 5)), ("(1, 2, 5)", "(2, 5)")
    ),
    "rank of state, unbatched": Case(
        lambda nn: nn.GRU(3, 5)(zeros(4, 3), zeros(1, 1, 5)), ("(1, 5)", "(1, 1, 5)")
    ),
    "one state for an LSTM": Case(
        lambda nn: nn.LSTM(3, 5)(zeros(4, 2, 3), (zeros(1, 2, 5),)),
        ("2 states", "h_0, c_0", "1"),
    ),
    "a tensor for an LSTM": Case(
        lambda nn: nn.LSTM(3, 5)(zeros(4, 2, 3), zeros(1, 2, 5)), ("h_0, c_0", "Tensor")
    ),
    "three states for an LSTM": Case(
        lambda nn: nn.LSTM(3, 5)(zeros(4, 2, 3), (zeros(1, 2, 5),) * 3), ("2 states", "3")
    ),
    "two states for a GRU": Case(
        lambda nn: nn.GRU(3, 5)(zeros(4, 2, 3), (zeros(1, 2, 5),) * 2), ("h_0", "tuple")
    ),
    "no tensor for a state": Case(lambda nn: nn.LSTM(3, 5)(zeros(4, 2, 3), 7), ("h_0, c_0", "int")),
    "dtype of input": Case(
        lambda nn: nn.LSTM(3, 5)(zeros(4, 2, 3, dtype=torch.float64)),
        ("torch.float64", "torch.float32", ".to("),
    ),
    "dtype of state": Case(
        lambda nn: nn.GRU(3, 5)(zeros(4, 2, 3), zeros(1, 2, 5, dtype=torch.float64)),
        ("h_0", "torch.float64", "torch.float32", ".to("),
    ),
    "no time steps": Case(
        lambda nn: nn.LSTM(3, 5)(zeros(0, 2, 3)), ("at least one time step", "(0, 2, 3)")
    ),
    "no time steps, batch first": Case(
        lambda nn: nn.GRU(3, 5, batch_first=True)(zeros(2, 0, 3)), ("at least one", "(2, 0, 3)")
    ),
    "features of packed input": Case(lambda nn: nn.RNN(6, 5)(packed()), ("input_size 6", "got 3")),
    "hidden size of a state with packed input": Case(
        lambda nn: nn.LSTM(3, 5)(packed(), (zeros(1, 2, 6), zeros(1, 2, 5))), ("(1, 2, 6)",)
    ),
    "rank of packed data": Case(
        lambda nn: nn.LSTM(3, 5)(PackedSequence(zeros(6, 1, 3), torch.tensor([2, 2, 1, 1]))),
        ("2-D", "3-D"),
    ),
}

CONSTRUCTORS = {
    "bias": Case(lambda nn: nn.LSTM(3, 5, bias=1), ("bias", "bool", "int")),
    "batch_first": Case(lambda nn: nn.GRU(3, 5, batch_first="yes"), ("batch_first", "bool", "str")),
    "dropout above 1": Case(lambda nn: nn.LSTM(3, 5, 2, dropout=1.5), ("dropout", "[0, 1]")),
    "dropout below 0": Case(lambda nn: nn.RNN(3, 5, 2, dropout=-0.5), ("dropout", "[0, 1]")),
    "dropout a bool": Case(lambda nn: nn.GRU(3, 5, 2, dropout=True), ("dropout", "[0, 1]")),
    "proj_size on GRU": Case(lambda nn: nn.GRU(3, 5, proj_size=2), ("proj_size", "LSTM")),
    "proj_size on RNN": Case(lambda nn: nn.RNN(3, 5, proj_size=2), ("proj_size", "LSTM")),
    "proj_size too large": Case(lambda nn: nn.LSTM(3, 5, proj_size=5), ("proj_size", "smaller")),
    "proj_size negative": Case(lambda nn: nn.LSTM(3, 5, proj_size=-1), ("proj_size",)),
    "nonlinearity": Case(lambda nn: nn.RNN(3, 5, nonlinearity="elu"), ("tanh", "relu", "elu")),
    "hidden_size zero": Case(lambda nn: nn.LSTM(3, 0), ("hidden_size", "greater than zero")),
    "hidden_size a float": Case(lambda nn: nn.LSTM(3, 5.0), ("hidden_size", "int", "float")),
    "input_size a float": Case(lambda nn: nn.GRU(3.0, 5), ("input_size", "int", "float")),
    "input_size negative": Case(lambda nn: nn.GRU(-3, 5), ("input_size",)),
    "num_layers zero": Case(lambda nn: nn.GRU(3, 5, 0), ("num_layers", "greater than zero")),
}

CELLS = {
    "rank": Case(lambda nn: nn.LSTMCell(3, 5)(zeros(4, 2, 3)), ("LSTMCell", "3-D", "Recurrent")),
    "rank 0": Case(lambda nn: nn.GRUCell(3, 5)(torch.tensor(1.0)), ("GRUCell", "0-D")),
    "features": Case(lambda nn: nn.LSTMCell(3, 5)(zeros(2, 6)), ("input_size 3", "got 6")),
    "batch of state": Case(
        lambda nn: nn.GRUCell(3, 5)(zeros(2, 3), zeros(7, 5)), ("h", "(2, 5)", "(7, 5)")
    ),
    "hidden size of state": Case(
        lambda nn: nn.RNNCell(3, 5)(zeros(2, 3), zeros(2, 6)), ("(2, 5)", "(2, 6)")
    ),
    "hidden size of c": Case(
        lambda nn: nn.LSTMCell(3, 5)(zeros(2, 3), (zeros(2, 5), zeros(2, 6))), ("c", "(2, 6)")
    ),
    "rank of state": Case(
        lambda nn: nn.LSTMCell(3, 5)(zeros(2, 3), (zeros(1, 2, 5), zeros(1, 2, 5))),
        ("(2, 5)", "(1, 2, 5)"),
    ),
    "one state for an LSTM": Case(
        lambda nn: nn.LSTMCell(3, 5)(zeros(2, 3), (zeros(2, 5),)), ("2 states (h, c)", "got 1")
    ),
    "three states for an LSTM": Case(
        lambda nn: nn.LSTMCell(3, 5)(zeros(2, 3), (zeros(2, 5),) * 3), ("2 states (h, c)", "got 3")
    ),
    "dtype of input": Case(
        lambda nn: nn.LSTMCell(3, 5)(zeros(2, 3, dtype=torch.float64)),
        ("torch.float64", "torch.float32"),
    ),
    "dtype of state": Case(
        lambda nn: nn.GRUCell(3, 5)(zeros(2, 3), zeros(2, 5, dtype=torch.float64)),
        ("torch.float64", "torch.float32"),
    ),
}


def assert_raises_as_torch(case: Case) -> Exception:
    with pytest.raises(Exception) as theirs:  # noqa: PT011  whatever torch raises
        case.call(torch.nn)
    with pytest.raises(Exception) as ours:  # noqa: PT011  its class is checked below
        case.call(openrnn)
    if isinstance(theirs.value, DELIBERATE):
        assert isinstance(ours.value, theirs.type), (theirs.value, ours.value)
    for word in case.words:
        assert word in str(ours.value), str(ours.value)
    return ours.value


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    assert isinstance(assert_raises_as_torch(LAYERS[name]), openrnn.OpenRNNError)


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_constructors(name: str) -> None:
    assert_raises_as_torch(CONSTRUCTORS[name])


@pytest.mark.parametrize("name", CELLS)
def test_cells(name: str) -> None:
    assert isinstance(assert_raises_as_torch(CELLS[name]), openrnn.OpenRNNError)


@pytest.mark.parametrize("batch", [1, 3])
def test_packed_input_with_a_state_of_the_wrong_batch_raises_where_torch_is_silent(
    batch: int,
) -> None:
    with pytest.raises(openrnn.ShapeError, match=r"\(1, 2, 5\).*got \(1, \d, 5\)"):
        openrnn.GRU(3, 5)(packed(), zeros(1, batch, 5))
    with pytest.raises(openrnn.ShapeError, match=r"c_0.*\(1, 2, 5\).*got \(1, \d, 5\)"):
        openrnn.LSTM(3, 5)(packed(), (zeros(1, 2, 5), zeros(1, batch, 5)))


def test_input_that_is_no_tensor() -> None:
    with pytest.raises(openrnn.ShapeError, match="Tensor or a PackedSequence, got list"):
        openrnn.LSTM(3, 5)([1.0, 2.0])


def test_dropout_of_one_layer_warns() -> None:
    with pytest.warns(UserWarning, match="num_layers greater than 1"):
        openrnn.LSTM(3, 5, dropout=0.5)


def test_unknown_backend() -> None:
    with pytest.raises(openrnn.BackendError, match=r"'gpu' does not exist.*auto.*eager"):
        openrnn.LSTM(3, 5, backend="gpu")


def test_unknown_nonlinearity_of_a_cell() -> None:
    with pytest.raises(ValueError, match="'tanh' or 'relu', got 'elu'"):
        openrnn.RNNCell(3, 5, nonlinearity="elu")


@pytest.mark.parametrize("proj_size", [0, 5, 9, -1])
def test_projection_out_of_range(proj_size: int) -> None:
    with pytest.raises(openrnn.ArgumentError, match="proj_size"):
        openrnn.cells.LSTMPCell(3, 5, proj_size)
