"""The scalar memory of xLSTM."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openrnn.cells.arguments import check_count
from openrnn.cells.base import Cell
from openrnn.errors import ArgumentError


class SLSTMCell(Cell):
    """One step of sLSTM: an LSTM with an exponential input gate, a normaliser, and heads.

    With x_t of I features and states of H units each, the output h, the memory c, the normaliser n
    and the stabiliser m:

        [ĩ; f̃; z̃; õ] = W_ih x_t + b_ih + W_hh h_{t-1}                                (B, 4·H)

        m_t = max(log σ(f̃) + m_{t-1}, ĩ), or ĩ where n_{t-1} = 0     stabiliser      (B, H)
        i   = exp(ĩ - m_t)                                           input gate      (B, H)
        f   = exp(log σ(f̃) + m_{t-1} - m_t)                          forget gate     (B, H)
        c_t = f ⊙ c_{t-1} + i ⊙ tanh(z̃)                              memory          (B, H)
        n_t = f ⊙ n_{t-1} + i                                        normaliser      (B, H)
        h_t = σ(õ) ⊙ c_t / n_t                                       output          (B, H)

    The memory is c ⊙ exp(m) and its normaliser n ⊙ exp(m): m keeps c and n from overflow, and
    cancels out of h. Where n = 0 nothing is stored yet, and m_{t-1} has no say; from then on n ≥ 1.

    Within W_hh each of the K heads, of D = H / K units, sees only itself. Parameters, the four
    blocks stacked in the order i, f, z, o:

        weight_ih  (4·H, I)              bias_ih  (4·H)
        weight_hh  (4, K, D, D)          of each block and head, from its D units to its D units

    bias_hh is None.

    Args:
        input_size: features I of x_t, ≥ 1.
        hidden_size: units H of each state, ≥ 1, a multiple of num_heads.
        bias: with bias_ih, or without. Default: True.
        num_heads: heads K, ≥ 1. Default: 1.
        device, dtype: of the parameters. Default: torch's defaults.

    Shapes:
        input: (B, I) or (I).
        hx: (h_{t-1}, c_{t-1}, n_{t-1}, m_{t-1}), a tuple or a list, each (B, H) or (H), with
            n_{t-1} ≥ 0. Default: zeros.

    Returns:
        (h_t, c_t, n_t, m_t), each of the shape of its predecessor.

    Raises:
        ArgumentError: num_heads is no integer ≥ 1, or hidden_size not a multiple of it.
        ShapeError: input or state of the wrong rank, size or dtype.
        StateError: not four tensors as the state.

    Source: Beck et al., "xLSTM: extended long short-term memory", 2024, the sLSTM with their
    sigmoid forget gate; the normalisation of heads and the block around the cell are not part of
    it. As in their code, m starts at ĩ; all parameters start as torch's.

    Examples:
        >>> cell = SLSTMCell(30, 20, num_heads=4)
        >>> h, c, n, m = cell(torch.randn(3, 30))
        >>> h.shape, cell.weight_hh.shape
        (torch.Size([3, 20]), torch.Size([4, 4, 5, 5]))
    """

    gates = ("i", "f", "z", "o")
    states = ("h", "c", "n", "m")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        num_heads: int = 1,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        self.num_heads = check_count("SLSTMCell", "num_heads", num_heads)
        if hidden_size % self.num_heads != 0:
            raise ArgumentError(
                f"SLSTMCell: expected hidden_size to be a multiple of num_heads = {num_heads}, "
                f"got {hidden_size}"
            )
        super().__init__(input_size, hidden_size, bias, device, dtype)
        size = hidden_size // self.num_heads
        self.weight_hh = nn.Parameter(
            torch.empty(4, self.num_heads, size, size, device=device, dtype=dtype)
        )
        self.register_parameter("bias_hh", None)
        self.reset_parameters()

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_heads={self.num_heads}"

    def step(
        self, x: Tensor, h: Tensor, c: Tensor, n: Tensor, m: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        heads = h.reshape(-1, *self.weight_hh.shape[1:3])  # (B, K, D)
        recurrent = torch.einsum("gked,bkd->bgke", self.weight_hh, heads).flatten(1)  # (B, 4·H)
        a_i, a_f, a_z, a_o = (F.linear(x, self.weight_ih, self.bias_ih) + recurrent).chunk(4, -1)
        a_f = F.logsigmoid(a_f) + m
        m = torch.where(n == 0, a_i, torch.maximum(a_f, a_i))
        i = torch.exp(a_i - m)
        f = torch.exp((a_f - m).clamp(max=0))  # above 0 only where n = 0: it must not overflow
        z, o = torch.tanh(a_z), torch.sigmoid(a_o)
        c = f * c + i * z
        n = f * n + i
        return o * c / n, c, n, m
