"""What a user says of the input, beside the layer."""

from __future__ import annotations

import numbers
from typing import Any, NamedTuple

from torch import nn

from openrnn.cells.arguments import check_count
from openrnn.errors import ArgumentError
from openrnn.layers.layer import Layer


class Given(NamedTuple):
    """T, B and I; None where they were not given."""

    steps: int | None = None
    batch: int | None = None
    features: int | None = None


def read_given(asked: str, module: Any, x_shape: Any, input_size: int | None = None) -> Given:
    """What `x_shape` and `input_size` say together.

    Args:
        asked: the function that error messages name.
        module: the layer, or the cell.
        x_shape: of a layer's input, (T, B, I), or (B, T, I) with batch_first; of a cell's (B, I);
            or None.
        input_size: the features, or None.

    Raises:
        ArgumentError: another shape, one with other features than input_size, or an input_size
            that is no integer ≥ 1.
    """
    if input_size is not None:
        input_size = check_count(asked, "input_size", input_size)
    if x_shape is None:
        return Given(features=input_size)
    first = getattr(module, "batch_first", False)
    is_layer = isinstance(module, (Layer, nn.RNNBase))
    letters = (("B", "T", "I") if first else ("T", "B", "I")) if is_layer else ("B", "I")
    sizes = tuple(x_shape) if isinstance(x_shape, (tuple, list)) else ()
    if not all(map(_is_count, sizes)) or len(sizes) != len(letters):
        kind = "a layer" + " with batch_first" * first if is_layer else "a cell"
        raise ArgumentError(
            f"{asked}: expected x_shape to be ({', '.join(letters)}), the input of {kind}, "
            f"with numbers from 1, got {sizes or type(x_shape).__name__}"
        )
    given = dict(zip(letters, map(int, sizes), strict=True))
    if input_size is not None and input_size != given["I"]:
        raise ArgumentError(
            f"{asked}: expected the last dimension of x_shape to be input_size {input_size}, "
            f"got {sizes}"
        )
    return Given(given.get("T"), given["B"], given["I"])


def _is_count(size: Any) -> bool:
    return isinstance(size, numbers.Integral) and not isinstance(size, bool) and int(size) > 0
