"""A module beside plain cells of the same sizes, and both directions beside one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from openrnn.cells import Cell, GRUCell, LSTMCell, RNNCell
from openrnn.explain.counts import MultiplyAdds
from openrnn.explain.network import Lane, Network
from openrnn.explain.parameters import Parameter, weights_of
from openrnn.explain.shapes import hidden_size

_KINDS: dict[str, type[Cell]] = {"RNN": RNNCell, "GRU": GRUCell, "LSTM": LSTMCell}


@dataclass(frozen=True)
class Compared:
    """What the module has, or would have with plain cells of this kind.

    parameters: how many numbers.
    multiply_adds: for each step and row; None where a cell cannot be read.
    times: the parameters in those of a plain RNN.
    blocks: how many blocks each of its weights has, if all have as many.
    """

    name: str
    parameters: int
    multiply_adds: int | None
    times: float
    blocks: int | None


@dataclass(frozen=True)
class CellBlocks:
    """By the name of each weight of a cell what its blocks are called, "" if nothing names them."""

    cell: str
    weights: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Directions:
    """What two directions have.

    forward, backward: numbers of the parameters of each; shared: of those that both read.
    output: features of the output, and `each` those of one direction.
    wider: the layers that read both directions side by side, with their features.
    """

    forward: int
    backward: int
    shared: int
    each: int
    output: int
    merge: str
    wider: tuple[tuple[str, int], ...]


def compare(
    network: Network,
    parameters: Sequence[Parameter],
    counted: MultiplyAdds | None,
    cells: Sequence[CellBlocks],
) -> tuple[Compared, ...]:
    """Plain cells in the place of the module's own, and last the module itself."""
    own = sum(parameter.numbers for parameter in parameters)
    found = []
    plain = 0
    for name, kind in _KINDS.items():
        numbers = _plain_numbers(network, kind)
        plain = plain or numbers
        gates = len(kind.gates)
        products = sum(
            gates * hidden_size(lane) * (lane.input_size + hidden_size(lane))
            for lane in network.lanes
        )
        found.append(Compared(name, numbers, products, numbers / plain, gates))
    step = None if counted is None else counted.step
    blocks = {len(names) for cell in cells for names in cell.weights.values()}
    alike = blocks.pop() if len(blocks) == 1 else None
    return (*found, Compared("this", own, step, own / plain, alike))


def cell_blocks(network: Network) -> tuple[CellBlocks, ...]:
    """The weights of each kind of cell."""
    found: dict[tuple[object, ...], CellBlocks] = {}
    for lane in network.lanes:
        weights = weights_of(lane)
        key = (lane.name, *weights.items())
        if weights and key not in found:
            found[key] = CellBlocks(lane.name, weights)
    return tuple(found.values())


def _plain_numbers(network: Network, kind: type[Cell]) -> int:
    """Those of cells of this kind; a cell in several places is one."""
    cells: dict[tuple[str, ...], Lane] = {tuple(ln.names.values()): ln for ln in network.lanes}
    total = 0
    for lane in cells.values():
        bias = getattr(lane.cell, "bias", True) is not False
        cell = kind(lane.input_size, hidden_size(lane), bias, device="meta")
        total += sum(parameter.numel() for parameter in cell.parameters())
    return total


def directions(network: Network, parameters: Sequence[Parameter]) -> Directions | None:
    """What two directions have, if any layer has two."""
    both = [level for level in network.levels if len(level.lanes) > 1]
    if not both:
        return None
    ways = [{level.lanes[way].place for level in both} for way in (0, 1)]
    counts = {(True, False): 0, (False, True): 0, (True, True): 0}
    for parameter in parameters:
        forward, backward = (bool(way.intersection(parameter.places)) for way in ways)
        if forward or backward:
            counts[forward, backward] += parameter.numbers
    wider = tuple(
        (above.place, above.input_size)
        for below, above in pairwise(network.levels)
        if below in both and below.merge == "concat"
    )
    last = both[-1]
    return Directions(
        forward=counts[True, False],
        backward=counts[False, True],
        shared=counts[True, True],
        each=last.lanes[0].output_size,
        output=last.output_size,
        merge=last.merge,
        wider=wider,
    )
