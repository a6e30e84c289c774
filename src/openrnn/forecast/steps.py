"""The usual step from one date to the next: a day, an hour, a month."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

Unit = Literal["microsecond", "business day", "month", "month end"]
_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
_SIZES = (
    ("week", 7 * _DAY),
    ("day", _DAY),
    ("hour", 3600 * _SECOND),
    ("minute", 60 * _SECOND),
    ("second", _SECOND),
    ("millisecond", 1000),
    ("microsecond", 1),
)


@dataclass(frozen=True)
class Step:
    """`count` units of time; microseconds stand for all that the calendar does not bend."""

    unit: Unit
    count: int

    @property
    def offset(self) -> Any:
        """The step as what pandas adds to a date."""
        if self.unit == "month":
            return pd.DateOffset(months=self.count)
        if self.unit == "month end":
            return pd.offsets.MonthEnd(self.count)
        if self.unit == "business day":
            return pd.offsets.BusinessDay(self.count)
        return pd.Timedelta(microseconds=self.count)

    @property
    def within_day(self) -> bool:
        """Whether several steps fit in a day."""
        return self.unit == "microsecond" and self.count < _DAY

    def times(self, count: int) -> "Step":
        """`count` steps in one."""
        return Step(self.unit, self.count * count)

    def after(self, last: pd.Timestamp, steps: int) -> pd.DatetimeIndex:
        """The next `steps` dates after `last`."""
        # From `last` each time: the 30th stays the 30th beyond a February.
        dates = [last + self.times(k).offset for k in range(1, steps + 1)]
        return pd.DatetimeIndex(dates)  # type: ignore[no-any-return]

    def gaps(self, index: pd.DatetimeIndex) -> int:
        """How many neighbours of `index` are not one step apart."""
        return int(np.count_nonzero(_lengths(index, self.unit) != self.count))

    def __str__(self) -> str:
        """The step as one says it: `day`, `2 hours`."""
        name, count = self._name()
        return name if count == 1 else f"{count} {name}s"

    def _name(self) -> tuple[str, int]:
        if self.unit != "microsecond":
            months = self.unit in ("month", "month end")
            if months and self.count % 12 == 0:
                return "year", self.count // 12
            return ("month", self.count) if months else ("business day", self.count)
        return next((name, self.count // size) for name, size in _SIZES if self.count % size == 0)


def infer_step(index: pd.DatetimeIndex) -> Step:
    """The most frequent step between neighbours (of equals, the shortest); a day for one date."""
    if len(index) < 2:
        return Step("microsecond", _DAY)
    length = _usual(_lengths(index, "microsecond"))
    if length >= 28 * _DAY and (index == index.normalize()).all():
        if index.is_month_end.all():
            return Step("month end", _usual(_lengths(index, "month end")))
        if (index.day == index.day[0]).all():
            return Step("month", _usual(_lengths(index, "month")))
    weekdays_only = bool((index.day_of_week < 5).all())
    if length == _DAY and weekdays_only and (_lengths(index, "microsecond") == 3 * _DAY).any():
        return Step("business day", 1)
    return Step("microsecond", max(length, 1))


def _lengths(index: pd.DatetimeIndex, unit: Unit) -> Any:
    """How many units lie between neighbours."""
    if unit in ("month", "month end"):
        return np.diff(index.year.to_numpy() * 12 + index.month.to_numpy())
    naive = index.tz_localize(None).to_numpy()
    if unit == "business day":
        days = naive.astype("datetime64[D]")
        return np.busday_count(days[:-1], days[1:])
    return np.diff(naive.astype("datetime64[us]").astype(np.int64))


def _usual(lengths: Any) -> int:
    values, counts = np.unique(lengths, return_counts=True)
    return int(values[np.argmax(counts)])
