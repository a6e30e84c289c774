"""Tensors without numbers, on which a cell can be run for its shapes alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# A batch so large, and prime, that a size which is a multiple of it comes from the batch.
ROWS = 1_000_003
_SMALL = 1_000_000


def shadow(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def shadows(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: shadow(tuple(t.shape), t.dtype) for name, t in tensors.items()}


def has_tensors(value: Any) -> bool:
    """Whether there is a tensor in an argument list, however nested."""
    if isinstance(value, (tuple, list)):
        return any(map(has_tensors, value))
    return isinstance(value, Tensor)


def is_permuted(tensor: Tensor) -> bool:
    """Whether its numbers lie in memory in another order than that of its dimensions."""
    strides = [s for s, size in zip(tensor.stride(), tensor.shape, strict=True) if size != 1]
    return strides != sorted(strides, reverse=True)


def _like(shape: tuple[int, ...], tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A shadow of this shape, in memory in the order of the dimensions of `tensor`."""
    return _laid_out(shape, tensor, lambda turned: shadow(turned, dtype))


def _laid_out(
    shape: tuple[int, ...], like: Tensor, make: Callable[[tuple[int, ...]], Tensor]
) -> Tensor:
    """What `make` gives for a shape, but with its dimensions in memory in the order of `like`'s."""
    if not is_permuted(like):
        return make(shape)
    order = sorted(range(like.dim()), key=like.stride, reverse=True)
    turned = make(tuple(shape[d] for d in order))
    return turned.permute([order.index(d) for d in range(len(order))])


class ShadowMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Makes shadows of operations, whatever device they ask for, with `rows` as the batch size.

    A subclass decides in `__torch_dispatch__` what to `run`.

    torch could work out the shapes: on the meta device, or in FakeTensorMode. But for most
    operations it does so in Python and imports all of torch.compile first, for more than a second.
    """

    def __init__(self, rows: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows = rows

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would import torch.compile to keep it out of here

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The shadow of what the operation gives."""
        name = str(func)
        if name in _PRODUCTS:
            return _product(name, args)
        if func._schema.is_mutable and isinstance(args[0], Tensor):
            return args[0]  # in place: the shape stays
        if name == "aten.unbind.int" and args[0].size(args[1] if len(args) > 1 else 0) >= self.rows:
            raise RuntimeError("the rows of the batch are taken apart, by a loop over a tensor say")
        if name.startswith("aten.bernoulli."):  # to run it would draw numbers
            return _like(tuple(args[0].shape), args[0], args[0].dtype)
        if name.endswith("_like.default"):
            return _like(tuple(args[0].shape), args[0], kwargs.get("dtype") or args[0].dtype)
        if any(argument.name == "device" for argument in func._schema.arguments):
            kwargs = {**kwargs, "device": "meta"}
        elif has_tensors(args) and not func.is_view:
            return self._by_example(func, args, kwargs)
        return func(*_to_meta(args), **{name: _to_meta(value) for name, value in kwargs.items()})

    def _by_example(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Runs the operation on zeros with two rows and with three: what differs is the batch."""
        two, three = (
            func(*self._example(args, rows), **self._example(kwargs, rows)) for rows in (2, 3)
        )
        if isinstance(two, Tensor):
            return self._unify(two, three)
        return tuple(self._unify(a, b) for a, b in zip(two, three, strict=True))

    def _unify(self, two: Tensor, three: Tensor) -> Tensor:
        shape = tuple(
            a if a == b else a // 2 * self.rows for a, b in zip(two.shape, three.shape, strict=True)
        )
        return _like(shape, two, two.dtype)

    def _example(self, value: Any, rows: int) -> Any:
        """The value with `rows` as the batch size, and zeros for tensors."""
        if isinstance(value, Tensor):
            shape = [self._example(size, rows) for size in value.shape]
            if math.prod(shape) > _SMALL:  # a weight: no memory for it, at the cost of its strides
                return torch.zeros((), dtype=value.dtype).expand(shape)
            return _laid_out(
                tuple(shape), value, lambda turned: torch.zeros(turned, dtype=value.dtype)
            )
        if isinstance(value, (tuple, list)):
            return type(value)(self._example(v, rows) for v in value)
        if isinstance(value, dict):
            return {key: self._example(v, rows) for key, v in value.items()}
        if isinstance(value, int) and not isinstance(value, bool) and value >= self.rows:
            return value // self.rows * rows
        return value


_PRODUCTS = {  # the place of the first factor among the arguments
    "aten.mm.default": 0,
    "aten.bmm.default": 0,
    "aten.addmm.default": 1,
    "aten.baddbmm.default": 1,
}


def _product(name: str, args: tuple[Any, ...]) -> Tensor:
    """By rule, not by example: a weight may be large."""
    a, b = args[_PRODUCTS[name] : _PRODUCTS[name] + 2]
    if a.size(-1) != b.size(-2) or a.dtype != b.dtype:
        raise RuntimeError(
            f"no product of {a.dtype} {tuple(a.shape)} and {b.dtype} {tuple(b.shape)}"
        )
    return shadow((*a.shape[:-1], b.size(-1)), a.dtype)


def _to_meta(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value if value.is_meta else value.to("meta")
    if isinstance(value, (tuple, list)):
        return type(value)(map(_to_meta, value))
    return value
