"""The minimal gated unit."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from openrnn.cells.base import Cell


class MGUCell(Cell):
    """One step of the minimal gated unit: a GRU whose reset and update gate are one.

    With x_t of I features and a state h of H units:

        f   = σ(W_if x_t + b_if + W_hf h_{t-1} + b_hf)             forget gate    (B, H)
        n   = tanh(W_in x_t + b_in + W_hn (f ⊙ h_{t-1}) + b_hn)    candidate      (B, H)
        h_t = (1 - f) ⊙ h_{t-1} + f ⊙ n                            output         (B, H)

    Each parameter stacks the gate and the candidate in the order f, n:

        weight_ih = [W_if; W_in]  (2·H, I)        bias_ih = [b_if; b_in]  (2·H)
        weight_hh = [W_hf; W_hn]  (2·H, H)        bias_hh = [b_hf; b_hn]  (2·H)

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

    Source: Zhou et al., "Minimal gated unit for recurrent neural networks", 2016; with torch's two
    biases. As there, f weighs the candidate, where z of `GRUCell` weighs the old state.

    Examples:
        >>> cell = MGUCell(30, 20)
        >>> cell(torch.randn(3, 30)).shape, cell.weight_hh.shape
        (torch.Size([3, 20]), torch.Size([40, 20]))
    """

    gates = ("f", "n")

    def step(self, x: Tensor, h: Tensor) -> tuple[Tensor]:
        f_x, n_x = F.linear(x, self.weight_ih, self.bias_ih).chunk(2, dim=-1)
        w_hf, w_hn = self.weight_hh.chunk(2)
        b_hf, b_hn = self.bias_hh.chunk(2) if self.bias else (None, None)
        f = torch.sigmoid(f_x + F.linear(h, w_hf, b_hf))
        n = torch.tanh(n_x + F.linear(f * h, w_hn, b_hn))
        return ((1 - f) * h + f * n,)
