"""backend="auto": the best that can run: a generated kernel, or the eager loop."""

from __future__ import annotations

import functools
import logging

import torch

from openrnn.autograd import in_transform
from openrnn.backends import cpu, eager, staged
from openrnn.backends.backend import Call, States
from openrnn.binding import is_parametrized
from openrnn.errors import BackendError, CellError

_logger = logging.getLogger("openrnn")


def run(call: Call) -> tuple[States, States]:
    """See `Backend`."""
    device = call.sequence.data.device
    if not torch.compiler.is_compiling() and not in_transform(device):
        # A parametrization may draw a mask when it is read.
        random_state = torch.get_rng_state() if is_parametrized(call.cell) else None
        try:
            if device.type != "cpu":
                raise BackendError(f"There is no generated kernel for {device.type} yet")
            ready = staged.make_ready(cpu.ENGINE, call)
        except (CellError, BackendError) as error:
            if random_state is not None:
                torch.set_rng_state(random_state)
            _say(str(error))
        else:
            return ready()
    return eager.run(call)


@functools.lru_cache(maxsize=4096)  # each sentence once
def _say(reason: str) -> None:
    _logger.warning('backend="auto" runs "eager", a plain loop: %s', reason)
