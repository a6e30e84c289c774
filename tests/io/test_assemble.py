"""Layers put together of cells, and what is said where a library is missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from openrnn import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    ConversionError,
    MissingExtraError,
    Recurrent,
    Stack,
    extras,
    io,
)
from openrnn.cells import Cell, GRUCell, LSTMCell, OriginalGRUCell, RNNCell
from openrnn.io.assemble import assemble
from openrnn.io.weights import cell_with, reorder, tensor


@pytest.mark.parametrize(
    ("kind", "layer"),
    [(LSTMCell, LSTM), (GRUCell, GRU), (RNNCell, RNN)],
    ids=["LSTM", "GRU", "RNN"],
)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_cells_of_torch_make_a_drop_in(kind: type[Cell], layer: type, bias: bool) -> None:
    levels = [[kind(3, 4, bias), kind(3, 4, bias)], [kind(8, 4, bias), kind(8, 4, bias)]]
    made = assemble(levels, batch_first=True)
    assert type(made) is layer
    assert made.bias is bias
    stack = Stack([Bidirectional(*pair) for pair in levels], batch_first=True)
    x = torch.randn(2, 5, 3)
    torch.testing.assert_close(made(x)[0], stack(x)[0])
    theirs = getattr(torch.nn, layer.__name__)(
        3, 4, num_layers=2, bias=bias, batch_first=True, bidirectional=True
    )
    theirs.load_state_dict(made.state_dict())
    torch.testing.assert_close(made(x)[0], theirs(x)[0])


@pytest.mark.parametrize(
    ("levels", "options", "expected"),
    [
        ([[OriginalGRUCell(3, 4)]], {}, Recurrent),
        ([[LSTMCell(3, 4)]], {"reverse": True}, Recurrent),
        ([[GRUCell(3, 4), GRUCell(3, 5)]], {}, Bidirectional),
        ([[GRUCell(3, 4), GRUCell(3, 4)]], {"merge": "sum"}, Bidirectional),
        ([[RNNCell(3, 4), RNNCell(3, 4, nonlinearity="relu")]], {}, Bidirectional),
        ([[LSTMCell(3, 4)], [LSTMCell(4, 4, bias=False)]], {}, Stack),
        ([[LSTMCell(3, 4)], [GRUCell(4, 4)]], {}, Stack),
    ],
)
def test_other_cells_make_a_layer_of_their_own(levels: Any, options: Any, expected: type) -> None:
    layer = assemble(levels, **options)
    assert type(layer) is expected
    cells = [cell for level in levels for cell in level]
    assert all(any(cell is module for module in layer.modules()) for cell in cells)
    layer(torch.randn(5, 2, 3))


@pytest.mark.parametrize("kind", [LSTMCell, OriginalGRUCell])
@pytest.mark.parametrize("directions", [1, 2])
def test_initial_states(kind: type[Cell], directions: int) -> None:
    cells = [kind(3, 4) for _ in range(directions)]
    initial = {f"{state}_0": torch.randn(directions, 4) for state in kind.states}
    x = torch.randn(5, 2, 3)
    begun = assemble([cells], initial=initial)
    states = tuple(s.unsqueeze(1).expand(-1, 2, -1).contiguous() for s in initial.values())
    plain = assemble([cells])
    given: Any = states
    if kind is OriginalGRUCell:
        given = states[0][0] if directions == 1 else tuple(states[0])
    torch.testing.assert_close(begun(x)[0], plain(x, given)[0])


def test_nothing_is_drawn_at_random() -> None:
    weights = {"weight_ih": torch.randn(16, 3), "weight_hh": torch.randn(16, 4)}
    before = torch.get_rng_state()
    assemble([[cell_with("test", LSTMCell, weights)]])
    assert torch.equal(torch.get_rng_state(), before)


def test_reorder() -> None:
    assert reorder(torch.arange(6), (2, 0, 1)).tolist() == [4, 5, 0, 1, 2, 3]


def test_numbers_that_are_no_weights() -> None:
    with pytest.raises(ConversionError, match=r"here: expected W to be one of .* got int64"):
        tensor("here", "W", np.ones(3, "int64"))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"weight_ih": torch.ones(15, 3)}, r"4 blocks of a LSTMCell, .* got \(15, 3\)"),
        ({"weight_ih": torch.ones(2, 16, 3)}, r"got \(2, 16, 3\)"),
        ({"weight_hh": torch.ones(16, 5)}, r"weight_hh of shape \(16, 4\) for 4 units, .*16, 5\)"),
        ({"weight_hh": torch.ones(16, 4).double()}, "one dtype, got float32, float64"),
    ],
)
def test_weights_that_do_not_fit(weights: dict[str, torch.Tensor], message: str) -> None:
    given = {"weight_ih": torch.ones(16, 3), "weight_hh": torch.ones(16, 4), **weights}
    with pytest.raises(ConversionError, match=f"^here: .*{message}"):
        cell_with("here", LSTMCell, given)


@pytest.mark.parametrize("name", ["keras", "flax", "onnx"])
def test_a_library_that_is_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda package: None)
    with pytest.raises(MissingExtraError, match=f"from_{name} needs {name}.*: pip install {name}$"):
        getattr(io, f"from_{name}")(object())
