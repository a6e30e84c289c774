"""A backend that keeps states at intervals, and runs the steps between again for the gradient."""

from __future__ import annotations

import numbers
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as torch_checkpoint

from openrnn.autograd import in_transform
from openrnn.backends.backend import Backend
from openrnn.backends.loop import loop
from openrnn.binding import Parameters, is_parametrized, tensors_of
from openrnn.errors import ArgumentError
from openrnn.sequence import Sequence
from openrnn.state import StateSpec


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

    def run_in_parts(
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
        directions = {"reverse": reverse, "every": every}
        if not torch.is_grad_enabled() or in_transform(sequence.data.device):
            return run(cell, parameters, sequence, state, spec, **directions)
        if is_parametrized(cell):  # one mask for the whole sequence
            parameters = {**tensors_of(cell), **(parameters or {})}
        parts = sequence.split(steps)
        if state is None:
            state = spec.zeros(sequence.data, sequence.sizes()[0])

        def step(
            number: int, rows: int, state: tuple[Tensor, ...]
        ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
            def run_part(
                data: Tensor, *state: Tensor
            ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
                part = parts[number].with_data(data)
                return run(cell, parameters, part, state, spec, **directions)

            found: tuple[tuple[Tensor, ...], tuple[Tensor, ...]] = torch_checkpoint(
                run_part, parts[number].data, *state, use_reentrant=False
            )
            return found

        sizes = [part.sizes()[0] for part in parts]
        states, final = loop(step, sizes, state, reverse=reverse)
        return tuple(torch.cat(rows) for rows in zip(*states, strict=True)), final

    return run_in_parts
