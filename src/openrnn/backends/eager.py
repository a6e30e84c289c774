"""The cell's own forward in a plain loop over time: the truth that every other backend meets."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from openrnn.backends.backend import Parameters
from openrnn.sequence import Sequence
from openrnn.state import StateSpec


def run(
    cell: nn.Module,
    parameters: Parameters | None,
    sequence: Sequence,
    state: tuple[Tensor, ...],
    spec: StateSpec,
    *,
    reverse: bool,
) -> tuple[Sequence, tuple[Tensor, ...]]:
    """See `Backend`."""
    if parameters is not None:
        cell = bind(cell, parameters)
    steps = sequence.steps()
    outputs = []
    # Rows of packed sequences come and go at their ends; `waiting` holds those not at work.
    rows = steps[-1 if reverse else 0].size(0)
    state, waiting = _cut(state, rows)
    for x in reversed(steps) if reverse else steps:
        if x.size(0) != rows:
            rows = x.size(0)
            state, waiting = _cut(_join(state, waiting), rows)
        state = spec.unwrap(cell(x, spec.wrap(state)), rows, type(cell).__name__)
        outputs.append(state[0])
    if reverse:
        outputs.reverse()
    return sequence.join(outputs), _join(state, waiting)


def bind(module: nn.Module, parameters: Parameters) -> nn.Module:
    """A shallow copy of `module` that reads these tensors in place of its own parameters.

    Unlike `torch.func.functional_call` it leaves `module` alone, which threads may share.
    """
    bound = module.__class__.__new__(module.__class__)
    bound.__dict__ = dict(module.__dict__)
    own = {name: value for name, value in parameters.items() if "." not in name}
    bound.__dict__["_parameters"] = {**module._parameters, **own}
    bound.__dict__["_modules"] = {
        name: child
        and bind(
            child,
            {k[len(name) + 1 :]: v for k, v in parameters.items() if k.startswith(f"{name}.")},
        )
        for name, child in module._modules.items()
    }
    return bound


def _cut(state: tuple[Tensor, ...], rows: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    return tuple(s[:rows] for s in state), tuple(s[rows:] for s in state)


def _join(state: tuple[Tensor, ...], waiting: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    if waiting[0].size(0) == 0:
        return state
    return tuple(torch.cat(pair) for pair in zip(state, waiting, strict=True))
