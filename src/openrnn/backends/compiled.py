"""A call under torch.compile or torch.export: it becomes one operator for all steps."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from openrnn.backends import eager, staged
from openrnn.backends.backend import Call, States
from openrnn.backends.operators import ENGINES, aside, program_of_text
from openrnn.backends.packing import pack
from openrnn.binding import sandbox, tensors_aside
from openrnn.errors import BackendError, CellError
from openrnn.state import StateSpec, state_spec
from openrnn.step import text
from openrnn.step.program import traced

_CONSTANT = (bool, int, float, str, type(None))
Names = tuple[str, ...]
Kinds = tuple[tuple[str, tuple[int, ...], torch.dtype], ...]


def run(name: str, call: Call) -> tuple[States, States]:
    """See `Backend`; `name` is that of the backend that would run the call.

    torch.compile reads this function, and watches what it compares.
    """
    packed, unpack = pack(call)
    return unpack(_run(name, packed))


def _run(name: str, call: Call) -> tuple[States, States]:
    cell, parameters, sequence, spec, state, resets, reset_to, reverse, every = call
    x, lent = sequence.data, parameters or {}
    is_refused = sequence.ragged is not None or torch.is_autocast_enabled(x.device.type)
    if is_refused or is_transformed() or (name == "auto" and x.device.type != "cpu"):
        return eager.run(call)
    cell_id = id(cell)
    fixed = constants_of(cell_id)
    constants = [(place, _same(_attribute(cell, place), own)) for place, own in fixed]
    names = names_of(cell_id, tuple(lent))
    tensors = [lent[own] if own in lent else _attribute(cell, own) for own in names]
    begin = list(state or ())  # none at all for zeros
    again = list(() if resets is None else reset_to or ())
    is_recorded = torch.is_grad_enabled()
    none = [None] * len(spec.names)
    # What an exported program is given may want a gradient, whatever the example did.
    is_open = is_recorded and torch.compiler.is_exporting()
    states = (x, *(begin or none), *(again or none))
    wanted = [t is not None and (is_open or (is_recorded and t.requires_grad)) for t in states]
    wanted += [is_recorded and t.requires_grad for t in tensors]
    engine = "reference" if name == "reference" else "cpu"
    kinds = [(own, tuple(t.shape), t.dtype) for own, t in zip(names, tensors, strict=True)]
    graph, reason = graph_of(
        *(cell_id, tuple(constants), engine, tuple(kinds)),
        *(_fixed(x.size(-1)), x.dtype, str(x.device)),
        *((spec.names, spec.sizes, spec.single), tuple(wanted), every),
    )
    if reason:
        if name != "auto":
            raise BackendError(reason)
        return eager.run(call)
    given = [x, *begin, *again, *tensors]
    has = len(begin) > 0, len(again) > 0
    results = torch.ops.openrnn.scan(
        *(engine, graph, names, given, *has, sequence.lengths, resets, wanted, reverse, every)
    )
    count, total = len(spec.names) if every else 1, len(spec.names)
    return tuple(results[:count]), tuple(results[count : count + total])


def spec_of(cell: nn.Module, x: Tensor) -> StateSpec:
    """`state_spec`, as torch.compile can read it."""
    return StateSpec(*_spec_of(id(cell), _fixed(x.size(-1)), x.dtype))


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


# --- what torch.compile does not read: it runs once, when something is compiled -------------------
#
# Older releases of torch give such a function no module, but numbers: so it is told the cell's id.


def _cell_of(cell_id: int) -> Any:
    """The cell of that id, which the caller holds."""
    return ctypes.cast(cell_id, ctypes.py_object).value


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def is_transformed() -> bool:
    """Whether a transform of torch.func is at work inside what is compiled."""
    return (
        torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0
    )


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def constants_of(cell_id: int) -> tuple[tuple[str, Any], ...]:
    """Numbers and words that the cell, and modules inside it, have as attributes, by place."""
    machinery = nn.Module().__dict__.keys() - {"training"}
    return tuple(
        (f"{place}.{name}" if place else name, value)
        for place, part in _cell_of(cell_id).named_modules()
        for name, value in part.__dict__.items()
        if isinstance(value, _CONSTANT) and name not in machinery and value == value
    )


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _spec_of(cell_id: int, input_size: int, dtype: torch.dtype) -> tuple[Any, ...]:
    with aside():
        spec = state_spec(_cell_of(cell_id), torch.empty(1, input_size, dtype=dtype))
    return spec.names, spec.sizes, spec.single


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def names_of(cell_id: int, lent: Names) -> Names:
    """The tensors that the cell reads, by dotted name."""
    with aside():
        return tuple(dict.fromkeys((*tensors_aside(_cell_of(cell_id)), *lent)))


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def graph_of(
    cell_id: int,
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
    with aside():
        tensors = {name: torch.empty(shape, dtype=of, device="meta") for name, shape, of in kinds}
        there = sandbox(_cell_of(cell_id))
        for place, value in constants:
            module, _, own = place.rpartition(".")
            setattr(there.get_submodule(module), own, value)
        try:
            program = traced(
                there, tensors, StateSpec(*spec), input_size, dtype, torch.device(device)
            )
            graph = text.write(program.graph)
            staged.prepared(ENGINES[engine], program_of_text(graph), tuple(tensors), wanted, every)
        except (CellError, BackendError) as error:
            return "", str(error)
    return graph, ""
