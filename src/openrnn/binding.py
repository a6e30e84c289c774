"""The tensors that a module reads, and a module that reads others in their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

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


def _below(name: str, tensors: Parameters) -> dict[str, Tensor]:
    start = len(name) + 1
    return {key[start:]: value for key, value in tensors.items() if key.startswith(f"{name}.")}


@contextmanager
def parametrizations_once(module: nn.Module) -> Iterator[None]:
    """Inside, each parametrization of the module is computed once, at the start."""
    owners = [(m, parametrized(m)) for m in module.modules() if parametrize.is_parametrized(m)]
    if not owners:
        yield
        return
    with parametrize.cached():
        for owner, names in owners:
            for name in names:
                getattr(owner, name)
        yield
