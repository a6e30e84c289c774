"""What goes into a module and comes out of it: dimensions by name and number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from openrnn.explain.given import Given
from openrnn.explain.network import Lane, Level, Network

_LETTERS = {
    "T": "time steps",
    "B": "sequences",
    "I": "input features",
    "H": "hidden units",
    "P": "features of the projected output",
    "D": "directions",
    "L": "layers",
}


@dataclass(frozen=True)
class TensorShape:
    """A tensor that goes in or comes out.

    names: what it is called; of a state before and after.
    role: "input", "output" or "state".
    dims: its dimensions by letter, "D·H" say; a number where there is no letter.
    sizes: the same as numbers; T or B where that is not known.
    meaning: what it is; of a state of a layer inside, which layer's.
    where: of a state inside a larger one, the way to it: "state[1][0]".
    """

    names: tuple[str, ...]
    role: str
    dims: tuple[str, ...]
    sizes: tuple[int | str, ...]
    meaning: str = ""
    where: str = ""


def tensor_shapes(network: Network, given: Given) -> tuple[TensorShape, ...]:
    """The input, the output and the states of a module."""
    return tuple(_Shapes(network, given).all())


def call_of(network: Network) -> str:
    """How the module is called, and what comes back."""
    states = list(network.lanes[0].states)
    if network.is_cell:
        return f"{', '.join(states)} = cell(x, {_tuple(states)})"
    if any(lane.path for lane in network.lanes):
        return "output, state = layer(x, state)"
    before, after = ([f"{name}_{end}" for name in states] for end in "0n")
    return f"output, {_tuple(after)} = layer(x, {_tuple(before)})"


def legend(network: Network, shapes: Sequence[TensorShape]) -> dict[str, str]:
    """What the letters in these shapes mean."""
    used = {letter for shape in shapes for dim in shape.dims for letter in dim.split("·")}
    found = {letter: meaning for letter, meaning in _LETTERS.items() if letter in used}
    # Of the layers whose states are in one tensor, and of the last, whose output has D·H features.
    together = [level for level in network.levels if level.of_all is not None]
    directions = {len(level.lanes) for level in together or network.levels[-1:]}
    layers = {(level.of_all or 0) // len(level.lanes) for level in together}
    for one, counts, name in (("D", directions, "direction"), ("L", layers, "layer")):
        if one in found and len(counts) == 1:
            (count,) = counts
            found[one] = f"= {count} {name}{'s' * (count != 1)}"
    return found


class _Shapes:
    def __init__(self, network: Network, given: Given) -> None:
        self._network, self._given = network, given
        self._rows = given.batch or "B"

    def all(self) -> Iterator[TensorShape]:
        first, last = self._network.levels[0], self._network.levels[-1]
        yield self._of_steps("x", "input", "I", first.input_size, "the input")
        if not self._network.is_cell:
            dim = _output_dim(last)
            yield self._of_steps("output", "output", dim, last.output_size, _output_meaning(last))
        by_path: dict[tuple[int, ...], list[tuple[Level, Lane]]] = {}
        for level in self._network.levels:
            for lane in level.lanes:
                by_path.setdefault(lane.path, []).append((level, lane))
        for same in by_path.values():
            yield from self._states(*same[0])

    def _of_steps(self, name: str, role: str, dim: str, size: int, meaning: str) -> TensorShape:
        dims, sizes = ["B", dim], [self._rows, size]
        if not self._network.is_cell:
            at = 1 if self._network.batch_first else 0
            dims.insert(at, "T")
            sizes.insert(at, self._given.steps or "T")
        return TensorShape((name,), role, tuple(dims), tuple(sizes), meaning)

    def _states(self, level: Level, lane: Lane) -> Iterator[TensorShape]:
        """Those of a cell, or, where one tensor holds those of several, of all of them."""
        together = level.of_all is not None
        # "layer 1", of the drop-in layer there, of whose layers this is the first.
        place = lane.place.rpartition("layer")[0].strip() if together else lane.place
        for index, (name, size) in enumerate(lane.states.items()):
            names = (name, f"next {name}") if self._network.is_cell else (f"{name}_0", f"{name}_n")
            dims: tuple[str, ...] = ("B", letter(lane, size))
            sizes: tuple[int | str, ...] = (self._rows, size)
            if level.of_all is not None:
                dims, sizes = ("D·L", *dims), (level.of_all, *sizes)
            path = [*lane.path, *([index] if len(lane.states) > 1 else [])]
            meaning = place
            if self._network.is_cell and index == 0:
                meaning = f"the state; {names[1]} is the output too"
            where = "state" + "".join(f"[{i}]" for i in path) if lane.path else ""
            yield TensorShape(names, "state", dims, sizes, meaning, where)


def hidden_size(lane: Lane) -> int:
    """H: what the cell says, if a state has so many features, or else those of its output."""
    said = getattr(lane.cell, "hidden_size", None)
    return said if isinstance(said, int) and said in lane.states.values() else lane.output_size


def letter(lane: Lane, size: int) -> str:
    """What so many features of a cell are called."""
    if size == hidden_size(lane):
        return "H"
    return "P" if size == getattr(lane.cell, "proj_size", None) else str(size)


def _output_dim(level: Level) -> str:
    each = [letter(lane, lane.output_size) for lane in level.lanes]
    if len(each) == 1 or level.merge != "concat":
        return each[0] if level.of_all is None else f"D·{each[0]}"
    sizes = [lane.output_size for lane in level.lanes]
    return f"D·{each[0]}" if sizes[0] == sizes[1] else "+".join(map(str, sizes))


def _output_meaning(level: Level) -> str:
    name = next(iter(level.lanes[0].states))
    where = f" of {level.place}" if level.place else ""
    both = ""
    if len(level.lanes) > 1:
        ways = {"concat": "side by side", "sum": "added up", "mean": "as their mean"}
        both = f", forward and backward {ways[level.merge]}"
    return f"{name}{where} at every step{both}"


def _tuple(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"({', '.join(names)})"
