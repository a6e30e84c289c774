"""`openrnn predict`: what comes after the end of a file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from openrnn.errors import DataError
from openrnn.forecast.columns import Column, read_column
from openrnn.forecast.dates import read_dates, show_date
from openrnn.forecast.evaluate import unscale
from openrnn.forecast.features import Scale
from openrnn.forecast.files import atomic_file
from openrnn.forecast.model_config import ModelConfig
from openrnn.forecast.steps import Step, infer_step
from openrnn.forecast.storage import load_model
from openrnn.forecast.table import Table, read_table


@dataclass(frozen=True)
class Prediction:
    """The values of the target after the end of a file."""

    target: str
    unit: str
    last_known: pd.Timestamp
    step: Step
    dates: pd.DatetimeIndex
    values: npt.NDArray[np.float64]

    def to_csv(self, path: Path) -> None:
        """Write the columns `date` and the target."""
        frame = pd.DataFrame({"date": self.dates, self.target: self.values})
        with atomic_file(path) as temporary:
            frame.to_csv(temporary, index=False, float_format="%.10g")


def predict(
    model: Path, data: Path, *, fill: bool = False, date_format: str | None = None
) -> Prediction:
    """Forecast the steps after the last row of `data` with the model in the directory `model`."""
    trained = load_model(model)
    config = trained.config
    table = read_table(data)
    columns, index = _columns(config, table, fill, date_format)
    step = _check_step(config, table, index)
    features = config.encoder.encode(columns, index[-config.window :])
    with torch.no_grad():
        scaled = trained.model(torch.from_numpy(features)[None])[0].numpy()
    values = unscale(scaled, config.encoder.target_scale)
    if not np.isfinite(values).all():
        raise DataError(
            f"{table.path.name}: expected numbers that the model can take, received some so "
            "extreme that its forecast is infinite; look for such values in the last rows"
        )
    return Prediction(
        target=config.encoder.target,
        unit=config.unit,
        last_known=index[-1],
        step=step,
        dates=step.after(index[-1], config.size.horizon),
        values=values,
    )


def _columns(
    config: ModelConfig, table: Table, fill: bool, date_format: str | None
) -> tuple[list[Column], pd.DatetimeIndex]:
    """The last window of every column that the model was trained on, and all dates."""
    needed = [config.date, *(each.name for each in config.encoder.columns)]
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise DataError(
            f"{table.path.name}: expected the columns that the model was trained on "
            f"({', '.join(needed)}), received none named {', '.join(map(repr, missing))}; "
            "give data with all of them"
        )
    index = read_dates(table, config.date, date_format or config.date_format).index
    if table.rows < config.window:
        raise DataError(
            f"{table.path.name}: expected at least {config.window} rows, the window of the "
            f"model, received {table.rows}; give more rows"
        )
    # What is wrong further back does not matter, but --fill may need a value from there.
    recent = table if fill else table.tail(config.window)
    shown = [show_date(each) for each in index[-recent.rows :]]
    columns = [
        read_column(
            recent,
            each.name,
            "number" if isinstance(each, Scale) else "category",
            shown,
            fill=fill,
        ).tail(config.window)
        for each in config.encoder.columns
    ]
    return columns, index


def _check_step(config: ModelConfig, table: Table, index: pd.DatetimeIndex) -> Step:
    step = config.step
    if len(index) > 1 and step.gaps(index) == len(index) - 1:
        raise DataError(
            f"{table.path.name}: expected dates one {step} apart, as in the data that the model "
            f"was trained on, received dates one {infer_step(index)} apart; give such data, or "
            "train on this"
        )
    return step
