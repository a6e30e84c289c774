"""Long short-term memory that forgets as much as it takes in."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from openrnn.cells.base import Cell


class CoupledLSTMCell(Cell):
    """One step of long short-term memory with coupled gates: what is not kept is replaced.

    The input gate of `LSTMCell` is 1 - f. With x_t of I features, and two states of H units each:

        f   = σ(W_if x_t + b_if + W_hf h_{t-1} + b_hf)       forget gate      (B, H)
        g   = tanh(W_ig x_t + b_ig + W_hg h_{t-1} + b_hg)    cell candidate   (B, H)
        o   = σ(W_io x_t + b_io + W_ho h_{t-1} + b_ho)       output gate      (B, H)
        c_t = f ⊙ c_{t-1} + (1 - f) ⊙ g                      memory           (B, H)
        h_t = o ⊙ tanh(c_t)                                  output           (B, H)

    Each parameter stacks the three gates in the order f, g, o:

        weight_ih = [W_if; W_ig; W_io]  (3·H, I)        bias_ih = [b_if; b_ig; b_io]  (3·H)
        weight_hh = [W_hf; W_hg; W_ho]  (3·H, H)        bias_hh = [b_hf; b_hg; b_ho]  (3·H)

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

    Source: Greff et al., "LSTM: a search space odyssey", 2015, the variant CIFG; without their
    peepholes, and with torch's two biases. They compute i and set f = 1 - i, which is the same.

    Examples:
        >>> cell = CoupledLSTMCell(30, 20)
        >>> h, c = cell(torch.randn(3, 30))
        >>> h.shape, c.shape, cell.weight_hh.shape
        (torch.Size([3, 20]), torch.Size([3, 20]), torch.Size([60, 20]))
    """

    gates = ("f", "g", "o")
    states = ("h", "c")

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        a_f, a_g, a_o = (
            F.linear(x, self.weight_ih, self.bias_ih) + F.linear(h, self.weight_hh, self.bias_hh)
        ).chunk(3, dim=-1)
        f, g, o = torch.sigmoid(a_f), torch.tanh(a_g), torch.sigmoid(a_o)
        c = f * c + (1 - f) * g
        h = o * torch.tanh(c)
        return h, c
