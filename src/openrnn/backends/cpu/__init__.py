"""Generated C++ kernels: one call for all time steps, forward and backward."""

from __future__ import annotations

from functools import partial

from openrnn.backends import staged
from openrnn.backends.cpu.kernel import recur

__all__ = ["recur", "run"]

run = partial(staged.run, recur, fused=True)
