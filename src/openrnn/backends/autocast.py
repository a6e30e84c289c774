"""torch.autocast: a backend computes as without it, and gives its output in fewer bits."""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor

from openrnn.backends.backend import Backend, Call, States

# torch refuses to be asked of some devices, and torch.compile cannot read which.
_KINDS = ("cpu", "cuda", "mps", "xpu")


def is_autocast(device: torch.device) -> bool:
    return device.type in _KINDS and torch.is_autocast_enabled(device.type)


def without_autocast(run: Backend) -> Backend:
    """The backend, so that it computes in the dtype of the weights, whatever dtype comes in.

    float64 is left alone, as torch leaves it.
    """

    def run_without(call: Call) -> tuple[States, States]:
        """See `Backend`."""
        data, dtype = call.sequence.data, _dtype_of(call)
        if torch.float64 in (dtype, data.dtype):
            return run(call)

        def converted(states: States | None) -> States | None:
            return states and tuple(state.to(dtype) for state in states)

        plain = call._replace(
            sequence=call.sequence.with_data(data.to(dtype)),
            state=converted(call.state),
            reset_to=converted(call.reset_to),
        )
        with torch.autocast(data.device.type, enabled=False):
            return run(plain)

    return run_without


def _dtype_of(call: Call) -> torch.dtype:
    """That of the weights; of a cell without, that of the input."""
    cell, lent = call.cell, call.parameters or {}
    own = chain(lent.values(), cell.parameters(), cell.buffers())
    return next((p.dtype for p in own if p.is_floating_point()), call.sequence.data.dtype)


def lowered(output: Tensor) -> Tensor:
    """The output in autocast's dtype; the states stay as they are, to be carried on."""
    if output.dtype == torch.float64:
        return output
    return output.to(torch.get_autocast_dtype(output.device.type))
