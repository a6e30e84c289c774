"""The last rows of a file, as a trained model sees them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from openrnn.errors import DataError
from openrnn.forecast.columns import Column, read_column
from openrnn.forecast.dates import read_dates, show_date
from openrnn.forecast.features import Scale
from openrnn.forecast.model_config import ModelConfig
from openrnn.forecast.steps import infer_step
from openrnn.forecast.table import Table, read_table


@dataclass(frozen=True)
class LastRows:
    """What a model reads of them, (rows, features), their dates, and their values of the target."""

    features: Tensor
    dates: pd.DatetimeIndex
    target: npt.NDArray[np.float64]


def read_last_rows(
    config: ModelConfig, data: Path, rows: int, *, fill: bool = False, date_format: str | None
) -> LastRows:
    """Read the last rows of `data`; raise `DataError` unless they are what the model expects."""
    table = read_table(data)
    columns, index = _columns(config, table, rows, fill, date_format)
    _check_step(config, table, index)
    dates = index[-rows:]
    target = next(each for each in columns if each.name == config.encoder.target)
    features = torch.from_numpy(config.encoder.encode(columns, dates))
    return LastRows(features, dates, target.values.astype(np.float64))


def too_extreme(data: Path) -> DataError:
    """The error of numbers that a model makes no finite ones of."""
    return DataError(
        f"{data.name}: expected numbers that the model can take, received some so "
        "extreme that its forecast is infinite; look for such values in the last rows"
    )


def _columns(
    config: ModelConfig, table: Table, rows: int, fill: bool, date_format: str | None
) -> tuple[list[Column], pd.DatetimeIndex]:
    """The last rows of every column that the model was trained on, and all dates."""
    needed = [config.date, *(each.name for each in config.encoder.columns)]
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise DataError(
            f"{table.path.name}: expected the columns that the model was trained on "
            f"({', '.join(needed)}), received none named {', '.join(map(repr, missing))}; "
            "give data with all of them"
        )
    index = read_dates(table, config.date, date_format or config.date_format).index
    if table.rows < rows:
        asked = "the window of the model" if rows == config.window else "as many as asked for"
        raise DataError(
            f"{table.path.name}: expected at least {rows} rows, {asked}, received {table.rows}; "
            "give more rows"
        )
    # What is wrong further back does not matter, but --fill may need a value from there.
    recent = table if fill else table.tail(rows)
    shown = [show_date(each) for each in index[-recent.rows :]]
    columns = [
        read_column(
            recent,
            each.name,
            "number" if isinstance(each, Scale) else "category",
            shown,
            fill=fill,
        ).tail(rows)
        for each in config.encoder.columns
    ]
    return columns, index


def _check_step(config: ModelConfig, table: Table, index: pd.DatetimeIndex) -> None:
    step = config.step
    if len(index) > 1 and step.gaps(index) == len(index) - 1:
        raise DataError(
            f"{table.path.name}: expected dates one {step} apart, as in the data that the model "
            f"was trained on, received dates one {infer_step(index)} apart; give such data, or "
            "train on this"
        )
