"""An LSTM's training on sequences of different lengths."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import openrnn
from benchmarks.agreement import agree, results
from benchmarks.shapes import SHAPES
from benchmarks.table import DIFFERS, NOTHING, Table, number, time
from benchmarks.timing import Effort, medians, threads

PACKED_SHAPES = ("series", "speech")


@dataclass(frozen=True)
class Row:
    """Milliseconds of ours and torch's packed, of ours padded with lengths, and of all the steps
    of ours padded; None: results differ.
    """

    shape: str
    threads: int
    used: float  # the share of the padded steps that the lengths fill
    ms: dict[str, float] | None

    @property
    def ratio(self) -> float | None:
        """How many times faster than torch.nn ours is on the same packed sequence."""
        return None if self.ms is None else self.ms["torch"] / self.ms["ours"]

    @property
    def of_padded(self) -> float | None:
        """With lengths, the share of the time that all padded steps take."""
        return None if self.ms is None else self.ms["lengths"] / self.ms["padded"]

    def cells(self) -> tuple[str, ...]:
        """Its line of the table."""
        words = (self.shape, str(SHAPES[self.shape]), str(self.threads), number(self.used))
        if self.ms is None:
            return (*words, DIFFERS, *[NOTHING] * 3, DIFFERS, DIFFERS)
        times = [time(self.ms[name]) for name in ("ours", "torch", "lengths", "padded")]
        return (*words, *times, number(self.ratio), number(self.of_padded))


class Ragged(nn.Module):
    """Our layer with lengths."""

    def __init__(self, layer: nn.Module, lengths: Tensor) -> None:
        super().__init__()
        self.layer, self.lengths = layer, lengths

    def forward(self, x: Tensor) -> Any:
        return self.layer(x, lengths=self.lengths)


def compare(shape: str, count: int, effort: Effort) -> Row:
    """Times training with `count` threads, if ours and torch's compute the same."""
    with threads(count):
        torch.manual_seed(0)
        size = SHAPES[shape]
        # Evenly spread: of a few that are drawn the mean is anywhere, and the steps used with it.
        lengths = torch.linspace(1, size.steps, size.batch).round().long()
        lengths = lengths[torch.randperm(size.batch)]
        padded = torch.randn(size.steps, size.batch, size.inputs, requires_grad=True)
        made = pack_padded_sequence(padded.detach(), lengths, enforce_sorted=False)
        packed = made._replace(data=made.data.requires_grad_())
        theirs, ours = size.layer(torch.nn, "LSTM"), size.layer(openrnn, "LSTM")
        ours.load_state_dict(theirs.state_dict())
        runs = {
            "ours": partial(results, ours, packed, "training"),
            "torch": partial(results, theirs, packed, "training"),
            "lengths": partial(results, Ragged(ours, lengths), padded, "training"),
            "padded": partial(results, ours, padded, "training"),
        }
        same = agree(runs["ours"](), runs["torch"]())
        same = same and agree(runs["lengths"]()[2:], runs["ours"]()[2:])
        used = lengths.sum().item() / (size.steps * size.batch)
        return Row(shape, count, used, medians(runs, effort) if same else None)


def table(rows: Iterable[Row]) -> Table:
    """All rows."""
    return Table(
        "LSTM in training on sequences of different lengths, uniform on 1 to T",
        (
            *("shape", "T,B,I,H", "threads", "steps used", "packed ms", "torch packed ms"),
            *("lengths= ms", "all steps ms", "times faster than torch", "lengths= of all steps"),
        ),
        [row.cells() for row in rows],
        words=2,
        notes=("packed: a PackedSequence. lengths=: the padded batch with `lengths`.",),
        page_only=("T,B,I,H",),
    )
