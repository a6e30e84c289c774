"""What a kernel does at a step: products, and loops over the features of a row."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Union

from openrnn.step.graph import Graph, Node

Dims = tuple[int, ...]


@dataclass(frozen=True)
class Buffer:
    """An array: its name in C++, where it lives, and how many numbers it has for a row."""

    name: str
    kind: str  # "rows", "whole", "table", "state", "output", "next" or "scratch"
    size: int


@dataclass(frozen=True)
class Access:
    """A way through a buffer: at indices i it reads offset + Σ i·stride."""

    buffer: Buffer
    offset: int
    strides: Dims


@dataclass(frozen=True)
class Operand:
    """What a step reads: a number, what the same loop has computed, or what is stored."""

    value: Union[float, int, Access]  # noqa: UP007  an int is the index of a node of this loop
    is_bool: bool


@dataclass
class Step:
    """One value of a loop; without a node it is a copy."""

    index: int
    node: Node | None
    operands: list[Operand]
    stores: list[Access] = field(default_factory=list)
    reduces: bool = False


@dataclass
class Loop:
    """For each row: for all indices of `dims`, these steps.

    Reductions are over the dims from `kept` on.
    """

    dims: Dims
    kept: int | None = None
    steps: list[Step] = field(default_factory=list)


@dataclass(frozen=True)
class Product:
    """Features times a weight that is the same for all rows, once for each of `places`."""

    index: int
    depth: int
    columns: int
    left: Access  # with the stride along the depth alone
    right: int  # place among the weights
    result: Access
    places: tuple[tuple[int, int, int], ...]  # offsets in left, matrices of the weight, result


@dataclass(frozen=True)
class Nest:
    """What is not worth a vector: loops over single numbers.

    A matrix product whose factors both have rows, a running sum, the first of the largest, or a
    reduction that is not over the last dims.
    """

    index: int
    node: Node
    dims: Dims  # of the loops
    operands: tuple[Access, ...]
    result: Access


@dataclass(frozen=True)
class Weight:
    """Matrices that are packed before the loop, each `depth` by `columns`."""

    buffer: Buffer
    offsets: Dims  # one for each matrix
    strides: Dims  # of depth and column
    depth: int
    columns: int
    is_plain: bool  # a whole matrix as given, so that it may lie in memory in any way


@dataclass
class Plan:
    """All that a kernel does at a step, in order."""

    graph: Graph
    rows: dict[str, Buffer] = field(default_factory=dict)  # inputs with rows, by label
    wholes: dict[str, Buffer] = field(default_factory=dict)  # inputs without
    weights: list[Weight] = field(default_factory=list)
    outputs: dict[str, Buffer] = field(default_factory=dict)  # what all rows are wanted of
    states: dict[str, tuple[Buffer, Buffer]] = field(default_factory=dict)  # now, and next
    tables: dict[str, tuple[float, ...]] = field(default_factory=dict)
    scratch: list[Buffer] = field(default_factory=list)
    items: list[Loop | Product | Nest] = field(default_factory=list)

    @cached_property
    def strided(self) -> dict[int, int]:
        """The weights that may lie in memory in any way, with their places among these."""
        in_loops = {
            access.buffer
            for item in self.items
            for access in _accesses(item)
            if access.buffer.kind == "whole"
        }
        packed = [weight.buffer for weight in self.weights if not weight.is_plain]
        found = (
            index
            for index, weight in enumerate(self.weights)
            if weight.is_plain and weight.buffer not in in_loops and weight.buffer not in packed
        )
        return {index: place for place, index in enumerate(found)}


def _accesses(item: Loop | Product | Nest) -> list[Access]:
    """What an item reads."""
    if isinstance(item, Loop):
        values = (operand.value for step in item.steps for operand in step.operands)
        return [value for value in values if isinstance(value, Access)]
    return [item.left] if isinstance(item, Product) else list(item.operands)


def strides_of(dims: Dims) -> Dims:
    """Those of an array that lies in memory without gaps, last dimension innermost."""
    return tuple(math.prod(dims[i + 1 :]) for i in range(len(dims)))


def squeezed(values: Dims, dims: Dims) -> Dims:
    """Without the dimensions of size 1."""
    return tuple(value for value, size in zip(values, dims, strict=True) if size != 1)


def expanded(dims: Dims, strides: Dims, target: Dims) -> Dims:
    """The strides after broadcasting to `target`."""
    extra = len(target) - len(dims)
    kept = (
        0 if size == 1 and wanted != 1 else stride
        for size, stride, wanted in zip(dims, strides, target[extra:], strict=True)
    )
    return (*(0,) * extra, *kept)
