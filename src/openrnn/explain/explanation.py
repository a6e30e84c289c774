"""What `explain` found, as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from openrnn.explain.comparison import CellBlocks, Compared, Directions
from openrnn.explain.counts import MultiplyAdds
from openrnn.explain.expressions import stage_lines
from openrnn.explain.parameters import Parameter
from openrnn.explain.shapes import TensorShape
from openrnn.step.program import Program


@dataclass(frozen=True)
class CellExplanation:
    """One cell: where it stands in the layer, and its step, or why that cannot be read.

    places: where cells like this stand; "" of a cell alone.
    cell: its class and options.
    program: the step, None of a cell that cannot be read, with the reason.
    source: the generated C++, if it was asked for.
    backend: what backend="auto" runs on a CPU, "cpu", or "eager" for a reason.
    multiply_adds: those of one such cell, None of one that cannot be read.
    """

    places: tuple[str, ...]
    cell: str
    program: Program | None = field(repr=False)
    reason: str | None
    source: str | None = field(repr=False)
    backend: str
    backend_reason: str | None
    multiply_adds: MultiplyAdds | None

    @cached_property
    def stages(self) -> Mapping[str, list[str]]:
        """The lines of each stage; none of a cell that cannot be read."""
        return {} if self.program is None else stage_lines(self.program.stages)

    def __str__(self) -> str:
        from openrnn.explain.sections import of_cell
        from openrnn.explain.show import as_text

        return as_text([of_cell(self)])

    def to_dict(self) -> dict[str, Any]:
        """The same as text, numbers, lists and dicts."""
        counted = self.multiply_adds
        return {
            "places": list(self.places),
            "cell": self.cell,
            "reason": self.reason,
            "stages": dict(self.stages),
            "multiply_adds": None if counted is None else dataclasses.asdict(counted),
            "backend": self.backend,
            "backend_reason": self.backend_reason,
            "source": self.source,
        }


@dataclass(frozen=True, repr=False)
class Explanation:
    """What `explain` found: as text by `str()`, as a page in a notebook, as data by `to_dict()`.

    title: the module's class and options.
    owner: whose it is, "a cell", "torch.nn" or "openrnn".
    call: how it is called, and what comes back.
    shapes: of the input, the output and the states.
    letters: what those in the shapes mean, with the number where there is one for all.
    notes: what happens between the cells.
    parameters: each by the module's name for it, in its blocks.
    compared: plain cells of the same sizes, and last the module itself.
    blocks: those of the weights of each kind of cell.
    directions: what two directions have, if there are two.
    steps, batch: T and B, if they are known.
    multiply_adds: of all cells, for each step and row; None if a cell cannot be read.
    told: the backends that the layers are told to run by.
    cells: one for each distinct cell.
    """

    title: str
    owner: str
    call: str
    shapes: tuple[TensorShape, ...]
    letters: Mapping[str, str]
    notes: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    compared: tuple[Compared, ...]
    blocks: tuple[CellBlocks, ...]
    directions: Directions | None
    steps: int | None
    batch: int | None
    multiply_adds: MultiplyAdds | None
    told: tuple[str, ...]
    cells: tuple[CellExplanation, ...]

    @property
    def numbers(self) -> int:
        """Those of all parameters."""
        return sum(parameter.numbers for parameter in self.parameters)

    @property
    def bytes(self) -> int:
        """Those of all parameters."""
        return sum(parameter.bytes for parameter in self.parameters)

    @property
    def multiply_adds_of_call(self) -> int | None:
        """Of a whole call, where T and B are known; of a cell that is one step."""
        steps = 1 if self.owner == "a cell" else self.steps
        if self.multiply_adds is None or steps is None or self.batch is None:
            return None
        return self.multiply_adds.total(steps, self.batch)

    def __str__(self) -> str:
        from openrnn.explain.sections import sections
        from openrnn.explain.show import as_text

        return as_text(sections(self))

    def __repr__(self) -> str:
        return f"<Explanation of {self.title}>"

    def _repr_html_(self) -> str:
        from openrnn.explain.sections import sections
        from openrnn.explain.show import as_html

        return as_html(sections(self))

    def to_dict(self) -> dict[str, Any]:
        """All that is shown as text, numbers, lists and dicts, for JSON say."""
        own = {
            entry.name: _plain(getattr(self, entry.name))
            for entry in dataclasses.fields(self)
            if entry.name != "cells"
        }
        return {
            **own,
            "numbers": self.numbers,
            "bytes": self.bytes,
            "multiply_adds_of_call": self.multiply_adds_of_call,
            "cells": [cell.to_dict() for cell in self.cells],
        }


def _plain(value: Any) -> Any:
    """Dataclasses as dicts, tuples as lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (tuple, list)) else value
