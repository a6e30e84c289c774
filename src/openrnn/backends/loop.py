"""The loop over time, for whoever runs a step at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

State = tuple[Tensor, ...]
Result = TypeVar("Result")


def loop(
    step: Callable[[int, int, State], tuple[Result, State]],
    sizes: list[int],
    state: State,
    *,
    reverse: bool,
) -> tuple[list[Result], State]:
    """Calls `step(t, rows, state)` for each t, and returns its results in order of time.

    `sizes` are the rows at each step, longest sequences first: of packed sequences some end before
    others. The state that `step` takes and gives has as many rows; that returned has all.
    """
    results: list[Result] = []
    order = range(len(sizes))
    rows = sizes[-1 if reverse else 0]
    state, waiting = _cut(state, rows)  # rows come and go; `waiting` holds those not at work
    for t in reversed(order) if reverse else order:
        if sizes[t] != rows:
            rows = sizes[t]
            state, waiting = _cut(_join(state, waiting), rows)
        result, state = step(t, rows, state)
        results.append(result)
    if reverse:
        results.reverse()
    return results, _join(state, waiting)


def _cut(state: State, rows: int) -> tuple[State, State]:
    return tuple(s[:rows] for s in state), tuple(s[rows:] for s in state)


def _join(state: State, waiting: State) -> State:
    if not waiting or waiting[0].size(0) == 0:
        return state
    return tuple(torch.cat(pair) for pair in zip(state, waiting, strict=True))


def replaced(state: State, chosen: Tensor, others: State) -> State:
    """The state, with the rows that are chosen from others, which may have more rows."""
    mask = chosen.unsqueeze(1)
    pairs = zip(state, others, strict=True)
    return tuple(torch.where(mask, other[: len(mask)], s) for s, other in pairs)
