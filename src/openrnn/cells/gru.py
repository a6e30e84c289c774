"""The gated recurrent unit."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from openrnn.cells.base import Cell


class GRUCell(Cell):
    """One step of the gated recurrent unit: a drop-in for `torch.nn.GRUCell`.

    With x_t of I features and a state h of H units:

        r   = σ(W_ir x_t + b_ir + W_hr h_{t-1} + b_hr)             reset gate     (B, H)
        z   = σ(W_iz x_t + b_iz + W_hz h_{t-1} + b_hz)             update gate    (B, H)
        n   = tanh(W_in x_t + b_in + r ⊙ (W_hn h_{t-1} + b_hn))    candidate      (B, H)
        h_t = (1 - z) ⊙ n + z ⊙ h_{t-1}                            output         (B, H)

    Each parameter stacks the three gates in the order r, z, n:

        weight_ih = [W_ir; W_iz; W_in]  (3·H, I)        bias_ih = [b_ir; b_iz; b_in]  (3·H)
        weight_hh = [W_hr; W_hz; W_hn]  (3·H, H)        bias_hh = [b_hr; b_hz; b_hn]  (3·H)

    Args:
        input_size: features I of x_t, ≥ 1.
        hidden_size: units H of the state, ≥ 1.
        bias: with bias_ih and bias_hh, or without. Default: True.
        device, dtype: of the parameters. Default: torch's defaults.

    Shapes:
        input: (B, I) or (I).
        hx: h_{t-1}, (B, H) or (H). Default: zeros.

    Returns:
        h_t, of the shape of hx.

    Raises:
        ShapeError: input or state of the wrong rank, size or dtype.
        StateError: a state that is not a tensor.

    Source: Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical
    machine translation", 2014; as in torch and cuDNN, the reset gate is applied after the product
    with W_hn, and z weighs the old state, not the candidate.

    Examples:
        >>> cell = GRUCell(30, 20)
        >>> cell(torch.randn(3, 30), torch.zeros(3, 20)).shape
        torch.Size([3, 20])
    """

    gates = ("r", "z", "n")

    def step(self, x: Tensor, h: Tensor) -> tuple[Tensor]:
        r_x, z_x, n_x = F.linear(x, self.weight_ih, self.bias_ih).chunk(3, dim=-1)
        r_h, z_h, n_h = F.linear(h, self.weight_hh, self.bias_hh).chunk(3, dim=-1)
        r = torch.sigmoid(r_x + r_h)
        z = torch.sigmoid(z_x + z_h)
        n = self.drop(torch.tanh(n_x + r * n_h))
        return ((1 - z) * n + z * h,)
