"""The cells in the box, with what each costs and what its recurrence contains."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from openrnn import cells
from openrnn.state import state_spec
from openrnn.step.program import program_of

# Arguments that a cell asks for beside its sizes: a value for the table, where H is hidden_size.
_EXAMPLES: dict[str, Any] = {
    "dropout": 0.1,
    "zoneout": 0.1,
    "zoneout_h": 0.1,
    "zoneout_c": 0.1,
    "depth": 2,
}
_SKIPPED = {"bias", "device", "dtype"}
# Operations that take time, as the table calls them.
_COUNTED = {
    "sigmoid": "σ",
    "tanh": "tanh",
    "relu": "relu",
    "exp": "exp",
    "rsqrt": "norm",
}


@dataclass(frozen=True)
class BoxedCell:
    """One cell of the box.

    `parameters` are those for each hidden unit, as a sum over I input features, H hidden units and
    a constant; `products` and `recurrence` count what each step has to wait for.
    """

    name: str
    summary: str
    arguments: str
    states: tuple[str, ...]
    parameters: str
    products: int
    recurrence: str


def boxed_cells() -> Iterator[BoxedCell]:
    """All cells of `openrnn.cells`, in the order of their names."""
    for name in cells.__all__:
        make = getattr(cells, name)
        if make is not cells.Cell:
            yield _describe(name, make)


def print_cells(console: Console | None = None) -> None:
    """Prints the table of `boxed_cells`."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("cell", no_wrap=True)
    table.add_column("states", no_wrap=True)
    table.add_column("parameters for\na hidden unit", no_wrap=True)
    table.add_column("pro-\nducts", justify="right", no_wrap=True)
    table.add_column("others\nin the loop", no_wrap=True)
    for cell in boxed_cells():
        products, others = str(cell.products or "–"), cell.recurrence or "–"
        table.add_row(cell.name, " ".join(cell.states), cell.parameters, products, others)
    console = console or Console(highlight=False)
    console.print(table)
    console.print(
        "I input features, H hidden units. In the loop is what each step has to wait for: products "
        "of a state with a weight, logistic functions σ, and so on. What depends on the input "
        "alone is made for all steps at once. Here depth is 2 and proj_size H/2. "
        "help(openrnn.cells.LSTMCell) has the equations and the source."
    )


def _describe(name: str, make: Any) -> BoxedCell:
    cell = example(make, 6, 8)
    counts = _recurrence(cell)
    summary = inspect.getdoc(make) or ""
    return BoxedCell(
        name,
        summary.split("\n", 1)[0],
        ", ".join(p for p in inspect.signature(make).parameters if p not in _SKIPPED),
        tuple(cell.state_sizes),
        _parameters(make),
        counts["matmul"],
        ", ".join(
            shown if counts[op] == 1 else f"{counts[op]} {shown}"
            for op, shown in _COUNTED.items()
            if counts[op]
        ),
    )


def example(make: Any, inputs: int, hidden: int) -> Any:
    """A cell of these sizes, with the values of the table for what else it asks for."""
    needed = {
        name: hidden // 2 if name == "proj_size" else _EXAMPLES[name]
        for name, parameter in inspect.signature(make).parameters.items()
        if parameter.default is inspect.Parameter.empty
        and name not in ("input_size", "hidden_size")
    }
    with torch.random.fork_rng(devices=[]):
        return make(inputs, hidden, **needed)


def _parameters(make: Any) -> str:
    """Parameters for each hidden unit, exactly: their number is H·(a·I + b·H + c)."""

    def each(inputs: int, hidden: int) -> float:
        numbers: int = sum(p.numel() for p in example(make, inputs, hidden).parameters())
        return numbers / hidden

    by_input = each(7, 8) - each(6, 8)
    by_hidden = (each(6, 16) - each(6, 8)) / 8
    constant = each(6, 8) - 6 * by_input - 8 * by_hidden
    terms = ((by_input, "I"), (by_hidden, "H"), (constant, ""))
    shown = [f"{n:g}·{dim}".rstrip("·") if n != 1 or not dim else dim for n, dim in terms if n]
    return " + ".join(shown)


def _recurrence(cell: Any) -> Counter[str]:
    """How often each operation is in the recurrence."""
    spec = state_spec(cell, torch.empty(1, cell.input_size))
    program, _ = program_of(cell, None, spec, cell.input_size, torch.float32, torch.device("cpu"))
    return Counter(node.op for node in program.stages.recurrence.nodes)
