"""A kernel for one layer in inference, whose weights stay packed from call to call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from openrnn.backends.cpu.kernel import Kernel
from openrnn.backends.stepwise import Given
from openrnn.ragged import Steps
from openrnn.step.shape import Shape

# Packing takes as long as the products of seven rows. With rows beyond these the time is not worth
# the memory, nor is it for so few bytes.
_MOST_ROWS, _LEAST_BYTES = 1024, 1 << 14


class Packed:
    """See `staged.Scan`: the same as the kernel, and quicker where the rows are few.

    In each call a fingerprint of all weights tells whether they are those that were packed. Threads
    may share it.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.apart, self.saved = kernel.apart, kernel.saved
        self.takes_any_order = kernel.takes_any_order
        self._is_worth_it = kernel.packed_bytes >= _LEAST_BYTES
        self.weights: Tensor | None = None  # the last that were packed: others may be read still

    def kept(self) -> list[tuple[Shape, torch.dtype]]:
        return self._kernel.kept()

    def __call__(
        self, given: Given, steps: Steps, *, reverse: bool
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        is_worth_it = self._is_worth_it and steps.total <= _MOST_ROWS
        packed: Any = self if is_worth_it else None
        return self._kernel(given, steps, reverse=reverse, packed=packed)
