"""backend="auto": the best that can run; today that is the eager loop."""

from __future__ import annotations

import functools
import logging
from weakref import WeakSet

import torch
from torch import Tensor, nn

from openrnn.autograd import in_transform
from openrnn.backends import eager
from openrnn.binding import Parameters, tensors_aside
from openrnn.sequence import Sequence
from openrnn.state import StateSpec
from openrnn.step.program import program_of

_logger = logging.getLogger("openrnn")
_told: WeakSet[nn.Module] = WeakSet()


def run(
    cell: nn.Module,
    parameters: Parameters | None,
    sequence: Sequence,
    state: tuple[Tensor, ...],
    spec: StateSpec,
    *,
    reverse: bool,
) -> tuple[Sequence, tuple[Tensor, ...]]:
    """See `Backend`."""
    if (
        not torch.compiler.is_compiling()
        and _logger.isEnabledFor(logging.INFO)
        and cell not in _told
        and not in_transform(sequence.data.device)
    ):
        _told.add(cell)
        _say(_reason(cell, parameters, sequence.data, spec))
    return eager.run(cell, parameters, sequence, state, spec, reverse=reverse)


def _reason(cell: nn.Module, parameters: Parameters | None, data: Tensor, spec: StateSpec) -> str:
    """Why no generated kernel runs the cell."""
    if spec.sizes is None:
        return f"{type(cell).__name__} does not say what its states are, by state_sizes."
    try:
        tensors = {**tensors_aside(cell), **(parameters or {})}
        program_of(cell, tensors, spec, data.size(-1), data.dtype, data.device)
    except Exception as error:  # noqa: BLE001  whatever it is, it is told, and the cell runs
        return str(error)
    return "There is no generated kernel yet."


@functools.cache  # each sentence once
def _say(reason: str) -> None:
    _logger.info('backend="auto" runs "eager", a plain loop: %s', reason)
