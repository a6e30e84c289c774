"""For a backend that takes packed data alone, and states of (B, features) in its order."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor

from openrnn.backends.backend import Backend, Call, States
from openrnn.sequence import Sequence

Results = tuple[States, States]


def is_packed(sequence: Sequence) -> bool:
    """Whether such a backend can take it as it is."""
    ragged = sequence.ragged
    return (ragged is None or ragged.is_packed) and len(sequence.state_shape) == 1


def as_rows(tensor: Tensor) -> Tensor:
    """(..., features) as (rows, features)."""
    return tensor.reshape(-1, tensor.size(-1))


def pack(call: Call) -> tuple[Call, Callable[[Results], Results]]:
    """The call on packed data, and what brings its results into the form of the user's."""
    sequence = call.sequence
    if is_packed(sequence):
        return call, lambda results: results
    count, shape = sequence.data.size(0), sequence.state_shape
    ragged = None if sequence.ragged is None or sequence.ragged.is_packed else sequence.ragged
    begin, again = (
        states and tuple(map(as_rows, states)) for states in (call.state, call.reset_to)
    )

    def unpack(results: Results) -> Results:
        rows, final = results
        if ragged is not None:
            initial = begin or (None,) * len(final)
            rows = tuple(ragged.pad(data, count) for data in rows)
            final = tuple(ragged.unsort(*pair) for pair in zip(final, initial, strict=False))
        final = tuple(state.reshape(*shape, state.size(-1)) for state in final)
        if not torch.compiler.is_compiling():  # no views: see `openrnn.sequence.shaped`
            final = tuple(s.clone() if s.requires_grad and s._is_view() else s for s in final)
        return rows, final

    state, reset_to = begin, again
    if ragged is not None:
        state, reset_to = (states and tuple(map(ragged.sort, states)) for states in (begin, again))
    return call._replace(sequence=sequence.pack(), state=state, reset_to=reset_to), unpack


def on_packed(run: Backend) -> Backend:
    """The backend, so that it sees packed data alone."""

    @wraps(run)
    def run_packed(call: Call) -> Results:
        """See `Backend`."""
        packed, unpack = pack(call)
        return unpack(run(packed))

    return run_packed
