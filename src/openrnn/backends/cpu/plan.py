"""What a kernel does at a step: products, and loops over the features of a row."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Union

import torch

from openrnn.step.graph import Graph, Node

Dims = tuple[int, ...]


@dataclass(frozen=True)
class Buffer:
    """An array: its name in C++, where it lives, and how many numbers it has for a row."""

    name: str
    # "rows", "whole", "table", "state", "output", "sum", "next", "scratch", "chunk" or "once"
    kind: str
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
class Place:
    """One product of several: where it starts in each buffer, and which matrix of the weight."""

    left: int
    matrix: int
    result: int
    start: int


@dataclass(frozen=True)
class Product:
    """Features times a weight that is the same for all rows, once for each of `places`.

    It is added to what `start` has, whose last stride is 1.
    """

    index: int
    depth: int
    columns: int
    left: Access  # with the stride along the depth alone
    right: int  # place among the weights
    result: Access
    start: Access | None
    places: tuple[Place, ...]


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
    scale: Buffer | None = None  # of each column, behind each other; for matrices of int8 alone


@dataclass
class Plan:
    """All that a kernel does for some rows, in order."""

    graph: Graph
    name: str
    rows: dict[str, Buffer] = field(default_factory=dict)  # inputs with rows, by label
    wholes: dict[str, Buffer] = field(default_factory=dict)  # inputs without
    weights: list[Weight] = field(default_factory=list)
    vectors: list[tuple[str, ...]] = field(default_factory=list)  # sums of wholes, made once
    outputs: dict[str, Buffer] = field(default_factory=dict)  # what all rows are wanted of
    left: dict[str, Buffer] = field(default_factory=dict)  # what is left for those that come later
    summed: dict[str, Buffer] = field(default_factory=dict)  # what all steps add up, row by row
    states: dict[str, tuple[Buffer, Buffer]] = field(default_factory=dict)  # now, and next
    tables: dict[str, tuple[float, ...]] = field(default_factory=dict)
    scratch: list[Buffer] = field(default_factory=list)
    items: list[Loop | Product | Nest] = field(default_factory=list)

    def in_products(self) -> set[Buffer]:
        """What products read, start from or give: its rows are to be equally far apart."""
        products = [item for item in self.items if isinstance(item, Product)]
        accesses = [access for p in products for access in (p.left, p.result, p.start)]
        return {access.buffer for access in accesses if access is not None}

    def any_layout(self) -> set[str]:
        """The inputs without rows that may lie in memory in any way: they are packed, whole."""
        in_loops = {
            access.buffer
            for item in self.items
            for access in _accesses(item)
            if access.buffer.kind == "whole"
        }
        cut = {weight.buffer for weight in self.weights if not weight.is_plain}
        cut |= {weight.scale for weight in self.weights if weight.scale is not None}
        cut |= {self.wholes[label] for labels in self.vectors for label in labels}
        return {label for label, buffer in self.wholes.items() if buffer not in in_loops | cut}


@dataclass(frozen=True)
class Factor:
    """An array of which all rows go into a sum."""

    label: str
    # The state that it is, if for each row that of the step before counts: then what the state was
    # where a sequence begins, or is reset, stands in for a row that is not there.
    previous: str | None = None


@dataclass(frozen=True)
class OverRows:
    """Σ over all rows of leftᵀ right, (m, n); or of right alone, (1, n)."""

    label: str
    left: Factor | None  # of (B, m)
    right: Factor  # of (B, n)
    m: int
    n: int
    shape: Dims  # of the result: it may be a vector
    dtype: torch.dtype

    @property
    def factors(self) -> tuple[Factor, ...]:
        return (self.right,) if self.left is None else (self.left, self.right)


@dataclass
class Assembly:
    """All that a kernel does: at each step, and before and after some steps for all their rows.

    A label names what is given if it is among `given`, else what is made.
    """

    inputs: Plan
    step: Plan
    outputs: Plan
    given: list[str]  # arrays of all rows, by label
    made: list[str]  # those of `summed` have a row for each sequence
    wholes: list[str]  # arrays without rows
    any_layout: set[str]  # those that may lie in memory in any way
    over_rows: tuple[OverRows, ...]
    summed: set[str]

    @property
    def plans(self) -> tuple[Plan, Plan, Plan]:
        return self.inputs, self.step, self.outputs

    def read(self) -> dict[str, Node]:
        """The nodes of all that the plans read, by label."""
        nodes = (node for plan in self.plans for node in plan.graph.nodes)
        return {node.label: node for node in nodes if node.op == "input"}


def _accesses(item: Loop | Product | Nest) -> list[Access]:
    """What an item reads."""
    if isinstance(item, Loop):
        values = (operand.value for step in item.steps for operand in step.operands)
        return [value for value in values if isinstance(value, Access)]
    if isinstance(item, Product):
        return [item.left, *([item.start] if item.start else [])]
    return list(item.operands)


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
