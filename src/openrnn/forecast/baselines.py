"""Forecasts that need no model: what a model has to be better than."""

import numpy as np
import numpy.typing as npt
import pandas as pd

Values = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


def persistence(values: Values, origins: Rows, horizon: int) -> Values:
    """Every day ahead is as the last known day: (origins, horizon)."""
    return np.repeat(values[origins][:, None], horizon, axis=1)


def same_day_last_year(
    values: Values, dates: pd.DatetimeIndex, origins: Rows, horizon: int
) -> Values:
    """Every day ahead is as the same date a year before: (origins, horizon).

    NaN where the data have no such date, or where it would not have been known yet. A 29 February
    is compared with the 28th.
    """
    by_date = pd.Series(values, index=dates)
    targets = origins[:, None] + np.arange(1, horizon + 1)
    year_before = dates - pd.DateOffset(years=1)
    looked_up = by_date.reindex(year_before).to_numpy(np.float64)[targets]
    known = year_before.to_numpy()[targets] <= dates.to_numpy()[origins][:, None]
    return np.where(known, looked_up, np.nan)
