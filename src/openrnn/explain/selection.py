"""What of a recording is shown: one sequence, some names, some units."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from openrnn.errors import ArgumentError, ArgumentTypeError

if TYPE_CHECKING:
    from openrnn.explain.recording import Recording


@dataclass(frozen=True)
class Track:
    """One value of one sequence over time.

    name: as it was recorded, `base` with the `ending` of its cell.
    kind: "state", "gate" for any other value that is worth a look, or "sum" before a gate.
    data: (steps, units), float32, on the CPU.
    units: the numbers of the units in `data`.
    features: all units that were recorded.
    """

    name: str
    base: str
    ending: str
    kind: str
    data: Tensor
    units: tuple[int, ...]
    features: int

    def part(self, steps: int, units: int) -> Track:
        """The first steps of the first units."""
        return replace(self, data=self.data[:steps, :units], units=self.units[:units])

    def scale(self) -> tuple[float, float]:
        """The ends of the colours: symmetric about 0 if a value is below, else 0 and at least 1."""
        there = self.data[self.data.isfinite()]
        low, high = (float(there.min()), float(there.max())) if there.numel() else (0.0, 0.0)
        if low < 0:
            high = max(-low, high)
            return -high, high
        return 0.0, max(high, 1.0)


def select(
    owner: str, recording: Recording, names: Any, sequence: int, units: Any
) -> tuple[Track, ...]:
    """The values of one sequence, up to its end; all of them if `names` is None.

    Args:
        owner: the method that error messages name.
        recording: where they are.
        names: recorded ones; one without its ending stands for that of every cell.
        sequence: its number in the batch.
        units: their numbers. None: all.

    Raises:
        ArgumentError: there is no such name, sequence or unit, or nothing of them to show.
        ArgumentTypeError: a sequence or a unit that is no integer.
    """
    steps = steps_of(owner, recording, sequence)
    places = {name: _place(name, recording) for name in recording}
    if isinstance(units, Iterable):
        units = list(units)  # which may be asked for once only
    chosen = []
    for name in _find(owner, names, places):
        value = recording[name]
        value = value[:steps] if value.dim() == 2 else value[:steps, sequence]
        numbers = _read_units(owner, units, name, value.size(1))
        data = value if units is None else value[:, list(numbers)]
        data = data.detach().to("cpu", torch.float32)
        kind = _kind(name, recording, places)
        chosen.append(Track(name, *places[name], kind, data, numbers, value.size(1)))
    return tuple(chosen)


def steps_of(owner: str, recording: Recording, sequence: int) -> int:
    """How many steps a sequence has, if there is such a one."""
    sequence = _integer(owner, "sequence to be an integer", sequence)
    input = recording.input
    count = input.size(1) if input.dim() == 3 else 1
    if count == 0:
        raise ArgumentError(f"{owner}: expected a recording with sequences, got a batch of 0")
    if not 0 <= sequence < count:
        meaning = "a place in the batch" if input.dim() == 3 else "as the input has no batch"
        raise ArgumentError(
            f"{owner}: expected sequence from 0 to {count - 1}, {meaning}, got {sequence}"
        )
    steps = int(recording.steps.view(-1)[sequence])
    if steps == 0:
        raise ArgumentError(
            f"{owner}: expected a sequence with steps, got sequence {sequence} of length 0. "
            "Choose another"
        )
    return steps


def read_labels(
    owner: str, labels: Iterable[Any] | None, steps: int, padded: int
) -> list[str] | None:
    """The words for the steps, without those behind the sequence's end.

    Raises:
        ArgumentError: they are not as many as the steps, of the sequence or of the whole batch.
    """
    if labels is None:
        return None
    words = [str(label).replace("\n", "↵") for label in labels]
    check_count(owner, "labels", len(words), steps, padded)
    return words[:steps]


def check_count(owner: str, name: str, count: int, steps: int, padded: int) -> None:
    """Raises ArgumentError if `count` is not that of the steps."""
    if count not in (steps, padded):
        either = f" (or {padded}, with padding)" if padded != steps else ""
        raise ArgumentError(
            f"{owner}: expected {name} for the {steps} steps of the sequence{either}, got {count}. "
            "Give one for each step"
        )


def _place(name: str, recording: Recording) -> tuple[str, str]:
    """A name's variable, and the ending of its cell."""
    ending = max(filter(name.endswith, recording.endings), key=len)
    return name.removesuffix(ending), ending


def _find(owner: str, names: Any, places: dict[str, tuple[str, str]]) -> list[str]:
    if names is None:
        return list(places)
    found: list[str] = []
    for name in [names] if isinstance(names, str) else list(names):
        of_name = [own for own, (base, _) in places.items() if name in (own, base)]
        if not of_name:
            raise ArgumentError(
                f"{owner}: expected names that were recorded, {', '.join(places)}, got {name!r}"
            )
        found += [own for own in of_name if own not in found]
    if not found:
        raise ArgumentError(f"{owner}: expected names to have at least one name, got {names!r}")
    return found


def _kind(name: str, recording: Recording, places: dict[str, tuple[str, str]]) -> str:
    """A sum is named after a gate (a_i after i, r_x after r), or has several side by side."""
    if name in recording.states:
        return "state"
    base, ending = places[name]
    cell = {own: b for own, (b, e) in places.items() if e == ending}
    gates = {b for own, b in cell.items() if own not in recording.states and b != base}
    widest = max(recording[own].size(-1) for own in cell if own in recording.states)
    is_sum = not gates.isdisjoint(base.split("_")) or recording[name].size(-1) > widest
    return "sum" if is_sum else "gate"


def _read_units(owner: str, units: Any, name: str, features: int) -> tuple[int, ...]:
    if units is None:
        return tuple(range(features))
    if isinstance(units, slice):
        units = range(features)[units]
    if not isinstance(units, Iterable):
        units = [units]
    numbers = tuple(_integer(owner, "units to be integers", unit) for unit in units)
    for number in numbers:
        if not 0 <= number < features:
            raise ArgumentError(
                f"{owner}: expected units from 0 to {features - 1}, as {name} has, got {number}. "
                "Give other units, or the names that have it"
            )
    if not numbers:
        raise ArgumentError(f"{owner}: expected units to have at least one number, got {units!r}")
    return numbers


def _integer(owner: str, meaning: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise ArgumentTypeError(
            f"{owner}: expected {meaning}, got {type(value).__name__}"
        ) from None
