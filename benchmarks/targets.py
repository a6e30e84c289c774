"""What the figures are to reach, and what they reached."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from benchmarks import accuracy, custom, int8, layers, memory, packed, reset, stream
from benchmarks.table import Table

PEAK_SHAPES = ("hydrology", "speech", "wide")


@dataclass
class Measured:
    """All rows of a run."""

    layers: list[layers.Row] = field(default_factory=list)
    custom: list[custom.Row] = field(default_factory=list)
    packed: list[packed.Row] = field(default_factory=list)
    reset: list[reset.Row] = field(default_factory=list)
    stream: list[stream.Row] = field(default_factory=list)
    int8: list[int8.Row] = field(default_factory=list)
    accuracy: list[accuracy.Row] = field(default_factory=list)
    memory: list[memory.Row] = field(default_factory=list)

    def differing(self) -> bool:
        """Whether any two results disagree."""
        rows = (*self.custom, *self.packed, *self.reset)
        differing = any(row.differing for row in (*self.layers, *self.stream, *self.int8))
        return differing or any(row.ms is None for row in rows)


def means(rows: Iterable[layers.Row]) -> list[str]:
    """The geometric mean of the ratios to torch.nn, for each layer, mode and number of threads."""
    return [
        f"{layer}, {mode}, {_threads(count)}: {mean:.2f} times faster than torch.nn"
        for (layer, mode, count), mean in _means(rows).items()
    ]


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"


def _means(rows: Iterable[layers.Row]) -> dict[tuple[str, str, int], float]:
    groups: dict[tuple[str, str, int], list[float]] = {}
    for row in rows:
        if row.ratio is not None:
            groups.setdefault((row.layer, row.mode, row.threads), []).append(row.ratio)
    return {key: statistics.geometric_mean(ratios) for key, ratios in groups.items()}


Found = tuple[float | None, str]  # a figure, and where it was found; None: results differ


def table(measured: Measured) -> Table:
    """Each target beside what was reached: the mean, or the worst row."""
    lines: list[tuple[str, ...]] = []

    def add(what: str, found: Sequence[Found], wanted: float, *, most: bool = False) -> None:
        if found:  # else it was not measured
            lines.append(_line(what, found, wanted, most))

    def ratios(value: Callable[[layers.Row], float | None], layer: str, mode: str) -> list[Found]:
        rows = [row for row in measured.layers if (row.layer, row.mode) == (layer, mode)]
        return [(value(row), f"{row.shape}, {_threads(row.threads)}") for row in rows]

    def mean(layer: str, mode: str) -> list[Found]:
        found = _means(measured.layers).items()
        return [(m, _threads(key[2])) for key, m in found if key[:2] == (layer, mode)]

    add("LSTM training, mean", mean("LSTM", "training"), 2.0)
    add("LSTM training, each", ratios(lambda r: r.ratio, "LSTM", "training"), 1.15)
    add("LSTM inference, mean", mean("LSTM", "inference"), 1.6)
    add("LSTM inference, each", ratios(lambda r: r.ratio, "LSTM", "inference"), 1.0)
    best = ratios(lambda r: r.ratio_to_best, "LSTM", "inference")
    add("LSTM inference, each, to the best peer", best, 1.0)
    add("GRU training, mean", mean("GRU", "training"), 3.0)
    add("RNN training, mean", mean("RNN", "training"), 2.0)
    for layer in ("LSTM", "GRU", "RNN"):
        shares = ratios(lambda r: r.of_peak, layer, "training")
        large = [found for found in shares if found[1].startswith(PEAK_SHAPES)]
        add(f"{layer} training, hydrology, speech, wide: of peak", large, 0.8)
    cells = [(row, f"{row.cell}, {row.shape}, {_threads(row.threads)}") for row in measured.custom]
    add("custom cells: times the loop", [(row.times_loop, at) for row, at in cells], 10.0)
    add("custom cells: LSTM's time", [(row.times_lstm, at) for row, at in cells], 1.5, most=True)
    lengths = [(row.ratio, f"{row.shape}, {_threads(row.threads)}") for row in measured.packed]
    add("packed LSTM training, each", lengths, 5.0)
    shares = [(row.of_padded, f"{row.shape}, {_threads(row.threads)}") for row in measured.packed]
    add("lengths=, of all steps' time", shares, 0.65, most=True)
    resets = [(row, f"{row.shape}, {_threads(row.threads)}") for row in measured.reset]
    add("resets, of the time without", [(r.times_without, at) for r, at in resets], 1.05, most=True)
    steps = [(r.ratio_to_best, f"{r.layer}, {_threads(r.threads)}") for r in measured.stream]
    add("one step after another, to the best peer", steps, 1.0)
    errors = [(row.largest, f"{row.layer}, {row.shape}") for row in measured.accuracy]
    add("error, in units of torch's", errors, 2.0, most=True)
    columns = ("target", "worst found at", "wanted", "reached", "met")
    return Table("Targets", columns, lines, words=2)


def _line(what: str, found: Sequence[Found], wanted: float, most: bool) -> tuple[str, ...]:
    """The worst of the figures beside the one that is wanted, at least or at most."""
    sign = "≤" if most else "≥"
    for value, at in found:
        if value is None:
            return (what, at, f"{sign} {wanted:g}", "differs", "no")
    known = [(value, at) for value, at in found if value is not None]
    reached, where = max(known) if most else min(known)
    met = reached <= wanted if most else reached >= wanted
    return (what, where, f"{sign} {wanted:g}", f"{reached:.2f}", "yes" if met else "no")
