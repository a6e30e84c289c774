"""Long short-term memory with zoneout."""

from __future__ import annotations

from typing import Any

from openrnn.cells.arguments import check_probability
from openrnn.cells.lstm import LSTMCell


class ZoneoutLSTMCell(LSTMCell):
    """One step of long short-term memory whose units now and then keep their old value.

    The gates i, f, g, o are those of `LSTMCell`:

        c̃   = f ⊙ c_{t-1} + i ⊙ g                          proposed memory    (B, H)
        h̃   = o ⊙ tanh(c̃)                                  proposed output    (B, H)
        c_t = d_c ⊙ c_{t-1} + (1 - d_c) ⊙ c̃                memory             (B, H)
        h_t = d_h ⊙ h_{t-1} + (1 - d_h) ⊙ h̃                output             (B, H)

    In training d_c is 1 with probability zoneout_c, else 0, and d_h the same with zoneout_h, drawn
    afresh at each step, for each row and unit. In evaluation both are their expectations, zoneout_c
    and zoneout_h. The parameters are those of `LSTMCell`, stacked in the order i, f, g, o:

        weight_ih  (4·H, I)        bias_ih  (4·H)
        weight_hh  (4·H, H)        bias_hh  (4·H)

    Args:
        input_size: features I of x_t, ≥ 1.
        hidden_size: units H of each state, ≥ 1.
        zoneout_h: probability that a unit of h keeps its value, 0 to 1.
        zoneout_c: probability that a unit of c keeps its value, 0 to 1.
        bias: with bias_ih and bias_hh, or without. Default: True.
        device, dtype: of the parameters. Default: torch's defaults.

    Shapes:
        input: (B, I) or (I).
        hx: (h_{t-1}, c_{t-1}), a tuple or a list, each (B, H) or (H). Default: zeros.

    Returns:
        (h_t, c_t), each of the shape of its predecessor.

    Raises:
        ArgumentError: zoneout_h or zoneout_c outside 0 to 1.
        ShapeError: input or state of the wrong rank, size or dtype.
        StateError: not two tensors as the state.

    Source: Krueger et al., "Zoneout: regularizing RNNs by randomly preserving hidden activations",
    2016; with torch's two biases. As there, h̃ is made of c̃, not of c_t.

    Examples:
        >>> cell = ZoneoutLSTMCell(30, 20, zoneout_h=0.05, zoneout_c=0.5)
        >>> h, c = cell(torch.randn(3, 30))
        >>> h.shape, c.shape
        (torch.Size([3, 20]), torch.Size([3, 20]))
    """

    zoneout: tuple[float, float]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        zoneout_h: float,
        zoneout_c: float,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.zoneout = (
            check_probability("ZoneoutLSTMCell", "zoneout_h", zoneout_h),
            check_probability("ZoneoutLSTMCell", "zoneout_c", zoneout_c),
        )

    def extra_repr(self) -> str:
        zoneout_h, zoneout_c = self.zoneout
        return f"{super().extra_repr()}, zoneout_h={zoneout_h}, zoneout_c={zoneout_c}"
