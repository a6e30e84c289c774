"""`make bench`: openrnn beside torch.nn, each figure the median of alternating repetitions.

Writes the table to benchmarks/results/, with the processor and the date. It refuses to print a
ratio where the two disagree in their results.
"""

from __future__ import annotations

import datetime
import platform
import re
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.table import Table

import openrnn

RESULTS = Path(__file__).parent / "results"
# T steps, B batch, I input features, H hidden units.
SHAPES = {
    "seed": (12, 3, 30, 20),
    "daily": (12, 32, 8, 64),
    "policy": (16, 8, 64, 128),
    "series": (100, 32, 16, 128),
    "odd": (37, 5, 13, 45),
    "long": (500, 1, 64, 256),
}


@dataclass(frozen=True)
class Row:
    layer: str
    shape: str
    mode: str
    threads: int
    ours_ms: float
    torch_ms: float

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.torch_ms / self.ours_ms


def compare(layer: str, shape: str, mode: str, threads: int, repetitions: int) -> Row:
    """Times ours and torch's on one shape, alternating; raises if their results differ."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    steps, batch, inputs, hidden = SHAPES[shape]
    theirs = getattr(torch.nn, layer)(inputs, hidden)
    ours = getattr(openrnn, layer)(inputs, hidden)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(steps, batch, inputs, requires_grad=mode == "training")
    torch.testing.assert_close(run(ours, x, mode), run(theirs, x, mode), rtol=1e-3, atol=1e-4)
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(repetitions):
        for name, module in (("ours", ours), ("theirs", theirs)):
            start = time.perf_counter()
            run(module, x, mode)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: 1000 * statistics.median(values) for name, values in seconds.items()}
    return Row(layer, shape, mode, threads, medians["ours"], medians["theirs"])


def run(module: torch.nn.Module, x: torch.Tensor, mode: str) -> list[torch.Tensor]:
    """The output, and in training the gradients of the input and of each parameter."""
    if mode == "inference":
        with torch.inference_mode():
            return [module(x)[0]]
    output = module(x)[0]
    return [output, *torch.autograd.grad(output.sum(), [x, *module.parameters()])]


def processor() -> str:
    """The processor's name, as the system has it."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"model name\s*:\s*(.+)", text)
    return found.group(1).strip() if found else platform.machine()


def show(rows: list[Row]) -> Table:
    table = Table("layer", "shape", "mode", title="openrnn beside torch.nn")
    for column in ("threads", "openrnn ms", "torch ms", "times faster"):
        table.add_column(column, justify="right")
    for r in rows:
        figures = (f"{r.ours_ms:.2f}", f"{r.torch_ms:.2f}", f"{r.ratio:.2f}")
        table.add_row(r.layer, r.shape, r.mode, str(r.threads), *figures)
    return table


def write(rows: list[Row], path: Path) -> None:
    lines = [
        f"# openrnn {openrnn.__version__} beside torch {torch.__version__}",
        "",
        f"{processor()}, {datetime.date.today().isoformat()}. Median of alternating repetitions.",
        "",
        "| layer | shape | T,B,I,H | mode | threads | openrnn ms | torch ms | times faster |",
        "|---|---|---|---|---:|---:|---:|---:|",
    ]
    for r in rows:
        size = ",".join(map(str, SHAPES[r.shape]))
        lines.append(
            f"| {r.layer} | {r.shape} | {size} | {r.mode} | {r.threads} "
            f"| {r.ours_ms:.2f} | {r.torch_ms:.2f} | {r.ratio:.2f} |"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


@click.command(help="Time openrnn's layers beside torch.nn's.")
@click.option("--repetitions", default=15, show_default=True, help="Of each figure.")
@click.option("--out", default=RESULTS / "layers.md", type=Path, help="Where to write the table.")
def main(repetitions: int, out: Path) -> None:
    rows = [
        compare(layer, shape, mode, threads, repetitions)
        for layer in ("LSTM", "GRU", "RNN")
        for shape in SHAPES
        for mode in ("training", "inference")
        for threads in (1, 2)
    ]
    Console().print(show(rows))
    write(rows, out)
    Console().print(f"Written {out}")


if __name__ == "__main__":
    main()
