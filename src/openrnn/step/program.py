"""A traced cell with all that is derived from it: made once for a structure, and kept."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Hashable
from functools import cached_property, lru_cache
from threading import Lock
from types import FunctionType, SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import cachetools
import torch
from torch import Tensor, nn

from openrnn.binding import Parameters, has_global_hooks, is_parametrized, tensors_of
from openrnn.errors import CellError
from openrnn.state import StateSpec
from openrnn.step.glance import Glance
from openrnn.step.gradient import Gradient, gradient
from openrnn.step.graph import Graph
from openrnn.step.shape import Batch, features
from openrnn.step.split import Stages, split
from openrnn.step.trace import trace


class Program:
    """A step graph, its stages, and its gradients.

    `fused`: for a backend whose loop computes element by element at no cost of its own.
    """

    def __init__(self, graph: Graph, *, fused: bool = False) -> None:
        self.graph, self._fuse = graph, fused
        self.states = tuple(label.partition(".")[2] for label, _ in graph.outputs)
        self._training = lru_cache(maxsize=None)(self._derive)

    @cached_property
    def stages(self) -> Stages:
        """For inference: nothing is kept for a gradient."""
        return split(self.graph, fuse=self._fuse)

    @cached_property
    def fused(self) -> Program:
        """The same for a backend with fused loops."""
        return Program(self.graph, fused=True)

    @cached_property
    def watched(self) -> Program:
        """The same, with each value of a step that the cell has a name for as one more state.

        No step reads these. Of values with the same name it is the last.
        """
        taken = {label for label, _ in self.graph.outputs}
        named = {
            f"state.{node.name}": index
            for index, node in enumerate(self.graph.nodes)
            if node.name is not None
            and node.op != "input"
            and node.dtype.is_floating_point
            and len(node.shape) == 2
            and node.shape[0] == Batch()
        }
        added = [(label, index) for label, index in named.items() if label not in taken]
        graph = Graph(self.graph.nodes, (*self.graph.outputs, *added))
        return Program(graph, fused=self._fuse)

    def training(self, wanted: frozenset[str], *, every: bool = False) -> tuple[Stages, Stages]:
        """The stages forward, with what is kept, and backward, for these gradients.

        `every`: of all steps all states have a gradient; else only the first, the output.
        """
        return self._training(wanted, every)

    def every_step(self, every: bool) -> tuple[str, ...]:
        """The states that are wanted of all steps."""
        return self.states if every else self.states[:1]

    @cached_property
    def features(self) -> dict[str, int]:
        """Of each state, by name."""
        return {
            label.removeprefix("state."): features(self.graph.nodes[index].shape)
            for label, index in self.graph.outputs
        }

    def stepwise(self, every: bool) -> tuple[str, ...]:
        """The states with a gradient at each step: also those that no step reads."""
        wanted, carried = self.every_step(every), self.stages.carried
        return tuple(name for name in self.states if name in wanted or name not in carried)

    def _derive(self, wanted: frozenset[str], every: bool) -> tuple[Stages, Stages]:
        derived: Gradient = gradient(self.graph, self.stepwise(every), wanted)
        return split(derived.forward, fuse=self._fuse), split(derived.backward, fuse=self._fuse)


def program_of(
    cell: nn.Module,
    parameters: Parameters | None,
    spec: StateSpec,
    input_size: int,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Program, dict[str, Tensor]]:
    """The program of a cell, and the tensors that it reads, by name.

    A structure that was not met before is traced; `parameters` are read in place of the cell's own.

    Raises:
        CellError: it cannot be traced, or hooks at all modules want to see each step.
    """
    if parameters is None and has_global_hooks():  # a cell that is lent some is no one's but ours
        raise CellError(
            f"{type(cell).__name__}: torch is to call hooks at all modules "
            "(torch.nn.modules.module.register_module_forward_hook and the like), which a kernel "
            'cannot call at each step. Remove them, or use backend="eager".'
        )
    last = _LAST.get(cell)
    unchanged = last is not None and last.glance.is_unchanged()
    own = last.tensors if last is not None and unchanged else tensors_of(cell)
    tensors = {**own, **(parameters or {})}
    others = (spec, input_size, dtype, device, _kinds(tensors))
    if last is not None and unchanged and last.others == others:
        return last.program, tensors
    found = _traced(cell, tensors, others)
    glance = None if is_parametrized(cell) else Glance.at(cell)
    if glance is not None:
        _LAST[cell] = _Last(glance, own, others, found)
    return found, tensors


def traced(
    cell: nn.Module,
    tensors: Parameters,
    spec: StateSpec,
    input_size: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Program:
    """The program of a cell that reads these tensors and no others."""
    return _traced(cell, tensors, (spec, input_size, dtype, device, _kinds(tensors)))


def _traced(cell: nn.Module, tensors: Parameters, others: _Others) -> Program:
    found = _program_or_refusal(cell, tensors, others)
    if isinstance(found, CellError):
        raise CellError(str(found)) from found
    return found


def _kinds(tensors: Parameters) -> tuple[tuple[torch.Size, torch.dtype], ...]:
    return tuple([(tensor.shape, tensor.dtype) for tensor in tensors.values()])


# What a program depends on beside the cell and the names of its tensors: states, features, dtype
# and device of x, shapes and dtypes of the tensors.
_Others = tuple[
    StateSpec, int, torch.dtype, torch.device, tuple[tuple[torch.Size, torch.dtype], ...]
]


@dataclasses.dataclass(frozen=True)
class _Last:
    """The last program of a cell, with the cell's own tensors: the same while nothing changes."""

    glance: Glance
    tensors: dict[str, Tensor]
    others: _Others
    program: Program


_LAST: WeakKeyDictionary[nn.Module, _Last] = WeakKeyDictionary()
_PROGRAMS: cachetools.LRUCache[Hashable, Program | CellError] = cachetools.LRUCache(maxsize=256)


def _key(cell: nn.Module, tensors: Parameters, others: _Others) -> Hashable:
    return (_structure(cell), tuple(tensors), others)


@cachetools.cached(_PROGRAMS, key=_key, lock=Lock())
def _program_or_refusal(
    cell: nn.Module, tensors: Parameters, others: _Others
) -> Program | CellError:
    """A refusal is kept too: it would be the same the next time."""
    spec, input_size, dtype, device, _ = others
    try:
        return Program(trace(cell, tensors, spec, input_size, dtype, device))
    except CellError as error:
        return error


_TENSORS = ("_parameters", "_buffers")
_CHILDREN = ("_modules",)


def _structure(module: nn.Module) -> Hashable:
    """All of a module on which its forward may depend, but for the numbers in its tensors."""
    attributes = tuple(
        (name, _plain(value))
        for name, value in module.__dict__.items()
        if name not in _TENSORS and name not in _CHILDREN and not isinstance(value, Tensor)
    )
    children = tuple((name, child and _structure(child)) for name, child in module._modules.items())
    return (type(module), _of_class(type(module)), attributes, children)


def _of_class(kind: type) -> Hashable:
    """What a class gives its modules: methods, which may be replaced, and plain attributes."""
    found = []
    for base in kind.__mro__:
        if base is nn.Module:
            break
        for name, value in vars(base).items():
            if not name.startswith("__"):
                found.append((base, name, value if type(value) is FunctionType else _plain(value)))
    return tuple(found)


class _Same:
    """An object that is equal to itself alone, and is kept alive, so that none takes its place."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _plain(value: Any) -> Hashable:
    """Numbers, text, arrays, and what is made of them, by value; any other object by identity."""
    kind = type(value)
    if isinstance(value, float):
        return (kind, value.hex())  # tells -0 from 0, and knows NaN again
    if value is None or isinstance(value, (bool, int, str, bytes, torch.dtype, torch.device)):
        return (kind, value)
    if isinstance(value, (tuple, list, deque)):
        return (kind, tuple(map(_plain, value)))
    if isinstance(value, (set, frozenset)):
        return (kind, frozenset(map(_plain, value)))
    if isinstance(value, dict):
        return (kind, tuple((_plain(key), _plain(v)) for key, v in value.items()))
    if isinstance(value, SimpleNamespace):
        return (kind, _plain(vars(value)))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return (kind, _plain(named))
    if kind.__module__ == "numpy" and hasattr(value, "tobytes"):
        return (kind, str(value.dtype), value.shape, value.tobytes())
    return _Same(value)
