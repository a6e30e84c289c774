"""The calls of torch that the user's code makes, before torch takes them apart.

Some mean more than the operations that they become, some would become operations without a
counterpart, and some have no meaning in a graph at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from openrnn.errors import CellError
from openrnn.shadow import is_permuted

Refuse = Callable[[str, str], CellError]  # the operation, and why


class Calls(TorchFunctionMode):
    """Sees each call of torch that the cell makes, and answers some itself."""

    def __init__(self, refuse: Refuse, device: torch.device) -> None:
        super().__init__()
        self._refuse = refuse
        self._device = device
        self._detached: list[Tensor] = []  # they share memory with what has a gradient

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DEVICE:
            return _DEVICE[func](self._device)
        if func in _AUTOGRAD:
            raise self._refuse(
                f"Tensor.{_AUTOGRAD[func]}",
                "is about the gradients of one call; a step has none of its own. "
                "Change the value, not its gradient",
            )
        if _is_in_place(func, kwargs) and self._is_unseen(args):
            raise self._refuse(
                func.__name__,
                "changes a tensor in place, without its gradient. Compute a new tensor",
            )
        if func in _RANDOM_LIKE and is_permuted(args[0] if args else kwargs["input"]):
            raise self._refuse(
                func.__name__,
                "draws numbers in the order in which a permuted tensor lies in memory. "
                "Make it contiguous() before",
            )
        result = _WRITTEN.get(func, func)(*args, **kwargs)
        if func in _DETACH:
            self._detached.append(result)
        return result

    def _is_unseen(self, args: tuple[Any, ...]) -> bool:
        """Whether torch would record no gradient of a change in place to the first of these."""
        return not torch.is_grad_enabled() or any(t is args[0] for t in self._detached)


_DEVICE: dict[Any, Callable[[torch.device], Any]] = {
    Tensor.device.__get__: lambda device: device,
    Tensor.is_meta.__get__: lambda device: device.type == "meta",  # type: ignore[attr-defined]
    Tensor.is_cuda.__get__: lambda device: device.type == "cuda",  # type: ignore[attr-defined]
    Tensor.is_cpu.__get__: lambda device: device.type == "cpu",  # type: ignore[attr-defined]
}

_AUTOGRAD: dict[Any, str] = {
    getattr(Tensor, name): name
    for name in ("register_hook", "retain_grad", "requires_grad_", "backward")
} | {getattr(Tensor, name).__get__: name for name in ("requires_grad", "grad_fn", "is_leaf")}

_RANDOM_LIKE = {
    *(F.dropout, F.alpha_dropout, torch.dropout, torch.bernoulli, Tensor.bernoulli),
    *(torch.rand_like, torch.randn_like, torch.empty_like, Tensor.bernoulli_),
    *(Tensor.normal_, Tensor.uniform_),
}


def _is_in_place(func: Any, kwargs: dict[str, Any]) -> bool:
    name = getattr(func, "__name__", "")
    if name.startswith("__"):
        return name in _IN_PLACE
    return name.endswith("_") or bool(kwargs.get("inplace")) or kwargs.get("out") is not None


_IN_PLACE = {"__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__ipow__"}


_DETACH = (Tensor.detach, torch.detach, Tensor.data.__get__)  # type: ignore[attr-defined]


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """In the operations that torch makes it of, but for one in place.

    That one's shape torch would work out with the help of sympy, which takes a second to import.
    """
    if not training or inplace or not 0 < p < 1:
        return F.dropout(input, p, training, inplace)
    return input * (torch.bernoulli(torch.empty_like(input), 1 - p) / (1 - p))


def _cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """torch keeps the norms above eps by a change in place, without a gradient."""
    parts = []
    for x in torch.broadcast_tensors(x1, x2):  # type: ignore[no-untyped-call]
        norm = torch.linalg.vector_norm(x, 2, dim, keepdim=True)
        parts.append(x / (norm + (norm.clamp_min(eps) - norm).detach()))
    return torch.sum(parts[0] * parts[1], dim)


_WRITTEN: dict[Any, Callable[..., Any]] = {
    F.dropout: _dropout,
    F.cosine_similarity: _cosine_similarity,
    Tensor.data.__get__: Tensor.detach,  # type: ignore[attr-defined]
}
