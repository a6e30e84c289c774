"""The model on the test part, next to the baselines, and by step ahead."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from openrnn.errors import DataError
from openrnn.forecast.baselines import persistence, same_day_last_year
from openrnn.forecast.data import Data
from openrnn.forecast.features import Scale
from openrnn.forecast.metrics import Scores, score_all
from openrnn.forecast.model import Forecaster, forecast_windows
from openrnn.forecast.module import reading_loader
from openrnn.forecast.windows import Windows

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """Forecasts of the test part, each array (origins, horizon), and what they score.

    `origins` are the rows that were the last known ones when a forecast was made.
    """

    dates: pd.DatetimeIndex
    origins: npt.NDArray[np.int64]
    actual: Values
    model: Values
    persistence: Values
    last_year: Values
    overall: Scores
    by_step: tuple[Scores, ...]

    @property
    def horizon(self) -> int:
        """How many steps ahead were forecast."""
        return int(self.actual.shape[1])

    def target_dates(self, step: int) -> pd.DatetimeIndex:
        """The dates that were forecast `step` steps ahead, counted from one."""
        dates: pd.DatetimeIndex = self.dates[self.origins + step]
        return dates


def evaluate(model: Forecaster, windows: Windows, data: Data, scale: Scale) -> Evaluation:
    """Forecast all `windows` and score the forecasts against what happened."""
    values = data.target_values.to_numpy()
    dates = data.dates.index
    rows = windows.origins.numpy()
    horizon = windows.horizon
    actual = values[rows[:, None] + np.arange(1, horizon + 1)]
    forecast = unscale(forecast_windows(model, reading_loader(windows)).numpy(), scale)
    if not np.isfinite(forecast).all():
        raise DataError(
            f"{data.path.name}: expected numbers that the model can take, received some in the "
            "test part so extreme that its forecasts are infinite; look for such values"
        )
    same = persistence(values, rows, horizon)
    last_year = same_day_last_year(values, dates, rows, horizon)
    return Evaluation(
        dates=dates,
        origins=rows,
        actual=actual,
        model=forecast,
        persistence=same,
        last_year=last_year,
        overall=score_all(actual, forecast, same, last_year),
        by_step=tuple(
            score_all(actual[:, k], forecast[:, k], same[:, k], last_year[:, k])
            for k in range(horizon)
        ),
    )


def unscale(scaled: npt.NDArray[np.float32], scale: Scale) -> Values:
    """The values in the unit of the target."""
    return scaled.astype(np.float64) * scale.std + scale.mean
