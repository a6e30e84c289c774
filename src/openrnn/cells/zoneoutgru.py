"""The gated recurrent unit with zoneout."""

from __future__ import annotations

from typing import Any

from openrnn.cells.arguments import check_probability
from openrnn.cells.gru import GRUCell


class ZoneoutGRUCell(GRUCell):
    """One step of the gated recurrent unit whose units now and then keep their old value.

    The gates r, z and the candidate n are those of `GRUCell`:

        h̃   = (1 - z) ⊙ n + z ⊙ h_{t-1}            proposed output    (B, H)
        h_t = d ⊙ h_{t-1} + (1 - d) ⊙ h̃            output             (B, H)

    In training d is 1 with probability zoneout, else 0, drawn afresh at each step, for each row and
    unit. In evaluation d is its expectation, zoneout. The parameters are those of `GRUCell`,
    stacked in the order r, z, n:

        weight_ih  (3·H, I)        bias_ih  (3·H)
        weight_hh  (3·H, H)        bias_hh  (3·H)

    Args:
        input_size: features I of x_t, ≥ 1.
        hidden_size: units H of the state, ≥ 1.
        zoneout: probability that a unit keeps its value, 0 to 1.
        bias: with bias_ih and bias_hh, or without. Default: True.
        device, dtype: of the parameters. Default: torch's defaults.

    Shapes:
        input: (B, I) or (I).
        hx: h_{t-1}, (B, H) or (H). Default: zeros.

    Returns:
        h_t, of the shape of hx.

    Raises:
        ArgumentError: zoneout outside 0 to 1.
        ShapeError: input or state of the wrong rank, size or dtype.
        StateError: a state that is not a tensor.

    Source: Krueger et al., "Zoneout: regularizing RNNs by randomly preserving hidden activations",
    2016; on the equations of `GRUCell`.

    Examples:
        >>> cell = ZoneoutGRUCell(30, 20, zoneout=0.1)
        >>> cell(torch.randn(3, 30)).shape
        torch.Size([3, 20])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        zoneout: float,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.zoneout = check_probability("ZoneoutGRUCell", "zoneout", zoneout)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, zoneout={self.zoneout}"
