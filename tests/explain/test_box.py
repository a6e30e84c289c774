"""The table of the cells in the box: its numbers are those of real cells."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from openrnn import cells
from openrnn.cli import main
from openrnn.explain.box import BoxedCell, boxed_cells
from tests.cells.box import BOX

TABLE: dict[str, BoxedCell] = {cell.name: cell for cell in boxed_cells()}


def test_all_cells_are_listed() -> None:
    assert {*TABLE, "Cell"} == set(cells.__all__)
    assert {name.split()[0] for name in BOX} == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_parameters_for_each_unit(name: str) -> None:
    """The formula, evaluated at sizes that it was not made from."""
    inputs, hidden = 10, 24
    options = {"depth": 2} if name == "RHNCell" else {}
    make = getattr(cells, name) if options else BOX.get(name, getattr(cells, name))
    cell = make(inputs, hidden, **options)
    formula = TABLE[name].parameters.replace("·", "*")
    each = eval(formula, {"I": inputs, "H": hidden})
    assert each * hidden == sum(p.numel() for p in cell.parameters())


def test_known_cells() -> None:
    assert TABLE["LSTMCell"].parameters == "4·I + 4·H + 8"
    assert TABLE["RNNCell"].parameters == "I + H + 2"
    assert (TABLE["LSTMCell"].products, TABLE["LSTMCell"].recurrence) == (1, "3 σ, 2 tanh")
    assert (TABLE["MinGRUCell"].products, TABLE["MinGRUCell"].recurrence) == (0, "")
    assert TABLE["SLSTMCell"].states == ("h", "c", "n", "m")


def test_command() -> None:
    result = CliRunner().invoke(main, ["cells"], env={"COLUMNS": "80"})
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert max(map(len, lines)) <= 80
    assert all(any(line.lstrip().startswith(name) for line in lines) for name in TABLE)
