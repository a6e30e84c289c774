"""`make bench`: openrnn beside its peers, in one process run.

Writes the tables to benchmarks/results/, with the processor and the date. It prints no ratio where
two disagree in their results, and ends with an error then.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from benchmarks import load, page, peak, targets
from benchmarks.custom import CELLS
from benchmarks.run import PARTS, Plan, run
from benchmarks.shapes import LAYERS, SHAPES
from benchmarks.timing import Effort


@click.command(help="Time openrnn's layers and cells beside their peers.")
@click.option(
    "--only", multiple=True, type=click.Choice([*LAYERS, *CELLS]), help="A layer or a cell."
)
@click.option("--shape", "shapes", multiple=True, type=click.Choice(list(SHAPES)))
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS))
@click.option("--threads", multiple=True, type=click.IntRange(1), default=(1, 2), show_default=True)
@click.option("--seconds", default=Effort().seconds, show_default=True, help="For each row.")
@click.option("--quick", is_flag=True, help="One small shape, and five repetitions of each figure.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Where to write the tables. Default: {page.PAGE.name} in benchmarks/results/, "
    "if everything was measured.",
)
def main(
    only: tuple[str, ...],
    shapes: tuple[str, ...],
    parts: tuple[str, ...],
    threads: tuple[int, ...],
    seconds: float,
    quick: bool,
    out: Path | None,
) -> None:
    plan = Plan(only, shapes, parts, threads, quick, Effort(seconds))
    console, measured, tables = Console(), targets.Measured(), []
    begin = load.now()
    core = peak.measure()
    console.print(f"{page.processor()}: one core does {core:.1f} GFLOP/s in float32.\n")
    for table in run(plan, core, measured, console):
        table.show(console)
        tables.append(table)
    means = targets.means(measured.layers)
    for line in means:
        console.print(line, highlight=False)
    reached = targets.table(measured)
    reached.show(console)
    tables.append(reached)
    if warning := load.warning(load.others(begin)):
        console.print(warning, style="bold")
    if out is None and plan.complete:
        out = page.PAGE
    if out is not None:
        page.write(out, tables, means, core, warning)
        console.print(f"Written {out}", soft_wrap=True)
    if measured.differing():
        console.print("Where results differ from torch.nn's or the loop's, there is no ratio.")
        sys.exit(1)


if __name__ == "__main__":
    main()
