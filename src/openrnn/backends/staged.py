"""A split graph over a sequence: three stages in torch operations, the recurrence by a backend."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor, nn

from openrnn.autograd import Wanted, call, in_transform
from openrnn.backends import eager
from openrnn.backends.stepwise import InTorch, Named
from openrnn.binding import Parameters, tensors_of
from openrnn.errors import BackendError
from openrnn.sequence import Sequence as Batches
from openrnn.state import StateSpec
from openrnn.step.evaluate import draw
from openrnn.step.program import Program, program_of
from openrnn.step.shape import rows_dim
from openrnn.step.split import STAGES, Stages


class Scan(Protocol):
    """Runs the stages of a step, or of its gradient, over a sequence."""

    def __call__(
        self, given: Named, sizes: list[int], *, reverse: bool
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The results by label, for all rows, and the last values of the carried states by name.

        Args:
            given: by label: what has rows, for all N = sum(sizes) rows; the initial states; the
                rest.
            sizes: the rows of each step.
            reverse: from the last step to the first.
        """


@dataclass(frozen=True)
class Engine:
    """What backends differ in.

    prepare: `prepare(stages, states)` gives what runs these stages; `states` are the labels of those
        carried of which all rows are wanted, beside the last. It raises BackendError if it cannot.
    fused: whether its loop computes element by element at no cost of its own.
    """

    prepare: Callable[[Stages, tuple[str, ...]], Scan]
    fused: bool


TORCH = Engine(InTorch, fused=False)


def run(
    engine: Engine,
    cell: nn.Module,
    parameters: Parameters | None,
    sequence: Batches,
    state: tuple[Tensor, ...],
    spec: StateSpec,
    *,
    reverse: bool,
) -> tuple[Batches, tuple[Tensor, ...]]:
    """See `Backend`."""
    if in_transform(sequence.data.device):
        return eager.run(cell, parameters, sequence, state, spec, reverse=reverse)
    ready = make_ready(engine, cell, parameters, sequence, state, spec, reverse=reverse)
    return ready()


def make_ready(
    engine: Engine,
    cell: nn.Module,
    parameters: Parameters | None,
    sequence: Batches,
    state: tuple[Tensor, ...],
    spec: StateSpec,
    *,
    reverse: bool,
) -> Callable[[], tuple[Batches, tuple[Tensor, ...]]]:
    """All of a call that can be refused: what is returned runs it.

    Raises:
        CellError: the cell cannot be traced.
        BackendError: its recurrence cannot be prepared.
    """
    if spec.sizes is None:  # the states that the user gave tell their sizes
        spec = replace(spec, sizes=tuple(s.size(-1) for s in state))
    tensors = {**tensors_of(cell), **(parameters or {})}
    data = sequence.data
    program = program_of(cell, tensors, spec, data.size(-1), data.dtype, data.device)
    program = program.fused if engine.fused else program
    runner = Staged(program, tuple(tensors), sequence.sizes(), reverse, engine)
    rows = data.reshape(math.prod(data.shape[:-1]), data.size(-1))
    inputs = [rows, *state, *tensors.values()]
    _check_devices(type(cell).__name__, inputs)
    grad = torch.is_grad_enabled()
    runner.prepare(tuple(grad and tensor.requires_grad for tensor in inputs))

    def ready() -> tuple[Batches, tuple[Tensor, ...]]:
        output, *final = call(runner, inputs)
        return sequence.with_data(output.reshape(*data.shape[:-1], output.size(-1))), tuple(final)

    return ready


def _check_devices(name: str, inputs: list[Tensor]) -> None:
    """A kernel would read memory of another device as if it were its own."""
    device = inputs[0].device
    for tensor in inputs:
        lone_number = tensor.dim() == 0 and tensor.device.type == "cpu"  # torch lets these be
        if tensor.device != device and not lone_number:
            raise BackendError(
                f"{name}: the input is on {device}, but a state or a parameter is on "
                f"{tensor.device}. Move all to one device"
            )


class Staged:
    """One call: see `openrnn.autograd.Runner`."""

    def __init__(
        self,
        program: Program,
        tensors: tuple[str, ...],
        sizes: list[int],
        reverse: bool,
        engine: Engine,
    ) -> None:
        self.program, self.sizes, self.reverse, self._engine = program, sizes, reverse, engine
        self.labels = [
            "input.x",
            *(f"state.{name}" for name in program.states),
            *(f"parameter.{name}" for name in tensors),
        ]

    def prepare(self, wanted: Wanted) -> None:
        """Prepares all that a call with these gradients runs, and its backward."""
        if any(wanted):
            forward, backward = self._training(wanted)
            prepared(self._engine, forward, self.program.output)
            prepared(self._engine, backward, ())
        else:
            prepared(self._engine, self.program.stages, self.program.output)

    def forward(
        self, inputs: Sequence[Tensor], wanted: Wanted
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        training = any(wanted)
        stages = self._training(wanted)[0] if training else self.program.stages
        randoms = self._draw(stages, inputs[0].device)
        results, rows = self._results(stages, inputs, randoms, self._engine)
        if not training:
            return results, ()
        saved = [rows[name] for name in _saved(stages)]
        kept = (*randoms.values(), *saved)
        return _apart(results, (*inputs, *kept)), kept

    def differentiable(
        self, inputs: Sequence[Tensor], kept: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        stages = self.program.stages
        names = (f"random.{node['number']}" for node in stages.randoms)
        randoms = dict(zip(names, kept, strict=False))
        return self._results(stages, inputs, randoms, TORCH)[0]

    def _results(
        self, stages: Stages, inputs: Sequence[Tensor], randoms: Named, engine: Engine
    ) -> tuple[tuple[Tensor, ...], Named]:
        given = {**dict(zip(self.labels, inputs, strict=True)), **randoms}
        rows, final = self._scan(stages, given, self.program.output, engine, reverse=self.reverse)
        (label,) = self.program.output
        output = rows[label]
        return (output, *(final[name] for name in self.program.states)), rows

    def backward(
        self,
        inputs: Sequence[Tensor],
        kept: Sequence[Tensor],
        gradients: Sequence[Tensor],
        wanted: Wanted,
    ) -> list[Tensor | None]:
        forward, backward = self._training(wanted)
        given = dict(zip(self.labels, inputs, strict=True))
        states = self.program.states
        of_output, of_final = gradients[0], dict(zip(states, gradients[1:], strict=True))
        for name in self.program.stepwise:
            rows = (
                of_output
                if name == states[0]
                else of_output.new_zeros(of_output.size(0), of_final[name].size(-1))
            )
            if name not in forward.carried:  # no step reads it: its last value is one row of many
                rows = rows.index_add(
                    0, last_rows(self.sizes, self.reverse, rows.device), of_final[name]
                )
            given[f"gradient.{name}"] = rows
        given |= {f"state.{name}": of_final[name] for name in forward.carried}
        saved = kept[len(forward.randoms) :]
        given |= dict(zip(_saved(forward), saved, strict=True))
        results, final = self._scan(backward, given, (), self._engine, reverse=not self.reverse)
        found = {**results, **{f"state.{name}": tensor for name, tensor in final.items()}}
        return [
            found.get(label) if want else None
            for label, want in zip(self.labels, wanted, strict=True)
        ]

    def _scan(
        self,
        stages: Stages,
        given: Named,
        states: tuple[str, ...],
        engine: Engine,
        *,
        reverse: bool,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        results, final = prepared(engine, stages, states)(given, self.sizes, reverse=reverse)
        for label, tensor in results.items():
            kind, _, name = label.partition(".")
            if kind == "state" and name not in final:  # no step reads it, so no loop carries it
                last = last_rows(self.sizes, reverse, tensor.device)
                final[name] = tensor.index_select(0, last)
        return results, final

    def _training(self, wanted: Wanted) -> tuple[Stages, Stages]:
        labels = zip(self.labels, wanted, strict=True)
        return self.program.training(frozenset(label for label, want in labels if want))

    def _draw(self, stages: Stages, device: torch.device) -> dict[str, Tensor]:
        """Each step's random numbers, in the order in which the eager loop would draw them."""
        if not stages.randoms:
            return {}
        drawn: dict[str, list[Tensor]] = {f"random.{n['number']}": [] for n in stages.randoms}
        for size in reversed(self.sizes) if self.reverse else self.sizes:
            for node in stages.randoms:
                drawn[f"random.{node['number']}"].append(draw(node, size, device))
        return {
            label: torch.cat(steps[::-1] if self.reverse else steps, rows_dim(node.shape))
            for (label, steps), node in zip(drawn.items(), stages.randoms, strict=True)
        }


def _saved(stages: Stages) -> list[str]:
    """What is kept for the gradient, in one order."""
    return sorted(name for name in _outputs(stages) if name.startswith("saved."))


def _outputs(stages: Stages) -> set[str]:
    return {name for stage in STAGES for name, _ in getattr(stages, stage).outputs}


@lru_cache(maxsize=4096)  # by the identity of the stages
def prepared(engine: Engine, stages: Stages, states: tuple[str, ...]) -> Scan:
    """What runs these stages, made once."""
    return engine.prepare(stages, states)


def _apart(results: tuple[Tensor, ...], others: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The results, in memory of their own: the user may change them in place."""
    taken = {tensor.untyped_storage().data_ptr() for tensor in others}
    apart = []
    for result in results:
        place = result.untyped_storage().data_ptr()
        apart.append(result.clone() if place in taken else result)
        taken.add(place)
    return tuple(apart)


def last_rows(sizes: list[int], reverse: bool, device: torch.device) -> Tensor:
    """The row, among those of all steps, of each sequence's last step in the order of the loop."""
    if reverse:
        return torch.arange(sizes[0], device=device)
    counts = torch.tensor(sizes)
    lengths = (counts.unsqueeze(1) > torch.arange(sizes[0])).sum(0)
    offsets = counts.cumsum(0) - counts
    return (offsets[lengths - 1] + torch.arange(sizes[0])).to(device)
