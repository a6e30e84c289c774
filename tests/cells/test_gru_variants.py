"""The variants of the GRU and of the plain network against their equations written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from openrnn.cells import IndRNNCell, LayerNormGRUCell, MGUCell, OriginalGRUCell, RHNCell
from tests.cells.equations import Blocks, assert_step, example

bias = pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])


@bias
def test_original_gru(bias: bool) -> None:
    cell = OriginalGRUCell(5, 6, bias).double()
    x, (h,) = example(cell)
    w = Blocks(cell)
    r, z = w.sum("r", x, h).sigmoid(), w.sum("z", x, h).sigmoid()
    n = w.sum("n", x, r * h).tanh()
    assert_step(cell, x, (h,), ((1 - z) * n + z * h,))


@bias
def test_mgu(bias: bool) -> None:
    cell = MGUCell(5, 6, bias).double()
    x, (h,) = example(cell)
    w = Blocks(cell)
    f = w.sum("f", x, h).sigmoid()
    n = w.sum("n", x, f * h).tanh()
    assert_step(cell, x, (h,), ((1 - f) * h + f * n,))


@bias
def test_layer_norm(bias: bool) -> None:
    cell = LayerNormGRUCell(5, 6, bias, eps=1e-3).double()
    for parameter in cell.parameters():
        torch.nn.init.normal_(parameter)
    x, (h,) = example(cell)

    def norm(name: str, a: Tensor) -> Tensor:
        mean = a.mean(-1, keepdim=True)
        variance = (a - mean).square().mean(-1, keepdim=True)
        module = getattr(cell, name)
        scaled = (a - mean) / (variance + 1e-3).sqrt() * module.weight
        return scaled + module.bias if bias else scaled

    a = norm("norm_ih", x @ cell.weight_ih[:12].T) + norm("norm_hh", h @ cell.weight_hh[:12].T)
    r, z = a[:, :6].sigmoid(), a[:, 6:].sigmoid()
    n_x, n_h = x @ cell.weight_ih[12:].T, h @ cell.weight_hh[12:].T
    n = (norm("norm_in", n_x) + r * norm("norm_hn", n_h)).tanh()
    assert_step(cell, x, (h,), ((1 - z) * n + z * h,))


@pytest.mark.parametrize("nonlinearity", ["relu", "tanh"])
@bias
def test_indrnn(bias: bool, nonlinearity: str) -> None:
    cell = IndRNNCell(5, 6, bias, nonlinearity).double()
    x, (h,) = example(cell)
    a = x @ cell.weight_ih.T + h @ torch.diag(cell.weight_hh).T
    if bias:
        a = a + cell.bias_ih
    assert_step(cell, x, (h,), (a.clamp(min=0) if nonlinearity == "relu" else a.tanh(),))


def test_indrnn_starts_with_memories_that_do_not_grow() -> None:
    cell = IndRNNCell(4, 1000)
    assert cell.weight_hh.min() >= 0
    assert 0.9 < cell.weight_hh.max() <= 1
    assert cell.weight_ih.abs().max() <= 1000**-0.5


@pytest.mark.parametrize("depth", [1, 2, 5])
@bias
def test_rhn(bias: bool, depth: int) -> None:
    cell = RHNCell(5, 6, depth, bias).double()
    x, (s,) = example(cell)
    h = s
    for layer in range(depth):
        n, k = s @ cell.weight_hh[layer, :6].T, s @ cell.weight_hh[layer, 6:].T
        if bias:
            n, k = n + cell.bias_hh[layer, :6], k + cell.bias_hh[layer, 6:]
        if layer == 0:
            n, k = n + x @ cell.weight_ih[:6].T, k + x @ cell.weight_ih[6:].T
        k = k.sigmoid()
        s = n.tanh() * k + s * (1 - k)
    assert_step(cell, x, (h,), (s,))


def test_rhn_transform_bias() -> None:
    for given, expected in (({}, -2.0), ({"transform_bias": -4}, -4.0)):
        cell = RHNCell(5, 6, 3, **given)
        for _ in range(2):
            assert (cell.bias_hh[:, 6:] == expected).all()
            assert 0 < cell.bias_hh[:, :6].abs().max() <= 6**-0.5
            cell.reset_parameters()
