"""backend="auto": the best that can run: a generated kernel, or the eager loop."""

from __future__ import annotations

import functools
import logging

import torch
from torch import Tensor, nn

from openrnn.autograd import in_transform
from openrnn.backends import cpu, eager, staged
from openrnn.binding import Parameters, is_parametrized
from openrnn.errors import BackendError, CellError
from openrnn.sequence import Sequence
from openrnn.state import StateSpec

_logger = logging.getLogger("openrnn")


def run(
    cell: nn.Module,
    parameters: Parameters | None,
    sequence: Sequence,
    state: tuple[Tensor, ...] | None,
    spec: StateSpec,
    *,
    reverse: bool,
    every: bool,
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """See `Backend`."""
    device = sequence.data.device
    if not torch.compiler.is_compiling() and not in_transform(device):
        # A parametrization may draw a mask when it is read.
        random_state = torch.get_rng_state() if is_parametrized(cell) else None
        try:
            if device.type != "cpu":
                raise BackendError(f"There is no generated kernel for {device.type} yet")
            asked = cell, parameters, sequence, state, spec
            ready = staged.make_ready(cpu.ENGINE, *asked, reverse=reverse, every=every)
        except (CellError, BackendError) as error:
            if random_state is not None:
                torch.set_rng_state(random_state)
            _say(str(error))
        else:
            return ready()
    return eager.run(cell, parameters, sequence, state, spec, reverse=reverse, every=every)


@functools.lru_cache(maxsize=4096)  # each sentence once
def _say(reason: str) -> None:
    _logger.warning('backend="auto" runs "eager", a plain loop: %s', reason)
