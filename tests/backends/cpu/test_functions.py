"""Each function of the kernels over the whole range of numbers, against torch in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import openrnn

NAMES = (
    *("exp", "expm1", "sigmoid", "tanh", "log", "log1p", "exp2", "log2", "log10", "sqrt", "rsqrt"),
    *("reciprocal", "sinh", "cosh", "erf", "sin", "cos", "tan", "asin", "acos", "atan", "asinh"),
    *("acosh", "atanh", "abs", "neg", "sign", "relu", "floor", "ceil", "trunc", "round"),
)


class Apply(nn.Module):
    """A step that is one function of its state."""

    def __init__(self, name: str, size: int) -> None:
        super().__init__()
        self.state_sizes = {"h": size}
        self.function = getattr(torch, name)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        result: Tensor = self.function(h)
        return result


def grid(dtype: torch.dtype) -> Tensor:
    limits = torch.finfo(dtype)
    powers = torch.logspace(-300, 300, 1201, dtype=torch.float64)
    near = torch.linspace(0, 1, 501, dtype=torch.float64)
    wide = torch.linspace(1, 800, 3001, dtype=torch.float64)
    special = torch.tensor(
        [0.0, limits.tiny, limits.tiny / 4, limits.max, torch.inf, 0.5, 1.5, 2.5, 88.72, 709.78],
        dtype=torch.float64,
    )
    positive = torch.cat((powers, near, wide, special))
    both = torch.cat((positive, -positive, torch.tensor([torch.nan], dtype=torch.float64)))
    return both.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_values(name: str, dtype: torch.dtype) -> None:
    h = grid(dtype)
    layer = openrnn.Recurrent(Apply(name, len(h)), backend="cpu")
    actual = layer(torch.zeros(1, 1, 1, dtype=dtype), h[None])[0].flatten()
    truth = getattr(torch, name)(h.double())
    expected = truth.to(dtype)
    assert torch.equal(actual.isnan(), expected.isnan())
    ends = expected.isinf() | actual.isinf()
    # At the very edge of the range one rounding decides between the largest number and infinity.
    near_edge = truth.abs() > 0.999 * torch.finfo(dtype).max
    assert torch.equal(actual[ends & ~near_edge], expected[ends & ~near_edge])
    zero = truth == 0
    assert torch.equal(actual[zero], expected[zero])
    assert torch.equal(actual[zero].signbit(), expected[zero].signbit())
    # Below the smallest normal number torch's own functions lose digits too.
    tiny = truth.abs() < torch.finfo(dtype).tiny
    assert (actual[tiny].abs() <= torch.finfo(dtype).tiny).all()
    usual = ~ends & ~expected.isnan() & ~tiny
    spacing = torch.finfo(dtype).eps * truth.abs().clamp_min(torch.finfo(dtype).tiny)
    error = ((actual.double() - truth).abs() / spacing)[usual]
    worst = error.argmax()
    assert error[worst] <= 4, (
        f"{name}({h[usual][worst]}): {error[worst]:.2f} units in the last place"
    )
