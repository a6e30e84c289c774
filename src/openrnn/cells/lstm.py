"""Long short-term memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from openrnn.cells.base import Cell


class LSTMCell(Cell):
    """One step of long short-term memory: a drop-in for `torch.nn.LSTMCell`.

    With x_t of I features, and two states of H units each, the output h and the memory c:

        i   = σ(W_ii x_t + b_ii + W_hi h_{t-1} + b_hi)       input gate       (B, H)
        f   = σ(W_if x_t + b_if + W_hf h_{t-1} + b_hf)       forget gate      (B, H)
        g   = tanh(W_ig x_t + b_ig + W_hg h_{t-1} + b_hg)    cell candidate   (B, H)
        o   = σ(W_io x_t + b_io + W_ho h_{t-1} + b_ho)       output gate      (B, H)
        c_t = f ⊙ c_{t-1} + i ⊙ g                            memory           (B, H)
        h_t = o ⊙ tanh(c_t)                                  output           (B, H)

    σ is the logistic function, ⊙ the product element by element. Each parameter stacks the four
    gates in the order i, f, g, o, so its first dimension is 4·H where a plain RNN has H:

        weight_ih = [W_ii; W_if; W_ig; W_io]  (4·H, I)     bias_ih = [b_ii; b_if; b_ig; b_io]  (4·H)
        weight_hh = [W_hi; W_hf; W_hg; W_ho]  (4·H, H)     bias_hh = [b_hi; b_hf; b_hg; b_ho]  (4·H)

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

    Source: Hochreiter and Schmidhuber, "Long short-term memory", 1997, with the forget gate of
    Gers, Schmidhuber and Cummins, "Learning to forget", 2000; without peepholes, and with torch's
    two biases.

    Examples:
        >>> cell = LSTMCell(30, 20)
        >>> h, c = cell(torch.randn(3, 30), [torch.zeros(3, 20), torch.zeros(3, 20)])
        >>> h.shape, cell.weight_ih.shape
        (torch.Size([3, 20]), torch.Size([80, 30]))
    """

    gates = ("i", "f", "g", "o")
    states = ("h", "c")

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        a_i, a_f, a_g, a_o = (
            F.linear(x, self.weight_ih, self.bias_ih) + F.linear(h, self.weight_hh, self.bias_hh)
        ).chunk(4, dim=-1)
        i, f, o = torch.sigmoid(a_i), torch.sigmoid(a_f), torch.sigmoid(a_o)
        g = self.drop(torch.tanh(a_g))
        c = f * c + i * g
        h = o * torch.tanh(c)
        return h, c
