"""The gated recurrent unit with layer normalisation."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openrnn.cells.layernorm import LayerNormCell


class LayerNormGRUCell(LayerNormCell):
    """One step of the gated recurrent unit whose sums are brought to one scale at each step.

    With x_t of I features and a state h of H units:

        [a_r; a_z] = LN_ih(W_irz x_t) + LN_hh(W_hrz h_{t-1})                      (B, 2·H)

        r   = σ(a_r)                                              reset gate      (B, H)
        z   = σ(a_z)                                              update gate     (B, H)
        n   = tanh(LN_in(W_in x_t) + r ⊙ LN_hn(W_hn h_{t-1}))     candidate       (B, H)
        h_t = (1 - z) ⊙ n + z ⊙ h_{t-1}                           output          (B, H)

        LN(a) = (a - mean(a)) / √(variance(a) + eps) ⊙ weight + bias

    Mean and variance are over the features of one row: the 2·H of both gates together, the H of the
    candidate. Parameters, the gates stacked in the order r, z, n, with W_irz = [W_ir; W_iz]:

        weight_ih  (3·H, I)        norm_ih.weight, norm_ih.bias  (2·H)    norm_in.…  (H)
        weight_hh  (3·H, H)        norm_hh.weight, norm_hh.bias  (2·H)    norm_hn.…  (H)

    The norms' weights start at 1 and their biases at 0; bias_ih and bias_hh are None.

    Args:
        input_size: features I of x_t, ≥ 1.
        hidden_size: units H of the state, ≥ 1.
        bias: with the norms' biases, or without. Default: True.
        eps: added to each variance, 0 < eps < 1. Default: 1e-5.
        device, dtype: of the parameters. Default: torch's defaults.

    Shapes:
        input: (B, I) or (I).
        hx: h_{t-1}, (B, H) or (H). Default: zeros.

    Returns:
        h_t, of the shape of hx.

    Raises:
        ArgumentError: eps out of its range.
        ShapeError: input or state of the wrong rank, size or dtype.
        StateError: a state that is not a tensor.

    Source: Ba, Kiros and Hinton, "Layer normalization", 2016; z weighs the old state, as in
    `GRUCell`, where in the paper it weighs the candidate. The paper has no eps; it is torch's.

    Examples:
        >>> cell = LayerNormGRUCell(30, 20)
        >>> cell(torch.randn(3, 30)).shape, cell.norm_ih.weight.shape
        (torch.Size([3, 20]), torch.Size([40]))
    """

    gates = ("r", "z", "n")
    norms: ClassVar[dict[str, int]] = {"norm_ih": 2, "norm_hh": 2, "norm_in": 1, "norm_hn": 1}
    norm_ih: nn.LayerNorm
    norm_hh: nn.LayerNorm
    norm_in: nn.LayerNorm
    norm_hn: nn.LayerNorm

    def step(self, x: Tensor, h: Tensor) -> tuple[Tensor]:
        sizes = [2 * self.hidden_size, self.hidden_size]
        rz_x, n_x = torch.split(F.linear(x, self.weight_ih), sizes, dim=-1)
        rz_h, n_h = torch.split(F.linear(h, self.weight_hh), sizes, dim=-1)
        r, z = torch.sigmoid(self.norm_ih(rz_x) + self.norm_hh(rz_h)).chunk(2, dim=-1)
        n = self.drop(torch.tanh(self.norm_in(n_x) + r * self.norm_hn(n_h)))
        return ((1 - z) * n + z * h,)
