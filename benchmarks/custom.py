"""Cells that no library has a kernel for, beside the Python loop and beside our own LSTM."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

import openrnn
from benchmarks.agreement import agree, results
from benchmarks.shapes import SHAPES
from benchmarks.table import DIFFERS, NOTHING, Table, number, time
from benchmarks.timing import Effort, medians, threads

CELLS: dict[str, Callable[[int, int], nn.Module]] = {
    "LayerNormLSTMCell": openrnn.cells.LayerNormLSTMCell,
    "PeepholeLSTMCell": openrnn.cells.PeepholeLSTMCell,
    "ZoneoutGRUCell": partial(openrnn.cells.ZoneoutGRUCell, zoneout=0.1),
}
CUSTOM_SHAPES = ("daily", "policy", "series")


@dataclass(frozen=True)
class Row:
    """Milliseconds of a cell's training in both backends, and of our LSTM's; None: they differ."""

    cell: str
    shape: str
    threads: int
    ms: dict[str, float] | None

    @property
    def times_loop(self) -> float | None:
        """How many times faster than the Python loop the cell is."""
        return None if self.ms is None else self.ms["eager"] / self.ms["auto"]

    @property
    def times_lstm(self) -> float | None:
        """How many times the time of our LSTM the cell takes."""
        return None if self.ms is None else self.ms["auto"] / self.ms["LSTM"]

    def cells(self) -> tuple[str, ...]:
        """Its line of the table."""
        words = (self.cell, self.shape, str(SHAPES[self.shape]), str(self.threads))
        if self.ms is None:
            return (*words, DIFFERS, NOTHING, NOTHING, DIFFERS, DIFFERS)
        times = [time(self.ms[name]) for name in ("auto", "eager", "LSTM")]
        return (*words, *times, number(self.times_loop), number(self.times_lstm))


def compare(cell: str, shape: str, count: int, effort: Effort) -> Row:
    """Times the training of a cell with `count` threads, if both backends compute the same."""
    with threads(count):
        torch.manual_seed(0)
        size = SHAPES[shape]
        step = CELLS[cell](size.inputs, size.hidden)
        x = torch.randn(size.steps, size.batch, size.inputs, requires_grad=True)
        runs = {
            name: partial(results, openrnn.Recurrent(step, backend=name), x, "training")
            for name in ("auto", "eager")
        }
        runs["LSTM"] = partial(results, size.layer(openrnn, "LSTM"), x, "training")
        # In float64: over a hundred steps of layer norm the roundings of float32 grow until either
        # backend is a thousandth off the truth, and both off each other.
        exact, wide = copy.deepcopy(step).double(), x.detach().double().requires_grad_()
        found = []
        for name in ("auto", "eager"):
            torch.manual_seed(1)  # both draw the same masks
            found.append(results(openrnn.Recurrent(exact, backend=name), wide, "training"))
        return Row(cell, shape, count, medians(runs, effort) if agree(*found) else None)


def table(rows: Iterable[Row]) -> Table:
    """All rows."""
    return Table(
        "Custom cells in training, beside the Python loop and our own LSTM",
        (
            *("cell", "shape", "T,B,I,H", "threads", "openrnn ms", "loop ms", "LSTM ms"),
            *("times faster than loop", "times the LSTM's time"),
        ),
        [row.cells() for row in rows],
        words=3,
        page_only=("T,B,I,H",),
    )
