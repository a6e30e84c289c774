"""What a layer does in a call that is like the last one: cell after cell, in kernels.

A layer says by `Layer.part` of what parts its work is made. A call goes through them twice: first
each says whether it can take part, and then each runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from weakref import ref

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openrnn.autograd import Wanted
from openrnn.autograd import call as differentiable
from openrnn.backends import cpu, staged
from openrnn.backends.memory import check_memory
from openrnn.binding import Parameters, is_parametrized
from openrnn.errors import BackendError, CellError
from openrnn.layers.int8cell import Int8Cell
from openrnn.sequence import like_steps, loop_resets
from openrnn.state import StateSpec
from openrnn.step.program import program_of

if TYPE_CHECKING:
    from openrnn.layers.layer import Layer
    from openrnn.layers.torchlayer import TorchLayer

_CPU = torch.device("cpu")
_Turn = tuple[list[Tensor | None], staged.Prepared]


@dataclass(slots=True)
class Call:
    """One call.

    steps, batch: of the input.
    resets: the rows before which a sequence is cut, or None.
    learn: what a part does not know yet it is to find out.
    turns: what the cells run, in order, once all have said that they can.
    """

    steps: int
    batch: int
    resets: Tensor | None
    learn: bool
    turns: list[_Turn] = field(default_factory=list)


class Survey:
    """What a layer is made of, as is found when it says of what parts its work is made.

    layers: it, and those inside, whose attributes tell what is done.
    cells: those that run.
    tensors: what these read.

    Args:
        dtype: of the input.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.layers, self.cells = list[nn.Module](), list[nn.Module]()
        self.tensors = list[Tensor]()

    def add(self, layer: nn.Module) -> None:
        """Notes a layer.

        Raises:
            CellError: what it reads is computed at each call.
        """
        if is_parametrized(layer):
            raise CellError("it has a parametrization")
        self.layers.append(layer)


class Part(Protocol):
    """Some of a layer's work. It does not keep the layer alive, which may know it.

    features: of the output.
    """

    features: int

    def begin(self, call: Call, state: Any, wanted: bool) -> bool | None:
        """Whether the output has a gradient, or None: the call is to be made like a first one.

        Args:
            call: the call; the turns of this part's cells are added to it.
            state: the initial state as the user gave it, or None.
            wanted: whether the input has a gradient.
        """

    def run(self, call: Call, turns: Iterator[_Turn], data: Tensor) -> tuple[Tensor, Any]:
        """The output, (T, B, features), and the state as the user gets it, of the input."""


class CellPart:
    """A cell in a kernel, with time forward or backward.

    Args:
        survey: of the whole layer; the cell and what it reads is noted there.
        cell: the cell.
        spec: what its states are, if that is known.
        parameters: what it is lent, or None.
        features: of the input.
        reverse: run from the last step to the first.

    Raises:
        BackendError, CellError: no kernel runs it, or what it does is not known in advance.
    """

    def __init__(
        self,
        survey: Survey,
        cell: nn.Module,
        spec: StateSpec | None,
        parameters: Parameters | None,
        features: int,
        *,
        reverse: bool,
    ) -> None:
        if spec is None or spec.sizes is None:
            raise CellError("what its states are is not known without one")
        dtype = survey.dtype
        self._program, tensors = program_of(cell, parameters, spec, features, dtype, _CPU)
        self._names, self._tensors = tuple(tensors), tuple(tensors.values())
        check_memory(type(cell).__name__, self._tensors, _CPU)
        survey.cells.append(cell)
        survey.tensors += self._tensors
        self._lead: tuple[int, ...] = ()
        self.features = spec.sizes[0]
        self._spec, self._sizes = spec, spec.sizes
        self._dtype, self._reverse = dtype, reverse
        self._none = (None,) * len(spec.sizes)
        self._refuses_gradients = isinstance(cell, Int8Cell)
        # By what gradients are wanted: None where another way has to be taken.
        self._prepared: dict[Wanted, staged.Prepared | None] = {}

    def of_torch(self) -> CellPart:
        """The same in a layer of torch's form with this cell alone: its states are (1, B, H)."""
        self._lead = (1,)
        return self

    def begin(self, call: Call, state: Any, wanted: bool) -> bool | None:
        initial: tuple[Tensor | None, ...] | None = self._none
        if state is not None:
            shapes = [(*self._lead, call.batch, size) for size in self._sizes]
            initial = _read(state, shapes, self._dtype)
        if initial is None:
            return None
        again = self._none if call.resets is None else initial
        inputs: list[Tensor | None] = [*initial, *again, *self._tensors]
        all_wanted = (wanted, *staged.wanted_of(inputs))
        if call.learn and all_wanted not in self._prepared:
            self._prepared[all_wanted] = self._prepare(all_wanted)
        prepared = self._prepared.get(all_wanted)
        if prepared is None:
            return None
        call.turns.append((inputs, prepared))
        return any(all_wanted)

    def run(self, call: Call, turns: Iterator[_Turn], data: Tensor) -> tuple[Tensor, Any]:
        inputs, prepared = next(turns)
        steps = like_steps(call.steps, call.batch, (*self._lead, call.batch))
        resets, kernel = call.resets, prepared.forward
        if resets is None and type(kernel) is cpu.Packed and kernel.is_plain:
            output, final = kernel.plain([data, *inputs], steps, reverse=self._reverse)
            return output, self._spec.wrap(tuple(final))
        if resets is not None:
            steps = steps.with_resets(loop_resets(resets, call.batch) if self._reverse else resets)
        runner = staged.Staged(prepared, steps, self._reverse)
        output, *final = differentiable(runner, [data, *inputs])
        return output, self._spec.wrap(tuple(final))

    def _prepare(self, wanted: Wanted) -> staged.Prepared | None:
        if self._refuses_gradients and any(wanted):
            return None
        try:
            found = staged.prepared(cpu.ENGINE, self._program, self._names, wanted, False)
        except BackendError:
            return None
        if not found.takes_any_order:
            return None
        if any(wanted):
            return found
        kernel: Any = found.forward
        return found.by(cpu.Packed(kernel, found.labels, found.program.states))


class Beside:
    """Parts that run over the same input. A state is one of each.

    `merge`: makes the output of what they give; it has so many `features`.
    """

    def __init__(self, parts: Sequence[Part], merge: Callable[..., Tensor], features: int) -> None:
        self._parts, self._merge, self.features = parts, merge, features

    def begin(self, call: Call, state: Any, wanted: bool) -> bool | None:
        states = _shares(state, self._parts)
        if states is None:
            return None
        has_gradient = False
        for part, own in zip(self._parts, states, strict=True):
            found = part.begin(call, own, wanted)
            if found is None:
                return None
            has_gradient |= found
        return has_gradient

    def run(self, call: Call, turns: Iterator[_Turn], data: Tensor) -> tuple[Tensor, Any]:
        pairs = [part.run(call, turns, data) for part in self._parts]
        outputs, states = zip(*pairs, strict=True)
        return self._merge(*outputs), states


class Chain:
    """Parts of which each takes what the one before gives. A state is one of each.

    Args:
        parts: the parts, in order.
        dropout: probability that a number between two of them is zeroed.
        residual: whether to what a part gives its input is added, where the features are as many.
    """

    def __init__(self, parts: Sequence[Part], *, dropout: float, residual: bool) -> None:
        self._parts, self._dropout, self._residual = parts, dropout, residual
        self.features = parts[-1].features

    def begin(self, call: Call, state: Any, wanted: bool) -> bool | None:
        states = _shares(state, self._parts)
        if states is None:
            return None
        for part, own in zip(self._parts, states, strict=True):
            found = part.begin(call, own, wanted)
            if found is None:
                return None
            wanted = found or (self._residual and wanted)
        return wanted

    def run(self, call: Call, turns: Iterator[_Turn], data: Tensor) -> tuple[Tensor, Any]:
        final = []
        for place, part in enumerate(self._parts):
            below = data
            if place > 0 and self._dropout > 0:
                data = F.dropout(data, self._dropout)
            data, state = part.run(call, turns, data)
            if self._residual and below.size(-1) == data.size(-1):
                data = data + below
            final.append(state)
        return data, tuple(final)


class Joined:
    """A part in a layer of torch's form: its states are joined, along a dimension before the batch.

    Args:
        layer: the layer.
        part: what it does; its states are those that `layer.split_state` gives.
        dtype: of the input.
        shapes: of the states, without the batch: the dimension before it and the features.
    """

    def __init__(
        self, layer: TorchLayer, part: Part, dtype: torch.dtype, shapes: Sequence[tuple[int, int]]
    ) -> None:
        self._layer, self._part, self._dtype, self._shapes = ref(layer), part, dtype, shapes
        self.features = part.features

    def begin(self, call: Call, state: Any, wanted: bool) -> bool | None:
        if state is not None:
            shapes = [(count, call.batch, size) for count, size in self._shapes]
            if _read(state, shapes, self._dtype) is None:
                return None
            state = self._torch_layer().split_state(state)
        return self._part.begin(call, state, wanted)

    def run(self, call: Call, turns: Iterator[_Turn], data: Tensor) -> tuple[Tensor, Any]:
        output, states = self._part.run(call, turns, data)
        return output, self._torch_layer().join_state(states, 0)

    def _torch_layer(self) -> TorchLayer:
        layer = self._layer()
        assert layer is not None, "it is called"
        return layer


def part_of(layer: Layer, survey: Survey, features: int, parameters: Any = None) -> Part:
    """See `Layer.part`; a class of the user's may do otherwise than ours, and so may a method."""
    kind = type(layer)
    if kind.__module__.partition(".")[0] != __name__.partition(".")[0]:
        raise CellError("its class is not one of ours")
    if any(callable(getattr(kind, name, None)) for name in layer.__dict__):
        raise CellError("a method of its own stands before that of its class")
    return layer.part(survey, features, parameters)


def _read(
    state: Any, shapes: Sequence[tuple[int, ...]], dtype: torch.dtype
) -> tuple[Tensor, ...] | None:
    """The user's state of these shapes, a tensor or some, if there is nothing to be said of it."""
    states = (state,) if len(shapes) == 1 else state
    if type(states) not in (tuple, list) or len(states) != len(shapes):
        return None
    for tensor, shape in zip(states, shapes, strict=True):
        if type(tensor) is not Tensor or tensor.shape != shape:
            return None
        if tensor.dtype != dtype or not tensor.is_cpu:
            return None
    return tuple(states)


def _shares(state: Any, parts: Sequence[Part]) -> Sequence[Any] | None:
    """The state of each part, or None if they are not as many."""
    if state is None:
        return (None,) * len(parts)
    return state if type(state) in (tuple, list) and len(state) == len(parts) else None
