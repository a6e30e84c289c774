"""Numbers of other libraries, as tensors and as cells of the box."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openrnn.cells.base import Cell
from openrnn.errors import ConversionError

_DTYPES = ("float64", "float32", "float16", "bfloat16")


def tensor(owner: str, name: str, array: Any) -> Tensor:
    """A copy of what numpy can read, of the same dtype.

    Raises:
        ConversionError: the numbers are not floating point.
    """
    array = np.asarray(array)
    dtype = array.dtype.name
    if dtype not in _DTYPES:
        raise ConversionError(
            f"{owner}: expected {name} to be one of {', '.join(_DTYPES)}, got {dtype}"
        )
    # numpy has no bfloat16 of its own for torch to read; float32 holds its numbers exactly.
    wide = array.astype("float32") if dtype == "bfloat16" else array
    return torch.tensor(wide, dtype=getattr(torch, dtype))


def reorder(stacked: Tensor, order: Iterable[int]) -> Tensor:
    """Blocks of rows, one for each gate, in another order: that of torch."""
    order = tuple(order)
    blocks = stacked.chunk(len(order))
    return torch.cat([blocks[block] for block in order])


def cell_with(owner: str, kind: type[Cell], weights: dict[str, Tensor], **options: Any) -> Cell:
    """A cell of the box that holds these tensors, named as its parameters are.

    Raises:
        ConversionError: tensors of another rank, size or dtype than the cell's, or of several.
    """
    weight = weights["weight_ih"]
    gates = len(kind.gates)
    dtypes = {str(value.dtype).removeprefix("torch.") for value in weights.values()}
    if len(dtypes) > 1:
        raise ConversionError(
            f"{owner}: expected all weights to have one dtype, got {', '.join(sorted(dtypes))}"
        )
    if weight.dim() != 2 or weight.size(0) % gates:
        raise ConversionError(
            f"{owner}: expected input weights for the {gates} blocks of a {kind.__name__}, each "
            f"(H, I), got {tuple(weight.shape)} when they are stacked"
        )
    size = weight.size(0) // gates
    # On the meta device nothing is drawn at random for weights that are replaced at once.
    cell = kind(
        *(weight.size(1), size, "bias_ih" in weights), device="meta", dtype=weight.dtype, **options
    )
    for name, parameter in cell.named_parameters():
        if weights[name].shape != parameter.shape:
            raise ConversionError(
                f"{owner}: expected {name} of shape {tuple(parameter.shape)} for {size} units, "
                f"got {tuple(weights[name].shape)}"
            )
    cell.load_state_dict(weights, assign=True)
    return cell
