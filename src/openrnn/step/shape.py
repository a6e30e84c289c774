"""Shapes whose first B rows are only counted at run time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Union


@dataclass(frozen=True)
class Batch:
    """A dimension of `times`·B, where B, the number of rows, is only known at run time."""

    times: int = 1

    def __str__(self) -> str:
        return "B" if self.times == 1 else f"{self.times}·B"


Dim = Union[int, Batch]  # noqa: UP007  evaluated at run time on Python 3.10
Shape = tuple[Dim, ...]


def batch_dim(shape: Shape) -> int | None:
    """Which dimension counts the rows of the batch, if any does."""
    return next((i for i, dim in enumerate(shape) if isinstance(dim, Batch)), None)


def rows_dim(shape: Shape) -> int:
    """The same, of a shape that has rows."""
    dim = batch_dim(shape)
    assert dim is not None
    return dim


def concrete(shape: Shape, rows: int) -> tuple[int, ...]:
    """The shape with B = rows."""
    return tuple(dim.times * rows if isinstance(dim, Batch) else dim for dim in shape)


def features(shape: Shape) -> int:
    """How many numbers there are for each row of the batch."""
    return math.prod(dim.times if isinstance(dim, Batch) else dim for dim in shape)


def row_dims(shape: Shape) -> tuple[int, ...]:
    """The shape of the features of one row: the batch counts as often as it is repeated."""
    return tuple(dim.times if isinstance(dim, Batch) else dim for dim in shape)


def show_shape(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))})"


def broadcast(shapes: list[Shape]) -> Shape:
    """The shape that these broadcast to, by torch's rule."""
    rank = max(map(len, shapes), default=0)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    result: list[Dim] = []
    for dims in zip(*padded, strict=True):
        distinct = {dim for dim in dims if dim != 1}
        if len(distinct) > 1:
            raise ValueError(f"shapes {', '.join(map(show_shape, shapes))} do not broadcast")
        result.append(distinct.pop() if distinct else 1)
    return tuple(result)


def replace_dim(shape: Shape, dim: int, size: Dim) -> Shape:
    return (*shape[:dim], size, *shape[dim + 1 :])
