"""The plain recurrent network with layer normalisation."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openrnn.cells.layernorm import LayerNormCell
from openrnn.cells.rnn import check_nonlinearity


class LayerNormRNNCell(LayerNormCell):
    """One step of the plain recurrent network whose sums are brought to one scale at each step.

    With x_t of I features and a state h of H units:

        h_t = tanh(LN_ih(W_ih x_t) + LN_hh(W_hh h_{t-1}))       (B, H)

    `LayerNormCell` has the equation of LN, over all features of its argument, with a weight and a
    bias for each. Parameters:

        weight_ih  W_ih  (H, I)        norm_ih.weight, norm_ih.bias  (H)
        weight_hh  W_hh  (H, H)        norm_hh.weight, norm_hh.bias  (H)

    The norms' weights start at 1 and their biases at 0; bias_ih and bias_hh are None.

    Args:
        input_size: features I of x_t, ≥ 1.
        hidden_size: units H of the state, ≥ 1.
        bias: with the norms' biases, or without. Default: True.
        nonlinearity: "tanh" or "relu". Default: "tanh".
        eps: added to each variance, 0 < eps < 1. Default: 1e-5.
        device, dtype: of the parameters. Default: torch's defaults.

    Shapes:
        input: (B, I) or (I).
        hx: h_{t-1}, (B, H) or (H). Default: zeros.

    Returns:
        h_t, of the shape of hx.

    Raises:
        ArgumentError: an unknown nonlinearity, or eps out of its range.
        ShapeError: input or state of the wrong rank, size or dtype.
        StateError: a state that is not a tensor.

    Source: Ba, Kiros and Hinton, "Layer normalization", 2016, with the two sums normalised apart,
    as in their LSTM. The paper has no eps; it is torch's.

    Examples:
        >>> cell = LayerNormRNNCell(100, 20)
        >>> cell(torch.randn(3, 100)).shape, cell.norm_ih.weight.shape
        (torch.Size([3, 20]), torch.Size([20]))
    """

    gates = ("h",)
    norms: ClassVar[dict[str, int]] = {"norm_ih": 1, "norm_hh": 1}
    norm_ih: nn.LayerNorm
    norm_hh: nn.LayerNorm
    nonlinearity: str

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        eps: float = 1e-5,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, eps, device, dtype)
        self.nonlinearity = check_nonlinearity("LayerNormRNNCell", nonlinearity)

    def step(self, x: Tensor, h: Tensor) -> tuple[Tensor]:
        h = self.drop(h)
        a = self.norm_ih(F.linear(x, self.weight_ih)) + self.norm_hh(F.linear(h, self.weight_hh))
        return (torch.tanh(a) if self.nonlinearity == "tanh" else torch.relu(a),)
