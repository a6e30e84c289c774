"""The words by which a kernel is called: how the steps are, and where all arrays are."""

from __future__ import annotations

from array import array
from collections.abc import Collection
from itertools import accumulate, count
from math import prod

import torch

from openrnn.backends.cpu.plan import Assembly, Factor, strides_of
from openrnn.backends.cpu.runtime import pool
from openrnn.ragged import Steps
from openrnn.step.shape import concrete
from openrnn.step.split import is_users, is_value

# Of a call: steps, direction, threads and their pool, where the rows of the steps are told, where
# packed weights go (0: to memory of the runtime's), whether they are there (1), or are unless the
# weights have changed (2), resets, and whether these are behind the steps; the order of the
# sequences, their number, the rows of the user's arrays, and how far steps and sequences are apart
# there; 0 for none. Then come addresses.
_HEADER, _THREADS, _POOL, PACKED, IS_PACKED = 16, 2, 3, 7, 8
UNLESS_CHANGED = 2


# Arrays that lie in one tensor, one behind the other: labels and features.
Bundle = tuple[tuple[str, int], ...]


def starts(bundle: Bundle) -> dict[str, int]:
    """For each of these arrays the features of those before it."""
    found = accumulate((size for _, size in bundle), initial=0)
    return {label: start for (label, _), start in zip(bundle, found, strict=False)}


def features_of(bundle: Bundle) -> int:
    return sum(size for _, size in bundle)


class Words:
    """The places of all that a kernel is told.

    given, made, wholes: the place of the address of each array and tensor, by label.
    states: of each state, in order, as it is before the steps, after them, and at a reset.
    strides: of the last two of each tensor in `wholes`, by its place.
    sums: for each sum over the rows the place of its result, and pairs of places: the second has
        the address of an array, which the first wants as well.
    previous: of each factor that looks for its rows in the step before the state, and the places of
        what that was before the first step, and at a reset.

    Args:
        assembly: what the kernel does.
        saved: those kept for the gradient, of those given, and of those made.
        handed_on: values that only sums over the rows read: those with all rows, and behind them
            those that the steps have added up.
    """

    def __init__(
        self, assembly: Assembly, saved: tuple[Bundle, Bundle], handed_on: tuple[Bundle, Bundle]
    ) -> None:
        places = count(_HEADER)
        self.given = {label: next(places) for label in assembly.given}
        self.made = {label: next(places) for label in assembly.made}
        self.wholes = {label: next(places) for label in assembly.wholes}
        initial, final, again = ([next(places) for _ in assembly.step.states] for _ in range(3))
        self.states = [*zip(initial, final, again, strict=True)]
        self.strides = {place: (next(places), next(places)) for place in self.wholes.values()}
        self.saved_given, self.saved_made, self._with_rows, self._summed = (
            {of[label]: start for label, start in starts(bundle).items() if label in of}
            for of, bundle in zip(
                (self.given, self.made, self.made, self.made), (*saved, *handed_on), strict=True
            )
        )
        self._of_rows, self._of_sequences = map(features_of, handed_on)
        self.handed_on = (*self._with_rows, *self._summed)
        arrays = self.given | {label: p for label, p in self.made.items() if is_value(label)}
        self.sums: list[tuple[int, list[tuple[int, int]]]] = []
        self.previous: list[tuple[str, int, int]] = []
        fixed = dict[int, int]()
        for over in assembly.over_rows:
            read = list[tuple[int, int]]()
            for factor in (over.left, over.right):
                place, how, before, at_reset = (next(places) for _ in range(4))
                if factor is None:
                    continue
                read.append((place, arrays[factor.label]))
                fixed[how] = _how(factor, assembly.summed)
                if factor.previous is not None:
                    self.previous.append((factor.previous, before, at_reset))
            result, *sizes = (next(places) for _ in range(3))
            self.sums.append((result, read))
            fixed.update(zip(sizes, (over.m, over.n), strict=True))
        nodes = assembly.read()
        for label, place in self.wholes.items():
            strides = strides_of(concrete(nodes[label].shape, 0))
            fixed.update(zip(self.strides[place], last_two(strides), strict=True))
        self._fixed = [fixed.get(place, 0) for place in range(_HEADER, next(places))]
        self._last: dict[bool, tuple[Steps, array[int]]] = {}  # by direction

    def handed_on_by(self, steps: Steps) -> int:
        """How many numbers are handed on to sums over the rows."""
        return self._of_rows * steps.total + self._of_sequences * steps.most

    def blank(self, steps: Steps, reverse: bool, width: int, is_backward: bool) -> array[int]:
        """For these steps, without addresses.

        In their place those of arrays in one tensor have the bytes before them, of numbers of this
        width, and strides are those of contiguous tensors.
        """
        last = self._last.get(reverse)
        if last is not None and last[0] is steps:
            words = last[1][:]
            renew(words)
            return words
        words = array("q", [*_header(steps, reverse, is_backward), *self._fixed])
        for places in (self.saved_given, self.saved_made, self._with_rows):
            for place, start in places.items():
                words[place] = start * steps.total * width
        for place, start in self._summed.items():
            words[place] = (self._of_rows * steps.total + start * steps.most) * width
        if steps.ragged is None and steps.resets is None:  # the same object comes again
            self._last[reverse] = steps, words[:]
        return words


def _how(factor: Factor, summed: Collection[str]) -> int:
    """How the rows of an array lie; see `Factor` in vectors.h."""
    if factor.label in summed:
        return 3
    return 2 if factor.previous is not None else int(is_users(factor.label))


def last_two(strides: tuple[int, ...]) -> tuple[int, int]:
    """What a kernel is told of a tensor's strides."""
    before, last = (0, 0, *strides)[-2:]
    return before, last


def renew(words: array[int]) -> None:
    """Words that are used again, with the threads that there are now."""
    words[_THREADS] = torch.get_num_threads()
    words[_POOL], words[_POOL + 1] = pool()  # a fork has none


def _header(steps: Steps, reverse: bool, is_backward: bool) -> list[int]:
    sizes, width = steps.memory.buffer_info()[0], steps.memory.itemsize
    total = len(steps.sizes)
    head = [total, reverse, torch.get_num_threads(), *pool(), sizes, sizes + width * total, 0, 0]
    head += (0, 0) if steps.resets is None else (steps.resets.data_ptr(), is_backward)
    ragged = steps.ragged
    if ragged is None or ragged.order is None:
        return [*head, 0, 0, 0, 0, 0]
    order = sizes + width * (2 * total + 1)
    return [*head, order, len(ragged.order), prod(steps.shape), ragged.between, ragged.stride]
