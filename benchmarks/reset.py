"""An LSTM's training on sequences that start afresh here and there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import openrnn
from benchmarks.agreement import agree, results
from benchmarks.shapes import SHAPES
from benchmarks.table import DIFFERS, NOTHING, Table, number, time
from benchmarks.timing import Effort, medians, threads

RESET_SHAPES = ("policy", "series")
_SHARE = 1 / 32  # of the steps of a sequence, with a reset before them


@dataclass(frozen=True)
class Row:
    """Milliseconds with resets, without, and of the step loop; None: results differ."""

    shape: str
    threads: int
    ms: dict[str, float] | None

    @property
    def times_without(self) -> float | None:
        """How many times the time without resets it takes with them."""
        return None if self.ms is None else self.ms["reset"] / self.ms["none"]

    @property
    def times_loop(self) -> float | None:
        """How many times faster than the step loop it is."""
        return None if self.ms is None else self.ms["loop"] / self.ms["reset"]

    def cells(self) -> tuple[str, ...]:
        """Its line of the table."""
        words = (self.shape, str(SHAPES[self.shape]), str(self.threads))
        if self.ms is None:
            return (*words, DIFFERS, NOTHING, NOTHING, DIFFERS, DIFFERS)
        figures = [time(self.ms[name]) for name in ("reset", "none", "loop")]
        return (*words, *figures, number(self.times_without), number(self.times_loop))


class Resetting(nn.Module):
    """Our layer with resets."""

    def __init__(self, layer: nn.Module, reset: Tensor) -> None:
        super().__init__()
        self.layer, self.reset = layer, reset

    def forward(self, x: Tensor) -> Any:
        return self.layer(x, reset=self.reset)


class StepLoop(nn.Module):
    """What is usual: torch's layer a step at a time, with the state set to zeros by a mask."""

    def __init__(self, layer: nn.Module, reset: Tensor) -> None:
        super().__init__()
        self.layer, self.keep = layer, 1 - reset.float().unsqueeze(-1)

    def forward(self, x: Tensor) -> Any:
        assert isinstance(self.layer, nn.LSTM)
        h = c = x.new_zeros(1, x.size(1), self.layer.hidden_size)
        outputs = []
        for x_t, keep in zip(x, self.keep, strict=True):
            output, (h, c) = self.layer(x_t.unsqueeze(0), (keep * h, keep * c))
            outputs.append(output)
        return torch.cat(outputs), (h, c)


def compare(shape: str, count: int, effort: Effort) -> Row:
    """Times training with `count` threads, if ours and the loop compute the same."""
    with threads(count):
        torch.manual_seed(0)
        size = SHAPES[shape]
        x = torch.randn(size.steps, size.batch, size.inputs, requires_grad=True)
        reset = torch.rand(size.steps, size.batch) < _SHARE
        theirs, ours = size.layer(torch.nn, "LSTM"), size.layer(openrnn, "LSTM")
        ours.load_state_dict(theirs.state_dict())
        runs = {
            "reset": partial(results, Resetting(ours, reset), x, "training"),
            "none": partial(results, ours, x, "training"),
            "loop": partial(results, StepLoop(theirs, reset), x, "training"),
        }
        same = agree(runs["reset"](), runs["loop"]())
        return Row(shape, count, medians(runs, effort) if same else None)


def table(rows: Iterable[Row]) -> Table:
    """All rows."""
    return Table(
        "LSTM in training with resets before one step in 32",
        (
            *("shape", "T,B,I,H", "threads", "openrnn ms", "without resets ms"),
            *("step loop ms", "times the time without", "times faster than loop"),
        ),
        [row.cells() for row in rows],
        words=2,
        page_only=("T,B,I,H",),
    )
