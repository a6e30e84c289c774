"""`openrnn.equations`: the step of a cell, and its gradient, as mathematics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from openrnn.errors import ArgumentTypeError
from openrnn.explain.mathematics import printing
from openrnn.explain.mathematics.deltas import backward_system
from openrnn.explain.mathematics.formula import Formula
from openrnn.explain.mathematics.layout import lay_out, left_side
from openrnn.explain.mathematics.notes import notes
from openrnn.explain.mathematics.style import LATEX
from openrnn.explain.mathematics.system import Equation, System, forward_system
from openrnn.explain.parts import Lane, Network, read
from openrnn.explain.views.words import places
from openrnn.step.program import Program
from openrnn.step.quantize import unrounded
from openrnn.step.shape import show_shape


@dataclass(frozen=True)
class Term:
    """A symbol on the right of an equation: as text, as LaTeX, and its shape."""

    name: str
    latex: str
    shape: str


@dataclass(frozen=True)
class Line:
    """One equation.

    name: its left side.
    text: the equation as text.
    latex: the same in LaTeX, of what matplotlib's mathtext can draw as well.
    latex_with_shapes: with the shape of each symbol beneath it; for one row of the batch.
    shape: of the left side, "(B, 20)".
    terms: the symbols on the right, each once.
    equation: the formulas that all this is printed from.
    """

    name: str
    text: str
    latex: str
    latex_with_shapes: str
    shape: str
    terms: tuple[Term, ...]
    equation: Equation = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The line as text, lists and dicts."""
        terms = [{"name": t.name, "latex": t.latex, "shape": t.shape} for t in self.terms]
        return {
            "name": self.name,
            "text": self.text,
            "latex": self.latex,
            "shape": self.shape,
            "terms": terms,
        }


@dataclass(frozen=True)
class CellEquations:
    """The equations of one cell.

    places: where the cell stands in the layer; "" of a cell alone.
    cell: its class and options.
    lines: the equations, in an order in which they can be computed.
    where: of the gradient, what it calls the values that stand inside the step's equations.
    notes: what the parameters are called, and what else the equations do not say.
    """

    places: tuple[str, ...]
    cell: str
    lines: tuple[Line, ...]
    where: tuple[Line, ...]
    notes: tuple[str, ...]
    system: System = field(repr=False)

    @property
    def title(self) -> str:
        return f"{places(self.places)}: {self.cell}" if any(self.places) else self.cell

    @property
    def latex(self) -> str:
        """All equations, with the shape of each symbol beneath it, as an `aligned` environment."""
        rows = [*map(_row, self.lines)]
        if self.where:
            rows += [r"& \mathrm{where}", *map(_row, self.where)]
        inside = " \\\\[1ex]\n".join(rows)
        return f"\\begin{{aligned}}\n{inside}\n\\end{{aligned}}"

    def __str__(self) -> str:
        return self.text()

    def text(self, width: int = 100) -> str:
        """The equations as text, in lines of at most so many letters where they can be broken."""
        lines = [self.title, "", *lay_out(self.system.equations, 2, width)]
        if self.where:
            lines += ["", "  where", *lay_out(self.system.where, 4, width)]
        if self.notes:
            lines += ["", *(f"  {note}" for note in self.notes)]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The same as text, lists and dicts."""
        return {
            "places": list(self.places),
            "cell": self.cell,
            "lines": [line.to_dict() for line in self.lines],
            "where": [line.to_dict() for line in self.where],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, repr=False)
class Equations:
    """What `equations` found: as text by `str()`, in a notebook as formulas.

    title: the module.
    backward: whether these are the equations of the gradient.
    cells: one for each distinct cell of the layer.
    """

    title: str
    backward: bool
    cells: tuple[CellEquations, ...]

    @property
    def lines(self) -> tuple[Line, ...]:
        """The equations of all cells, one after the other."""
        return tuple(line for cell in self.cells for line in cell.lines)

    @property
    def latex(self) -> str:
        """An `aligned` environment for each cell, with the shape of each symbol beneath it."""
        return "\n\n".join(cell.latex for cell in self.cells)

    def __str__(self) -> str:
        return self.text()

    def text(self, width: int = 100) -> str:
        """The equations as text, in lines of at most so many letters where they can be broken."""
        cells = "\n\n".join(cell.text(width) for cell in self.cells)
        alone = len(self.cells) == 1 and self.cells[0].title == self.title
        return cells if alone else f"{self.title}\n\n{cells}"

    def __repr__(self) -> str:
        return str(self)

    def _repr_markdown_(self) -> str:
        parts = [f"**{self.title}**"]
        for cell in self.cells:
            if cell.title != self.title:
                parts.append(cell.title)
            parts.append(f"$$\n{cell.latex}\n$$")
            parts.append("\n".join(f"- `{note}`" for note in cell.notes))
        return "\n\n".join(part for part in parts if part)

    def to_dict(self) -> dict[str, Any]:
        """The same as text, lists and dicts, for JSON say."""
        return {
            "title": self.title,
            "backward": self.backward,
            "cells": [cell.to_dict() for cell in self.cells],
        }


def equations(
    module: nn.Module, *, input_size: int | None = None, backward: bool = False
) -> Equations:
    """The step of a cell as mathematics, derived from its graph, in the cell's own names.

    x_t is the input of step t, h_{t-1} the state before it, h_t the state after it. The equations
    are those of one row of the batch: vectors are columns, W x is the product with a matrix, ⊙ that
    element by element, and [a; b] puts one vector under the other. Beneath each symbol stands its
    shape, 20×30 of a matrix, 20 of a vector. A name that is assigned several times has primes.

    Args:
        module: a layer of OpenRNN or of torch.nn, or a cell.
        input_size: features of x; needed only for a cell that has no `input_size`, in a layer that
            has not run yet. Default: what the cell says, or the layer has seen.
        backward: the equations of the gradient instead, backpropagation through time: from δh_t,
            the gradient of h_t, to what step t hands back to step t - 1, and to ΔW, the gradients
            of the parameters. Default: False.

    Returns:
        The equations: `str()` gives them as text, `.latex` as LaTeX, `.lines` one by one; a
        notebook shows them.

    Raises:
        ArgumentTypeError: neither a layer nor a cell.
        ArgumentError: input_size is not known, or is another than the cell's.
        CellError: a cell that cannot be traced, with the reason.

    Examples:
        >>> from openrnn import GRUCell
        >>> for line in equations(GRUCell(30, 20)).lines:
        ...     print(line.text)
        r_t = σ(W_ir x_t + b_ir + W_hr h_{t-1} + b_hr)
        z_t = σ(W_iz x_t + b_iz + W_hz h_{t-1} + b_hz)
        n_t = tanh(W_in x_t + b_in + r_t ⊙ (W_hn h_{t-1} + b_hn))
        h_t = (1 - z_t) ⊙ n_t + z_t ⊙ h_{t-1}
    """
    if not isinstance(backward, bool):
        raise ArgumentTypeError(
            f"equations: expected backward to be True or False, got {type(backward).__name__}"
        )
    return of_network(read(module, "equations", input_size), backward)


def of_network(network: Network, backward: bool = False) -> Equations:
    """The equations of cells that were read; see `equations`."""
    found: dict[tuple[str, Program], list[Lane]] = {}
    for lane in network.lanes:
        found.setdefault((lane.title, lane.program), []).append(lane)
    cells = tuple(
        _of_cell(title, program, lanes, backward) for (title, program), lanes in found.items()
    )
    return Equations(network.title, backward, cells)


def _of_cell(title: str, program: Program, lanes: list[Lane], backward: bool) -> CellEquations:
    if backward:
        trained = (name for name, t in lanes[0].tensors.items() if t.requires_grad)
        wanted = {"input.x", *(f"parameter.{name}" for name in trained)}
        system = backward_system(unrounded(program.graph), program.stepwise(every=False), wanted)
    else:
        system = forward_system(unrounded(program.graph))
    return CellEquations(
        tuple(lane.place for lane in lanes),
        title,
        tuple(map(_line, system.equations)),
        tuple(map(_line, system.where)),
        notes(system, backward),
        system,
    )


def _line(equation: Equation) -> Line:
    name = "".join(piece for piece, _ in left_side(equation))
    symbols = {symbol.data: symbol for symbol in equation.right.symbols()}
    return Line(
        name,
        f"{name} = {printing.text(equation.right)}",
        f"{_left(equation, False)} = {printing.latex(equation.right)}",
        f"{_left(equation, True)} = {printing.latex(equation.right, shapes=True)}",
        show_shape(equation.shape),
        tuple(map(_term, symbols.values())),
        equation,
    )


def _term(symbol: Formula) -> Term:
    return Term(printing.text(symbol), printing.latex(symbol), show_shape(symbol.shape))


def _left(equation: Equation, shapes: bool) -> str:
    shown = [printing.latex(symbol, shapes) for symbol in equation.left]
    if len(shown) == 1:
        return shown[0]
    return f"[{LATEX.under.join(shown)}]"


def _row(line: Line) -> str:
    # The first sign of equality is that between the sides: none stands on the left.
    return line.latex_with_shapes.replace(" = ", " &= ", 1)
