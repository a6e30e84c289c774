"""A kernel for one layer in inference: weights stay packed, a plain call goes straight to it."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from openrnn.backends.cpu.kernel import Kernel
from openrnn.backends.cpu.runtime import empty
from openrnn.backends.cpu.words import IS_PACKED, PACKED, UNLESS_CHANGED
from openrnn.backends.stepwise import Given
from openrnn.ragged import Steps
from openrnn.step.shape import Shape

# Packing takes as long as the products of seven rows. With rows beyond these the time is not worth
# the memory, nor is it for so few bytes.
_MOST_ROWS, _LEAST_BYTES = 1024, 1 << 14


class Packed:
    """See `staged.Scan`; the same as the kernel, and quicker where the rows are few.

    In each call a fingerprint of all weights tells whether they are those that were packed. Threads
    may share it.

    Args:
        kernel: of the stages for inference.
        labels: of the inputs of a call, in order: x, the states, and more.
        states: the names of the states, in order; the output is the first.
    """

    def __init__(self, kernel: Kernel, labels: Sequence[str], states: Sequence[str]) -> None:
        self._kernel = kernel
        self.apart, self.saved = kernel.apart, kernel.saved
        self.takes_any_order = kernel.takes_any_order
        self._is_worth_it = kernel.packed_bytes >= _LEAST_BYTES
        self.weights: Tensor | None = None  # the last that were packed: others may be read still
        is_known = {label for _, label, *_ in kernel.wholes} <= {*labels}
        output = f"state.{states[0]}"
        is_output = [label for _, label, *_ in kernel.writes] == [output]
        carried = [name for *_, name, _, _ in kernel.states]
        self.is_plain = kernel.is_plain and is_known and is_output and carried == [*states]
        if self.is_plain:
            self._of_x, self._of_output = kernel.words.given["input.x"], kernel.words.made[output]
            self._columns, self._is_users = kernel.writes[0][2:4]
            self._wholes = [labels.index(label) for _, label, *_ in kernel.wholes]

    def kept(self) -> list[tuple[Shape, torch.dtype]]:
        return self._kernel.kept()

    def __call__(
        self, given: Given, steps: Steps, *, reverse: bool
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        packed = self if self._pays(steps) else None
        return self._kernel(given, steps, reverse=reverse, packed=packed)

    def plain(
        self, inputs: Sequence[Tensor | None], steps: Steps, *, reverse: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Output and last states, where `is_plain`, of dense sequences without resets."""
        kernel, x = self._kernel, inputs[0]
        assert x is not None
        dtype = kernel.dtype
        words = kernel.words.blank(steps, reverse, dtype.itemsize, False)
        held: list[Any] = [x.contiguous()]
        words[self._of_x] = held[0].data_ptr()
        wholes: list[Any] = [inputs[index] for index in self._wholes]
        kernel.give_wholes(words, wholes, held)
        shape = steps.shape if self._is_users else (steps.total,)
        output = empty((*shape, self._columns), dtype)
        words[self._of_output] = output.data_ptr()
        final = []
        for (before, after, *_, size), initial in zip(kernel.states, inputs[1:], strict=False):
            if initial is not None:
                held.append(initial.contiguous())
                words[before] = held[-1].data_ptr()
            last = torch.empty((*steps.state_shape, size), dtype=dtype, device="cpu")
            words[after] = last.data_ptr()
            final.append(last)
        (self if self._pays(steps) else kernel).run(words)
        return output, final

    def _pays(self, steps: Steps) -> bool:
        return self._is_worth_it and steps.total <= _MOST_ROWS

    def run(self, words: array[int]) -> bool:
        """Runs the kernel, on the packed weights if they are the same still."""
        words[IS_PACKED], weights = UNLESS_CHANGED, self.weights
        if weights is not None:
            words[PACKED] = weights.data_ptr()
        if self._kernel.run(words):
            return True
        self.weights = weights = self._kernel.pack(words)
        words[PACKED], words[IS_PACKED] = weights.data_ptr(), 1
        return self._kernel.run(words)
