"""A call of a cell that was read: what runs its stages over a sequence, and their gradient."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor

from openrnn.autograd import Wanted, in_transform
from openrnn.autograd import call as differentiable
from openrnn.backends import eager
from openrnn.backends.backend import Call, States
from openrnn.backends.memory import check_dtypes, check_memory
from openrnn.backends.packing import as_rows, is_packed, pack
from openrnn.backends.stepwise import INITIAL, RESET, Given, InTorch
from openrnn.ragged import Steps
from openrnn.sequence import shaped
from openrnn.step.evaluate import draw
from openrnn.step.program import Program, program_of
from openrnn.step.shape import Shape, rows_dim
from openrnn.step.split import Stages


class Scan(Hashable, Protocol):
    """Runs the stages of a step, or of its gradient, over a sequence.

    apart: whether all that it gives is in memory of its own.
    takes_any_order: whether inputs, states and results may lie as `Steps.ragged` tells.
    saved: the labels of those results that are kept for the gradient.
    """

    apart: bool
    takes_any_order: bool
    saved: tuple[str, ...]

    def kept(self) -> list[tuple[Shape, torch.dtype]]:
        """Shapes and dtypes of what is saved; their rows are those of all steps."""

    def __call__(
        self, given: Given, steps: Steps, *, reverse: bool
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The results by label, for all rows, and the last values of the carried states by name.

        Args:
            given: by label: what has rows, for all rows; the initial states, None for zeros; the
                rest. `reset.<name>` is what a state becomes at a reset; for the gradient
                `initial.<name>` is what it was before the first step.
            steps: the rows of each step. Of the gradient of a step that a reset came before,
                nothing goes on to the step before: it is added up in a result, `reset.<name>`.
            reverse: from the last step to the first.
        """


@dataclass(frozen=True, eq=False)
class Engine:
    """What backends differ in.

    prepare: `prepare(stages, states, forward)` gives what runs these stages; `states` are the
        labels of those carried of which all rows are wanted, beside the last; `forward`, for the
        gradient, is what ran the step. It raises BackendError if it cannot.
    fused: whether its loop computes element by element at no cost of its own.
    """

    prepare: Callable[[Stages, tuple[str, ...], Any], Scan]
    fused: bool


TORCH = Engine(InTorch, fused=False)


def run(engine: Engine, call: Call) -> tuple[States, States]:
    """See `Backend`."""
    if in_transform(call.sequence.data.device):
        return eager.run(call)
    return make_ready(engine, call)()


def make_ready(
    engine: Engine, call: Call, *, watched: bool = False
) -> Callable[[], tuple[States, States]]:
    """All of a call that can be refused: what is returned runs it.

    Args:
        engine: what runs the stages.
        call: what is asked.
        watched: the values of `Program.watched` follow the states.

    Raises:
        CellError: the cell cannot be traced.
        BackendError: its recurrence cannot be prepared.
    """
    cell, parameters, sequence, spec, state, *_ = call
    if spec.sizes is None and state is not None:  # the states that the user gave tell their sizes
        spec = replace(spec, sizes=tuple(s.size(-1) for s in state))
    data = sequence.data
    program, tensors = program_of(cell, parameters, spec, data.size(-1), data.dtype, data.device)
    return _make_ready(engine, call, program.watched if watched else program, tensors)


def _make_ready(
    engine: Engine, call: Call, program: Program, tensors: Mapping[str, Tensor]
) -> Callable[[], tuple[States, States]]:
    cell, _, sequence, _, state, resets, reset_to, reverse, every = call
    data = sequence.data
    none = (None,) * len(program.states)
    again = none if resets is None else reset_to or none
    begin = [(*(given or none), *none)[: len(none)] for given in (state, again)]
    inputs = [data, *begin[0], *begin[1], *tensors.values()]
    check_memory(type(cell).__name__, inputs, data.device)
    check_dtypes(type(cell).__name__, (*begin[0], *begin[1]), data.dtype)
    found = prepared(engine, program, tuple(tensors), wanted_of(inputs), every)
    if not found.takes_any_order and not is_packed(sequence):
        packed, unpack = pack(call)
        of_packed = _make_ready(engine, packed, program, tensors)
        return lambda: unpack(of_packed())
    steps = sequence.steps if resets is None else sequence.steps.with_resets(resets)
    runner = Staged(found, steps, reverse)

    def ready() -> tuple[States, States]:
        results = differentiable(runner, inputs)
        count = len(found.every_step)
        return results[:count], results[count:]

    return ready


def wanted_of(inputs: Sequence[Tensor | None]) -> Wanted:
    """Of which inputs a call that is made now has gradients."""
    if not torch.is_grad_enabled():
        return (False,) * len(inputs)
    return tuple([tensor is not None and tensor.requires_grad for tensor in inputs])


class Prepared:
    """All that calls of one kind run: with tensors of these names, and these gradients wanted."""

    def __init__(
        self,
        engine: Engine,
        program: Program,
        names: tuple[str, ...],
        wanted: Wanted,
        every: bool,
    ) -> None:
        self.program = program.fused if engine.fused else program
        self.wanted = wanted
        self.labels = (
            "input.x",
            *(f"state.{name}" for name in program.states),
            *(f"{RESET}{name}" for name in program.states),
            *(f"parameter.{name}" for name in names),
        )
        self.every_step = program.every_step(every)
        states = tuple(f"state.{name}" for name in self.every_step)
        self.stages = self.program.stages
        if any(wanted):
            chosen = frozenset(
                label
                for label, want in zip(self.labels, wanted, strict=True)
                if want and not label.startswith(RESET)
            )
            self.stages, backward = self.program.training(chosen, every=every)
            self.forward = scan_of(engine, self.stages, states)
            self.backward = scan_of(engine, backward, (), self.forward)
            scans = [self.forward, self.backward]
            carried = {*self.stages.carried} & {*backward.carried}
            stepwise = self.program.stepwise(every)
            # Of each state: whether its rows have gradients of their own, whether it is carried.
            self.gradients = [
                (name, f"gradient.{name}", name in stepwise, name in self.stages.carried)
                for name in program.states
            ]
        else:
            self.forward = scan_of(engine, self.stages, states)
            scans, carried = [self.forward], {*self.stages.carried}
        # The last value of a state that is not carried is looked up among the rows.
        self.takes_any_order = carried >= {*program.states} and all(
            scan.takes_any_order for scan in scans
        )
        self.states = states
        self.randoms = [f"random.{node['number']}" for node in self.stages.randoms]

    def by(self, forward: Scan) -> Prepared:
        """The same, where without gradients this runs the stages forward."""
        found = copy(self)
        found.forward = forward
        return found

    def kept(self) -> list[tuple[Shape, torch.dtype]]:
        """Shapes and dtypes of what a call keeps for its gradient, with the rows of all steps."""
        randoms = [(node.shape, node.dtype) for node in self.stages.randoms]
        return randoms + self.forward.kept()


@lru_cache(maxsize=4096)
def prepared(
    engine: Engine, program: Program, names: tuple[str, ...], wanted: Wanted, every: bool
) -> Prepared:
    return Prepared(engine, program, names, wanted, every)


@lru_cache(maxsize=4096)  # by the identity of the stages
def scan_of(
    engine: Engine, stages: Stages, states: tuple[str, ...], forward: Scan | None = None
) -> Scan:
    """What runs these stages, made once."""
    return engine.prepare(stages, states, forward)


class Staged:
    """One call: see `openrnn.autograd.Runner`."""

    def __init__(self, prepared: Prepared, steps: Steps, reverse: bool) -> None:
        self.prepared, self.steps, self.reverse = prepared, steps, reverse
        self.wanted = prepared.wanted

    def forward(
        self, inputs: Sequence[Tensor | None]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        prepared = self.prepared
        given = dict(zip(prepared.labels, inputs, strict=True))
        x = inputs[0]
        assert x is not None
        randoms = self._draw(x.device)
        given.update(randoms)
        results, rows = self._results(prepared.forward, given, self.steps)
        kept = (*randoms.values(), *[rows[name] for name in prepared.forward.saved])
        if any(self.wanted) and not prepared.forward.apart:
            results = apart(results, (*inputs, *kept))
        return results, kept

    def differentiable(
        self, inputs: Sequence[Tensor | None], kept: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        program = self.prepared.program
        labels, steps = self.prepared.labels, self.steps
        given = dict(zip(labels, map(self._packed, labels, inputs), strict=True))
        given.update(zip(self.prepared.randoms, kept, strict=False))
        scan, ragged = scan_of(TORCH, program.stages, self.prepared.states), steps.ragged
        results, _ = self._results(scan, given, steps.packed())
        count = len(self.prepared.states)
        rows, final = [*results[:count]], [*results[count:]]
        if ragged is not None:
            rows = [ragged.pad(data, *steps.shape) for data in rows]
            begin = inputs[1 : 1 + len(program.states)]
            pairs = zip(final, begin, strict=True)
            final = [ragged.unsort(last, s if s is None else as_rows(s)) for last, s in pairs]
        return (
            *[data.reshape(*steps.shape, data.size(-1)) for data in rows],
            *[last.reshape(*steps.state_shape, last.size(-1)) for last in final],
        )

    def _packed(self, label: str, tensor: Tensor | None) -> Tensor | None:
        ragged = self.steps.ragged
        if tensor is None or label.startswith("parameter."):
            return tensor
        rows = as_rows(tensor)
        if ragged is None:
            return rows
        return ragged.pack(rows) if label == "input.x" else ragged.sort(rows)

    def _results(
        self, scan: Scan, given: dict[str, Tensor | None], steps: Steps
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        prepared = self.prepared
        rows, final = self._scan(scan, given, steps, self.reverse)
        results = [rows[label] for label in prepared.states]
        return (*results, *[final[name] for name in prepared.program.states]), rows

    def backward(
        self,
        inputs: Sequence[Tensor | None],
        kept: Sequence[Tensor],
        gradients: Sequence[Tensor | None],
    ) -> list[Tensor | None]:
        prepared, x = self.prepared, inputs[0]
        assert x is not None
        given: dict[str, Tensor | None] = dict(zip(prepared.labels, inputs, strict=True))
        given.update(zip(prepared.forward.saved, kept[len(prepared.randoms) :], strict=True))
        count = len(prepared.every_step)
        of_rows = dict(zip(prepared.every_step, gradients[:count], strict=True))
        for (name, label, is_stepwise, is_carried), last in zip(
            prepared.gradients, gradients[count:], strict=True
        ):
            if is_stepwise:
                rows = of_rows.get(name)
                if rows is None:
                    rows = x.new_zeros(*self.steps.shape, prepared.program.features[name])
                if not is_carried and last is not None:  # its last value is one row of many
                    place = self.steps.last_rows(self.reverse).to(rows.device)
                    rows = rows.flatten(0, -2).index_add(0, place, last)
                given[label] = rows
            if is_carried:
                given[INITIAL + name] = given[f"state.{name}"]
                given[f"state.{name}"] = last
        results, final = self._scan(prepared.backward, given, self.steps, not self.reverse)
        for name, tensor in final.items():
            results[f"state.{name}"] = tensor
        return [
            results.get(label) if want else None
            for label, want in zip(prepared.labels, prepared.wanted, strict=True)
        ]

    def _scan(
        self, scan: Scan, given: dict[str, Tensor | None], steps: Steps, reverse: bool
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        results, final = scan(given, steps, reverse=reverse)
        for label, tensor in results.items():
            if label.startswith("state."):
                name = label.removeprefix("state.")
                if name not in final:  # no step reads it, so no loop carries it
                    last = steps.last_rows(reverse).to(tensor.device)
                    final[name] = tensor.flatten(0, -2).index_select(0, last)
            elif not label.startswith("input."):
                continue
            if tensor.dim() == 2 and len(steps.shape) > 1:
                results[label] = shaped(tensor, (*steps.shape, tensor.size(-1)))
        return results, final

    def _draw(self, device: torch.device) -> dict[str, Tensor]:
        """Each step's random numbers, in the order in which the eager loop would draw them."""
        nodes, sizes = self.prepared.stages.randoms, self.steps.sizes
        if not nodes:
            return {}
        drawn: dict[str, list[Tensor]] = {label: [] for label in self.prepared.randoms}
        for size in reversed(sizes) if self.reverse else sizes:
            for node in nodes:
                drawn[f"random.{node['number']}"].append(draw(node, size, device))
        return {
            label: torch.cat(steps[::-1] if self.reverse else steps, rows_dim(node.shape))
            for (label, steps), node in zip(drawn.items(), nodes, strict=True)
        }


def apart(results: tuple[Tensor, ...], others: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    """The results, in memory of their own: the user may change them in place."""
    taken = {tensor.untyped_storage().data_ptr() for tensor in others if tensor is not None}
    found = []
    for result in results:
        place = result.untyped_storage().data_ptr()
        found.append(result.clone() if place in taken else result)
        taken.add(place)
    return tuple(found)
