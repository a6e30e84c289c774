"""A trained model as a cell: from a row, as the file has it, to the forecast after it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import groupby

import torch
from torch import Tensor, nn

from openrnn.binding import bind
from openrnn.forecast.features import OneHot, Scale
from openrnn.forecast.storage import TrainedModel

_TURNS = {
    "year": "how far the date is through its year, from 0 to 1: the day of the year less one, "
    "with the time of day, by 365 or 366",
    "day": "how far the time is through its day, from 0 to 1",
}


class RowCell(nn.Module):
    """One step of a model: encodes a row, runs the layers, and decodes the forecast.

    The first state is the forecast, which no step reads. After `reset` and the rows of a window it
    is what `openrnn predict` forecasts.

    Shapes:
        x: (B, columns + turns of the calendar). A number as it is, a category as its place among
            those of the training, from 0; any other number is a category that is not known.
        state: the forecast (B, horizon), and the states of the layers.
    """

    def __init__(self, trained: TrainedModel) -> None:
        super().__init__()
        self.rnn, self.head = trained.model.rnn, trained.model.head
        encoder = trained.config.encoder
        self.encoder = encoder
        self.input_size = len(encoder.columns) + len(encoder.calendar)
        scales = [each for each in encoder.columns if isinstance(each, Scale)]
        self.mean = torch.tensor([each.mean for each in scales])
        self.std = torch.tensor([each.std for each in scales])
        # The target among the features, and among the numbers.
        self._target, self._place = encoder.target_index, scales.index(encoder.target_scale)

    @property
    def state_sizes(self) -> dict[str, int]:
        """The forecast, and the states of each layer."""
        sizes = {"forecast": self.head.out_features}
        for layer in range(self.rnn.num_layers):
            ending = f"_l{layer}" if self.rnn.num_layers > 1 else ""
            sizes |= {state + ending: self.rnn.hidden_size for state in self.rnn.states}
        return sizes

    def forward(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The forecast after this row, and the next states."""
        features = y = torch.cat(list(self._encode(x)), dim=1)
        count, states = len(self.rnn.states), list[Tensor]()
        for number, (layer, own) in enumerate(
            zip(self.rnn.stack.layers, self.rnn.lend(), strict=True)
        ):
            given = state[1 + count * number :][:count]
            new = bind(layer.cell, own)(y, given[0] if count == 1 else given)
            states += [new] if count == 1 else new
            y = states[-count]
        target, place = slice(self._target, self._target + 1), self._place
        scaled = features[:, target] + self.head(y)
        forecast = scaled * self.std[place : place + 1] + self.mean[place : place + 1]
        return forecast, *states

    def _encode(self, x: Tensor) -> Iterator[Tensor]:
        """What `Encoder.encode` makes of a row; neighbours of one kind are taken together."""
        start = scaled = 0
        for kind, run in groupby(self.encoder.columns, type):
            columns = list(run)
            values = x[:, start : start + len(columns)]
            start += len(columns)
            if kind is Scale:
                end = scaled + len(columns)
                yield (values - self.mean[scaled:end]) / self.std[scaled:end]
                scaled = end
                continue
            for number, column in enumerate(columns):
                assert isinstance(column, OneHot)
                places = torch.arange(column.width, dtype=x.dtype)
                yield (values[:, number : number + 1] == places).to(x.dtype)
        for turn in range(start, self.input_size):
            angle = 2 * math.pi * x[:, turn : turn + 1]
            yield torch.cat([torch.sin(angle), torch.cos(angle)], dim=1)

    def extra_repr(self) -> str:
        rnn, horizon = self.rnn, self.head.out_features
        layers = f", num_layers={rnn.num_layers}" if rnn.num_layers > 1 else ""
        kind = f"{type(rnn).__name__}({rnn.input_size}, {rnn.hidden_size}{layers})"
        return f"{kind}, horizon={horizon}"


def describe_rows(trained: TrainedModel) -> str:
    """What x and y of a `RowCell` are, line by line."""
    config = trained.config
    encoder, horizon = config.encoder, config.size.horizon
    unit = f" ({config.unit})" if config.unit else ""
    lines = [
        f"It forecasts {encoder.target}{unit}. After a reset give it {config.window} rows, each "
        f"one {config.step} after the one before: y after the last of them is the forecast.",
        "",
    ]
    for number, column in enumerate(encoder.columns):
        text = column.name
        if isinstance(column, OneHot):
            known = ", ".join(f"{place} {name}" for place, name in enumerate(column.categories))
            text += f": {known}, -1 any other"
        lines.append(f"x[{number}]  {text}")
    for number, turn in enumerate(encoder.calendar, start=len(encoder.columns)):
        lines.append(f"x[{number}]  {_TURNS[turn]}")
    lines += [
        f"y[{ahead}]  {encoder.target} {ahead + 1} step{'s' * (ahead > 0)} after the row"
        for ahead in range(horizon)
    ]
    return "\n".join(lines)
