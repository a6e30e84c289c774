"""Weight gradients of arrays that lie in one memory, or are one array, and yet are not the same."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import openrnn


class Twice(nn.Module):
    """Both states are the same tensor after a step, and not before the first."""

    state_sizes = {"h": 24, "c": 24}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u, self.v = nn.Linear(5, 3), nn.Linear(24, 3), nn.Linear(24, 3)
        self.p = nn.Linear(3, 24)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        new = torch.tanh(self.p(torch.tanh(self.w(x) + self.u(state[0]) + self.v(state[1]))))
        return new, new


class Outward(nn.Module):
    """The first state is made for the outside, and no step reads it."""

    state_sizes = {"o": 30, "h": 10}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u, self.v = nn.Linear(40, 10), nn.Linear(10, 10), nn.Linear(10, 30)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.w(x) + self.u(state[1]))
        return self.v(h), h


class Apart(nn.Module):
    """No state is read at all."""

    state_sizes = {"h": 8, "c": 6}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.w, self.v = nn.Linear(5, 8), nn.Linear(5, 6)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return self.w(x), self.v(x)


def gradients(cell: nn.Module, backend: str, x: Tensor, state: object, outside: Tensor) -> object:
    layer = openrnn.Recurrent(cell, backend=backend)
    output, _ = layer(x, state)
    wanted = [p for name, p in cell.named_parameters() if not name.startswith("v.") or state]
    return torch.autograd.grad(output, wanted, outside, allow_unused=True)


def test_rows_of_the_step_before_with_other_initial_states() -> None:
    cell, x = Twice().double(), torch.randn(6, 2, 5).double()
    state = torch.randn(2, 24).double(), torch.randn(2, 24).double()
    outside = torch.randn(6, 2, 24).double()
    expected, found = (gradients(cell, b, x, state, outside) for b in ("eager", "cpu"))
    torch.testing.assert_close(found, expected)


def test_arrays_of_other_widths_in_one_memory() -> None:
    cell, memory = Outward(), torch.randn(6 * 2 * 40)
    x, outside = memory.view(6, 2, 40), memory[: 6 * 2 * 30].view(6, 2, 30)
    state = torch.zeros(2, 30), torch.zeros(2, 10)
    expected, found = (gradients(cell, b, x, state, outside) for b in ("eager", "cpu"))
    torch.testing.assert_close(found, expected)


def test_float64_where_no_state_is_carried() -> None:
    cell, x = Apart().double(), torch.randn(6, 2, 5).double()
    outside = torch.randn(6, 2, 8).double()
    expected, found = (gradients(cell, b, x, None, outside) for b in ("eager", "cpu"))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
