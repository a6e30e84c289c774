"""The parameters of a module, by its own names for them, each in its blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from openrnn.errors import CellError
from openrnn.explain.blocks import Block, block_shapes, blocks
from openrnn.explain.network import Lane, Network
from openrnn.layers.int8layer import is_quantized

# weight_hh is computed from parametrizations.weight_hh.original0 and the like.
_ORIGINAL = re.compile(r"(^|\.)parametrizations\.([^.]+)\.original\d*$")


@dataclass(frozen=True)
class Piece:
    """A block of a parameter: the gate that is made of it, "" if nothing names it."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Parameter:
    """A parameter of a module; one that is in several places is one.

    name: that of the module.
    of: what the cell calls it, "" if no cell reads it.
    places: the cells that read it.
    share: of the numbers of all parameters, 0 to 1.
    note: what else there is to say.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    numbers: int
    bytes: int
    share: float
    blocks: tuple[Piece, ...]
    of: str
    places: tuple[str, ...]
    note: str = ""


def parameters_of(network: Network) -> tuple[Parameter, ...]:
    """All parameters of a module, in its order. Buffers are none, but for those of int8 cells."""
    names: dict[int, list[str]] = {}
    tensors: dict[int, Tensor] = {}
    for name, tensor in _parameters(network.module):
        names.setdefault(id(tensor), []).append(name)
        tensors.setdefault(id(tensor), tensor)
    readers: dict[str, list[tuple[Lane, str]]] = {}
    for lane in network.lanes:
        for own, name in lane.names.items():
            readers.setdefault(name, []).append((lane, own))
    states = {f"{state}_0" for lane in network.lanes for state in lane.states}
    total = sum(tensor.numel() for tensor in tensors.values())
    known = {id(lane): _blocks(lane) for lane in network.lanes}
    found = []
    for key, tensor in tensors.items():
        plain = (_ORIGINAL.sub(r"\1\2", name) for name in names[key])
        reading = [reader for name in plain for reader in readers.get(name, [])]
        of, pieces, note = _reading(reading, tensor, known)
        if not reading and names[key][0].rpartition(".")[2] in states:
            note = "the initial state, learned"
        found.append(
            Parameter(
                names[key][0],
                tuple(tensor.shape),
                str(tensor.dtype).removeprefix("torch."),
                tensor.numel(),
                tensor.numel() * tensor.element_size(),
                tensor.numel() / total if total else 0.0,
                pieces,
                of,
                tuple(dict.fromkeys(lane.place for lane, _ in reading)),
                note,
            )
        )
    return tuple(found)


def _parameters(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    if is_quantized(module):
        yield from module.named_buffers(remove_duplicate=False)


def _reading(
    reading: Sequence[tuple[Lane, str]], tensor: Tensor, known: Mapping[int, _Blocks]
) -> tuple[str, tuple[Piece, ...], str]:
    """What a cell calls a parameter, its blocks, and a note."""
    whole = (Piece("", tuple(tensor.shape)),)
    for lane, own in reading:
        of_lane = known[id(lane)]
        if of_lane is None:  # the cell cannot be read
            return own, whole, ""
        if own in of_lane:  # what it is computed to may have another shape
            same = lane.tensors[own].shape == tensor.shape
            return own, _pieces(of_lane[own], tuple(tensor.shape)) if same else whole, ""
    return (reading[0][1] if reading else ""), whole, "no step reads it"


def weights_of(lane: Lane) -> dict[str, tuple[str, ...]]:
    """The matrices of a cell: what the blocks of each are called, by its name."""
    return {
        name: tuple(block.name for block in found)
        for name, found in (_blocks(lane) or {}).items()
        if name in lane.parameters
        and len(block_shapes(found, tuple(lane.tensors[name].shape))[0]) > 1
    }


# By the cell's names; None of a cell that cannot be read.
_Blocks = Mapping[str, Sequence[Block]] | None


def _blocks(lane: Lane) -> _Blocks:
    try:
        return blocks(lane.graph, lane.gates)
    except CellError:
        return None


def _pieces(found: Sequence[Block], whole: tuple[int, ...]) -> tuple[Piece, ...]:
    shapes = block_shapes(found, whole)
    return tuple(Piece(b.name, shape) for b, shape in zip(found, shapes, strict=True))
