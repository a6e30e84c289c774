"""What the files of a layer hold: the arrays of its weights, the fields of its state, functions."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor

from openrnn.backends.cpu.plan import Buffer
from openrnn.export.expressions import Language
from openrnn.export.function import function
from openrnn.export.memory import place
from openrnn.export.names import Names, comment
from openrnn.export.scope import copied, each
from openrnn.export.steps import CellStep, Steps
from openrnn.export.weights import Weight


@dataclass(frozen=True)
class Array:
    """Numbers that do not change."""

    name: str
    tensor: Tensor
    about: str


@dataclass(frozen=True)
class Field:
    """An array of the state.

    begins: the array with which a sequence begins, or None, zeros.
    """

    name: str
    size: int
    about: str
    begins: str | None = None


class Contents:
    """All that stands in the files of a layer, in order."""

    def __init__(self, steps: Steps, name: str) -> None:
        self.steps, self.name = steps, name
        self.dtype = steps.cells[0].dtype
        self.language = Language(self.dtype)
        self.arrays: list[Array] = []
        self.fields: list[Field] = []  # what a sequence begins with
        self.rest: list[Field] = []  # what a step computes in
        self.functions: list[str] = []
        self.body: list[str] = []  # of the step
        self._names, self._taken = Names(), Names()
        self._known: dict[Hashable, str] = {}  # arrays, by where the tensor lies
        self._values = ["x"]  # what each value of the layer is called
        scratch = 0
        for link in steps.links:
            sources = [self._values[source] for source in link.sources]
            if link.cell is None:
                self._add_sum(sources, link.size)
            else:
                scratch = max(scratch, self._add_cell(link.cell, sources[0]))
        self.body += copied("y", self._values[-1], steps.output_size)
        if scratch:
            self.rest.append(Field("scratch", scratch, "what a step computes in"))

    @property
    def weight_bytes(self) -> int:
        return self.dtype.itemsize * sum(array.tensor.numel() for array in self.arrays)

    @property
    def state_bytes(self) -> int:
        return self.dtype.itemsize * sum(each.size for each in self.fields + self.rest)

    def _add_sum(self, sources: list[str], size: int) -> None:
        field = self._taken.new(f"sum_{len(self.rest)}")
        self.rest.append(Field(field, size, "a layer's input and output, added"))
        left, right = sources
        self.body += each(size, f"state->{field}[{{j}}] = {left}[{{j}}] + {right}[{{j}}];")
        self._values.append(f"state->{field}")

    def _add_cell(self, cell: CellStep, x: str) -> int:
        """Adds the function of a cell; its scratch memory is returned."""
        number, count = self.steps.cells.index(cell), len(self.steps.cells)
        suffix = f"_{number}" if count > 1 else ""
        title = comment(f"layer {number}: {cell.title}" if count > 1 else cell.title)
        plan, given = cell.plan, dict[Buffer, str]()
        fields = self._add_fields(cell, title, suffix)
        given |= dict.fromkeys(plan.rows.values(), "x")
        given |= {now: fields[state] for state, (now, _) in plan.states.items()}
        for label, buffer in plan.outputs.items():
            given[buffer] = fields[label.removeprefix("state.")]
        for label, buffer in plan.wholes.items():
            given[buffer] = self._weight(cell.weights[label], suffix)
        for name, numbers in plan.tables.items():
            table = torch.tensor(numbers, dtype=self.dtype)
            given[Buffer(name, "table", len(numbers))] = self._array("constant" + suffix, table)
        memory, called = place(plan), self._names.new("layer" + suffix)
        real = self.language.real
        head = f"static void {called}({self.name}_state *state, const {real} *x)"
        lines = function(head, plan, memory, given, self._names, self.language)
        self.functions.append("\n".join([f"/* {title} */", *lines]))
        self.body.append(f"{called}(state, {x});")
        self._values.append(next(iter(fields.values())))
        return memory.size

    def _add_fields(self, cell: CellStep, title: str, suffix: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for state, size in cell.states.items():
            name, initial, begins = self._taken.new(state + suffix), cell.initial[state], None
            if initial.any():
                begins = self._array(f"initial_{state}{suffix}", initial)
            self.fields.append(Field(name, size, "" if found else title, begins))
            found[state] = f"state->{name}"
        return found

    def _weight(self, weight: Weight, suffix: str) -> str:
        """The array of a weight; one that is shared is there once."""
        if weight.sources:
            about = f"computed from {', '.join(weight.sources)}"
            wanted = weight.name + suffix if weight.name else _common(weight.sources)
            return self._array(wanted, weight.tensor, about)
        tensor = weight.tensor
        key = tensor.data_ptr(), tensor.shape, tensor.stride()
        if key not in self._known:
            self._known[key] = self._array(weight.name, tensor, weight.name)
        return self._known[key]

    def _array(self, wanted: str, tensor: Tensor, about: str = "") -> str:
        name = self._names.new(wanted)
        about = f"{about}: " if about and about != name else ""
        shape = ", ".join(map(str, tensor.shape))
        self.arrays.append(Array(name, tensor, comment(f"{about}({shape})")))
        return name


def _common(names: tuple[str, ...]) -> str:
    """What names have in common: `bias_l0` of bias_ih_l0 and bias_hh_l0."""
    if len(names) == 1:
        return names[0]
    layers = {re.sub(r".*?(_l\d+)?$", r"\1", name) for name in names}
    same = takewhile(lambda letters: len({*letters}) == 1, zip(*names, strict=False))
    begin = "".join(letter for letter, *_ in same).rstrip("_.")
    return f"{begin or 'computed'}{layers.pop() if len(layers) == 1 else ''}"
