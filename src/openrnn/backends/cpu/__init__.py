"""Generated C++ kernels: one call for all time steps, forward and backward."""

from __future__ import annotations

from torch import Tensor, nn

from openrnn.backends import staged
from openrnn.backends.cpu.kernel import prepare, source
from openrnn.backends.cpu.stepper import stepper_of as stepper
from openrnn.binding import Parameters
from openrnn.errors import BackendError
from openrnn.sequence import Sequence
from openrnn.state import StateSpec

__all__ = ["ENGINE", "run", "source", "stepper"]

ENGINE = staged.Engine(prepare, fused=True)


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
    if device.type != "cpu":
        raise BackendError(
            f'backend="cpu" runs on the CPU, but the input is on {device}. '
            'Move layer and input to the CPU, or use backend="auto"'
        )
    return staged.run(ENGINE, cell, parameters, sequence, state, spec, reverse=reverse, every=every)
