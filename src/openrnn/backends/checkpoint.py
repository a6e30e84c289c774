"""A backend that keeps states at intervals, and runs the steps between again for the gradient."""

from __future__ import annotations

import numbers
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint as torch_checkpoint

from openrnn.autograd import in_transform
from openrnn.backends.backend import Backend, Call, States
from openrnn.backends.loop import loop
from openrnn.backends.packing import on_packed
from openrnn.binding import bind, is_parametrized, tensors_of
from openrnn.errors import ArgumentError


def check_checkpoint(owner: str, steps: Any) -> int | None:
    """The steps between two states that are kept, if they are a number of steps, or None.

    Raises:
        ArgumentError: anything else.
    """
    if steps is None:
        return None
    if isinstance(steps, bool) or not isinstance(steps, numbers.Integral) or steps < 1:
        raise ArgumentError(
            f"{owner}: expected checkpoint to be a number of steps, an integer ≥ 1, or None, "
            f"got {steps!r}"
        )
    return int(steps)


def checkpointed(run: Backend, steps: int) -> Backend:
    """The backend, so that for the gradient it keeps the states before each so many steps."""

    @on_packed
    def run_in_parts(call: Call) -> tuple[States, States]:
        """See `Backend`."""
        sequence = call.sequence
        if not torch.is_grad_enabled() or in_transform(sequence.data.device):
            return run(call)
        if is_parametrized(call.cell):  # one mask for the whole sequence
            tensors = {**tensors_of(call.cell), **(call.parameters or {})}
            call = call._replace(cell=bind(call.cell, tensors), parameters=None)
        parts = sequence.split(steps)
        sizes = [part.sizes()[0] for part in parts]
        resets: Any = (None,) * len(parts)
        if call.resets is not None:
            resets = torch.split(call.resets, [sum(part.sizes()) for part in parts])
        initial = call.state or call.spec.zeros(sequence.data, sizes[0])

        def step(number: int, rows: int, state: States) -> tuple[States, States]:
            again = call.reset_to and tuple(s[:rows] for s in call.reset_to)

            def run_part(data: Tensor, *state: Tensor) -> tuple[States, States]:
                part = parts[number].with_data(data)
                return run(
                    call._replace(sequence=part, state=state, resets=resets[number], reset_to=again)
                )

            found: tuple[States, States] = torch_checkpoint(
                run_part, parts[number].data, *state, use_reentrant=False
            )
            return found

        states, final = loop(step, sizes, initial, reverse=call.reverse)
        return tuple(torch.cat(rows) for rows in zip(*states, strict=True)), final

    return run_in_parts
