"""Long short-term memory with dropout on its recurrent weights."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from openrnn.cells.arguments import check_probability
from openrnn.cells.lstm import LSTMCell


class WeightDropLSTMCell(LSTMCell):
    """One step of long short-term memory that forgets, in training, some recurrent weights.

    The equations are those of `LSTMCell`, with dropped weights D ⊙ W_hh in place of W_hh:

        D = 1 / (1 - dropout) with probability 1 - dropout, else 0     (4·H, H)

    `openrnn.Recurrent` draws one D for a whole sequence, the same for all rows. A loop of your own
    draws one for each step, unless it runs under `torch.nn.utils.parametrize.cached()`. In
    evaluation D = 1. Parameters, the four gates stacked in the order i, f, g, o:

        weight_ih  (4·H, I)        bias_ih  (4·H)
        parametrizations.weight_hh.original  (4·H, H)        bias_hh  (4·H)

    W_hh has torch's name for a parametrized weight; `cell.weight_hh` is D ⊙ W_hh, drawn when it is
    read. As torch has it, a module with a parametrization does not pickle: save its `state_dict()`.

    Args:
        input_size: features I of x_t, ≥ 1.
        hidden_size: units H of each state, ≥ 1.
        dropout: probability that a recurrent weight is zeroed in training, 0 to 1.
        bias: with bias_ih and bias_hh, or without. Default: True.
        device, dtype: of the parameters. Default: torch's defaults.

    Shapes:
        input: (B, I) or (I).
        hx: (h_{t-1}, c_{t-1}), a tuple or a list, each (B, H) or (H). Default: zeros.

    Returns:
        (h_t, c_t), each of the shape of its predecessor.

    Raises:
        ArgumentError: dropout outside 0 to 1.
        ShapeError: input or state of the wrong rank, size or dtype.
        StateError: not two tensors as the state.

    Source: Merity, Keskar and Socher, "Regularizing and optimizing LSTM language models", 2017, the
    weight-dropped LSTM; the dropped weights are scaled, as in their code.

    Examples:
        >>> cell = WeightDropLSTMCell(30, 20, dropout=0.5)
        >>> h, c = cell(torch.randn(3, 30))
        >>> h.shape, c.shape, cell.parametrizations.weight_hh.original.shape
        (torch.Size([3, 20]), torch.Size([3, 20]), torch.Size([80, 20]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        dropout: float,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.dropout = check_probability("WeightDropLSTMCell", "dropout", dropout)
        parametrize.register_parametrization(self, "weight_hh", DropConnect(self.dropout))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, dropout={self.dropout}"


class DropConnect(nn.Module):
    """In training, the weight with some of its entries dropped; in evaluation, the weight."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout

    def forward(self, weight: Tensor) -> Tensor:
        return F.dropout(weight, self.dropout, self.training)

    def extra_repr(self) -> str:
        return f"dropout={self.dropout}"
