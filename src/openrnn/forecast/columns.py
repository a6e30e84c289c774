"""Turning the text of a column into numbers or categories, and missing values into an error."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from openrnn.errors import DataError
from openrnn.forecast.table import Table, is_missing

Kind = Literal["number", "category"]

# More kinds than this are most likely names or texts, of which one-hot features tell nothing.
MOST_CATEGORIES = 100


@dataclass(frozen=True)
class Column:
    """A column's values, all of them present: floats for numbers, texts for categories.

    `observed` is False where the file had no value and the one before was taken.
    """

    name: str
    kind: Kind
    values: "npt.NDArray[np.float64] | npt.NDArray[np.object_]"
    observed: npt.NDArray[np.bool_]

    def tail(self, rows: int) -> "Column":
        """The last rows only."""
        return Column(self.name, self.kind, self.values[-rows:], self.observed[-rows:])


def kind_of(table: Table, name: str) -> Kind:
    """Whether a column holds numbers, judged by most of its values."""
    present = [cell for cell in table.columns[name] if not is_missing(cell)]
    if not present:
        raise DataError(
            f"{table.path.name}: expected values in column '{name}', received none at all; "
            f"leave it out with --ignore {name}"
        )
    numeric = pd.to_numeric(pd.Series(present, dtype="str"), errors="coerce").notna()
    if numeric.mean() >= 0.5:
        return "number"
    kinds = len(set(present))
    if kinds > MOST_CATEGORIES:
        raise DataError(
            f"{table.path.name}: expected numbers or at most {MOST_CATEGORIES} categories in "
            f"column '{name}', received {kinds} different texts; leave it out with "
            f"--ignore {name}"
        )
    return "category"


def read_column(
    table: Table,
    name: str,
    kind: Kind,
    dates: list[str],
    *,
    fill: bool,
    remedy: str = "",
) -> Column:
    """Read a column; fill its missing values from the row before, or raise `DataError`.

    `remedy` ends the error: what to do other than to mend the file.
    """
    cells = table.columns[name]
    missing = np.array([is_missing(cell) for cell in cells], dtype=np.bool_)
    if missing.any():
        _check_missing(table, name, missing, dates, fill, remedy)
    source = _source(missing)
    if kind == "number":
        return Column(name, kind, _numbers(table, name, missing, remedy)[source], ~missing)
    return Column(name, kind, np.array(cells, dtype=np.object_)[source], ~missing)


def _source(missing: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """For each row, the row whose value it takes: itself, or the last one with a value."""
    rows = np.arange(len(missing))
    rows[missing] = 0
    return np.maximum.accumulate(rows)


def _check_missing(
    table: Table,
    name: str,
    missing: npt.NDArray[np.bool_],
    dates: list[str],
    fill: bool,
    remedy: str,
) -> None:
    row = int(np.flatnonzero(missing)[0])
    place = f"{table.path.name}, line {table.lines[row]} ({dates[row]})"
    if not fill:
        count = int(missing.sum())
        others = f" (the first of {count})" if count > 1 else ""
        raise DataError(
            f"{place}: expected a value in column '{name}', received none{others}; "
            f"take the value before with --fill{remedy}"
        )
    if missing[0]:
        raise DataError(
            f"{place}: expected a value in the first row of column '{name}', received none, so "
            "that --fill has no value before it to take; begin the file at a later row"
        )


def _numbers(
    table: Table, name: str, missing: npt.NDArray[np.bool_], remedy: str
) -> npt.NDArray[np.float64]:
    cells = pd.Series(table.columns[name], dtype="str")
    numbers = pd.to_numeric(cells.mask(missing), errors="coerce").to_numpy(np.float64)
    wrong = np.flatnonzero(~np.isfinite(numbers) & ~missing)
    if len(wrong):
        row = int(wrong[0])
        expected = "a finite number" if np.isinf(numbers[row]) else "a number"
        raise DataError(
            f"{table.path.name}, line {table.lines[row]}: expected {expected} in column '{name}', "
            f"received '{cells[row]}'; mend it{remedy}"
        )
    return numbers
