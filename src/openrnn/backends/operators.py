"""One operator for all steps of a call, and one for its gradient: for graphs that torch records.

The operator has the step graph as text, so what was exported runs where the cell is not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from openrnn.backends import cpu, staged
from openrnn.ragged import Steps
from openrnn.step import text
from openrnn.step.program import Program
from openrnn.step.shape import concrete

ENGINES = {"cpu": cpu.ENGINE, "reference": staged.TORCH}


@contextmanager
def aside() -> Iterator[None]:
    """Inside, what records and what fakes tensors see nothing."""
    with _disable_current_modes(), torch._C.DisableTorchFunction():
        yield


@lru_cache(maxsize=256)
def program_of_text(graph: str) -> Program:
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
        none = [None] * len(program_of_text(self.graph).states)
        return [self.x, *(self.begin or none), *(self.again or none), *self.tensors]

    def prepared(self) -> staged.Prepared:
        program, wanted = program_of_text(self.graph), tuple(self.wanted)
        return staged.prepared(ENGINES[self.engine], program, tuple(self.names), wanted, self.every)

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
        return len(program_of_text(self.graph).states) * (2 if self.every else 1) + (not self.every)


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
    with aside():
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
