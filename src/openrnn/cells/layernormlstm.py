"""Long short-term memory with layer normalisation."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openrnn.cells.layernorm import LayerNormCell


class LayerNormLSTMCell(LayerNormCell):
    """One step of long short-term memory whose sums are brought to one scale at each step.

    With x_t of I features, and two states of H units each, the output h and the memory c:

        [a_i; a_f; a_g; a_o] = LN_ih(W_ih x_t) + LN_hh(W_hh h_{t-1})       (B, 4·H)

        i   = σ(a_i)                       input gate        (B, H)
        f   = σ(a_f)                       forget gate       (B, H)
        g   = tanh(a_g)                    cell candidate    (B, H)
        o   = σ(a_o)                       output gate       (B, H)
        c_t = f ⊙ c_{t-1} + i ⊙ g          memory            (B, H)
        h_t = o ⊙ tanh(LN_c(c_t))          output            (B, H)

        LN(a) = (a - mean(a)) / √(variance(a) + eps) ⊙ weight + bias

    Mean and variance are over the features of one row: over all 4·H of LN_ih and of LN_hh, the H of
    LN_c. The memory itself is not normalised, only what the output sees of it. Parameters, the
    four gates stacked in the order i, f, g, o:

        weight_ih  (4·H, I)        norm_ih.weight, norm_ih.bias  (4·H)
        weight_hh  (4·H, H)        norm_hh.weight, norm_hh.bias  (4·H)
                                   norm_c.weight, norm_c.bias    (H)

    The norms' weights start at 1 and their biases at 0; bias_ih and bias_hh are None.

    Args:
        input_size: features I of x_t, ≥ 1.
        hidden_size: units H of each state, ≥ 1.
        bias: with the norms' biases, or without. Default: True.
        eps: added to each variance, 0 < eps < 1. Default: 1e-5.
        device, dtype: of the parameters. Default: torch's defaults.

    Shapes:
        input: (B, I) or (I).
        hx: (h_{t-1}, c_{t-1}), a tuple or a list, each (B, H) or (H). Default: zeros.

    Returns:
        (h_t, c_t), each of the shape of its predecessor.

    Raises:
        ArgumentError: eps out of its range.
        ShapeError: input or state of the wrong rank, size or dtype.
        StateError: not two tensors as the state.

    Source: Ba, Kiros and Hinton, "Layer normalization", 2016; their separate bias b is left out, as
    the biases of the norms add up to the same. The paper has no eps; it is torch's.

    Examples:
        >>> cell = LayerNormLSTMCell(30, 20)
        >>> h, c = cell(torch.randn(3, 30))
        >>> h.shape, c.shape, cell.norm_ih.weight.shape
        (torch.Size([3, 20]), torch.Size([3, 20]), torch.Size([80]))
    """

    gates = ("i", "f", "g", "o")
    states = ("h", "c")
    norms: ClassVar[dict[str, int]] = {"norm_ih": 4, "norm_hh": 4, "norm_c": 1}
    norm_ih: nn.LayerNorm
    norm_hh: nn.LayerNorm
    norm_c: nn.LayerNorm

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        a_i, a_f, a_g, a_o = (
            self.norm_ih(F.linear(x, self.weight_ih)) + self.norm_hh(F.linear(h, self.weight_hh))
        ).chunk(4, dim=-1)
        i, f, o = torch.sigmoid(a_i), torch.sigmoid(a_f), torch.sigmoid(a_o)
        g = self.drop(torch.tanh(a_g))
        c = f * c + i * g
        h = o * torch.tanh(self.norm_c(c))
        return h, c
