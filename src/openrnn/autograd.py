"""The one boundary with torch.autograd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad

# Gradients by place: of x, of each state, of each tensor that the cell reads.
Wanted = tuple[bool, ...]


class Runner(Protocol):
    """One call of a layer, as a backend makes it: a function of x, initial states and tensors.

    All take the inputs as one list in that order. The results are the output, with its rows as x
    has them, and the final states. It knows of which inputs gradients are wanted.
    """

    wanted: Wanted

    def forward(
        self, inputs: Sequence[Tensor | None]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The results, and what `backward` needs beside the inputs."""

    def backward(
        self,
        inputs: Sequence[Tensor | None],
        kept: Sequence[Tensor],
        gradients: Sequence[Tensor | None],
    ) -> list[Tensor | None]:
        """The gradients of the inputs where they are wanted, from those of the results.

        None stands for zeros.
        """

    def differentiable(
        self, inputs: Sequence[Tensor | None], kept: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """The results once more, with the same random numbers, in operations that torch records."""


class _Call(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, runner: Runner, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        results, kept = runner.forward(inputs)
        ctx.runner, ctx.count = runner, len(inputs)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, *kept)
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        saved = ctx.saved_tensors
        inputs, kept = saved[: ctx.count], saved[ctx.count :]
        if not torch.is_grad_enabled():
            return (None, *ctx.runner.backward(inputs, kept, gradients))
        # A gradient of the gradient is asked for: torch records all of it.
        results = ctx.runner.differentiable(inputs, kept)
        return (None, *recorded(results, gradients, inputs, ctx.runner.wanted))


# Past what torch does around it for the transforms of torch.func, at none of which it is called.
_apply: Any = super(torch.autograd.Function, _Call).apply


def recorded(
    results: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    inputs: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients of the inputs where they are wanted, in operations that torch records."""
    pairs = [
        (result, gradient)
        for result, gradient in zip(results, gradients, strict=True)
        if result.requires_grad and gradient is not None
    ]
    of, gradients = zip(*pairs, strict=True) if pairs else ((), ())
    chosen = [t for t, want in zip(inputs, wanted, strict=True) if want and t is not None]
    found = iter(torch.autograd.grad(of, chosen, gradients, create_graph=True, allow_unused=True))
    return [next(found) if want else None for want in wanted]


def call(runner: Runner, inputs: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    """The runner's results, differentiable any number of times."""
    if any(runner.wanted):
        results: tuple[Tensor, ...] = _apply(runner, *inputs)
        return results
    return runner.forward(inputs)[0]


def in_transform(device: torch.device) -> bool:
    """Whether something is at work that sees through ordinary operations only.

    That is a transform of torch.func (vmap, grad, jvp), forward-mode AD, autocast, a tracer of
    torch, or a mode that sees each operation, that of fake tensors say. The cell itself must run
    then.
    """
    return (
        torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
        or (torch._C._is_any_autocast_enabled() and _is_autocast(device.type))
        or torch._C._is_tracing()
        or torch.compiler.is_exporting()
        or torch._C._len_torch_dispatch_stack() > 0
    )


def _is_autocast(kind: str) -> bool:
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
