"""The minimal GRU that can be computed in parallel."""

from __future__ import annotations

import torch
from torch import Tensor

from openrnn.cells.inputgated import InputGatedCell


class MinGRUCell(InputGatedCell):
    """One step of minGRU: a GRU whose gate and candidate read the input alone.

    With x_t of I features and a state h of H units:

        z   = σ(W_iz x_t + b_iz)                update gate    (B, H)
        n   = W_in x_t + b_in                   candidate      (B, H)
        h_t = (1 - z) ⊙ h_{t-1} + z ⊙ n         output         (B, H)

    Each parameter stacks the gate and the candidate in the order z, n:

        weight_ih = [W_iz; W_in]  (2·H, I)        bias_ih = [b_iz; b_in]  (2·H)

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
    logarithms, whose candidate is positive. As there, z weighs the candidate, where z of `GRUCell`
    weighs the old state.

    Examples:
        >>> cell = MinGRUCell(30, 20)
        >>> cell(torch.randn(3, 30)).shape, cell.weight_ih.shape
        (torch.Size([3, 20]), torch.Size([40, 30]))
    """

    gates = ("z", "n")

    def step(self, x: Tensor, h: Tensor) -> tuple[Tensor]:
        a_z, n = self.sums(x)
        z = torch.sigmoid(a_z)
        return ((1 - z) * h + z * n,)
