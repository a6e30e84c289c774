"""Long short-term memory with dropout on what it takes in."""

from __future__ import annotations

from typing import Any

from openrnn.cells.arguments import check_probability
from openrnn.cells.lstm import LSTMCell


class RecurrentDropoutLSTMCell(LSTMCell):
    """One step of long short-term memory with dropout on the candidate: it loses no memory.

    The gates i, f, g, o are those of `LSTMCell`. In training:

        d   = 1 / (1 - dropout) with probability 1 - dropout, else 0     mask      (B, H)
        c_t = f ⊙ c_{t-1} + i ⊙ d ⊙ g                                    memory    (B, H)
        h_t = o ⊙ tanh(c_t)                                              output    (B, H)

    The mask is drawn afresh at each step, for each row and unit. In evaluation d = 1, and the cell
    is `LSTMCell`. Its parameters are the same as well, stacked in the order i, f, g, o:

        weight_ih  (4·H, I)        bias_ih  (4·H)
        weight_hh  (4·H, H)        bias_hh  (4·H)

    Args:
        input_size: features I of x_t, ≥ 1.
        hidden_size: units H of each state, ≥ 1.
        dropout: probability that a candidate is zeroed in training, 0 to 1.
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

    Source: Semeniuta, Severyn and Barth, "Recurrent dropout without memory loss", 2016, with a mask
    for each step; scaled in training, not in evaluation, as torch's dropout is.

    Examples:
        >>> cell = RecurrentDropoutLSTMCell(30, 20, dropout=0.25)
        >>> h, c = cell(torch.randn(3, 30))
        >>> h.shape, c.shape
        (torch.Size([3, 20]), torch.Size([3, 20]))
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
        self.recurrent_dropout = check_probability("RecurrentDropoutLSTMCell", "dropout", dropout)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, dropout={self.recurrent_dropout}"
