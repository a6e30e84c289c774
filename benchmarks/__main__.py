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
    "hydrology": (365, 64, 27, 256),
    "speech": (200, 16, 80, 512),
    "long": (500, 1, 64, 256),
    "odd": (37, 5, 13, 45),
    "wide": (50, 64, 1024, 1024),
    "stacked": (35, 20, 200, 200),
    "bidirectional": (64, 32, 128, 128),
    "stream": (1, 1, 64, 128),
}
OPTIONS = {"stacked": {"num_layers": 2}, "bidirectional": {"bidirectional": True}}
INFERENCE_ONLY = ("stream",)
_SECONDS = 1.5  # in which the repetitions of a figure should be done, but never fewer than five


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
    options = OPTIONS.get(shape, {})
    theirs = getattr(torch.nn, layer)(inputs, hidden, **options)
    ours = getattr(openrnn, layer)(inputs, hidden, **options)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(steps, batch, inputs, requires_grad=mode == "training")
    assert_equal(run(ours, x, mode), run(theirs, x, mode))
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    begin = time.perf_counter()
    while len(seconds["ours"]) < repetitions:
        if len(seconds["ours"]) >= 5 and time.perf_counter() - begin > _SECONDS:
            break
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


def assert_equal(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    """Nothing is faster until it is equal, up to rounding at the size of each result."""
    for a, b in zip(ours, theirs, strict=True):
        size = max(1.0, b.abs().max().item())
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5 * size)


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
    lines += ["", "Geometric means:", ""]
    lines += [f"- {line}" for line in means(rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def means(rows: list[Row]) -> list[str]:
    """The geometric mean of the ratios, for each layer, mode and number of threads."""
    groups: dict[tuple[str, str, int], list[float]] = {}
    for row in rows:
        groups.setdefault((row.layer, row.mode, row.threads), []).append(row.ratio)
    return [
        f"{layer}, {mode}, {threads} thread{'s' * (threads > 1)}: "
        f"{statistics.geometric_mean(ratios):.2f} times faster than torch.nn"
        for (layer, mode, threads), ratios in groups.items()
    ]


@click.command(help="Time openrnn's layers beside torch.nn's.")
@click.option("--repetitions", default=200, show_default=True, help="Of each figure, at most.")
@click.option("--out", default=RESULTS / "layers.md", type=Path, help="Where to write the table.")
def main(repetitions: int, out: Path) -> None:
    rows = [
        compare(layer, shape, mode, threads, repetitions)
        for layer in ("LSTM", "GRU", "RNN")
        for shape in SHAPES
        for mode in ("training", "inference")
        if mode == "inference" or shape not in INFERENCE_ONLY
        for threads in (1, 2)
    ]
    Console().print(show(rows))
    write(rows, out)
    Console().print("\n".join(means(rows)))
    Console().print(f"Written {out}")


if __name__ == "__main__":
    main()
