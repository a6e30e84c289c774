"""How far forecasts are from what happened."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """Errors of one method over `count` forecasts, in the unit of the target."""

    mae: float
    rmse: float
    count: int
    # How much smaller the MAE is than that of persistence for the same forecasts: 0.2 is 20 %.
    # None where persistence makes no error, so that nothing can be smaller.
    improvement: float | None


def score(actual: Values, forecast: Values, persistence: Values) -> Score | None:
    """Score a method where it has a forecast (is not NaN); None if it has none."""
    there = ~np.isnan(forecast)
    if not there.any():
        return None
    error = forecast[there] - actual[there]
    mae = float(np.abs(error).mean())
    reference = float(np.abs(persistence[there] - actual[there]).mean())
    return Score(
        mae=mae,
        rmse=float(np.sqrt((error**2).mean())),
        count=int(there.sum()),
        improvement=1 - mae / reference if reference > 0 else None,
    )


@dataclass(frozen=True)
class Scores:
    """The scores of the three methods on the same part."""

    model: Score
    persistence: Score
    last_year: Score | None
    # The model where there is a value of last year, to be compared with `last_year`.
    model_where_last_year: Score | None


def score_all(actual: Values, model: Values, persistence: Values, last_year: Values) -> Scores:
    """Score model and baselines; all arguments have the same shape."""
    own = score(actual, model, persistence)
    reference = score(actual, persistence, persistence)
    assert own is not None
    assert reference is not None
    return Scores(
        model=own,
        persistence=reference,
        last_year=score(actual, last_year, persistence),
        model_where_last_year=score(
            actual, np.where(np.isnan(last_year), np.nan, model), persistence
        ),
    )
