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
from openrnn.forecast.steps import Step, infer_step
from openrnn.forecast.storage import TrainedModel, load_model
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
    table = read_table(data)
    columns, index = _columns(trained, table, fill, date_format)
    step = _check_step(trained, table, index)
    features = trained.encoder.encode(columns, index[-trained.window :])
    with torch.no_grad():
        scaled = trained.model(torch.from_numpy(features)[None])[0].numpy()
    return Prediction(
        target=trained.encoder.target,
        unit=trained.unit,
        last_known=index[-1],
        step=step,
        dates=step.after(index[-1], trained.size.horizon),
        values=unscale(scaled, trained.encoder.target_scale),
    )


def _columns(
    trained: TrainedModel, table: Table, fill: bool, date_format: str | None
) -> tuple[list[Column], pd.DatetimeIndex]:
    """The last window of every column that the model was trained on, and all dates."""
    needed = [trained.date, *(each.name for each in trained.encoder.columns)]
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise DataError(
            f"{table.path.name}: expected the columns that the model was trained on "
            f"({', '.join(needed)}), received none named {', '.join(map(repr, missing))}; "
            "give data with all of them"
        )
    index = read_dates(table, trained.date, date_format or trained.date_format).index
    if table.rows < trained.window:
        raise DataError(
            f"{table.path.name}: expected at least {trained.window} rows, the window of the "
            f"model, received {table.rows}; give more rows"
        )
    # What is wrong further back does not matter, but --fill may need a value from there.
    recent = table if fill else table.tail(trained.window)
    shown = [show_date(each) for each in index[-recent.rows :]]
    columns = [
        read_column(
            recent,
            each.name,
            "number" if isinstance(each, Scale) else "category",
            shown,
            fill=fill,
            may_ignore=False,
        ).tail(trained.window)
        for each in trained.encoder.columns
    ]
    return columns, index


def _check_step(trained: TrainedModel, table: Table, index: pd.DatetimeIndex) -> Step:
    step = trained.step
    if len(index) > 1 and step.gaps(index) == len(index) - 1:
        raise DataError(
            f"{table.path.name}: expected dates one {step} apart, as in the data that the model "
            f"was trained on, received dates one {infer_step(index)} apart; give such data, or "
            "train on this"
        )
    return step
