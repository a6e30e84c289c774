"""What the cells share whose gates read the input alone: they have no recurrent weights."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from openrnn.cells.base import Cell


class InputGatedCell(Cell):
    """A cell whose gates do not read its states; weight_hh and bias_hh are None."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.register_parameter("weight_hh", None)
        self.register_parameter("bias_hh", None)
        self.reset_parameters()

    def sums(self, x: Tensor) -> tuple[Tensor, ...]:
        """W_ih x_t + b_ih, block by block in the order of `gates`, each (B, H)."""
        return F.linear(x, self.weight_ih, self.bias_ih).chunk(len(self.gates), dim=-1)
