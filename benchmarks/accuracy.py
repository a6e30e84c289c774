"""The error of ours and of torch's layers against the same in float64."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

import openrnn
from benchmarks.agreement import results
from benchmarks.shapes import SHAPES
from benchmarks.table import Table, number


@dataclass(frozen=True)
class Row:
    """Our error in units of torch's: of the worst result, and of all results together."""

    layer: str
    shape: str
    largest: float
    where: str
    together: float

    def cells(self) -> tuple[str, ...]:
        """Its line of the table."""
        size = str(SHAPES[self.shape])
        figures = (number(self.largest), number(self.together))
        return (self.layer, self.shape, size, self.where, *figures)


def compare(layer: str, shape: str) -> Row:
    """The errors of the output and of each gradient of one training step."""
    torch.manual_seed(0)
    size = SHAPES[shape]
    theirs, ours = size.layer(torch.nn, layer), size.layer(openrnn, layer)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(size.steps, size.batch, size.inputs, requires_grad=True)
    wide = x.detach().double().requires_grad_()
    truth = results(copy.deepcopy(theirs).double(), wide, "training")
    found, peer = results(ours, x, "training"), results(theirs, x, "training")
    names = ["output", "gradient of input"]
    names += [f"gradient of {name}" for name, _ in theirs.named_parameters()]
    ratios = {
        name: _ratio(rms(a.double() - exact), rms(b.double() - exact))
        for name, a, b, exact in zip(names, found, peer, truth, strict=True)
    }
    where = max(ratios, key=lambda name: ratios[name])
    together = _ratio(_all(found, truth), _all(peer, truth))
    return Row(layer, shape, ratios[where], where, together)


def rms(error: Tensor) -> float:
    """The root of the mean square."""
    return error.square().mean().sqrt().item()


def _ratio(ours: float, theirs: float) -> float:
    if theirs == 0:
        return 1.0 if ours == 0 else float("inf")
    return ours / theirs


def _all(found: list[Tensor], truth: list[Tensor]) -> float:
    """The error over all results, each in units of its largest number."""
    pairs = zip(found, truth, strict=True)
    parts = [(a.double() - exact).flatten() / exact.abs().max() for a, exact in pairs]
    return rms(torch.cat(parts).nan_to_num())


def table(rows: Iterable[Row]) -> Table:
    """All rows."""
    return Table(
        "Error in float32 against float64, in units of torch.nn's",
        ("layer", "shape", "T,B,I,H", "worst result", "its error", "all together"),
        [row.cells() for row in rows],
        words=4,
        notes=("Root mean square over each of output and gradients in one training step.",),
        page_only=("T,B,I,H",),
    )
