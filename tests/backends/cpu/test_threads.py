"""The same numbers for any number of threads, and from any thread."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

import openrnn
from tests.cells.box import BOX

from .scripts import run


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def everything(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """Output, final states and all gradients."""
    x = x.clone().requires_grad_()
    output, final = layer(x)
    states = [final] if isinstance(final, Tensor) else list(final)
    loss = output.sin().sum() + sum(state.cos().sum() for state in states)
    return [output, *states, *torch.autograd.grad(loss, [x, *layer.parameters()])]


@pytest.mark.parametrize("name", ["LSTMCell", "LayerNormLSTMCell", "GRUCell", "SLSTMCell 2 heads"])
@pytest.mark.parametrize("batch", [1, 9, 200])
def test_bit_for_bit(name: str, batch: int) -> None:
    layer = openrnn.Recurrent(BOX[name](5, 14), backend="cpu")
    x = torch.randn(7, batch, 5)
    results = []
    for threads in (1, 2, 2):
        torch.set_num_threads(threads)
        results.append(everything(layer, x))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_is_the_same_in_every_batch(dtype: torch.dtype) -> None:
    """Also where it is alone, and its product is one vector wide."""
    layer = openrnn.Recurrent(openrnn.RNNCell(5, 4), backend="cpu").to(dtype)
    for _ in range(20):
        x = torch.randn(3, 9, 5, dtype=dtype)
        together = layer(x)[0]
        for rows in (1, 2, 5):
            assert torch.equal(layer(x[:, :rows])[0], together[:, :rows])


@pytest.mark.parametrize("name", ["LSTMCell", "LayerNormLSTMCell", "SLSTMCell 2 heads", "RHNCell"])
@pytest.mark.parametrize("threads", [2, 3, 5])
@pytest.mark.parametrize("batch", [1, 2])
def test_bit_for_bit_where_threads_share_products(name: str, threads: int, batch: int) -> None:
    """With fewer rows than threads, and enough to do at a step, all run all rows together."""
    layer = openrnn.Recurrent(BOX[name](70, 262), backend="cpu")
    x = torch.randn(40, batch, 70)
    results = []
    for count in (1, threads, threads):
        torch.set_num_threads(count)
        results.append(everything(layer, x))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_threads_that_share_products_in_several_calls_at_once() -> None:
    layer = openrnn.Recurrent(openrnn.LSTMCell(70, 262), backend="cpu")
    inputs = [torch.randn(5, 1, 70) for _ in range(12)]
    expected = [layer(x)[0] for x in inputs]
    torch.set_num_threads(2)
    with ThreadPoolExecutor(4) as pool:
        actual = list(pool.map(lambda x: layer(x)[0], inputs))
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


def test_calls_from_several_threads() -> None:
    layer = openrnn.Recurrent(openrnn.LSTMCell(5, 13), backend="cpu")
    inputs = [torch.randn(20, 3 + i % 5, 5) for i in range(40)]
    expected = [layer(x)[0] for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        actual = list(pool.map(lambda x: layer(x)[0], inputs))
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


def test_a_forked_worker() -> None:
    """As a DataLoader has them: torch gives each worker one thread."""
    script = """
import os, signal, torch, openrnn
torch.set_num_threads(2)
layer, x = openrnn.Recurrent(openrnn.LSTMCell(5, 13), backend="cpu"), torch.randn(7, 200, 5)
expected = layer(x)[0]
child = os.fork()
if child == 0:
    signal.alarm(60)
    torch.set_num_threads(1)
    os._exit(0 if torch.equal(layer(x)[0], expected) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run(script)[0] == "0"
