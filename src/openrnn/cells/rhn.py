"""The recurrent highway network."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openrnn.cells.arguments import check_count, check_finite
from openrnn.cells.base import Cell


class RHNCell(Cell):
    """One step of the recurrent highway network: several highway layers within each time step.

    With x_t of I features, a state h of H units, and s_0 = h_{t-1}, for the layers l = 1 … L:

        n_l = tanh(W_hn_l s_{l-1} + b_hn_l  [+ W_in x_t if l = 1])    candidate         (B, H)
        k_l = σ(W_hk_l s_{l-1} + b_hk_l     [+ W_ik x_t if l = 1])    transform gate    (B, H)
        s_l = k_l ⊙ n_l + (1 - k_l) ⊙ s_{l-1}                         layer's state     (B, H)

        h_t = s_L                                                     output            (B, H)

    Each parameter stacks the candidate and the gate in the order n, k; what is recurrent has a
    first dimension for the layers:

        weight_ih = [W_in; W_ik]               (2·H, I)
        weight_hh, of each layer l,
            [W_hn_l; W_hk_l]                   (L, 2·H, H)
        bias_hh, of each layer l,
            [b_hn_l; b_hk_l]                   (L, 2·H)

    The biases b_hk_l of the transform gates start at transform_bias: below 0, a new network mostly
    carries its state over. bias_ih is None.

    Args:
        input_size: features I of x_t, ≥ 1.
        hidden_size: units H of the state, ≥ 1.
        depth: highway layers L within one step, the recurrence depth, ≥ 1.
        bias: with bias_hh, or without. Default: True.
        transform_bias: where the biases of the transform gates start, finite. Default: -2.
        device, dtype: of the parameters. Default: torch's defaults.

    Shapes:
        input: (B, I) or (I).
        hx: h_{t-1}, (B, H) or (H). Default: zeros.

    Returns:
        h_t, of the shape of hx.

    Raises:
        ArgumentError: depth is no integer ≥ 1, or transform_bias not finite.
        ShapeError: input or state of the wrong rank, size or dtype.
        StateError: a state that is not a tensor.

    Source: Zilly et al., "Recurrent highway networks", 2016, with their coupled carry gate 1 - k;
    without their dropout. Their h, t and c are n, k and 1 - k here.

    Examples:
        >>> cell = RHNCell(30, 20, depth=4)
        >>> cell(torch.randn(3, 30)).shape, cell.weight_hh.shape
        (torch.Size([3, 20]), torch.Size([4, 40, 20]))
    """

    gates = ("n", "k")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        depth: int,
        bias: bool = True,
        transform_bias: float = -2.0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        self.depth = check_count("RHNCell", "depth", depth)
        self.transform_bias = check_finite("RHNCell", "transform_bias", transform_bias)
        super().__init__(input_size, hidden_size, bias, device, dtype)
        blocks = (self.depth, 2 * hidden_size)
        factory = {"device": device, "dtype": dtype}
        self.weight_hh = nn.Parameter(torch.empty(*blocks, hidden_size, **factory))
        self.register_parameter("bias_ih", None)
        if bias:
            self.bias_hh = nn.Parameter(torch.empty(*blocks, **factory))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The biases of the transform gates at transform_bias, the rest as torch's."""
        super().reset_parameters()
        if self.bias:
            nn.init.constant_(self.bias_hh[..., self.hidden_size :], self.transform_bias)

    def extra_repr(self) -> str:
        text = f"{super().extra_repr()}, depth={self.depth}"
        return (
            text if self.transform_bias == -2 else f"{text}, transform_bias={self.transform_bias}"
        )

    def step(self, x: Tensor, h: Tensor) -> tuple[Tensor]:
        for layer in range(self.depth):
            bias = self.bias_hh[layer] if self.bias else None
            a = F.linear(h, self.weight_hh[layer], bias)
            if layer == 0:
                a = a + F.linear(x, self.weight_ih)
            n, k = a.chunk(2, dim=-1)
            k = torch.sigmoid(k)
            h = k * torch.tanh(n) + (1 - k) * h
        return (h,)
