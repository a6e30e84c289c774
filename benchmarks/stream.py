"""The latency of one step after another, with the state kept between them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

import openrnn
from benchmarks import onnx_peer
from benchmarks.agreement import agree
from benchmarks.shapes import SHAPES
from benchmarks.table import DIFFERS, NOTHING, Table, number
from benchmarks.timing import Contender, Effort, threads, times

STREAM_SHAPES = ("stream",)
OURS, TORCH = "openrnn", "torch.nn"
PEERS = (TORCH, onnx_peer.NAME)


@dataclass(frozen=True)
class Row:
    """Microseconds of a step, the median and the 99th percentile, by who makes it.

    `differing`: those whose outputs are not torch.nn's, and so were not timed.
    """

    layer: str
    shape: str
    threads: int
    median: dict[str, float]
    slowest: dict[str, float]
    differing: frozenset[str]

    @property
    def ratio_to_best(self) -> float | None:
        """How many times faster than the fastest peer ours is, by the medians."""
        if OURS in self.differing:
            return None
        return min(self.median[name] for name in PEERS if name in self.median) / self.median[OURS]

    def cells(self) -> tuple[str, ...]:
        """Its line of the table."""
        figures = []
        for name in (OURS, *PEERS):
            if name in self.differing:
                figures += [DIFFERS, NOTHING]
            else:
                figures += [number(found.get(name), 1) for found in (self.median, self.slowest)]
        words = (self.layer, str(SHAPES[self.shape]), str(self.threads))
        return (*words, *figures, number(self.ratio_to_best))


def compare(layer: str, shape: str, count: int, effort: Effort) -> Row:
    """Times a step of each with `count` threads, if ten of them agree with torch.nn's."""
    with threads(count):
        torch.manual_seed(0)
        size = SHAPES[shape]
        x = torch.randn(1, size.batch, size.inputs)

        def contenders() -> dict[str, Contender]:
            theirs, ours = size.layer(torch.nn, layer), size.layer(openrnn, layer)
            theirs.load_state_dict(parameters)
            ours.load_state_dict(parameters)
            stream, step = ours.eval().stream(size.batch), x[0]
            found = {OURS: lambda: [stream(step)[None]], TORCH: torch_steps(theirs, x)}
            if onnx_peer.available():
                found[onnx_peer.NAME] = onnx_peer.stream(layer, theirs, x, count)
            return found

        parameters = size.layer(torch.nn, layer).state_dict()
        tried = {name: [step() for _ in range(10)] for name, step in contenders().items()}
        differing = frozenset(
            name
            for name, steps in tried.items()
            if not all(agree(*pair) for pair in zip(steps, tried[TORCH], strict=True))
        )
        same = {name: step for name, step in contenders().items() if name not in differing}
        found = times(same, effort)
        median = {name: 1000 * statistics.median(ms) for name, ms in found.items()}
        slowest = {name: 1000 * sorted(ms)[int(0.99 * len(ms))] for name, ms in found.items()}
        return Row(layer, shape, count, median, slowest, differing)


def torch_steps(layer: Any, x: torch.Tensor) -> Contender:
    """One step after another of a layer of torch's."""
    state: Any = None

    def step() -> list[torch.Tensor]:
        nonlocal state
        with torch.inference_mode():
            output, state = layer(x, state)
        return [output]

    return step


def table(rows: Iterable[Row]) -> Table:
    """All rows."""
    columns = [f"{name} {kind}" for name in (OURS, "torch", "ONNX") for kind in ("p50", "p99")]
    return Table(
        "One step after another, the state kept, microseconds",
        ("layer", "T,B,I,H", "threads", *columns, "times faster than best"),
        [row.cells() for row in rows],
        words=2,
        page_only=("T,B,I,H",),
        notes=("p50 is the median, p99 what 99 of 100 steps stay below.",),
    )
