"""One operator for all steps of a call, and one for its gradient: for graphs that torch records.

The operator has the step graph as text, so what was exported runs where the cell is not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from openrnn.autograd import recorded
from openrnn.backends import cpu, staged
from openrnn.backends.layout import Layout
from openrnn.step import text
from openrnn.step.program import Program
from openrnn.step.shape import Shape, concrete

ENGINES = {"cpu": cpu.ENGINE, "reference": staged.TORCH}


@contextmanager
def aside() -> Iterator[None]:
    """Inside, what records and what fakes tensors see nothing."""
    with _disable_current_modes(), torch._C.DisableTorchFunction():
        yield


@lru_cache(maxsize=256)
def program_of_text(graph: str) -> Program:
    return Program(text.read(graph))


class Asked(NamedTuple):
    """The arguments of the operator.

    given: x (T, B, features); the initial states where it `begins` with some, not with zeros; the
        states after a reset where it `restarts` with some; the tensors that the cell reads, by
        `names`. One list, for AOTInductor takes an empty one for none.
    lengths, resets: those of the `Sequence`, as a loop wants them.
    wanted: which of x, states, states after a reset and tensors have a gradient.
    """

    engine: str
    graph: str
    names: Sequence[str]
    given: Sequence[Tensor]
    begins: bool
    restarts: bool
    lengths: Tensor | None
    resets: Tensor | None
    wanted: Sequence[bool]
    reverse: bool
    every: bool

    @property
    def states(self) -> int:
        return len(program_of_text(self.graph).states)

    @property
    def results(self) -> int:
        """How many there are, but for what is kept."""
        return self.states + len(self.prepared.every_step)

    @property
    def prepared(self) -> staged.Prepared:
        program, wanted = program_of_text(self.graph), tuple(self.wanted)
        return staged.prepared(ENGINES[self.engine], program, tuple(self.names), wanted, self.every)

    def groups(self) -> tuple[Tensor, list[Tensor | None], list[Tensor | None], list[Tensor]]:
        """x, the states, those after a reset, the tensors; None for zeros."""
        x, *rest = self.given
        states: list[list[Tensor | None]] = []
        for has_some in (self.begins, self.restarts):
            count = self.states if has_some else 0
            states.append([*rest[:count]] or [None] * self.states)
            rest = rest[count:]
        return x, *states, rest  # type: ignore[return-value]

    def places(self) -> list[bool]:
        """Of all that `wanted` tells about, what is given."""
        x, begin, again, tensors = self.groups()
        return [tensor is not None for tensor in (x, *begin, *again, *tensors)]

    def layout(self) -> Layout:
        return Layout(self.given[0], self.lengths, self.resets)

    def runner(self, layout: Layout) -> tuple[staged.Staged, list[Tensor | None]]:
        """What runs the call, and its inputs."""
        x, begin, again, tensors = self.groups()
        states = [layout.sort(state) for state in (*begin, *again)]
        runner = staged.Staged(self.prepared, layout.steps, self.reverse)
        return runner, [layout.rows(x), *states, *tensors]

    def written(self, layout: Layout, results: Sequence[Tensor]) -> list[Tensor]:
        """The results of a runner, as the operator gives them."""
        count = len(self.prepared.every_step)
        _, begin, _, _ = self.groups()
        final = zip(results[count:], begin, strict=True)
        return [
            *(layout.over_time(rows) for rows in results[:count]),
            *(layout.unsort(state, initial) for state, initial in final),
        ]


def _scan(*arguments: Any) -> list[Tensor]:
    asked = Asked(*arguments)
    layout = asked.layout()
    runner, inputs = asked.runner(layout)
    results, kept = runner.forward(inputs)
    found = [*asked.written(layout, results), *layout.fill(kept, _kept_shapes(asked))]
    others = [*asked.given, *inputs, asked.resets]
    return list(staged.apart(tuple(tensor.contiguous() for tensor in found), others))


def _kept_shapes(asked: Asked) -> list[Shape]:
    return [shape for shape, _ in asked.prepared.kept()]


def _scan_shapes(*arguments: Any) -> list[Tensor]:
    asked = Asked(*arguments)
    with aside():
        prepared = asked.prepared
        stages = prepared.stages
        states = [stages.result(f"state.{name}") for name in prepared.program.states]
        kept = prepared.kept()
    x = asked.given[0]
    steps, rows = x.shape[:2]
    of_steps = states[: len(prepared.every_step)]
    shapes = [((steps, *concrete(s.shape, rows)), s.dtype) for s in of_steps]
    shapes += [(concrete(s.shape, rows), s.dtype) for s in states]
    shapes += [(concrete(shape, steps * rows), dtype) for shape, dtype in kept]
    return [x.new_empty(shape, dtype=dtype) for shape, dtype in shapes]


def _scan_backward(*arguments: Any) -> list[Tensor]:
    """The gradients of what is given, where they are wanted."""
    *asked_, kept, gradients = arguments
    asked = Asked(*asked_)
    layout = asked.layout()
    runner, inputs = asked.runner(layout)
    count, states = len(asked.prepared.every_step), asked.states
    of_rows = [None if g is None else layout.rows(g) for g in gradients[:count]]
    of_final = [layout.sort(g) for g in gradients[count:]]
    kept_rows = layout.cut(kept, _kept_shapes(asked))
    found = runner.backward(inputs, kept_rows, [*of_rows, *of_final])
    # The last state of a sequence without steps is its first one, with the same gradient.
    of_empty = [None, *gradients[count:], *[None] * states]
    whole = []
    for place, (given, want) in enumerate(zip(inputs, asked.wanted, strict=True)):
        if given is None or not want:
            continue
        gradient = found[place]
        own = (torch.zeros_like(given) if gradient is None else gradient).reshape(given.shape)
        if place == 0:
            own = layout.over_time(own)
        elif place <= 2 * states:
            own = layout.unsort(own, of_empty[place])
        whole.append(own.contiguous())
    return list(staged.apart(tuple(whole), [*asked.given, *inputs, *kept, *gradients]))


def _scan_backward_shapes(*arguments: Any) -> list[Tensor]:
    *asked_, _, _ = arguments
    asked = Asked(*asked_)
    wanted = [want for want, has in zip(asked.wanted, asked.places(), strict=True) if has]
    pairs = zip(asked.given, wanted, strict=True)
    return [given.new_empty(given.shape) for given, want in pairs if want]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    asked = Asked(*inputs)
    kept = output[asked.results :]
    ctx.set_materialize_grads(False)
    ctx.asked = asked._replace(given=(), lengths=None, resets=None)
    ctx.count = len(asked.given)
    ctx.save_for_backward(asked.lengths, asked.resets, *asked.given, *kept)


def _differentiate(ctx: Any, gradients: list[Tensor | None]) -> tuple[Any, ...]:
    lengths, resets, *rest = ctx.saved_tensors
    given, kept = rest[: ctx.count], rest[ctx.count :]
    asked: Asked = ctx.asked._replace(given=given, lengths=lengths, resets=resets)
    of_results = gradients[: asked.results]
    wanted = [want for want, has in zip(asked.wanted, asked.places(), strict=True) if has]
    if torch.is_grad_enabled():  # a gradient of the gradient is asked for
        layout = asked.layout()
        runner, rows = asked.runner(layout)
        results = runner.differentiable(rows, layout.cut(kept, _kept_shapes(asked)))
        found = recorded(asked.written(layout, results), of_results, given, wanted)
    else:
        some = iter(torch.ops.openrnn.scan_backward(*asked, kept, of_results))
        found = [next(some) if want else None for want in wanted]
    place = Asked._fields.index("given")
    return (*[None] * place, found, *[None] * (len(Asked._fields) - place - 1))


_ASKED = (
    "str engine, str graph, str[] names, Tensor[] given, bool begins, bool restarts, "
    "Tensor? lengths, Tensor? resets, bool[] wanted, bool reverse, bool every"
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
