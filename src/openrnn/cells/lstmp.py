"""Long short-term memory with a projection."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openrnn.cells.lstm import LSTMCell
from openrnn.errors import ArgumentError


class LSTMPCell(LSTMCell):
    """One step of long short-term memory whose output is projected to fewer features.

    The gates i, f, g, o and the memory c_t are those of `LSTMCell`, with h of P features:

        c_t = f ⊙ c_{t-1} + i ⊙ g             memory    (B, H)
        h_t = W_hr (o ⊙ tanh(c_t))            output    (B, P)

    Parameters, the four gates stacked in the order i, f, g, o:

        weight_ih  (4·H, I)        bias_ih  (4·H)
        weight_hh  (4·H, P)        bias_hh  (4·H)        weight_hr = W_hr  (P, H)

    Args:
        input_size: features I of x_t, ≥ 1.
        hidden_size: units H of the memory, ≥ 1.
        proj_size: features P of the output, 1 ≤ P < H.
        bias: with bias_ih and bias_hh, or without. Default: True.
        device, dtype: of the parameters. Default: torch's defaults.

    Shapes:
        input: (B, I) or (I).
        hx: (h_{t-1}, c_{t-1}), (B, P) and (B, H), or (P) and (H). Default: zeros.

    Returns:
        (h_t, c_t), each of the shape of its predecessor.

    Raises:
        ArgumentError: proj_size outside 1 ≤ P < H.
        ShapeError: input or state of the wrong rank, size or dtype.
        StateError: not two tensors as the state.

    Source: Sak, Senior and Beaufays, "Long short-term memory based recurrent neural network
    architectures for large vocabulary speech recognition", 2014; without their second, not
    recurrent, projection, as in torch.

    Examples:
        >>> cell = LSTMPCell(30, 20, proj_size=5)
        >>> h, c = cell(torch.randn(3, 30))
        >>> h.shape, c.shape
        (torch.Size([3, 5]), torch.Size([3, 20]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        proj_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if not 0 < proj_size < hidden_size:
            raise ArgumentError(
                f"LSTMPCell: expected 1 ≤ proj_size < hidden_size = {hidden_size}, got {proj_size}"
            )
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.proj_size = proj_size
        factory = {"device": device, "dtype": dtype}
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, proj_size, **factory))
        self.weight_hr = nn.Parameter(torch.empty(proj_size, hidden_size, **factory))
        self.reset_parameters()

    @property
    def state_sizes(self) -> dict[str, int]:
        return {"h": self.proj_size, "c": self.hidden_size}

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, proj_size={self.proj_size}"

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        h, c = super().step(x, h, c)
        return F.linear(h, self.weight_hr), c
