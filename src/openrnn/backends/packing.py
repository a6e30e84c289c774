"""Ragged sequences for a backend that takes packed data alone, with the states in its order."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from openrnn.backends.backend import Backend, Call, States

Results = tuple[States, States]


def pack(call: Call) -> tuple[Call, Callable[[Results], Results]]:
    """The call on packed data, and what brings its results into the form of the user's."""
    sequence = call.sequence
    ragged, count = sequence.ragged, sequence.data.size(0)
    if ragged is None or ragged.is_packed:
        return call, lambda results: results

    def unpack(results: Results) -> Results:
        rows, final = results
        initial = call.state or (None,) * len(final)
        return (
            tuple(ragged.pad(data, count) for data in rows),
            tuple(ragged.unsort(*pair) for pair in zip(final, initial, strict=False)),
        )

    state, reset_to = (
        states and tuple(map(ragged.sort, states)) for states in (call.state, call.reset_to)
    )
    packed = call._replace(sequence=sequence.pack(), state=state, reset_to=reset_to)
    return packed, unpack


def on_packed(run: Backend) -> Backend:
    """The backend, so that it sees packed data alone."""

    @wraps(run)
    def run_packed(call: Call) -> Results:
        """See `Backend`."""
        packed, unpack = pack(call)
        return unpack(run(packed))

    return run_packed
