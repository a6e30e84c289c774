"""A plain call of a layer that is as it was: what was found out for the last one holds still.

To find out what a call needs takes as long as a small layer's work: checks, the cell's program,
what runs it. A call is plain if it is of a tensor with a batch, of no lengths and no states to go
on with after resets, and cells do all the work in kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

import torch
from torch import Tensor

from openrnn import backends
from openrnn.autograd import in_transform
from openrnn.binding import has_global_hooks
from openrnn.errors import BackendError, CellError
from openrnn.layers.parts import Call, Survey, part_of
from openrnn.sequence import apart, flat_resets
from openrnn.step.glance import Glance

if TYPE_CHECKING:
    from openrnn.layers.layer import Layer

_CPU = torch.device("cpu")
_PATIENCE = 8  # how often in a row one is made in vain before it is tried more seldom


class Repeat:
    """Plain calls of one layer, while this shows it unchanged.

    Args:
        layer: the layer, after a call like those to come.
        input: of that call.

    Raises:
        BackendError, CellError: calls of this layer are never plain.
    """

    def __init__(self, layer: Layer, input: Tensor) -> None:
        self._features, self._dtype = input.size(2), input.dtype
        survey = Survey(input.dtype)
        self._part = part_of(layer, survey, self._features)
        self._tensors = tuple(survey.tensors)
        glance = Glance.at(*survey.cells, beside=survey.layers, owner=layer, owned="_known")
        if glance is None:
            raise CellError("it holds what may change unseen")
        self._layer, self._glance = ref(layer), glance
        self._kinds = self._kinds_now()
        self._batch_first = layer.batch_first

    def holds(self, layer: Layer, input: Any) -> bool:
        """Whether a call of this input is like those, and the layer this one, as it was."""
        return (
            _is_plain(input)
            and input.size(2) == self._features
            and input.dtype == self._dtype
            and backends.resolve("auto") is backends.BACKENDS["auto"]  # nothing stands in for all
            and self._layer() is layer
            and self._glance.is_unchanged(layer)
            and self._kinds_now() == self._kinds
        )

    def __call__(self, input: Tensor, state: Any, reset: Any, *, learn: bool = False) -> Any:
        """What the layer gives, or None if that is not known from a call like it.

        `learn`: find it out, and call nothing.
        """
        shape = input.shape
        steps, batch = (shape[1], shape[0]) if self._batch_first else (shape[0], shape[1])
        if steps == 0:
            return None
        resets = None
        if reset is not None:
            if type(reset) is not Tensor or reset.dtype != torch.bool or not reset.is_cpu:
                return None
            if reset.shape != shape[:2]:
                return None
            resets = flat_resets(reset, self._batch_first)
        call = Call(steps, batch, resets, learn)
        wanted = input.requires_grad and torch.is_grad_enabled()
        if self._part.begin(call, state, wanted) is None or learn:
            return None
        data = input.transpose(0, 1) if self._batch_first else input
        output, final = self._part.run(call, iter(call.turns), data)
        if self._batch_first:
            output = apart(output.transpose(0, 1))
        return output, final

    def _kinds_now(self) -> list[tuple[type, torch.Size, torch.dtype, bool]]:
        """What may become another without the tensor becoming another."""
        return [(type(t), t.shape, t.dtype, t.is_cpu) for t in self._tensors]


class Known:
    """What is known of a layer: how its last call is repeated, if that can be done.

    It belongs to the layer, and holds neither it nor its `__dict__`, so both go at once. A copy
    knows nothing.
    """

    __slots__ = ("_in_vain", "_repeat")

    def __init__(self) -> None:
        self._repeat: Repeat | None = None
        self._in_vain = 0  # how many were made since one was of use

    def __reduce__(self) -> tuple[type[Known], tuple[()]]:
        return Known, ()

    def __call__(self, layer: Layer, input: Any, state: Any, reset: Any) -> Any:
        """What a plain call gives, or None: then it is to be made as if it were the first."""
        repeat = self._repeat
        if repeat is None or not repeat.holds(layer, input):
            return None
        found = repeat(input, state, reset)
        if found is not None:
            self._in_vain = 0
        return found

    def learn(self, layer: Layer, input: Any, state: Any, reset: Any) -> None:
        """What there is to know after a call that was not repeated."""
        if not _is_plain(input):
            return
        repeat = self._repeat
        if repeat is None or not repeat.holds(layer, input):
            self._in_vain += 1
            if self._in_vain > _PATIENCE and self._in_vain % 64:
                return
            repeat = self._repeat = _repeat_of(layer, input)
        if repeat is not None:
            repeat(input, state, reset, learn=True)


def _is_plain(input: Any) -> bool:
    """Whether the input is a batch of numbers in memory, and nobody looks at each operation."""
    is_batch = type(input) is Tensor and input.dim() == 3 and input.is_cpu
    return is_batch and not in_transform(_CPU) and not has_global_hooks()


def _repeat_of(layer: Layer, input: Tensor) -> Repeat | None:
    try:
        return Repeat(layer, input)
    except (BackendError, CellError):
        return None
