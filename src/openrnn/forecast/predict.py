"""`openrnn predict`: what comes after the end of a file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from openrnn.files import atomic_file
from openrnn.forecast.evaluate import unscale
from openrnn.forecast.last_rows import read_last_rows, too_extreme
from openrnn.forecast.steps import Step
from openrnn.forecast.storage import load_model


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
    last = read_last_rows(config, data, config.window, fill=fill, date_format=date_format)
    with torch.no_grad():
        scaled = trained.model(last.features[None])[0].numpy()
    values = unscale(scaled, config.encoder.target_scale)
    if not np.isfinite(values).all():
        raise too_extreme(data)
    return Prediction(
        target=config.encoder.target,
        unit=config.unit,
        last_known=last.dates[-1],
        step=config.step,
        dates=config.step.after(last.dates[-1], config.size.horizon),
        values=values,
    )
