"""Baselines and metrics against figures worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from openrnn.forecast.baselines import persistence, same_day_last_year
from openrnn.forecast.metrics import score, score_all


def test_persistence() -> None:
    values = np.array([1.0, 2.0, 4.0, 8.0])
    assert persistence(values, np.array([1, 2]), 2).tolist() == [[2, 2], [4, 4]]


def test_same_day_last_year() -> None:
    dates = pd.date_range("2019-02-27", "2020-03-02")
    values = np.arange(len(dates), dtype=np.float64)
    origin = dates.tolist().index(pd.Timestamp("2020-02-27"))
    # To 28 and 29 February and 1 March: the 29th has no day of its own in 2019.
    assert same_day_last_year(values, dates, np.array([origin]), 3).tolist() == [[1, 1, 2]]


def test_no_last_year_where_the_data_do_not_reach() -> None:
    dates = pd.date_range("2019-02-27", "2020-02-28")
    values = np.arange(len(dates), dtype=np.float64)
    rows = np.array([10, len(dates) - 3])
    assert np.isnan(same_day_last_year(values, dates, rows, 1)).tolist() == [[True], [False]]


def test_last_year_must_have_been_known() -> None:
    dates = pd.date_range("2000-01-01", periods=30, freq="MS")
    values = np.arange(30.0)
    looked_up = same_day_last_year(values, dates, np.array([12]), 14)
    # 12 months ahead, last year's value is the last known one; 13 ahead it is yet to come.
    assert looked_up[0, 11] == 12
    assert np.isnan(looked_up[0, 12:]).all()


def test_score() -> None:
    actual = np.array([1.0, 2.0, 3.0, 4.0])
    forecast = np.array([1.0, 4.0, 3.0, np.nan])
    same = np.array([0.0, 1.0, 1.0, 9.0])
    found = score(actual, forecast, same)
    assert found is not None
    assert found.mae == pytest.approx(2 / 3)
    assert found.rmse == pytest.approx(math.sqrt(4 / 3))
    assert found.count == 3
    # Persistence is off by 1, 1 and 2 where the method has a forecast.
    assert found.improvement == pytest.approx(1 - (2 / 3) / (4 / 3))
    assert score(actual, np.full(4, np.nan), same) is None
    perfect = score(actual, forecast, actual)
    assert perfect is not None
    assert perfect.improvement is None


def test_last_year_is_compared_on_its_own_rows() -> None:
    actual = np.array([1.0, 2.0, 3.0])
    model = np.array([1.0, 2.0, 7.0])
    last_year = np.array([np.nan, 3.0, 3.0])
    scores = score_all(actual, model, np.zeros(3), last_year)
    assert scores.model.mae == pytest.approx(4 / 3)
    assert scores.model_where_last_year is not None
    assert scores.model_where_last_year.mae == 2
    assert scores.last_year is not None
    assert scores.last_year.count == scores.model_where_last_year.count == 2
    assert scores.last_year.improvement == pytest.approx(1 - 0.5 / 2.5)
