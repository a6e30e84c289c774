"""The independently recurrent network."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openrnn.cells.base import Cell
from openrnn.errors import ArgumentError


class IndRNNCell(Cell):
    """One step of the independently recurrent network: each unit remembers only itself.

    With x_t of I features and a state h of H units:

        h_t = relu(W_ih x_t + b_ih + u ⊙ h_{t-1})       (B, H)

    One number for each unit takes the place of the matrix W_hh. Parameters:

        weight_ih = W_ih  (H, I)        bias_ih = b_ih  (H)
        weight_hh = u     (H)

    u starts uniform from 0 to 1, so that no unit's memory grows; bias_hh is None.

    Args:
        input_size: features I of x_t, ≥ 1.
        hidden_size: units H of the state, ≥ 1.
        bias: with bias_ih, or without. Default: True.
        nonlinearity: "relu" or "tanh". Default: "relu".
        device, dtype: of the parameters. Default: torch's defaults.

    Shapes:
        input: (B, I) or (I).
        hx: h_{t-1}, (B, H) or (H). Default: zeros.

    Returns:
        h_t, of the shape of hx.

    Raises:
        ArgumentError: an unknown nonlinearity.
        ShapeError: input or state of the wrong rank, size or dtype.
        StateError: a state that is not a tensor.

    Source: Li et al., "Independently recurrent neural network (IndRNN): building a longer and
    deeper RNN", 2018. They hold |u| below a bound, the T-th root of 2 for T steps, by clipping
    after each update; the cell, which does not know T, leaves that to the training loop.

    Examples:
        >>> cell = IndRNNCell(30, 20)
        >>> cell(torch.randn(3, 30)).shape, cell.weight_hh.shape
        (torch.Size([3, 20]), torch.Size([20]))
    """

    gates = ("h",)
    nonlinearity: str

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "relu",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        if nonlinearity not in ("relu", "tanh"):
            raise ArgumentError(
                f"IndRNNCell: expected nonlinearity 'relu' or 'tanh', got {nonlinearity!r}"
            )
        self.nonlinearity = nonlinearity
        self.weight_hh = nn.Parameter(torch.empty(hidden_size, device=device, dtype=dtype))
        self.register_parameter("bias_hh", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """u uniform from 0 to 1, the rest as torch's."""
        super().reset_parameters()
        nn.init.uniform_(self.weight_hh, 0, 1)

    def step(self, x: Tensor, h: Tensor) -> tuple[Tensor]:
        a = F.linear(x, self.weight_ih, self.bias_ih) + self.weight_hh * h
        return (torch.relu(a) if self.nonlinearity == "relu" else torch.tanh(a),)
