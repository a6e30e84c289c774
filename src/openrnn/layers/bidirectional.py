"""Two cells over one sequence, one from each end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from openrnn.errors import ArgumentError
from openrnn.layers.hooks import part_inside, scan_inside
from openrnn.layers.layer import Layer, Scanned, check_bool, share
from openrnn.layers.parts import Beside, Part, Survey
from openrnn.layers.recurrent import Recurrent
from openrnn.sequence import Sequence

_MERGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "concat": lambda a, b: torch.cat((a, b), dim=-1),
    "sum": lambda a, b: a + b,
    "mean": lambda a, b: (a + b) / 2,
}


class Bidirectional(Layer):
    """Runs one cell forward and another backward over a sequence, and merges their outputs.

        output_t = [forward_t, backward_t], forward_t + backward_t, or half of that

    Args:
        forward_cell: the cell that runs from the first step to the last.
        backward_cell: the cell that runs from the last step to the first.
        merge: "concat", "sum" or "mean"; the last two need outputs of equal size.
            Default: "concat".
        batch_first: input and output are (B, T, features). Default: False.
        backend, checkpoint, learn_initial_state: as in `Recurrent`.

    Shapes:
        input: (T, B, I); (T, I) without a batch; or a PackedSequence.
        state: a pair, the states of the forward and of the backward cell; either may be None.

    Returns:
        output: (T, B, 2·H) with merge="concat", else (T, B, H).
        state: a pair, each cell's state after its own last step; the backward cell's is at the
            first time step.

    Raises:
        ArgumentError: an unknown merge.
        ShapeError, StateError, CellError, BackendError: as in `Recurrent`.

    Source: Schuster and Paliwal, "Bidirectional recurrent neural networks", 1997.

    Examples:
        >>> layer = Bidirectional(torch.nn.GRUCell(30, 20), torch.nn.GRUCell(30, 20))
        >>> output, (h_forward, h_backward) = layer(torch.randn(12, 3, 30))
        >>> output.shape
        torch.Size([12, 3, 40])
    """

    def __init__(
        self,
        forward_cell: nn.Module,
        backward_cell: nn.Module,
        *,
        merge: str = "concat",
        batch_first: bool = False,
        backend: str = "auto",
        checkpoint: int | None = None,
        learn_initial_state: bool = False,
    ) -> None:
        super().__init__()
        self.batch_first = check_bool("batch_first", batch_first)
        if merge not in _MERGES:
            known = ", ".join(map(repr, _MERGES))
            raise ArgumentError(
                f"Bidirectional: expected merge to be one of {known}, got {merge!r}"
            )
        self.merge = merge
        options: dict[str, Any] = {
            "backend": backend,
            "checkpoint": checkpoint,
            "learn_initial_state": learn_initial_state,
        }
        self.forward_layer = Recurrent(forward_cell, **options)
        self.backward_layer = Recurrent(backward_cell, reverse=True, **options)

    @property
    def runs_backward(self) -> bool:
        return True

    def scan(
        self,
        sequence: Sequence,
        state: Any,
        parameters: Any = None,
        *,
        reset_to: Any = None,
        every: bool = False,
    ) -> Scanned:
        meaning = "a pair, the forward cell's and the backward cell's"
        scanned = [
            scan_inside(layer, sequence, own, lent, reset_to=again, every=every)
            for layer, own, again, lent in zip(
                (self.forward_layer, self.backward_layer),
                share(state, 2, "Bidirectional: expected the state", meaning),
                share(reset_to, 2, "Bidirectional: expected reset_to", meaning),
                (None, None) if parameters is None else parameters,
                strict=True,
            )
        ]
        outputs, final, states = zip(*scanned, strict=True)
        merged = _MERGES[self.merge](*(output.data for output in outputs))
        return Scanned(sequence.with_data(merged), final, states if every else None)

    def part(self, survey: Survey, features: int, parameters: Any = None) -> Part:
        survey.add(self)
        parts = [
            part_inside(layer, survey, features, own)
            for layer, own in zip(
                (self.forward_layer, self.backward_layer),
                (None, None) if parameters is None else parameters,
                strict=True,
            )
        ]
        sizes = [part.features for part in parts]
        size = sum(sizes) if self.merge == "concat" else sizes[0]
        return Beside(parts, _MERGES[self.merge], size)

    def extra_repr(self) -> str:
        options = [f"merge={self.merge!r}"] if self.merge != "concat" else []
        return ", ".join(options + ["batch_first=True"] * self.batch_first)
