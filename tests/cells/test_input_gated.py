"""The cells whose gates read the input alone, against their equations written out."""

from __future__ import annotations

import pytest
import torch

from openrnn.cells import MinGRUCell, MinLSTMCell, QRNNCell
from tests.cells.equations import Blocks, assert_step, example

bias = pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])


@bias
def test_min_gru(bias: bool) -> None:
    cell = MinGRUCell(5, 6, bias).double()
    x, (h,) = example(cell)
    w = Blocks(cell)
    z = w.input("z", x).sigmoid()
    assert_step(cell, x, (h,), ((1 - z) * h + z * w.input("n", x),))


@bias
def test_min_lstm(bias: bool) -> None:
    cell = MinLSTMCell(5, 6, bias).double()
    x, (h,) = example(cell)
    w = Blocks(cell)
    f, i = w.input("f", x).sigmoid(), w.input("i", x).sigmoid()
    assert_step(cell, x, (h,), (f / (f + i) * h + i / (f + i) * w.input("g", x),))


def test_min_lstm_with_both_gates_shut() -> None:
    cell = MinLSTMCell(1, 1)
    with torch.no_grad():
        cell.weight_ih.copy_(torch.tensor([[-1000.0], [-1000.0], [3.0]]))
        cell.bias_ih.zero_()
    h = cell(torch.ones(1, 1), torch.ones(1, 1))
    torch.testing.assert_close(h, torch.full((1, 1), 2.0))  # half of 1 and half of 3
    h.sum().backward()
    assert all(p.grad.isfinite().all() for p in cell.parameters() if p.grad is not None)


@bias
def test_qrnn_with_a_forget_gate(bias: bool) -> None:
    cell = QRNNCell(5, 6, bias, pooling="f").double()
    assert cell.state_sizes == {"h": 6}
    x, (h,) = example(cell)
    w = Blocks(cell)
    z, f = w.input("z", x).tanh(), w.input("f", x).sigmoid()
    assert_step(cell, x, (h,), (f * h + (1 - f) * z,))


@bias
def test_qrnn_with_an_output_gate(bias: bool) -> None:
    cell = QRNNCell(5, 6, bias, pooling="fo").double()
    assert cell.state_sizes == {"h": 6, "c": 6}
    x, (h, c) = example(cell)
    w = Blocks(cell)
    z, f, o = w.input("z", x).tanh(), w.input("f", x).sigmoid(), w.input("o", x).sigmoid()
    c_t = f * c + (1 - f) * z
    assert_step(cell, x, (h, c), (o * c_t, c_t))
    assert_step(cell, x, (torch.full_like(h, torch.nan), c), (o * c_t, c_t))  # h is never read
