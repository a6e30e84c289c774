"""The quasi-recurrent network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from openrnn.cells.inputgated import InputGatedCell
from openrnn.errors import ArgumentError


class QRNNCell(InputGatedCell):
    """One step of the quasi-recurrent network: gates from the input alone, and a pool over time.

    With x_t of I features and states of H units each:

        z   = tanh(W_iz x_t + b_iz)              candidate      (B, H)
        f   = σ(W_if x_t + b_if)                 forget gate    (B, H)
        o   = σ(W_io x_t + b_io)                 output gate    (B, H), pooling "fo" alone

        h_t = f ⊙ h_{t-1} + (1 - f) ⊙ z          output         (B, H), pooling "f"

        c_t = f ⊙ c_{t-1} + (1 - f) ⊙ z          memory         (B, H), pooling "fo"
        h_t = o ⊙ c_t                            output         (B, H), pooling "fo"

    With "fo", h_{t-1} is a state that no equation reads. Each parameter stacks its blocks in the
    order z, f, o, two of them with "f", three with "fo":

        weight_ih = [W_iz; W_if; W_io]  (3·H, I)        bias_ih = [b_iz; b_if; b_io]  (3·H)

    There are no recurrent weights: weight_hh and bias_hh are None.

    Args:
        input_size: features I of x_t, ≥ 1.
        hidden_size: units H of each state, ≥ 1.
        bias: with bias_ih, or without. Default: True.
        pooling: "f", the forget gate alone, or "fo", with an output gate. Default: "fo".
        device, dtype: of the parameters. Default: torch's defaults.

    Shapes:
        input: (B, I) or (I).
        hx: h_{t-1} with "f", (h_{t-1}, c_{t-1}) with "fo", each (B, H) or (H). Default: zeros.

    Returns:
        h_t with "f", (h_t, c_t) with "fo", each of the shape of its predecessor.

    Raises:
        ArgumentError: an unknown pooling.
        ShapeError: input or state of the wrong rank, size or dtype.
        StateError: not as many tensors as there are states.

    Source: Bradbury et al., "Quasi-recurrent neural networks", 2016, with a convolution of width 1,
    as a cell sees one step: for a wider one, give the layer the neighbouring steps as features.
    Without their "ifo" pooling; with a bias.

    Examples:
        >>> cell = QRNNCell(30, 20)
        >>> h, c = cell(torch.randn(3, 30))
        >>> h.shape, c.shape, cell.weight_ih.shape
        (torch.Size([3, 20]), torch.Size([3, 20]), torch.Size([60, 30]))
        >>> QRNNCell(30, 20, pooling="f")(torch.randn(3, 30)).shape
        torch.Size([3, 20])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        pooling: str = "fo",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if pooling not in ("f", "fo"):
            raise ArgumentError(f"QRNNCell: expected pooling 'f' or 'fo', got {pooling!r}")
        self.pooling = pooling
        self.gates = ("z", *pooling)
        self.states = ("h", "c") if pooling == "fo" else ("h",)
        super().__init__(input_size, hidden_size, bias, device, dtype)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, pooling={self.pooling!r}"

    def step(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        a_z, a_f, *a_o = self.sums(x)
        z, f = torch.tanh(a_z), torch.sigmoid(a_f)
        pool = f * states[-1] + (1 - f) * z
        if self.pooling == "f":
            return (pool,)
        o = torch.sigmoid(a_o[0])
        return o * pool, pool
