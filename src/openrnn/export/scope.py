"""Where a function of C finds its values, and the loops and indices that all statements share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from openrnn.backends.cpu.items import indent
from openrnn.backends.cpu.plan import Access, Buffer, Plan
from openrnn.export.expressions import Language
from openrnn.export.names import Names

# A walk through an array: variables of loops with the stride of each.
Walk = list[tuple[str, int]]


@dataclass(frozen=True)
class Scope:
    """A function for a plan: its names, and what its buffers are called.

    Those among `scalars` are variables.
    """

    plan: Plan
    language: Language
    names: Names
    base: dict[Buffer, str]
    scalars: tuple[Buffer, ...]

    def at(self, access: Access, walk: Walk) -> str:
        """The number that an access reads, or writes."""
        name = self.base[access.buffer]
        return name if access.buffer in self.scalars else f"{name}[{index(access.offset, walk)}]"

    def store(self, access: Access, walk: Walk, value: str) -> str:
        """The statement that writes a number; a variable is made by it."""
        made = f"const {self.language.real} " if access.buffer in self.scalars else ""
        return f"{made}{self.at(access, walk)} = {value};"

    def pointer(self, buffer: Buffer, offset: int, walk: Walk) -> str:
        """The address of a number."""
        where = index(offset, walk)
        return self.base[buffer] if where == "0" else f"{self.base[buffer]} + {where}"


def variables(sizes: Iterable[int], names: Names) -> list[str]:
    """The variables of nested loops; 0 of what is only one."""
    free = iter(("j", "k", "p"))
    return ["0" if size == 1 else next(free, None) or names.new("j") for size in sizes]


def index(offset: int, walk: Walk) -> str:
    """offset + Σ variable · stride."""
    text = str(offset) if offset else ""
    for variable, stride in walk:
        if stride and variable != "0":
            step = variable if abs(stride) == 1 else f"{abs(stride)} * {variable}"
            sign = "-" if stride < 0 else "+"
            text = f"{text} {sign} {step}" if text or stride < 0 else step
    return text.strip() or "0"


def loop_over(variable: str, size: int, body: Iterable[str]) -> Iterator[str]:
    """The loop over these statements; each line is one, or the part of one."""
    lines = list(body)
    if variable == "0":
        yield from lines
        return
    # Several statements, or several lines of a loop inside, in braces.
    heads = [line for line in lines if not line.startswith(" ")]
    alone = len(heads) == 1 or (heads[0].startswith("for") and heads[1:] == ["}"])
    yield f"for (int {variable} = 0; {variable} < {size}; {variable}++)" + " {" * (not alone)
    yield from indent(lines, 2)
    if not alone:
        yield "}"


def each(size: int, statement: str) -> Iterator[str]:
    """A statement for each of so many numbers; {j} stands for the number."""
    variable = "j" if size > 1 else "0"
    return loop_over(variable, size, [statement.replace("{j}", variable)])


def copied(target: str, source: str, size: int) -> Iterator[str]:
    """The target becomes the source."""
    return each(size, f"{target}[{{j}}] = {source}[{{j}}];")
