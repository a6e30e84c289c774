"""Runs the parts that were asked for, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

from benchmarks import (
    accuracy,
    custom,
    int8,
    int8_accuracy,
    layers,
    memory,
    packed,
    reset,
    stream,
)
from benchmarks.shapes import LAYERS, SHAPES
from benchmarks.table import Table
from benchmarks.targets import Measured
from benchmarks.timing import QUICK, Effort

PARTS = (
    *("layers", "custom", "packed", "reset", "stream", "int8", "int8-accuracy", "accuracy"),
    *("memory", "long"),
)
QUICK_SHAPE = "seed"
Row = TypeVar("Row")


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Args:
        names: layers and cells; none are all.
        shapes: none are all.
        parts: of `PARTS`; none are all.
        threads: how many, one after the other.
        quick: one small shape in every part, and five calls for each figure.
        effort: how long to measure each row.
    """

    names: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    threads: tuple[int, ...] = (1, 2)
    quick: bool = False
    effort: Effort = field(default_factory=Effort)

    @property
    def complete(self) -> bool:
        """Whether this is all there is to measure."""
        part = self.names or self.shapes or self.parts or self.quick
        return not part and self.threads == Plan.threads

    def of(self, known: tuple[str, ...]) -> list[str]:
        """The layers or cells of these that were asked for."""
        return [name for name in known if not self.names or name in self.names]

    def on(self, known: tuple[str, ...]) -> list[str]:
        """The shapes of these that were asked for."""
        if self.quick:
            return [QUICK_SHAPE]
        return [name for name in known if not self.shapes or name in self.shapes]

    def has(self, part: str) -> bool:
        """Whether this part was asked for."""
        return not self.parts or part in self.parts


def run(plan: Plan, peak: float, measured: Measured, console: Console) -> Iterator[Table]:
    """Measures part by part, keeps the rows in `measured`, and gives the table of each."""
    effort = QUICK if plan.quick else plan.effort
    names, threads = plan.of(tuple(LAYERS)), plan.threads
    if plan.has("layers"):
        measured.layers = _rows(console, [
            partial(layers.compare, name, shape, mode, count, effort, peak)
            for name in names for shape in plan.on(tuple(SHAPES))
            for mode in SHAPES[shape].modes for count in threads
        ])  # fmt: skip
        if measured.layers:
            yield layers.table(measured.layers)
    if plan.has("custom"):
        measured.custom = _rows(console, [
            partial(custom.compare, name, shape, count, effort)
            for name in plan.of(tuple(custom.CELLS)) for shape in plan.on(custom.CUSTOM_SHAPES)
            for count in threads
        ])  # fmt: skip
        if measured.custom:
            yield custom.table(measured.custom)
    if plan.has("packed") and "LSTM" in names:
        measured.packed = _rows(console, [
            partial(packed.compare, shape, count, effort)
            for shape in plan.on(packed.PACKED_SHAPES) for count in threads
        ])  # fmt: skip
        if measured.packed:
            yield packed.table(measured.packed)
    if plan.has("reset") and "LSTM" in names:
        measured.reset = _rows(console, [
            partial(reset.compare, shape, count, effort)
            for shape in plan.on(reset.RESET_SHAPES) for count in threads
        ])  # fmt: skip
        if measured.reset:
            yield reset.table(measured.reset)
    if plan.has("stream"):
        measured.stream = _rows(console, [
            partial(stream.compare, name, shape, count, effort)
            for name in names for shape in plan.on(stream.STREAM_SHAPES) for count in threads
        ])  # fmt: skip
        if measured.stream:
            yield stream.table(measured.stream)
    if plan.has("int8"):
        measured.int8 = _rows(console, [
            partial(int8.compare, name, shape, count, effort)
            for name in plan.of(int8.INT8_LAYERS) for shape in plan.on(int8.INT8_SHAPES)
            for count in threads
        ])  # fmt: skip
        if measured.int8:
            yield int8.table(measured.int8)
    if plan.has("int8-accuracy") and "LSTM" in names and not plan.quick:
        yield int8_accuracy.table([int8_accuracy.forecast(), int8_accuracy.language_model()])
    if plan.has("accuracy"):
        trained = tuple(name for name, shape in SHAPES.items() if shape.training)
        measured.accuracy = _rows(console, [
            partial(accuracy.compare, name, shape) for name in names for shape in plan.on(trained)
        ])  # fmt: skip
        if measured.accuracy:
            yield accuracy.table(measured.accuracy)
    if plan.has("memory"):
        measured.memory = _rows(console, [
            partial(memory.compare, name, shape)
            for name in names for shape in plan.on(memory.MEMORY_SHAPES)
        ])  # fmt: skip
        if measured.memory:
            yield memory.table(measured.memory)
    if plan.has("long") and "LSTM" in names and not plan.quick:
        yield memory.long_table()


def _rows(console: Console, calls: list[partial[Row]]) -> list[Row]:
    """The result of each; what is running shows in a line that is drawn between two only."""
    rows: list[Row] = []
    with Progress(console=console, auto_refresh=False, transient=True) as progress:
        task = progress.add_task("", total=len(calls))
        for call in calls:
            words = [str(value) for value in call.args if isinstance(value, (str, int))]
            progress.update(task, description=" ".join(words), refresh=True)
            rows.append(call())
            progress.advance(task)
    return rows
