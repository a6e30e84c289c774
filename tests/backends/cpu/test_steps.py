"""Every function that a step may contain, in a generated kernel against the eager loop."""

from __future__ import annotations

from itertools import zip_longest

import pytest
import torch

import openrnn
from tests.step.test_trace import FUNCTIONS, Step

# These compute in float32 too, where the layer is in float64: `(x > 0) * 2.0` does so in torch.
OF_TWO_DTYPES = ("isnan and isinf", "comparisons", "cast")


@pytest.mark.parametrize("name", OF_TWO_DTYPES)
def test_a_step_in_two_dtypes_is_refused(name: str) -> None:
    layer = openrnn.Recurrent(Step(FUNCTIONS[name]), backend="cpu")
    with pytest.raises(openrnn.BackendError, match=r"in one dtype, torch.float64 .* torch.float32"):
        layer(torch.randn(3, 4, 5, dtype=torch.float64))


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in OF_TWO_DTYPES])
def test_values_and_gradients(name: str) -> None:
    cell = Step(FUNCTIONS[name])
    results = []
    for backend in ("eager", "cpu"):
        torch.manual_seed(0)
        x = torch.randn(3, 4, 5, dtype=torch.float64).requires_grad_()
        h = torch.randn(4, 6, dtype=torch.float64).requires_grad_()
        output, final = openrnn.Recurrent(cell, backend=backend)(x, h)
        loss = (output.sin() * torch.arange(6)).sum() + final.cos().sum()
        results.append([output, final])
        if loss.requires_grad:
            inputs = [x, h, *cell.parameters()]
            results[-1] += torch.autograd.grad(loss, inputs, allow_unused=True)
    for eager, cpu in zip_longest(*results):
        if eager is None or cpu is None:  # None is zero
            assert all(gradient is None or not gradient.any() for gradient in (eager, cpu))
        else:
            torch.testing.assert_close(cpu, eager, equal_nan=True)


class WithoutRows(torch.nn.Module):
    """Products and running sums of what is the same for all rows: weights, biases and a number."""

    hidden_size = input_size = 3

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(3, 3))
        self.a = torch.nn.Parameter(torch.randn(3))
        self.b = torch.nn.Parameter(torch.randn(1))

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        repeated = self.b.expand(len(x), 3) @ self.weight
        summed = (self.a + self.a.flip(0)).expand(len(x), 3) @ self.weight
        number = torch.full_like(x, 0.25)
        return torch.tanh(h + x + repeated + summed + number @ self.weight + number.cumsum(-1))


def test_factors_without_rows() -> None:
    cell = WithoutRows()
    results = []
    for backend in ("eager", "cpu"):
        torch.manual_seed(0)
        output, _ = openrnn.Recurrent(cell, backend=backend)(torch.randn(4, 5, 3))
        results.append((output, *torch.autograd.grad(output.square().sum(), [*cell.parameters()])))
    for eager, cpu in zip(*results, strict=True):
        torch.testing.assert_close(cpu, eager)
