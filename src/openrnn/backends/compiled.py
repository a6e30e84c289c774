"""A call under torch.compile, and in what torch.export writes: one operator for all steps.

The operator has the step graph as text, so what was exported runs where the cell is not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from openrnn.backends import cpu, eager, staged
from openrnn.backends.backend import Call, States
from openrnn.binding import sandbox, tensors_aside
from openrnn.errors import BackendError, CellError
from openrnn.ragged import Steps
from openrnn.state import StateSpec, state_spec
from openrnn.step import text
from openrnn.step.program import Program, traced
from openrnn.step.shape import concrete

_ENGINES = {"cpu": cpu.ENGINE, "reference": staged.TORCH}
_CONSTANT = (bool, int, float, str, type(None))
Names = tuple[str, ...]
Kinds = tuple[tuple[str, tuple[int, ...], torch.dtype], ...]


def run(name: str, call: Call) -> tuple[States, States]:
    """See `Backend`; `name` is that of the backend that would run the call.

    torch.compile reads this function, and watches what it compares.
    """
    cell, parameters, sequence, spec, state, resets, reset_to, reverse, every = call
    x, lent = sequence.data, parameters or {}
    is_refused = sequence.ragged is not None or torch.is_autocast_enabled(x.device.type)
    if is_refused or (name == "auto" and x.device.type != "cpu"):
        return eager.run(call)
    constants = [(place, _same(_attribute(cell, place), own)) for place, own in constants_of(cell)]
    names = names_of(cell, tuple(lent))
    tensors = [lent[own] if own in lent else _attribute(cell, own) for own in names]
    begin = list(state or ())  # none at all for zeros
    again = list(() if resets is None else reset_to or ())
    is_recorded = torch.is_grad_enabled()
    none = [None] * len(spec.names)
    wanted = [
        is_recorded and t is not None and t.requires_grad
        for t in (x, *(begin or none), *(again or none), *tensors)
    ]
    engine = "reference" if name == "reference" else "cpu"
    kinds = [(own, tuple(t.shape), t.dtype) for own, t in zip(names, tensors, strict=True)]
    graph, reason = graph_of(
        *(cell, tuple(constants), engine, tuple(kinds), _fixed(x.size(-1)), x.dtype, str(x.device)),
        *((spec.names, spec.sizes, spec.single), tuple(wanted), every),
    )
    if reason:
        if name != "auto":
            raise BackendError(reason)
        return eager.run(call)
    results = torch.ops.openrnn.scan(
        engine, graph, names, x, begin, again, tensors, resets, wanted, reverse, every
    )
    count, total = len(spec.names) if every else 1, len(spec.names)
    return tuple(results[:count]), tuple(results[count : count + total])


def spec_of(cell: nn.Module, x: Tensor) -> StateSpec:
    """`state_spec`, as torch.compile can read it."""
    return StateSpec(*_spec_of(cell, _fixed(x.size(-1)), x.dtype))


def _fixed(size: int) -> int:
    """A size that torch.compile may not leave open."""
    return len((None,) * size)


def _same(value: Any, constant: Any) -> Any:
    """The value, as the constant that it is: torch.compile leaves none open that was compared."""
    return constant if value == constant else value


def _attribute(cell: nn.Module, place: str) -> Any:
    value: Any = cell
    for name in place.split("."):
        value = getattr(value, name)
    return value


@contextmanager
def _aside() -> Iterator[None]:
    """Inside, what records and what fakes tensors see nothing."""
    with _disable_current_modes(), torch._C.DisableTorchFunction():
        yield


# --- what torch.compile does not read: it runs once, when something is compiled -------------------


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def constants_of(cell: nn.Module) -> tuple[tuple[str, Any], ...]:
    """Numbers and words that the cell, and modules inside it, have as attributes, by place."""
    machinery = nn.Module().__dict__.keys() - {"training"}
    return tuple(
        (f"{place}.{name}" if place else name, value)
        for place, part in cell.named_modules()
        for name, value in part.__dict__.items()
        if isinstance(value, _CONSTANT) and name not in machinery and value == value
    )


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _spec_of(cell: nn.Module, input_size: int, dtype: torch.dtype) -> tuple[Any, ...]:
    with _aside():
        spec = state_spec(cell, torch.empty(1, input_size, dtype=dtype))
    return spec.names, spec.sizes, spec.single


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def names_of(cell: nn.Module, lent: Names) -> Names:
    """The tensors that the cell reads, by dotted name."""
    with _aside():
        return tuple(dict.fromkeys((*tensors_aside(cell), *lent)))


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def graph_of(
    cell: nn.Module,
    constants: tuple[tuple[str, Any], ...],
    engine: str,
    kinds: Kinds,
    input_size: int,
    dtype: torch.dtype,
    device: str,
    spec: Any,
    wanted: tuple[bool, ...],
    every: bool,
) -> tuple[str, str]:
    """The step as text, or why there is none.

    `constants` are the cell's as they are now: what is being compiled may have changed them.
    """
    with _aside():
        tensors = {name: torch.empty(shape, dtype=of, device="meta") for name, shape, of in kinds}
        there = sandbox(cell)
        for place, value in constants:
            module, _, own = place.rpartition(".")
            setattr(there.get_submodule(module), own, value)
        try:
            program = traced(
                there, tensors, StateSpec(*spec), input_size, dtype, torch.device(device)
            )
            graph = text.write(program.graph)
            staged.prepared(_ENGINES[engine], _program(graph), tuple(tensors), wanted, every)
        except (CellError, BackendError) as error:
            return "", str(error)
    return graph, ""


# --- the operator ---------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _program(graph: str) -> Program:
    return Program(text.read(graph))


class _Asked(NamedTuple):
    """The arguments of the operator. `begin` and `again` are empty for states of zeros."""

    engine: str
    graph: str
    names: list[str]
    x: Tensor
    begin: list[Tensor]
    again: list[Tensor]
    tensors: list[Tensor]
    resets: Tensor | None
    wanted: list[bool]
    reverse: bool
    every: bool

    def given(self) -> list[Tensor | None]:
        """What may have a gradient, in the order of `wanted`; None for zeros."""
        none = [None] * len(_program(self.graph).states)
        return [self.x, *(self.begin or none), *(self.again or none), *self.tensors]

    def prepared(self) -> staged.Prepared:
        program, wanted = _program(self.graph), tuple(self.wanted)
        return staged.prepared(
            _ENGINES[self.engine], program, tuple(self.names), wanted, self.every
        )

    def runner(self) -> tuple[staged.Staged, list[Tensor | None]]:
        """What runs the call, and its inputs."""
        steps = Steps([self.x.size(1)] * self.x.size(0))
        if self.resets is not None:
            steps = steps.with_resets(self.resets)
        x, *others = self.given()
        assert x is not None
        return staged.Staged(self.prepared(), steps, self.reverse), [x.flatten(0, 1), *others]

    def results(self) -> int:
        """How many there are, but for what is kept."""
        return len(_program(self.graph).states) * (2 if self.every else 1) + (not self.every)


def _scan(*arguments: Any) -> list[Tensor]:
    asked = _Asked(*arguments)
    runner, inputs = asked.runner()
    results, kept = runner.forward(inputs)
    count = len(runner.prepared.every_step)
    rows = [r.reshape(*asked.x.shape[:2], r.size(-1)) for r in results[:count]]
    found = tuple(tensor.contiguous() for tensor in (*rows, *results[count:], *kept))
    return list(staged.apart(found, [*inputs, asked.resets]))


def _scan_shapes(*arguments: Any) -> list[Tensor]:
    asked = _Asked(*arguments)
    with _aside():
        prepared = asked.prepared()
        stages = prepared.stages
        states = [stages.result(f"state.{name}") for name in prepared.program.states]
        kept = prepared.kept()
    steps, rows = asked.x.shape[:2]
    of_steps = states[: len(prepared.every_step)]
    shapes = [((steps, *concrete(s.shape, rows)), s.dtype) for s in of_steps]
    shapes += [(concrete(s.shape, rows), s.dtype) for s in states]
    shapes += [(concrete(shape, steps * rows), dtype) for shape, dtype in kept]
    return [asked.x.new_empty(shape, dtype=dtype) for shape, dtype in shapes]


def _scan_backward(*arguments: Any) -> list[Tensor]:
    *asked_, kept, gradients = arguments
    asked = _Asked(*asked_)
    runner, inputs = asked.runner()
    count = len(runner.prepared.every_step)
    of_rows = [None if g is None else g.flatten(0, 1) for g in gradients[:count]]
    found = runner.backward(inputs, kept, [*of_rows, *gradients[count:]])
    whole = tuple(
        torch.zeros_like(given) if gradient is None else gradient.reshape(given.shape).contiguous()
        for given, gradient, want in zip(asked.given(), found, asked.wanted, strict=True)
        if given is not None and want
    )
    return list(staged.apart(whole, [*inputs, *kept, *gradients]))


def _scan_backward_shapes(*arguments: Any) -> list[Tensor]:
    *asked_, _, _ = arguments
    asked = _Asked(*asked_)
    return [
        given.new_empty(given.shape)
        for given, want in zip(asked.given(), asked.wanted, strict=True)
        if given is not None and want
    ]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    asked = _Asked(*inputs)
    kept = output[asked.results() :]
    ctx.set_materialize_grads(False)
    ctx.asked = asked._replace(x=None, begin=None, again=None, tensors=None, resets=None)  # type: ignore[arg-type]
    ctx.counts = [len(tensors) for tensors in (asked.begin, asked.again, asked.tensors, kept)]
    ctx.save_for_backward(asked.resets, asked.x, *asked.begin, *asked.again, *asked.tensors, *kept)


def _differentiate(ctx: Any, gradients: list[Tensor | None]) -> tuple[Any, ...]:
    resets, x, *others = ctx.saved_tensors
    rest = iter(others)
    begin, again, tensors, kept = ([next(rest) for _ in range(count)] for count in ctx.counts)
    asked = ctx.asked._replace(x=x, begin=begin, again=again, tensors=tensors, resets=resets)
    results = gradients[: asked.results()]
    found = iter(torch.ops.openrnn.scan_backward(*asked, kept, results))
    each = [
        next(found) if want else None
        for given, want in zip(asked.given(), asked.wanted, strict=True)
        if given is not None
    ]
    own = iter(each[1:])
    of_lists = [[next(own) for _ in group] for group in (begin, again, tensors)]
    return (None, None, None, each[0], *of_lists, None, None, None, None)


_ASKED = (
    "str engine, str graph, str[] names, Tensor x, Tensor[] begin, Tensor[] again, "
    "Tensor[] tensors, Tensor? resets, bool[] wanted, bool reverse, bool every"
)
_LIBRARY = torch.library.Library("openrnn", "DEF")  # type: ignore[no-untyped-call]
# It may draw random numbers: two equal calls are not one.
_LIBRARY.define(  # type: ignore[no-untyped-call]
    f"scan({_ASKED}) -> Tensor[]", tags=(torch.Tag.nondeterministic_seeded,)
)
_LIBRARY.define(  # type: ignore[no-untyped-call]
    f"scan_backward({_ASKED}, Tensor[] kept, Tensor?[] gradients) -> Tensor[]"
)
for _name, _run, _shapes in (
    ("scan", _scan, _scan_shapes),
    ("scan_backward", _scan_backward, _scan_backward_shapes),
):
    _LIBRARY.impl(_name, _run, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"openrnn::{_name}", _shapes, lib=_LIBRARY)
torch.library.register_autograd("openrnn::scan", _differentiate, setup_context=_keep, lib=_LIBRARY)
