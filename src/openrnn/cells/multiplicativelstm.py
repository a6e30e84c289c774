"""Long short-term memory whose recurrent weights depend on the input."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openrnn.cells.lstm import LSTMCell


class MultiplicativeLSTMCell(LSTMCell):
    """One step of multiplicative long short-term memory: the input chooses the transition.

    With x_t of I features, and two states of H units each, the output h and the memory c:

        m = (W_im x_t) ⊙ (W_hm h_{t-1})        intermediate state    (B, H)

    and then the equations of `LSTMCell` with m in place of h_{t-1}:

        i   = σ(W_ii x_t + b_ii + W_hi m + b_hi)       input gate        (B, H)
        f   = σ(W_if x_t + b_if + W_hf m + b_hf)       forget gate       (B, H)
        g   = tanh(W_ig x_t + b_ig + W_hg m + b_hg)    cell candidate    (B, H)
        o   = σ(W_io x_t + b_io + W_ho m + b_ho)       output gate       (B, H)
        c_t = f ⊙ c_{t-1} + i ⊙ g                      memory            (B, H)
        h_t = o ⊙ tanh(c_t)                            output            (B, H)

    Parameters, the four gates stacked in the order i, f, g, o:

        weight_ih  (4·H, I)        bias_ih  (4·H)        weight_im = W_im  (H, I)
        weight_hh  (4·H, H)        bias_hh  (4·H)        weight_hm = W_hm  (H, H)

    Args:
        input_size: features I of x_t, ≥ 1.
        hidden_size: units H of each state, ≥ 1.
        bias: with bias_ih and bias_hh, or without. Default: True.
        device, dtype: of the parameters. Default: torch's defaults.

    Shapes:
        input: (B, I) or (I).
        hx: (h_{t-1}, c_{t-1}), a tuple or a list, each (B, H) or (H). Default: zeros.

    Returns:
        (h_t, c_t), each of the shape of its predecessor.

    Raises:
        ShapeError: input or state of the wrong rank, size or dtype.
        StateError: not two tensors as the state.

    Source: Krause et al., "Multiplicative LSTM for sequence modelling", 2016; with torch's two
    biases, and m of as many units as h.

    Examples:
        >>> cell = MultiplicativeLSTMCell(30, 20)
        >>> h, c = cell(torch.randn(3, 30))
        >>> h.shape, c.shape, cell.weight_hm.shape
        (torch.Size([3, 20]), torch.Size([3, 20]), torch.Size([20, 20]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        factory = {"device": device, "dtype": dtype}
        self.weight_im = nn.Parameter(torch.empty(hidden_size, input_size, **factory))
        self.weight_hm = nn.Parameter(torch.empty(hidden_size, hidden_size, **factory))
        self.reset_parameters()

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        m = F.linear(x, self.weight_im) * F.linear(h, self.weight_hm)
        return super().step(x, m, c)
