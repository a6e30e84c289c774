"""Generated C++ kernels: one call for all time steps, forward and backward."""

from __future__ import annotations

from openrnn.backends import staged
from openrnn.backends.backend import Call, States
from openrnn.backends.cpu.build import compile_command
from openrnn.backends.cpu.kernel import prepare, source
from openrnn.backends.cpu.packed import Packed
from openrnn.backends.cpu.stepper import stepper_of as stepper
from openrnn.errors import BackendError

__all__ = ["ENGINE", "Packed", "compile_command", "run", "source", "stepper"]

ENGINE = staged.Engine(prepare, fused=True)


def run(call: Call) -> tuple[States, States]:
    """See `Backend`."""
    device = call.sequence.data.device
    if device.type != "cpu":
        raise BackendError(
            f'backend="cpu" runs on the CPU, but the input is on {device}. '
            'Move layer and input to the CPU, or use backend="auto"'
        )
    return staged.run(ENGINE, call)
