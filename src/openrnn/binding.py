"""The tensors that a module reads, and a module that reads others in their place."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

# The tensors that a cell reads in place of its own, by dotted name.
Parameters = Mapping[str, Tensor]


def tensors_of(module: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    """Parameters, buffers and tensors that are plain attributes, by dotted name.

    A parametrized tensor is there by its own name, as it is computed from its originals.
    """
    found: dict[str, Tensor] = {}
    for table in (module._parameters, module._buffers, module.__dict__):
        found |= {prefix + k: v for k, v in table.items() if isinstance(v, Tensor)}
    for name in parametrized(module):
        found[prefix + name] = getattr(module, name)
    for name, child in module._modules.items():
        if child is not None and name != "parametrizations":
            found |= tensors_of(child, f"{prefix}{name}.")
    return found


def parametrized(module: nn.Module) -> list[str]:
    """The names of the module's own tensors that are computed by a parametrization."""
    return list(module.parametrizations) if parametrize.is_parametrized(module) else []  # type: ignore[arg-type]


def is_parametrized(module: nn.Module) -> bool:
    """Whether any tensor of the module, or of one inside it, is computed from others."""
    children = module._modules
    return "parametrizations" in children or any(
        child is not None and is_parametrized(child) for child in children.values()
    )


def bind(module: nn.Module, tensors: Parameters) -> nn.Module:
    """A shallow copy of `module` that reads these tensors in place of its own.

    Unlike `torch.func.functional_call` it leaves `module` alone, which threads may share.
    """
    computed = parametrized(module)
    kind: Any = parametrize.type_before_parametrizations(module) if computed else type(module)
    bound: nn.Module = kind.__new__(kind)
    bound.__dict__ = dict(module.__dict__)
    own = {name: value for name, value in tensors.items() if "." not in name}
    for table in ("_parameters", "_buffers"):
        held = getattr(module, table)
        taken = {n: v for n, v in own.items() if n in held or (n in computed and n not in held)}
        bound.__dict__[table] = {**held, **taken}
        own = {n: v for n, v in own.items() if n not in taken}
    bound.__dict__.update(own)
    bound.__dict__["_modules"] = {
        name: child and bind(child, _below(name, tensors))
        for name, child in module._modules.items()
        if not (computed and name == "parametrizations")
    }
    return bound


def sandbox(module: nn.Module, tensors: Parameters | None = None) -> nn.Module:
    """A copy of `module` to try things on: what runs in it leaves the module as it was.

    Its buffers and containers are copies, its parameters are shared, or `tensors` are in their
    place.
    """
    copy = bind(module, tensors) if tensors is not None else _with_own_buffers(module)
    for part in copy.modules():
        for name, value in part.__dict__.items():
            if name not in ("_parameters", "_buffers", "_modules"):
                part.__dict__[name] = copy_containers(value)
    for part, original in zip(copy.modules(), _originals(module, copy), strict=True):
        for name, value in part.__dict__.items():
            if isinstance(value, MethodType) and value.__self__ is original:
                part.__dict__[name] = MethodType(value.__func__, part)
    return copy


def tensors_aside(module: nn.Module) -> dict[str, Tensor]:
    """`tensors_of` for their shapes: a parametrization may draw a mask, or change a buffer, and
    does so in a sandbox, with the random state put back.
    """
    with torch.random.fork_rng():
        return tensors_of(sandbox(module))


def _with_own_buffers(module: nn.Module) -> nn.Module:
    copy: nn.Module = type(module).__new__(type(module))
    copy.__dict__ = dict(module.__dict__)
    copy.__dict__["_parameters"] = dict(module._parameters)
    buffers = {n: None if b is None else b.clone() for n, b in module._buffers.items()}
    copy.__dict__["_buffers"] = buffers
    children = {n: c and _with_own_buffers(c) for n, c in module._modules.items()}
    copy.__dict__["_modules"] = children
    return copy


def _originals(module: nn.Module, copy: nn.Module) -> Iterator[nn.Module]:
    """The module's parts, in the order of its copy's."""
    yield module
    for name, child in copy._modules.items():
        original = module._modules[name]
        if child is not None and original is not None:
            yield from _originals(original, child)


def copy_containers(value: Any) -> Any:
    """Lists, dicts, sets and deques copied, and those inside them; all else as it is."""
    if type(value) in (list, tuple, deque):
        return type(value)(map(copy_containers, value))
    if type(value) in (dict, OrderedDict):
        return type(value)((key, copy_containers(v)) for key, v in value.items())
    if type(value) in (set, bytearray):
        return value.copy()
    return value


_GLOBAL_HOOKS = [
    table
    for name, table in vars(nn.modules.module).items()
    if name.startswith("_global_") and name.endswith(("ward_hooks", "ward_pre_hooks"))
]


def has_global_hooks() -> bool:
    """Whether torch calls hooks of the user's at all modules."""
    return any(_GLOBAL_HOOKS)


@contextmanager
def without_global_hooks() -> Iterator[None]:
    """Inside, hooks at all modules see nothing: what runs is not the user's, or no step of his.

    They see nothing of other threads either, which is why it is not done where there are none.
    """
    if not has_global_hooks():
        yield
        return
    held = [dict(table) for table in _GLOBAL_HOOKS]
    for table in _GLOBAL_HOOKS:
        table.clear()
    try:
        yield
    finally:
        for table, own in zip(_GLOBAL_HOOKS, held, strict=True):
            table.update(own)


def _below(name: str, tensors: Parameters) -> dict[str, Tensor]:
    start = len(name) + 1
    return {key[start:]: value for key, value in tensors.items() if key.startswith(f"{name}.")}


@contextmanager
def parametrizations_once(module: nn.Module) -> Iterator[nn.Module]:
    """Gives the module to run inside, where each of its parametrizations is computed once."""
    owners = [(m, parametrized(m)) for m in module.modules() if parametrize.is_parametrized(m)]
    if len({type(owner) for owner, _ in owners}) < len(owners):
        # A copy shares its class with its original, and torch's cache takes the one for the other.
        yield bind(module, tensors_of(module))
        return
    if not owners:
        yield module
        return
    with parametrize.cached():
        for owner, names in owners:
            for name in names:
                getattr(owner, name)
        yield module
