"""The model: a recurrent layer over the window, and a linear layer on its last output."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import openrnn


@dataclass(frozen=True)
class ModelSize:
    """All that the shapes of a model's weights depend on."""

    cell: str
    features: int
    hidden: int
    layers: int
    horizon: int


class Forecaster(nn.Module):
    """Forecast the next `horizon` values of the target, all scaled, from a window of features.

    It forecasts how far the target will be from its last value, so that persistence is what it
    starts from and not what it has to learn.
    """

    def __init__(self, size: ModelSize, target_index: int) -> None:
        super().__init__()
        layer = {"lstm": openrnn.LSTM, "gru": openrnn.GRU, "rnn": openrnn.RNN}[size.cell]
        self.target_index = target_index
        self.rnn = layer(size.features, size.hidden, size.layers, batch_first=True)
        self.head = nn.Linear(size.hidden, size.horizon)

    def forward(self, inputs: Tensor) -> Tensor:
        """From (batch, window, features) to (batch, horizon)."""
        outputs, _ = self.rnn(inputs)
        change: Tensor = self.head(outputs[:, -1])
        return inputs[:, -1, self.target_index, None] + change


@torch.no_grad()
def forecast_windows(
    model: Forecaster, batches: "torch.utils.data.DataLoader[tuple[Tensor, Tensor]]"
) -> Tensor:
    """Forecast every window of `batches`: (windows, horizon), on the CPU."""
    model.eval()
    return torch.cat([model(inputs) for inputs, _ in batches])
