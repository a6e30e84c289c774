"""RNNCell, LSTMCell, GRUCell and LSTMPCell as modules, and their equations written out."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest
import torch

import openrnn

NAMES = ("RNNCell", "LSTMCell", "GRUCell")
names = pytest.mark.parametrize("name", NAMES)


@pytest.mark.parametrize("bias", [True, False])
@names
def test_same_seed_same_parameters(name: str, bias: bool) -> None:
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(5, 7, bias)
    torch.manual_seed(0)
    ours = getattr(openrnn, name)(5, 7, bias)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value)
    assert repr(ours) == repr(theirs)


def test_repr_of_relu() -> None:
    assert repr(openrnn.RNNCell(5, 7, nonlinearity="relu")) == repr(
        torch.nn.RNNCell(5, 7, nonlinearity="relu")
    )


@names
def test_signature_is_torchs(name: str) -> None:
    ours, theirs = getattr(openrnn, name), getattr(torch.nn, name)
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)
    assert list(inspect.signature(ours.forward).parameters) == list(
        inspect.signature(theirs.forward).parameters
    )


@names
def test_deepcopy_pickle_and_dtype(name: str) -> None:
    cell = getattr(openrnn, name)(5, 7, dtype=torch.float64)
    x = torch.randn(4, 5, dtype=torch.float64)
    for twin in (copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))):
        torch.testing.assert_close(twin(x), cell(x), rtol=0, atol=0)
    assert getattr(openrnn, name)(5, 7, device="meta").weight_ih.device.type == "meta"


def blocks(cell: Any, x: torch.Tensor, h: torch.Tensor) -> list[torch.Tensor]:
    """W_i x + b_i + W_h h + b_h of each gate, by the definition of the stacked parameters."""
    size = cell.hidden_size
    return [
        x @ cell.weight_ih[k : k + size].T
        + cell.bias_ih[k : k + size]
        + h @ cell.weight_hh[k : k + size].T
        + cell.bias_hh[k : k + size]
        for k in range(0, len(cell.gates) * size, size)
    ]


def test_lstm_equations() -> None:
    cell = openrnn.LSTMCell(5, 7).double()
    x, h, c = (torch.randn(4, n, dtype=torch.float64) for n in (5, 7, 7))
    i, f, g, o = blocks(cell, x, h)
    c_t = f.sigmoid() * c + i.sigmoid() * g.tanh()
    torch.testing.assert_close(cell(x, (h, c)), (o.sigmoid() * c_t.tanh(), c_t))


def test_projected_lstm_equations() -> None:
    cell = openrnn.cells.LSTMPCell(5, 7, 3).double()
    assert cell.weight_hh.shape == (28, 3)
    x, h, c = (torch.randn(4, n, dtype=torch.float64) for n in (5, 3, 7))
    i, f, g, o = blocks(cell, x, h)
    c_t = f.sigmoid() * c + i.sigmoid() * g.tanh()
    h_t = (o.sigmoid() * c_t.tanh()) @ cell.weight_hr.T
    torch.testing.assert_close(cell(x, (h, c)), (h_t, c_t))
    assert repr(cell) == "LSTMPCell(5, 7, proj_size=3)"
    assert max(p.abs().max().item() for p in cell.parameters()) <= 7**-0.5


def test_number_of_blocks() -> None:
    """An LSTM stacks four blocks, a GRU three, a plain RNN has one."""
    for name, count in (("RNNCell", 1), ("LSTMCell", 4), ("GRUCell", 3)):
        cell = getattr(openrnn, name)(100, 20)
        assert len(cell.gates) == count
        assert cell.weight_ih.shape == (count * 20, 100)
        assert cell.weight_hh.shape == (count * 20, 20)
        assert cell.bias_ih.shape == cell.bias_hh.shape == (count * 20,)
