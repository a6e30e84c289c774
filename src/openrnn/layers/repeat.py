"""A plain call of a layer that is as it was: what was found out for the last one holds still.

To find out what a call needs takes as long as a small layer's work: checks, the cell's program,
what runs it. A call is plain if it is of a tensor with a batch, of no lengths and no states to go
on with after resets, and one cell does all the work in a kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

import torch
from torch import Tensor

from openrnn import backends
from openrnn.autograd import call, in_transform
from openrnn.backends import cpu, staged
from openrnn.backends.memory import check_memory
from openrnn.binding import Parameters, has_global_hooks, is_parametrized
from openrnn.errors import BackendError, CellError
from openrnn.layers.int8cell import Int8Cell
from openrnn.sequence import apart, flat_resets, like_steps, loop_resets
from openrnn.step.glance import Glance
from openrnn.step.program import program_of

if TYPE_CHECKING:
    from openrnn.layers.layer import Layer
    from openrnn.layers.recurrent import Recurrent

_CPU = torch.device("cpu")
_PATIENCE = 8  # how often in a row one is made in vain before it is tried more seldom


class Repeat:
    """Plain calls of one layer, while this shows it unchanged.

    Args:
        layer: the layer.
        alone: the layer over its one cell, it itself perhaps, after a call like those to come.
        parameters: what that is lent, or None.
        input: of that call.

    Raises:
        BackendError, CellError: calls of this layer are never plain.
    """

    def __init__(
        self, layer: Layer, alone: Recurrent, parameters: Parameters | None, input: Tensor
    ) -> None:
        cell, known = alone.cell, alone.known_spec
        glance = Glance.at(cell, beside=(layer, alone))
        if known is None or known.sizes is None:
            raise CellError("what its states are is not known without one")
        if glance is None or is_parametrized(layer) or is_parametrized(alone):
            raise CellError("it holds what may change unseen")
        self._layer, self._glance = ref(layer), glance
        self._features, self._dtype = input.size(2), input.dtype
        self._program, tensors = program_of(
            cell, parameters, known, self._features, self._dtype, _CPU
        )
        self._names, self._tensors = tuple(tensors), tuple(tensors.values())
        check_memory(type(cell).__name__, self._tensors, _CPU)
        self._kinds = self._kinds_now()
        self._spec, self._sizes = known, known.sizes
        self._lead = () if alone is layer else (1,)  # of a state of torch's form
        self._none = (None,) * len(known.sizes)
        self._name, self._run = alone.backend, backends.BACKENDS[alone.backend]
        self._batch_first, self._reverse = layer.batch_first, alone.reverse
        self._refuses_gradients = isinstance(cell, Int8Cell)
        # By what gradients are wanted: None where another way has to be taken.
        self._prepared: dict[tuple[bool, ...], staged.Prepared | None] = {}

    def holds(self, layer: Layer, input: Any) -> bool:
        """Whether a call of this input is like those, and the layer this one, as it was."""
        return (
            _is_plain(input)
            and input.size(2) == self._features
            and input.dtype == self._dtype
            and backends.resolve(self._name) is self._run
            and self._layer() is layer
            and self._glance.is_unchanged()
            and self._kinds_now() == self._kinds
        )

    def __call__(self, input: Tensor, state: Any, reset: Any, *, learn: bool = False) -> Any:
        """What the layer gives, or None if that is not known from a call like it.

        `learn`: find it out, and call nothing.
        """
        shape = input.shape
        steps, batch = (shape[1], shape[0]) if self._batch_first else (shape[0], shape[1])
        state_shape = (*self._lead, batch)
        initial = self._none if state is None else self._read(state, state_shape)
        if initial is None or steps == 0:
            return None
        data = input.transpose(0, 1) if self._batch_first else input
        again: tuple[Tensor | None, ...] = self._none
        resets = None
        if reset is not None:
            if type(reset) is not Tensor or reset.dtype != torch.bool or not reset.is_cpu:
                return None
            if reset.shape != shape[:2]:
                return None
            again, resets = initial, flat_resets(reset, self._batch_first)
        inputs = [data, *initial, *again, *self._tensors]
        wanted = staged.wanted_of(inputs)
        if learn:
            self._prepared[wanted] = self._prepare(wanted)
            return None
        prepared = self._prepared.get(wanted)
        if prepared is None:
            return None
        of_steps = like_steps(steps, batch, state_shape)
        if resets is not None:
            of_steps = of_steps.with_resets(loop_resets(resets, batch) if self._reverse else resets)
        output, *final = call(staged.Staged(prepared, of_steps, self._reverse), inputs)
        if self._batch_first:
            output = apart(output.transpose(0, 1))
        return output, self._spec.wrap(tuple(final))

    def _read(self, state: Any, shape: tuple[int, ...]) -> tuple[Tensor, ...] | None:
        """The user's state, if there is nothing to be said about it."""
        states = (state,) if type(state) is Tensor and len(self._sizes) == 1 else state
        if type(states) not in (tuple, list) or len(states) != len(self._sizes):
            return None
        for tensor, size in zip(states, self._sizes, strict=True):
            if type(tensor) is not Tensor or tensor.shape != (*shape, size):
                return None
            if tensor.dtype != self._dtype or not tensor.is_cpu:
                return None
        return tuple(states)

    def _prepare(self, wanted: tuple[bool, ...]) -> staged.Prepared | None:
        if self._refuses_gradients and any(wanted):
            return None
        try:
            found = staged.prepared(cpu.ENGINE, self._program, self._names, wanted, False)
        except BackendError:
            return None
        return found if found.takes_any_order else None

    def _kinds_now(self) -> list[tuple[type, torch.Size, torch.dtype, bool]]:
        """What may become another without the tensor becoming another."""
        return [(type(t), t.shape, t.dtype, t.is_cpu) for t in self._tensors]


class Known:
    """What is known of a layer: how its last call is repeated, if that can be done.

    It belongs to the layer, so that what it holds goes with the layer. A copy knows nothing.
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
    # A class of the user's may do otherwise.
    is_ours = type(layer).__module__.partition(".")[0] == __name__.partition(".")[0]
    found = layer.alone() if is_ours else None
    if found is None:
        return None
    try:
        return Repeat(layer, *found, input)
    except (BackendError, CellError):
        return None
