"""The minimal LSTM that can be computed in parallel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from openrnn.cells.inputgated import InputGatedCell


class MinLSTMCell(InputGatedCell):
    """One step of minLSTM: an LSTM whose gates read the input alone, and share 1 between them.

    With x_t of I features and a state h of H units:

        f   = σ(W_if x_t + b_if)                                   forget gate    (B, H)
        i   = σ(W_ii x_t + b_ii)                                   input gate     (B, H)
        g   = W_ig x_t + b_ig                                      candidate      (B, H)
        h_t = f / (f + i) ⊙ h_{t-1} + i / (f + i) ⊙ g              output         (B, H)

    Each parameter stacks the gates and the candidate in the order f, i, g:

        weight_ih = [W_if; W_ii; W_ig]  (3·H, I)        bias_ih = [b_if; b_ii; b_ig]  (3·H)

    There are no recurrent weights: weight_hh and bias_hh are None.

    Args:
        input_size: features I of x_t, ≥ 1.
        hidden_size: units H of the state, ≥ 1.
        bias: with bias_ih, or without. Default: True.
        device, dtype: of the parameters. Default: torch's defaults.

    Shapes:
        input: (B, I) or (I).
        hx: h_{t-1}, (B, H) or (H). Default: zeros.

    Returns:
        h_t, of the shape of hx.

    Raises:
        ShapeError: input or state of the wrong rank, size or dtype.
        StateError: a state that is not a tensor.

    Source: Feng et al., "Were RNNs all we needed?", 2024, in its plain form, not the one in
    logarithms, whose candidate is positive. The ratio f / (f + i) is computed as σ(log f - log i),
    so that it is no 0 / 0 where both gates are shut.

    Examples:
        >>> cell = MinLSTMCell(30, 20)
        >>> cell(torch.randn(3, 30)).shape, cell.weight_ih.shape
        (torch.Size([3, 20]), torch.Size([60, 30]))
    """

    gates = ("f", "i", "g")

    def step(self, x: Tensor, h: Tensor) -> tuple[Tensor]:
        f, i, g = self.sums(x)
        keep = torch.sigmoid(F.logsigmoid(f) - F.logsigmoid(i))
        return (keep * h + (1 - keep) * g,)
