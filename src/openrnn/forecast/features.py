"""Columns as the numbers that a model sees, by statistics of the training part only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from openrnn.errors import DataError
from openrnn.forecast.columns import Column
from openrnn.forecast.split import Part
from openrnn.forecast.steps import Step

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scale:
    """A column of numbers, seen as its distance from the mean in standard deviations."""

    name: str
    mean: float
    std: float

    @property
    def width(self) -> int:
        """How many features the column becomes."""
        return 1

    def encode(self, values: npt.NDArray[np.float64]) -> Floats:
        """The scaled values, as one column."""
        with np.errstate(over="ignore"):  # what is infinite then is found in the forecasts
            scaled: Floats = ((values - self.mean) / self.std).astype(np.float32)
        column: Floats = scaled[:, None]
        return column


@dataclass(frozen=True)
class OneHot:
    """A column of categories, each a feature that is one where it applies and else zero.

    A category that the training part does not have is all zeros.
    """

    name: str
    categories: tuple[str, ...]

    @property
    def width(self) -> int:
        """How many features the column becomes."""
        return len(self.categories)

    def encode(self, values: npt.NDArray[np.object_]) -> Floats:
        """The indicators, one column for each category."""
        known = np.array(self.categories, dtype=np.object_)
        indicators: Floats = (values[:, None] == known[None, :]).astype(np.float32)
        return indicators


@dataclass(frozen=True)
class Encoder:
    """How each column becomes features, in the order of the columns."""

    columns: tuple[Scale | OneHot, ...]
    target: str
    calendar: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """How many features a row has."""
        return sum(column.width for column in self.columns) + 2 * len(self.calendar)

    @property
    def target_scale(self) -> Scale:
        """How the target is scaled."""
        return next(
            column
            for column in self.columns
            if isinstance(column, Scale) and column.name == self.target
        )

    @property
    def target_index(self) -> int:
        """Which of the features is the target."""
        before = 0
        for column in self.columns:
            if column.name == self.target:
                break
            before += column.width
        return before

    def encode(self, columns: Sequence[Column], dates: pd.DatetimeIndex) -> Floats:
        """The features of all rows: (rows, width)."""
        by_name = {column.name: column.values for column in columns}
        encoded = [column.encode(by_name[column.name]) for column in self.columns]  # type: ignore[arg-type]
        encoded += [_circle(_turn(name, dates)) for name in self.calendar]
        return np.concatenate(encoded, axis=1)


def fit_encoder(
    columns: Sequence[Column], training: Part, target: str, calendar: tuple[str, ...] = ()
) -> Encoder:
    """Learn scales and categories from the rows of the training part, and from no other row."""
    return Encoder(tuple(_fit(column, training) for column in columns), target, calendar)


def calendar_of(step: Step) -> tuple[str, ...]:
    """The turns of the calendar that data of such a step can follow."""
    turns = [] if step.unit.startswith("month") and step.count % 12 == 0 else ["year"]
    if step.within_day:
        turns += ["day"]
    return tuple(turns)


def _fit(column: Column, training: Part) -> Scale | OneHot:
    rows = slice(training.start, training.stop)
    if column.kind == "category":
        return OneHot(column.name, tuple(sorted(set(column.values[rows]))))
    with np.errstate(over="ignore", invalid="ignore"):
        values = column.values[rows].astype(np.float64)
        mean, std = float(values.mean()), float(values.std())
    if not (np.isfinite(mean) and np.isfinite(std)):
        raise DataError(
            f"column '{column.name}': expected numbers whose variance is finite, received values "
            f"up to {np.abs(values).max():g}; give them in a larger unit"
        )
    # A column that never changes in the training part tells nothing, and must not divide by zero.
    return Scale(column.name, mean, std if std > 1e-12 * max(1.0, abs(mean)) else 1.0)


def _turn(name: str, dates: pd.DatetimeIndex) -> npt.NDArray[np.float64]:
    """How far each date is through its year or day, from 0 to 1."""
    time = np.asarray((dates - dates.normalize()) / pd.Timedelta(days=1), dtype=np.float64)
    if name == "day":
        return time
    day = np.asarray(dates.day_of_year, dtype=np.float64) - 1 + time
    return day / np.where(dates.is_leap_year, 366.0, 365.0)


def _circle(turn: npt.NDArray[np.float64]) -> Floats:
    angle = 2 * np.pi * turn
    return np.stack([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)
