"""Finding and parsing the column of dates."""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas.tseries.api import guess_datetime_format

from openrnn.errors import DataError
from openrnn.forecast.table import Table

# Names that a column of dates usually has, when --date does not name it.
_NAMES = ("date", "datetime", "timestamp", "time", "ds", "day", "month")
_FORMATS = (
    "ISO8601",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%m/%d/%Y %H:%M",
    "%d/%m/%Y %H:%M",
    "%d.%m.%Y",
    "%d.%m.%Y %H:%M",
    "%d-%m-%Y",
    "%m-%d-%Y",
)


@dataclass(frozen=True)
class Dates:
    """The dates of a table's rows, in the order of time, and how they were written."""

    column: str
    format: str
    index: pd.DatetimeIndex


def read_dates(table: Table, column: str | None = None, date_format: str | None = None) -> Dates:
    """Parse the dates of `table`; raise `DataError` unless each is later than the one before."""
    name = _find_column(table) if column is None else column
    text = pd.Series(table.column(name, "--date"), dtype="str", name=name)
    if date_format is not None:
        _check_format(date_format, text)
    chosen = date_format or _choose_format(table, name, text)
    parsed = _parse(text, chosen)
    bad = np.flatnonzero(parsed.isna())
    if len(bad):
        row = int(bad[0])
        raise DataError(
            f"{table.path.name}, line {table.lines[row]}: expected a date in column '{name}'"
            f"{_like(chosen, text, row)}, received '{text[row]}'; mend it, "
            "or name the dates with --date COLUMN and --date-format FORMAT"
        )
    index = pd.DatetimeIndex(parsed)
    _check_order(table, name, index)
    return Dates(name, chosen, index)


def show_date(date: pd.Timestamp) -> str:
    """A date as people read it: without the time when that is midnight."""
    if date == date.normalize():
        return f"{date:%Y-%m-%d}"
    return f"{date:%Y-%m-%d %H:%M}" if date.second == 0 else f"{date:%Y-%m-%d %H:%M:%S}"


def _find_column(table: Table) -> str:
    by_name = {name.lower(): name for name in reversed(table.columns)}
    for name in _NAMES:
        if name in by_name:
            return by_name[name]
    for name, cells in table.columns.items():
        head = pd.Series(cells[:100], dtype="str", name=name)
        if pd.to_numeric(head, errors="coerce").notna().any():
            continue  # a number such as 2012 would pass as a year
        if any(_parse(head, each).notna().all() for each in _candidates(head)):
            return name
    raise DataError(
        f"{table.path.name}: expected a column of dates, found none among "
        f"{', '.join(table.columns)}; name it with --date COLUMN"
    )


def _check_format(date_format: str, text: "pd.Series[str]") -> None:
    try:
        pd.to_datetime(text[:1], format=date_format, errors="coerce")
    except ValueError as error:
        raise DataError(
            f"--date-format: expected a format such as %d.%m.%Y, received '{date_format}' "
            f"({error}); mend it, or leave it out"
        ) from None


def _candidates(text: "pd.Series[str]") -> list[str]:
    with warnings.catch_warnings():
        # It warns when it takes the day to be first; both orders are tried here anyway.
        warnings.simplefilter("ignore", UserWarning)
        guess = guess_datetime_format(text[0])
    return list(dict.fromkeys([*_FORMATS, *([guess] if guess else [])]))


def _choose_format(table: Table, name: str, text: "pd.Series[str]") -> str:
    """The format that reads the most rows; month or day first is told by what keeps the order."""
    head = text[:20]
    counts = {each: int(_parse(head, each).notna().sum()) for each in _candidates(text)}
    if not any(counts.values()):
        return "ISO8601"  # the first row will be complained about
    likely = [each for each, count in counts.items() if count == max(counts.values())]
    if len(likely) == 1:
        return likely[0]
    parsed = {each: _parse(text, each) for each in likely}
    most = max(int(dates.notna().sum()) for dates in parsed.values())
    full = {each: dates for each, dates in parsed.items() if dates.notna().sum() == most}
    ordered = [each for each, dates in full.items() if dates.dropna().is_monotonic_increasing]
    best = ordered or list(full)
    if any(not full[each].equals(full[best[0]]) for each in best[1:]):
        raise DataError(
            f"{table.path.name}: expected dates that can be read in one way only, received "
            f"'{text[0]}' in column '{name}', which is {best[0]} or {best[1]}; "
            f"say which with --date-format, for example --date-format {best[0]}"
        )
    return best[0]


def _parse(text: "pd.Series[str]", date_format: str) -> "pd.Series[pd.Timestamp]":
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)  # what pandas 2 says of such offsets
            return pd.to_datetime(text, format=date_format, errors="coerce")
    except (ValueError, FutureWarning):  # offsets that differ between rows
        raise DataError(
            f"column '{text.name}': expected dates in one time zone, received several offsets "
            "from UTC; write all dates in UTC"
        ) from None


def _like(date_format: str, text: "pd.Series[str]", row: int) -> str:
    if row:
        return f" like the first one, '{text[0]}'"
    return "" if date_format == "ISO8601" else f" written as {date_format}"


def _check_order(table: Table, name: str, index: pd.DatetimeIndex) -> None:
    values = index.asi8
    wrong = np.flatnonzero(values[1:] <= values[:-1]) + 1
    if not len(wrong):
        return
    row = int(wrong[0])
    shown = show_date(index[row])
    place = f"{table.path.name}, line {table.lines[row]}"
    if index[row] == index[row - 1]:
        raise DataError(
            f"{place}: expected one row for each date in column '{name}', received {shown} again; "
            "keep one row for each date"
        )
    raise DataError(
        f"{place}: expected dates in the order of time in column '{name}', received {shown} "
        f"after {show_date(index[row - 1])}; sort the file by date"
    )
