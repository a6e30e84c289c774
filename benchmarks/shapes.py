"""The shapes that are measured, and the work that each of them is."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

from torch import nn

LAYERS = {"LSTM": 4, "GRU": 3, "RNN": 1}  # blocks of rows in each weight


@dataclass(frozen=True)
class Shape:
    """T steps, a batch of B, I input features, H hidden units; layers, and directions of each."""

    steps: int
    batch: int
    inputs: int
    hidden: int
    layers: int = 1
    directions: int = 1
    training: bool = True  # else inference only

    def __str__(self) -> str:
        return f"{self.steps},{self.batch},{self.inputs},{self.hidden}"

    @property
    def modes(self) -> tuple[str, ...]:
        """What is measured of it."""
        return ("training", "inference") if self.training else ("inference",)

    def layer(self, library: ModuleType, name: str) -> nn.Module:
        """A layer of this shape from torch.nn, or from openrnn, which has the same names."""
        options = {"num_layers": self.layers, "bidirectional": self.directions == 2}
        made: nn.Module = getattr(library, name)(self.inputs, self.hidden, **options)
        return made

    def flops(self, name: str, mode: str) -> int:
        """Of the matrix products: a multiplication and an addition for each weight and row.

        Training has three of each product: forward, for the gradient of what came in, and for the
        gradient of the weight.
        """
        above = self.directions * self.hidden
        columns = self.inputs + (self.layers - 1) * above + self.layers * self.hidden
        once = 2 * self.steps * self.batch * LAYERS[name] * self.hidden * columns
        return once * self.directions * (3 if mode == "training" else 1)


SHAPES = {
    "seed": Shape(12, 3, 30, 20),
    "daily": Shape(12, 32, 8, 64),
    "policy": Shape(16, 8, 64, 128),
    "series": Shape(100, 32, 16, 128),
    "hydrology": Shape(365, 64, 27, 256),
    "speech": Shape(200, 16, 80, 512),
    "long": Shape(500, 1, 64, 256),
    "odd": Shape(37, 5, 13, 45),
    "wide": Shape(50, 64, 1024, 1024),
    "stacked": Shape(35, 20, 200, 200, layers=2),
    "bidirectional": Shape(64, 32, 128, 128, directions=2),
    "stream": Shape(1, 1, 64, 128, training=False),
}
