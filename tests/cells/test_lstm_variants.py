"""The variants of long short-term memory against their equations written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from openrnn import Recurrent
from openrnn.cells import (
    CoupledLSTMCell,
    LayerNormLSTMCell,
    MultiplicativeLSTMCell,
    PeepholeLSTMCell,
    SLSTMCell,
)
from tests.cells.equations import Blocks, assert_step, example

bias = pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])


@bias
def test_peephole(bias: bool) -> None:
    cell = PeepholeLSTMCell(5, 6, bias).double()
    x, (h, c) = example(cell)
    p_i, p_f, p_o = cell.peephole[:6], cell.peephole[6:12], cell.peephole[12:]
    w = Blocks(cell)
    i = (w.sum("i", x, h) + p_i * c).sigmoid()
    f = (w.sum("f", x, h) + p_f * c).sigmoid()
    c_t = f * c + i * w.sum("g", x, h).tanh()
    o = (w.sum("o", x, h) + p_o * c_t).sigmoid()
    assert_step(cell, x, (h, c), (o * c_t.tanh(), c_t))


@bias
def test_coupled(bias: bool) -> None:
    cell = CoupledLSTMCell(5, 6, bias).double()
    x, (h, c) = example(cell)
    w = Blocks(cell)
    f = w.sum("f", x, h).sigmoid()
    i = 1 - f
    c_t = f * c + i * w.sum("g", x, h).tanh()
    assert_step(cell, x, (h, c), (w.sum("o", x, h).sigmoid() * c_t.tanh(), c_t))


def normalised(a: Tensor, eps: float) -> Tensor:
    mean = a.mean(-1, keepdim=True)
    return (a - mean) / ((a - mean).square().mean(-1, keepdim=True) + eps).sqrt()


@bias
def test_layer_norm(bias: bool) -> None:
    cell = LayerNormLSTMCell(5, 6, bias, eps=1e-3).double()
    for parameter in cell.parameters():
        torch.nn.init.normal_(parameter)
    x, (h, c) = example(cell)

    def norm(name: str, a: Tensor) -> Tensor:
        module = getattr(cell, name)
        return normalised(a, 1e-3) * module.weight + (module.bias if bias else 0)

    a = norm("norm_ih", x @ cell.weight_ih.T) + norm("norm_hh", h @ cell.weight_hh.T)
    i, f, g, o = a[:, :6], a[:, 6:12], a[:, 12:18], a[:, 18:]
    c_t = f.sigmoid() * c + i.sigmoid() * g.tanh()
    assert_step(cell, x, (h, c), (o.sigmoid() * norm("norm_c", c_t).tanh(), c_t))


def test_layer_norm_does_not_see_the_scale_of_the_input() -> None:
    cell = LayerNormLSTMCell(5, 6, eps=1e-12).double()
    x, states = example(cell)
    torch.testing.assert_close(cell(100 * x, states), cell(x, states), rtol=1e-6, atol=1e-6)


@bias
def test_multiplicative(bias: bool) -> None:
    cell = MultiplicativeLSTMCell(5, 6, bias).double()
    x, (h, c) = example(cell)
    m = (x @ cell.weight_im.T) * (h @ cell.weight_hm.T)
    w = Blocks(cell)
    i, f, o = (w.sum(gate, x, m).sigmoid() for gate in "ifo")
    c_t = f * c + i * w.sum("g", x, m).tanh()
    assert_step(cell, x, (h, c), (o * c_t.tanh(), c_t))


def slstm_gates(cell: SLSTMCell, x: Tensor, h: Tensor) -> dict[str, Tensor]:
    """The gates with W_hh as one full matrix for each gate, zero outside its heads' blocks."""
    w, size = Blocks(cell), cell.hidden_size // cell.num_heads
    sums = {}
    for index, gate in enumerate(cell.gates):
        full = torch.zeros(cell.hidden_size, cell.hidden_size, dtype=x.dtype)
        for head in range(cell.num_heads):
            units = slice(head * size, (head + 1) * size)
            full[units, units] = cell.weight_hh[index, head]
        sums[gate] = w.input(gate, x) + h @ full.T
    return sums


heads = pytest.mark.parametrize("num_heads", [1, 2, 3, 6])


@heads
@bias
def test_slstm(bias: bool, num_heads: int) -> None:
    cell = SLSTMCell(5, 6, bias, num_heads).double()
    x, (h, c, n, m) = example(cell)
    a = slstm_gates(cell, x, h)
    log_f = a["f"].sigmoid().log()
    m_t = torch.maximum(log_f + m, a["i"])
    i, f = (a["i"] - m_t).exp(), (log_f + m - m_t).exp()
    c_t, n_t = f * c + i * a["z"].tanh(), f * n + i
    assert_step(cell, x, (h, c, n, m), (a["o"].sigmoid() * c_t / n_t, c_t, n_t, m_t))


@heads
def test_slstm_from_zeros_is_the_one_without_a_stabiliser(num_heads: int) -> None:
    cell = SLSTMCell(5, 6, num_heads=num_heads).double()
    sequence = torch.randn(5, 4, 5, dtype=torch.float64)
    h = c = n = torch.zeros(4, 6, dtype=torch.float64)
    expected = []
    for x in sequence:
        a = slstm_gates(cell, x, h)
        i, f = a["i"].exp(), a["f"].sigmoid()
        c, n = f * c + i * a["z"].tanh(), f * n + i
        h = a["o"].sigmoid() * c / n
        expected.append(h)
    output, (_, c_n, n_n, m_n) = Recurrent(cell)(sequence)
    torch.testing.assert_close(output, torch.stack(expected))
    torch.testing.assert_close((c_n * m_n.exp(), n_n * m_n.exp()), (c, n))


@pytest.mark.parametrize("m_0", [5.0, -300.0, 1e4])
def test_slstm_without_a_memory_does_not_see_the_stabiliser(m_0: float) -> None:
    cell = SLSTMCell(5, 6, num_heads=2).double()
    x, zeros = torch.randn(3, 4, 5).double(), torch.zeros(4, 6).double()
    expected = Recurrent(cell)(x)
    actual = Recurrent(cell)(x, (zeros, zeros, zeros, zeros + m_0))
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def test_slstm_where_only_the_normaliser_is_zero() -> None:
    cell = SLSTMCell(5, 6).double()
    x, (h, c, n, m) = example(cell)
    a = slstm_gates(cell, x, h)
    memory = a["f"].sigmoid() * c * m.exp() + a["i"].exp() * a["z"].tanh()
    h_t = cell(x, (h, c, 0 * n, m))[0]
    below = (a["f"].sigmoid().log() + m) < a["i"]  # elsewhere f is held at 1
    assert 0 < below.sum() < below.numel()
    torch.testing.assert_close(h_t[below], (a["o"].sigmoid() * memory / a["i"].exp())[below])


def test_slstm_is_finite_at_extreme_inputs() -> None:
    cell = SLSTMCell(5, 6, num_heads=2)
    x = (1e4 * torch.randn(6, 4, 5)).requires_grad_()
    output, (_, _, n, _) = Recurrent(cell)(x)
    assert output.abs().max() <= 1
    assert n.min() >= 1
    output.sum().backward()
    assert x.grad is not None
    for gradient in (x.grad, *(p.grad for p in cell.parameters())):
        assert gradient is not None
        assert gradient.isfinite().all()


def test_slstm_heads_do_not_see_each_other() -> None:
    cell = SLSTMCell(5, 6, num_heads=2)
    x, h, zeros = torch.randn(4, 5), torch.randn(4, 6), torch.zeros(4, 6)
    other = torch.cat((h[:, :3], torch.randn(4, 3)), -1)
    for one, two in zip(cell(x, [h, *[zeros] * 3]), cell(x, [other, *[zeros] * 3]), strict=True):
        assert torch.equal(one[:, :3], two[:, :3])
    assert not torch.equal(cell(x, [h, *[zeros] * 3])[0], cell(x, [other, *[zeros] * 3])[0])
