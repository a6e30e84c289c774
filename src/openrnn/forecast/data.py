"""A data file, read and checked: dates, target and feature columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from openrnn.errors import ArgumentError
from openrnn.forecast.columns import Column, kind_of, read_column
from openrnn.forecast.dates import Dates, read_dates, show_date
from openrnn.forecast.steps import Step, infer_step
from openrnn.forecast.table import read_table


@dataclass(frozen=True)
class Data:
    """The rows of a file in the order of time; the target is one of the columns."""

    path: Path
    sha256: str
    dates: Dates
    step: Step
    columns: tuple[Column, ...]
    target: str

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.dates.index)

    @property
    def target_column(self) -> Column:
        """The column to forecast."""
        return next(column for column in self.columns if column.name == self.target)

    @property
    def target_values(self) -> "pd.Series[float]":
        """The target by date."""
        return pd.Series(self.target_column.values, index=self.dates.index, dtype="float64")


def load_data(
    path: Path,
    target: str,
    *,
    date: str | None = None,
    date_format: str | None = None,
    fill: bool = False,
    ignore: Sequence[str] = (),
) -> Data:
    """Read what a model is to be trained on; raise `DataError` for the first thing wrong in it."""
    table = read_table(path)
    table.column(target, "--target")
    for name in ignore:
        table.column(name, "--ignore")
        if name == target:
            raise ArgumentError(
                f"--ignore: expected a column other than the target, received '{name}'; "
                "leave that --ignore out"
            )
    dates = read_dates(table, date, date_format)
    if target == dates.column:
        raise ArgumentError(
            f"--target: expected a column of numbers, received '{target}', the column of dates; "
            f"give one of {', '.join(name for name in table.columns if name != target)}"
        )
    shown = [show_date(each) for each in dates.index]
    names = [name for name in table.columns if name != dates.column and name not in ignore]
    # The target first: what is wrong with it is what the user wants to hear first.
    another = ", or give another --target"
    numbers = read_column(table, target, "number", shown, fill=fill, remedy=another)
    others = {
        name: read_column(
            table,
            name,
            kind_of(table, name),
            shown,
            fill=fill,
            remedy=f", or leave the column out with --ignore {name}",
        )
        for name in names
        if name != target
    }
    columns = tuple(numbers if name == target else others[name] for name in names)
    step = infer_step(dates.index)
    return Data(table.path, table.sha256, dates, step, columns, target)
