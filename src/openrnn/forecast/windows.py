"""Windows over the rows: which days are looked at, and which are to be forecast."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from openrnn.forecast.split import Part

Rows = npt.NDArray[np.int64]


def origins(part: Part, window: int, horizon: int, observed: npt.NDArray[np.bool_]) -> Rows:
    """The rows that a forecast of `part` starts from: the last row of each window.

    All `horizon` targets lie inside `part`; the window itself may begin before it, as what came
    earlier is known by then. Where a target was not observed but filled in, there is nothing to
    learn from or to measure against, so such windows are left out.
    """
    first = max(part.start - 1, window - 1)
    rows = np.arange(first, part.stop - horizon, dtype=np.int64)
    targets = rows[:, None] + np.arange(1, horizon + 1)
    known: Rows = rows[observed[targets].all(axis=1)]
    return known


@dataclass(frozen=True)
class Windows(Dataset[tuple[Tensor, Tensor]]):
    """Pairs of a window (window, features) and its targets (horizon,).

    They are cut out when asked for, so that memory does not grow with the window.
    """

    features: Tensor
    target: Tensor
    origins: Tensor
    window: int
    horizon: int

    def __len__(self) -> int:
        """How many windows there are."""
        return len(self.origins)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """The window and targets of one origin."""
        inputs, targets = self.__getitems__([index])
        return inputs[0], targets[0]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """A whole batch at once, which is how torch's loader asks when this method is there."""
        rows = self.origins[torch.as_tensor(indices)][:, None]
        inputs = self.features[rows + torch.arange(1 - self.window, 1)]
        return inputs, self.target[rows + torch.arange(1, self.horizon + 1)]


def make_windows(
    features: npt.NDArray[np.float32], target_index: int, rows: Rows, window: int, horizon: int
) -> Windows:
    """Windows that end at `rows`."""
    tensor = torch.from_numpy(features)
    return Windows(tensor, tensor[:, target_index].clone(), torch.from_numpy(rows), window, horizon)
