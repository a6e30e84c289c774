"""An LSTM's training on sequences of different lengths."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn.utils.rnn import pack_padded_sequence

import openrnn
from benchmarks.agreement import agree, results
from benchmarks.shapes import SHAPES
from benchmarks.table import DIFFERS, NOTHING, Table, number, time
from benchmarks.timing import Effort, medians, threads

PACKED_SHAPES = ("series", "speech")


@dataclass(frozen=True)
class Row:
    """Milliseconds of ours and torch's packed and of ours padded; None: results differ."""

    shape: str
    threads: int
    used: float  # the share of the padded steps that the lengths fill
    ms: dict[str, float] | None

    @property
    def ratio(self) -> float | None:
        """How many times faster than torch.nn ours is on the same packed sequence."""
        return None if self.ms is None else self.ms["torch"] / self.ms["ours"]

    @property
    def times_padded(self) -> float | None:
        """How many times faster than on the padded batch ours is."""
        return None if self.ms is None else self.ms["padded"] / self.ms["ours"]

    def cells(self) -> tuple[str, ...]:
        """Its line of the table."""
        words = (self.shape, str(SHAPES[self.shape]), str(self.threads), number(self.used))
        if self.ms is None:
            return (*words, DIFFERS, NOTHING, NOTHING, DIFFERS, DIFFERS)
        times = [time(self.ms[name]) for name in ("ours", "torch", "padded")]
        return (*words, *times, number(self.ratio), number(self.times_padded))


def compare(shape: str, count: int, effort: Effort) -> Row:
    """Times training with `count` threads, if ours and torch's compute the same."""
    with threads(count):
        torch.manual_seed(0)
        size = SHAPES[shape]
        lengths = torch.randint(1, size.steps + 1, (size.batch,))
        lengths[0] = size.steps  # else the padded batch would be shorter
        padded = torch.randn(size.steps, size.batch, size.inputs, requires_grad=True)
        made = pack_padded_sequence(padded.detach(), lengths, enforce_sorted=False)
        packed = made._replace(data=made.data.requires_grad_())
        theirs, ours = size.layer(torch.nn, "LSTM"), size.layer(openrnn, "LSTM")
        ours.load_state_dict(theirs.state_dict())
        runs = {
            "ours": partial(results, ours, packed, "training"),
            "torch": partial(results, theirs, packed, "training"),
            "padded": partial(results, ours, padded, "training"),
        }
        same = agree(runs["ours"](), runs["torch"]())
        used = lengths.sum().item() / (size.steps * size.batch)
        return Row(shape, count, used, medians(runs, effort) if same else None)


def table(rows: Iterable[Row]) -> Table:
    """All rows."""
    return Table(
        "LSTM in training on packed sequences, lengths uniform on 1 to T",
        (
            *("shape", "T,B,I,H", "threads", "steps used", "openrnn ms", "torch ms"),
            *("openrnn padded ms", "times faster than torch", "times faster than padded"),
        ),
        [row.cells() for row in rows],
        words=2,
        page_only=("T,B,I,H",),
    )
