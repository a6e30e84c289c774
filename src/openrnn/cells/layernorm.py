"""What the cells with layer normalisation share: no biases of their own, and their norms."""

from __future__ import annotations

import numbers
from typing import Any, ClassVar

from torch import nn

from openrnn.cells.base import Cell
from openrnn.errors import ArgumentError


class LayerNormCell(Cell):
    """A cell whose sums are normalised over their features, by `torch.nn.LayerNorm` modules:

        LN(a) = (a - mean(a)) / √(variance(a) + eps) ⊙ weight + bias

    A subclass names its `norms`, with how many blocks of H features each spans. Their biases stand
    in for bias_ih and bias_hh, which are None.
    """

    norms: ClassVar[dict[str, int]]
    eps: float

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        eps: float = 1e-5,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if isinstance(eps, bool) or not isinstance(eps, numbers.Real) or not 0 < eps < 1:
            raise ArgumentError(
                f"{type(self).__name__}: expected eps between 0 and 1, both excluded, got {eps!r}"
            )
        super().__init__(input_size, hidden_size, False, device, dtype)
        self.bias = bias
        self.eps = float(eps)
        for name, blocks in self.norms.items():
            norm = nn.LayerNorm(
                blocks * hidden_size, eps=self.eps, bias=bias, device=device, dtype=dtype
            )
            self.add_module(name, norm)

    def reset_parameters(self) -> None:
        """Weights as torch's; the norms' weights, their gains, 1, and their biases 0."""
        super().reset_parameters()
        for norm in self.children():
            assert isinstance(norm, nn.LayerNorm)
            norm.reset_parameters()
