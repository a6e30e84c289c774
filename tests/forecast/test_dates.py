"""Dates: found, parsed, and the step between them."""

from __future__ import annotations

import itertools
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrnn.forecast.dates import read_dates, show_date
from openrnn.forecast.steps import Step, infer_step
from openrnn.forecast.table import Table

DAY = 86_400_000_000


def table(dates: list[str], name: str = "date", **others: list[str]) -> Table:
    columns = {**others, name: dates}
    return Table(Path("data.csv"), columns, list(range(2, len(dates) + 2)), "")


@pytest.mark.parametrize(
    ("written", "first", "second"),
    [
        (["2012/01/01", "2012/01/02"], "2012-01-01", "2012-01-02"),
        (["2012-01-01T05:00", "2012-01-01T06:00"], "2012-01-01 05:00", "2012-01-01 06:00"),
        (["2012-01", "2012-02"], "2012-01-01", "2012-02-01"),
        (["31.12.2012", "01.01.2013"], "2012-12-31", "2013-01-01"),
        # Month or day first is told by a day above 12, or else by the order of time.
        (["12/31/2012", "01/01/2013"], "2012-12-31", "2013-01-01"),
        (["31/12/2012", "01/01/2013"], "2012-12-31", "2013-01-01"),
        (["10/11/2012", "11/11/2012", "01/12/2012"], "2012-11-10", "2012-11-11"),
        (["Jan 2, 2012", "Jan 3, 2012"], "2012-01-02", "2012-01-03"),
    ],
)
def test_formats(written: list[str], first: str, second: str) -> None:
    index = read_dates(table(written)).index
    assert list(index[:2]) == [pd.Timestamp(first), pd.Timestamp(second)]


def test_format_by_name() -> None:
    written = ["02.01.12", "03.01.12"]
    assert read_dates(table(written), None, "%d.%m.%y").index[0] == pd.Timestamp("2012-01-02")


@pytest.mark.parametrize("name", ["date", "Date", "timestamp", "ds"])
def test_column_found_by_name(name: str) -> None:
    other = ["2000-01-01", "2000-01-02"]
    assert read_dates(table(["2012-01-01", "2012-01-02"], name, start=other)).column == name


def test_column_found_by_content() -> None:
    found = read_dates(table(["2012-01-01", "2012-01-02"], "when", year=["2012", "2013"]))
    assert found.column == "when"


def test_years_are_dates_when_asked() -> None:
    index = read_dates(table(["2012", "2013"], "year"), "year").index
    assert infer_step(index) == Step("month", 12)
    assert str(infer_step(index)) == "year"


@pytest.mark.parametrize(
    ("index", "step", "name", "following"),
    [
        (
            pd.date_range("2020-01-01", periods=9),
            Step("microsecond", DAY),
            "day",
            "2020-01-10",
        ),
        (
            pd.date_range("2020-01-01", periods=9, freq="2h"),
            Step("microsecond", DAY // 12),
            "2 hours",
            "2020-01-01 18:00",
        ),
        (
            pd.date_range("2020-01-01", periods=9, freq="7D"),
            Step("microsecond", 7 * DAY),
            "week",
            "2020-03-04",
        ),
        (
            pd.date_range("2020-01-01", periods=9, freq="MS"),
            Step("month", 1),
            "month",
            "2020-10-01",
        ),
        (
            pd.date_range("2020-01-31", periods=9, freq=pd.offsets.MonthEnd()),
            Step("month end", 1),
            "month",
            "2020-10-31",
        ),
        (
            pd.date_range("2020-01-01", periods=3, freq=pd.offsets.MonthBegin(3)),
            Step("month", 3),
            "3 months",
            "2020-10-01",
        ),
        (
            pd.date_range("2020-01-01", periods=8, freq="B"),  # ends on a Friday
            Step("business day", 1),
            "business day",
            "2020-01-13",
        ),
        (
            pd.date_range("2020-01-01", periods=3, freq="15ms"),
            Step("microsecond", 15_000),
            "15 milliseconds",
            "2020-01-01 00:00:00.045",
        ),
        (pd.DatetimeIndex(["2020-01-01"]), Step("microsecond", DAY), "day", "2020-01-02"),
    ],
)
def test_steps(index: pd.DatetimeIndex, step: Step, name: str, following: str) -> None:
    found = infer_step(index)
    assert found == step
    assert str(found) == name
    assert found.after(index[-1], 1)[0] == pd.Timestamp(following)
    assert found.gaps(index) == 0


def test_monthly_dates_go_on_from_the_last_one() -> None:
    after = Step("month", 1).after(pd.Timestamp("2020-01-30"), 3)
    assert [show_date(each) for each in after] == ["2020-02-29", "2020-03-30", "2020-04-30"]


@given(st.sets(st.integers(0, 300), max_size=40))
def test_gaps_are_counted(missing: set[int]) -> None:
    days = [day for day in range(1000) if day not in missing]
    index = pd.DatetimeIndex(pd.Timestamp("2020-01-01") + pd.to_timedelta(days, unit="D"))
    step = infer_step(index)
    assert step == Step("microsecond", DAY)
    assert step.gaps(index) == sum(b - a > 1 for a, b in itertools.pairwise(days))


def test_show_date() -> None:
    assert show_date(pd.Timestamp("2020-01-02")) == "2020-01-02"
    assert show_date(pd.Timestamp("2020-01-02 03:04")) == "2020-01-02 03:04"
    assert show_date(pd.Timestamp("2020-01-02 03:04:05")) == "2020-01-02 03:04:05"
