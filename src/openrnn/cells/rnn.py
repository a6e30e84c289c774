"""The plain recurrent network."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from openrnn.cells.base import Cell
from openrnn.errors import ArgumentError


def check_nonlinearity(owner: str, nonlinearity: str) -> str:
    """The nonlinearity itself, if it is known.

    Raises:
        ArgumentError: any other.
    """
    if nonlinearity not in ("tanh", "relu"):
        raise ArgumentError(
            f"{owner}: expected nonlinearity 'tanh' or 'relu', got {nonlinearity!r}"
        )
    return nonlinearity


class RNNCell(Cell):
    """One step of the plain recurrent network: a drop-in for `torch.nn.RNNCell`.

    With x_t of I features and a state h of H units:

        h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)       (B, H)

    One block of H rows, against four in an LSTM, three in a GRU:

        weight_ih  W_ih  (H, I)        bias_ih  b_ih  (H)
        weight_hh  W_hh  (H, H)        bias_hh  b_hh  (H)

    Args:
        input_size: features I of x_t, ≥ 1.
        hidden_size: units H of the state, ≥ 1.
        bias: with b_ih and b_hh, or without. Default: True.
        nonlinearity: "tanh" or "relu". Default: "tanh".
        device, dtype: of the parameters. Default: torch's defaults.

    Shapes:
        input: (B, I) or (I).
        hx: h_{t-1}, (B, H) or (H). Default: zeros.

    Returns:
        h_t, of the shape of hx.

    Raises:
        ShapeError: input or state of the wrong rank, size or dtype.
        StateError: a state that is not a tensor.
        ArgumentError: an unknown nonlinearity.

    Source: Elman, "Finding structure in time", 1990; with torch's two biases.

    Examples:
        >>> cell = RNNCell(100, 20)
        >>> cell(torch.randn(3, 100)).shape
        torch.Size([3, 20])
    """

    gates = ("h",)
    nonlinearity: str

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = check_nonlinearity("RNNCell", nonlinearity)

    def step(self, x: Tensor, h: Tensor) -> tuple[Tensor]:
        h = self.drop(h)
        a = F.linear(x, self.weight_ih, self.bias_ih) + F.linear(h, self.weight_hh, self.bias_hh)
        return (torch.tanh(a) if self.nonlinearity == "tanh" else torch.relu(a),)
