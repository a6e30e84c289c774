"""What tests of equations share: the parameters of a cell, taken apart block by block."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from openrnn.cells import Cell
from tests.cells.box import as_given, as_tuple, random_states


class Blocks:
    """The blocks of a cell's stacked parameters, by gate; a missing bias is zero."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def __call__(self, parameter: str, gate: str) -> Any:
        stacked = getattr(self._cell, parameter)
        if stacked is None:
            return 0.0
        size = stacked.size(0) // len(self._cell.gates)
        start = self._cell.gates.index(gate) * size
        return stacked[start : start + size]

    def input(self, gate: str, x: Tensor) -> Tensor:
        """W_i x + b_i of one gate."""
        return x @ self("weight_ih", gate).T + self("bias_ih", gate)

    def hidden(self, gate: str, h: Tensor) -> Tensor:
        """W_h h + b_h of one gate."""
        return h @ self("weight_hh", gate).T + self("bias_hh", gate)

    def sum(self, gate: str, x: Tensor, h: Tensor) -> Tensor:
        return self.input(gate, x) + self.hidden(gate, h)


def example(cell: Cell) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A batch of 4 inputs and states, in float64."""
    x = torch.randn(4, cell.input_size, dtype=torch.float64)
    return x, random_states(cell, 4, dtype=torch.float64)


def assert_step(
    cell: Cell, x: Tensor, states: tuple[Tensor, ...], expected: tuple[Tensor, ...]
) -> None:
    actual = as_tuple(cell(x, as_given(states)))
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
