"""Inference with int8 weights, beside float32 and others' int8."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

import openrnn
from benchmarks import ao_peer, onnx_peer
from benchmarks.accuracy import rms
from benchmarks.agreement import results
from benchmarks.shapes import SHAPES
from benchmarks.stream import STREAM_SHAPES, torch_steps
from benchmarks.table import DIFFERS, Table, number, percent, time
from benchmarks.timing import Contender, Effort, medians, threads

INT8_LAYERS = ("LSTM", "GRU")
INT8_SHAPES = ("daily", "policy", "series", "hydrology", "speech", "long", "wide", "stream")
OURS, FLOAT = "openrnn int8", "openrnn"
PEERS = (ao_peer.NAME, onnx_peer.NAME)
# A number is off by at most 1/254 of the largest beside it, in both factors of a product. Of the
# usual numbers that is some per cent, more where a tensor has one scale for all of it; in the root
# mean square of an output it is less. What is further off computes something else.
MOST = 0.05


@dataclass(frozen=True)
class Row:
    """The times of one layer, shape and number of threads.

    ms: milliseconds of each that was measured, by its name.
    errors: of each of them, the root mean square of its error in that of torch.nn's output.
    """

    layer: str
    shape: str
    threads: int
    ms: dict[str, float]
    errors: dict[str, float]

    @property
    def differing(self) -> frozenset[str]:
        """Those whose errors 8 bits do not explain, and which were not timed."""
        return frozenset(self.errors.keys() - self.ms.keys())

    def ratio_to(self, *names: str) -> float | None:
        """How many times faster ours is than the fastest of these; None if none was timed."""
        found = [self.ms[name] for name in names if name in self.ms]
        return min(found) / self.ms[OURS] if found and OURS in self.ms else None

    def cells(self) -> tuple[str, ...]:
        """Its line of the table."""
        names = (OURS, FLOAT, *PEERS)
        times = [DIFFERS if n in self.differing else time(self.ms.get(n)) for n in names]
        ratios = (number(self.ratio_to(FLOAT)), number(self.ratio_to(*PEERS)))
        errors = [percent(self.errors.get(name)) for name in (OURS, *PEERS)]
        words = (self.layer, self.shape, str(SHAPES[self.shape]), str(self.threads))
        return (*words, *times, *ratios, *errors)


def compare(layer: str, shape: str, count: int, effort: Effort) -> Row:
    """Times all that can run this with `count` threads, and whose errors 8 bits explain."""
    with threads(count):
        torch.manual_seed(0)
        size = SHAPES[shape]
        theirs, ours = size.layer(torch.nn, layer).eval(), size.layer(openrnn, layer).eval()
        ours.load_state_dict(theirs.state_dict())
        x = torch.randn(size.steps, size.batch, size.inputs)
        run, onnx, ao = _run, onnx_peer.contender, ao_peer.quantized(theirs)
        if shape in STREAM_SHAPES:
            run, onnx = _steps, onnx_peer.stream
        contenders: dict[str, Contender] = {
            OURS: run(openrnn.quantize(ours), x),  # type: ignore[arg-type]
            FLOAT: run(ours, x),
            ao_peer.NAME: torch_steps(ao, x) if run is _steps else run(ao, x),
        }
        if layer == "LSTM" and onnx_peer.available():  # its tools quantize no other
            contenders[onnx_peer.NAME] = onnx(layer, theirs, x, count, int8=True)  # type: ignore[arg-type]
        expected = results(theirs, x, "inference")[0]
        errors = {name: _error(run(), expected) for name, run in contenders.items()}
        same = {name: run for name, run in contenders.items() if errors[name] <= MOST}
        return Row(layer, shape, count, medians(same, effort), errors)


def _run(module: torch.nn.Module, x: Tensor) -> Contender:
    return partial(results, module, x, "inference")


def _steps(layer: Any, x: Tensor) -> Contender:
    """One step after another, the state kept."""
    stream = layer.stream(x.size(1))
    return lambda: [stream(x[0])[None]]


def _error(found: Any, expected: Tensor) -> float:
    return rms(torch.as_tensor(found[0]) - expected) / rms(expected)


def table(rows: Iterable[Row]) -> Table:
    """All rows."""
    names = (OURS, "float32", *PEERS)
    errors = [f"error of {name}, %" for name in (OURS, *PEERS)]
    return Table(
        "Inference with int8 weights",
        (
            *("layer", "shape", "T,B,I,H", "threads", *(f"{name} ms" for name in names)),
            *("times float32", "times best peer", *errors),
        ),
        [row.cells() for row in rows],
        words=3,
        notes=(
            "torch.ao: torch.nn's layer by quantize_dynamic. ONNX Runtime: LSTM by its own "
            "quantize_dynamic, which leaves GRU and RNN as they are. An error is the root mean "
            "square, in that of the output of torch.nn in float32. stream: one step after another, "
            "the state kept.",
        ),
        page_only=("T,B,I,H", *errors),
    )
