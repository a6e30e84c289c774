"""LSTM, GRU and RNN beside their peers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import torch

import openrnn
from benchmarks import flax_peer, onnx_peer
from benchmarks.agreement import agree, results
from benchmarks.shapes import SHAPES
from benchmarks.table import DIFFERS, Table, number, percent, time
from benchmarks.timing import Contender, Effort, medians, threads

OURS, TORCH = "openrnn", "torch.nn"
PEERS = (TORCH, onnx_peer.NAME, flax_peer.NAME)


@dataclass(frozen=True)
class Row:
    """The times of one layer, shape, mode and number of threads.

    Args:
        layer, shape, mode, threads: what was measured.
        ms: milliseconds of each that was measured, by its name.
        differing: those that computed something else than torch.nn, and so were not.
        peak: GFLOP/s that one core can do.
    """

    layer: str
    shape: str
    mode: str
    threads: int
    ms: dict[str, float]
    differing: frozenset[str]
    peak: float

    @property
    def ratio(self) -> float | None:
        """How many times faster than torch.nn ours is."""
        return None if OURS in self.differing else self.ms[TORCH] / self.ms[OURS]

    @property
    def ratio_to_best(self) -> float | None:
        """How many times faster than the fastest peer ours is."""
        if OURS in self.differing:
            return None
        return min(self.ms[name] for name in PEERS if name in self.ms) / self.ms[OURS]

    @property
    def of_peak(self) -> float | None:
        """The share of what the cores can do that went into ours's matrix products."""
        if OURS in self.differing:
            return None
        gflops = SHAPES[self.shape].flops(self.layer, self.mode) / self.ms[OURS] / 1e6
        return gflops / (self.peak * self.threads)

    def cells(self) -> tuple[str, ...]:
        """Its line of the table."""
        times = [
            DIFFERS if name in self.differing else time(self.ms.get(name))
            for name in (OURS, *PEERS)
        ]
        ratio = DIFFERS if self.ratio is None else number(self.ratio)
        words = (self.layer, self.shape, str(SHAPES[self.shape]), self.mode, str(self.threads))
        return (*words, *times, ratio, percent(self.of_peak))


def compare(layer: str, shape: str, mode: str, count: int, effort: Effort, peak: float) -> Row:
    """Times all that can run this with `count` threads, and gives the same results as torch.nn."""
    with threads(count):
        torch.manual_seed(0)
        size = SHAPES[shape]
        theirs, ours = size.layer(torch.nn, layer), size.layer(openrnn, layer)
        ours.load_state_dict(theirs.state_dict())
        x = torch.randn(size.steps, size.batch, size.inputs, requires_grad=mode == "training")
        contenders: dict[str, Contender] = {
            OURS: partial(results, ours, x, mode),
            TORCH: partial(results, theirs, x, mode),
        }
        if mode == "inference":
            contenders |= _peers(layer, theirs, x, count)
        expected = contenders[TORCH]()
        same = {name: run for name, run in contenders.items() if agree(run(), expected)}
        differing = frozenset(contenders.keys() - same.keys())
        return Row(layer, shape, mode, count, medians(same, effort), differing, peak)


def _peers(
    layer: str, module: torch.nn.Module, x: torch.Tensor, count: int
) -> dict[str, Contender]:
    assert isinstance(module, torch.nn.RNNBase)
    found: dict[str, Contender] = {}
    if onnx_peer.available():
        found[onnx_peer.NAME] = onnx_peer.contender(layer, module, x, count)
    if layer == "LSTM" and count == 1 and flax_peer.available():
        found[flax_peer.NAME] = flax_peer.contender(module, x)
    return found


def table(rows: Iterable[Row]) -> Table:
    """All rows."""
    notes = [
        "Training is forward, and the gradients of the input and of all parameters. Peak: "
        "the matrix products' share of what the threads' cores could do.",
    ]
    if flax_peer.available():
        notes.append("flax: LSTM under jax.jit, whose threads were started on one core.")
    if not (onnx_peer.available() and flax_peer.available()):
        notes.append('For the columns that are empty: `pip install -c constraints.txt ".[bench]"`.')
    return Table(
        "openrnn beside torch.nn",
        (
            *("layer", "shape", "T,B,I,H", "mode", "threads", "openrnn ms", "torch ms"),
            *("ONNX Runtime ms", "flax ms", "times faster", "% of peak"),
        ),
        [row.cells() for row in rows],
        words=4,
        notes=tuple(notes),
        parted=True,
        page_only=("T,B,I,H",),
    )
