"""From the file to what a model is trained, validated and tested on."""

from dataclasses import dataclass

from openrnn.errors import DataError
from openrnn.forecast.data import Data, load_data
from openrnn.forecast.features import Encoder, calendar_of, fit_encoder
from openrnn.forecast.model import ModelSize
from openrnn.forecast.settings import Settings
from openrnn.forecast.split import Part, Split, split_by_time
from openrnn.forecast.windows import Windows, make_windows, origins


@dataclass(frozen=True)
class Prepared:
    """The data as the model is to see it."""

    data: Data
    split: Split
    encoder: Encoder
    training: Windows
    validation: Windows
    test: Windows

    def size(self, settings: Settings) -> ModelSize:
        """The size of the model for these features."""
        return ModelSize(
            cell=settings.cell,
            features=self.encoder.width,
            hidden=settings.hidden,
            layers=settings.layers,
            horizon=settings.horizon,
        )


def prepare(settings: Settings) -> Prepared:
    """Read the file, split it, and cut the windows of each part."""
    data = load_data(
        settings.data,
        settings.target,
        date=settings.date,
        date_format=settings.date_format,
        fill=settings.fill,
        ignore=settings.ignore,
    )
    split = split_by_time(
        data.rows,
        test=settings.test,
        validation=settings.validation,
        window=settings.window,
        horizon=settings.horizon,
        name=data.path.name,
    )
    calendar = calendar_of(data.step) if settings.calendar else ()
    encoder = fit_encoder(data.columns, split.training, settings.target, calendar)
    features = encoder.encode(data.columns, data.dates.index)

    def windows(part: Part) -> Windows:
        rows = origins(part, settings.window, settings.horizon, data.target_column.observed)
        if not len(rows):
            raise DataError(
                f"{data.path.name}: expected values of '{settings.target}' in the {part.name} "
                "part, received none but those that --fill filled in; give data with fewer gaps"
            )
        return make_windows(features, encoder.target_index, rows, settings.window, settings.horizon)

    return Prepared(data, split, encoder, *map(windows, split.parts))
