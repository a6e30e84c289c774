"""A layer in evaluation, and the numbers that its cells read: for what writes it down elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from openrnn.binding import sandbox
from openrnn.errors import CellError
from openrnn.explain.network import Lane
from openrnn.layers.torchlayer import TorchLayer


@contextmanager
def in_evaluation(module: Any) -> Iterator[Any]:
    """A copy of a module in evaluation; what is no module as it is."""
    if not isinstance(module, nn.Module):
        yield module
        return
    try:
        yield sandbox(module).eval()
    finally:
        for part in module.modules():
            if isinstance(part, TorchLayer):  # its cells are shared with the copy
                part.settle()


def numbers_of(
    asked: str, lane: Lane, read: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """What a cell reads, with numbers.

    Args:
        asked: the function that error messages name.
        lane: the cell.
        read: the tensors of the lane that are meant, by the cell's own names.
        own: those of the module: a layer of torch.nn has no cells, and its parameters stand in.

    Raises:
        CellError: there are no numbers, as the module is on the meta device.
    """
    tensors = {name: own[lane.names[name]] if t.is_meta else t for name, t in read.items()}
    if any(tensor.is_meta for tensor in tensors.values()):
        raise CellError(
            f"{asked}: expected weights with numbers, received {lane.name} on the meta device; "
            "give it a device and load its weights first"
        )
    return tensors
