"""Long short-term memory whose gates see the memory."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openrnn.cells.base import Cell


class PeepholeLSTMCell(Cell):
    """One step of long short-term memory with peepholes: its gates see the memory c.

    With x_t of I features, and two states of H units each, the output h and the memory c:

        i   = σ(W_ii x_t + b_ii + W_hi h_{t-1} + b_hi + p_i ⊙ c_{t-1})   input gate    (B, H)
        f   = σ(W_if x_t + b_if + W_hf h_{t-1} + b_hf + p_f ⊙ c_{t-1})   forget gate   (B, H)
        g   = tanh(W_ig x_t + b_ig + W_hg h_{t-1} + b_hg)                candidate     (B, H)
        c_t = f ⊙ c_{t-1} + i ⊙ g                                        memory        (B, H)
        o   = σ(W_io x_t + b_io + W_ho h_{t-1} + b_ho + p_o ⊙ c_t)       output gate   (B, H)
        h_t = o ⊙ tanh(c_t)                                              output        (B, H)

    The output gate sees the new memory, the other two see the old one. Parameters, the gates
    stacked in the order i, f, g, o, the peepholes in the order i, f, o:

        weight_ih  (4·H, I)        bias_ih  (4·H)
        weight_hh  (4·H, H)        bias_hh  (4·H)        peephole = [p_i; p_f; p_o]  (3·H)

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

    Source: Gers and Schmidhuber, "Recurrent nets that time and count", 2000; Gers, Schraudolph and
    Schmidhuber, "Learning precise timing with LSTM recurrent networks", 2002; with one cell in each
    memory block, tanh as the squashing function, and torch's two biases.

    Examples:
        >>> cell = PeepholeLSTMCell(30, 20)
        >>> h, c = cell(torch.randn(3, 30))
        >>> h.shape, c.shape, cell.peephole.shape
        (torch.Size([3, 20]), torch.Size([3, 20]), torch.Size([60]))
    """

    gates = ("i", "f", "g", "o")
    states = ("h", "c")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.peephole = nn.Parameter(torch.empty(3 * hidden_size, device=device, dtype=dtype))
        self.reset_parameters()

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        a_i, a_f, a_g, a_o = (
            F.linear(x, self.weight_ih, self.bias_ih) + F.linear(h, self.weight_hh, self.bias_hh)
        ).chunk(4, dim=-1)
        p_i, p_f, p_o = self.peephole.chunk(3)
        i, f, g = torch.sigmoid(a_i + p_i * c), torch.sigmoid(a_f + p_f * c), torch.tanh(a_g)
        c = f * c + i * g
        o = torch.sigmoid(a_o + p_o * c)
        h = o * torch.tanh(c)
        return h, c
