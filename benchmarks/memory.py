"""The memory that a layer holds between forward and backward.

`python -m benchmarks.memory LSTM torch hydrology` measures one, in a process of its own, and prints
bytes, or nothing where the system does not tell. `python -m benchmarks.memory long 100000 1000`
trains once on that many steps, with a checkpoint every so many (0: none), and prints bytes and
seconds.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch

import openrnn
from benchmarks.agreement import results
from benchmarks.shapes import SHAPES
from benchmarks.table import NOTHING, Table, number

MEMORY_SHAPES = ("hydrology",)
LIBRARIES = {"openrnn": openrnn, "torch": torch.nn}
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Row:
    """Megabytes that each library holds; None: the system does not tell."""

    layer: str
    shape: str
    megabytes: dict[str, float | None]

    def cells(self) -> tuple[str, ...]:
        """Its line of the table."""
        figures = [number(self.megabytes[name], 1) for name in LIBRARIES]
        return (self.layer, self.shape, str(SHAPES[self.shape]), *figures)


def compare(layer: str, shape: str) -> Row:
    """Measures both, each in a fresh process."""
    return Row(layer, shape, {name: _in_process(layer, name, shape) for name in LIBRARIES})


def _in_process(layer: str, library: str, shape: str) -> float | None:
    command = [sys.executable, "-m", "benchmarks.memory", layer, library, shape]
    run = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return float(run.stdout) / 1e6 if run.stdout.strip() else None


def held(layer: str, library: str, shape: str) -> int | None:
    """Bytes by which a forward call makes this process larger, while its graph lives.

    One forward and backward have run before, on two steps, so that no memory of this size
    is there for either to use again; what an allocator has free is given back before each reading.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    size = SHAPES[shape]
    module = size.layer(LIBRARIES[library], layer)
    x = torch.randn(size.steps, size.batch, size.inputs, requires_grad=True)
    results(module, x[:2].detach().requires_grad_(), "training")
    before = _resident()
    output = module(x)
    after = _resident()
    del output
    return None if before is None or after is None else after - before


def _resident() -> int | None:
    if not Path("/proc/self/statm").exists():
        return None
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # the GNU C library
        trim(ctypes.c_size_t(0))
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def _largest() -> int | None:
    """The largest resident set so far. `ru_maxrss` would count that of the parent process too."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return None if found is None else int(found[1]) * 1024


LONG = ((100_000, 0), (100_000, 1000), (1_000_000, 1000))  # steps, and those between checkpoints
_LONG_SIZES = (1, 32, 64)  # batch, inputs, hidden


def long(steps: int, checkpoint: int) -> tuple[int | None, float]:
    """Bytes by which forward and backward of an LSTM make this process larger, and their seconds.

    The input, and its gradient, are counted.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    batch, inputs, hidden = _LONG_SIZES
    layer = openrnn.LSTM(inputs, hidden, checkpoint=checkpoint or None)
    warm = torch.randn(2 * max(checkpoint, 1), batch, inputs, requires_grad=True)
    layer(warm)[0].sum().backward()
    before, begin = _resident(), perf_counter()
    x = torch.randn(steps, batch, inputs, requires_grad=True)
    layer(x)[0].sum().backward()
    seconds = perf_counter() - begin
    most = _largest()
    return None if before is None or most is None else most - before, seconds


def long_table() -> Table:
    """Training on very long sequences, each in a process of its own."""
    rows = []
    for steps, checkpoint in LONG:
        command = [sys.executable, "-m", "benchmarks.memory", "long", str(steps), str(checkpoint)]
        run = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True, check=True)
        size, seconds = run.stdout.split()
        megabytes = number(None if size == "None" else float(size) / 1e6, 0)
        rows.append((f"{steps:,}", str(checkpoint or NOTHING), megabytes, number(float(seconds))))
    batch, inputs, hidden = _LONG_SIZES
    return Table(
        f"LSTM in training on very long sequences, B,I,H {batch},{inputs},{hidden}",
        ("steps", "checkpoint every", "MB", "seconds"),
        rows,
        words=0,
        notes=(
            "Growth of the process at its largest, over one forward and backward on one thread. "
            "The input, its gradient and the output are in it.",
        ),
    )


def table(rows: Iterable[Row]) -> Table:
    """All rows."""
    return Table(
        "Memory held between forward and backward, MB",
        ("layer", "shape", "T,B,I,H", *LIBRARIES),
        [row.cells() for row in rows],
        words=3,
        notes=(
            "Growth of the resident set over a forward call, the output included, in a process of "
            "its own; `malloc_trim` gives back what is free before each reading.",
        ),
    )


if __name__ == "__main__":
    if sys.argv[1] == "long":
        print(*long(int(sys.argv[2]), int(sys.argv[3])))
    else:
        measured = held(*sys.argv[1:4])
        print("" if measured is None else measured)
