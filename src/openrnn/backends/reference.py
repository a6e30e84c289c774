"""The split graph in torch operations, with our derived gradient: no compiler, any device.

It proves what generated kernels build on. It is not faster than the eager loop.
"""

from __future__ import annotations

from functools import partial

from openrnn.backends import staged

run = partial(staged.run, staged.TORCH)
