"""One step after another of a cell, with a kernel that keeps its memory and its packed weights."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from openrnn.backends.cpu.kernel import Standing, prepare
from openrnn.binding import Parameters, is_parametrized
from openrnn.errors import BackendError, CellError
from openrnn.state import StateSpec
from openrnn.step.program import program_of


class Stepper:
    """See `openrnn.backends.backend.Stepper`."""

    def __init__(self, standing: Standing, names: tuple[str, ...]) -> None:
        self._standing, self._names = standing, names
        self.step: Callable[[Tensor], Tensor] = standing.__call__

    def read(self) -> tuple[Tensor, ...]:
        states = self._standing.states
        return tuple(states[name].clone() for name in self._names)

    def write(self, states: tuple[Tensor, ...]) -> None:
        for name, state in zip(self._names, states, strict=True):
            self._standing.write(name, state)


def stepper_of(
    cell: nn.Module, parameters: Parameters | None, spec: StateSpec, like: Tensor
) -> Stepper | None:
    """What runs the cell a step at a time; None if its kernel needs more than one call of C++."""
    if spec.sizes is None or like.device.type != "cpu" or is_parametrized(cell):
        return None
    asked = spec, like.size(-1), like.dtype, like.device
    try:
        program, tensors = program_of(cell, parameters, *asked)
        if program.stages.randoms:
            return None
        output = f"state.{program.states[0]}"
        kernel = prepare(program.fused.stages, (output,))
        known = {f"parameter.{name}": tensor.detach() for name, tensor in tensors.items()}
        standing = Standing(kernel, known, like, output)
    except (CellError, BackendError):
        return None
    return Stepper(standing, program.states)
