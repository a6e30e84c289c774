"""A layer fed step by step: it keeps its state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from openrnn.autograd import in_transform
from openrnn.backends.backend import States, Stepper
from openrnn.binding import has_global_hooks
from openrnn.cells.arguments import check_count
from openrnn.errors import ArgumentError, ArgumentTypeError, ShapeError
from openrnn.step.glance import Glance

if TYPE_CHECKING:
    from openrnn.layers.layer import Layer

# What a call without a state begins with, in the place of a state.
DEFAULT = "default"


def is_default(state: Any) -> bool:
    """Whether no state was given, or DEFAULT."""
    return state is None or (isinstance(state, str) and state == DEFAULT)


class Link(ABC):
    """A layer made ready for one step after another: memory and packed weights are its own.

    step: maps (B, features) to (B, features), and changes the state, which has the layer's form.
        An attribute, which a layer around another takes over: a call within a call costs time.
    """

    def __init__(self, step: Callable[[Tensor], Tensor]) -> None:
        self.step = step

    @abstractmethod
    def read(self) -> Any:
        """A copy of the state."""

    @abstractmethod
    def share(self, state: Any) -> list[tuple[Stepper, States]]:
        """A state taken apart, checked: what goes where."""

    def write(self, state: Any) -> None:
        """Takes a state, all of it, or none if it does not fit."""
        for stepper, states in self.share(state):
            stepper.write(states)


class Stream:
    """A layer fed step by step, in inference: it keeps its state from one call to the next.

        y_t, s_t = layer(x_t, s_{t-1})

    Made by `layer.stream(batch_size, state)`. Steps one at a time, or in chunks of any size, give
    what the layer gives for all at once. A step of a layer that runs in kernels, on a CPU, computes
    in memory that was prepared at the first one, with weights that are packed once, and again when
    they have changed. What is written into a weight through its `.data` is not seen: change it
    under `torch.no_grad()`, as torch's optimizers do.

    There are no gradients. As in any call, dropout is at work in training mode: call
    `layer.eval()` first.

    Shapes:
        input: one step, (B, I), or (I) where B is 1; or some, (T, B, I), or (B, T, I) with
            batch_first.

    Returns:
        output: that of the input's steps, (B, H), (H), (T, B, H) or (B, T, H).

    Raises:
        ShapeError: an input of the wrong rank, size or dtype.
        StateError: a state that is not as many tensors as the layer has states.
        ArgumentError: batch_size below 1; a row outside the batch.
        ArgumentTypeError: a layer with a direction that runs backward.

    Examples:
        >>> from openrnn import LSTM
        >>> lstm = LSTM(30, 20).eval()
        >>> stream = lstm.stream()
        >>> x = torch.randn(12, 1, 30)
        >>> y = [stream(x_t) for x_t in x]
        >>> torch.equal(torch.stack(y), lstm(x)[0])
        True
        >>> stream.reset()
    """

    def __init__(self, layer: Layer, batch_size: int = 1, state: Any = None) -> None:
        layer.check_streams("stream")
        self.layer: Layer = layer
        self.batch_size: int = check_count("stream", "batch_size", batch_size)
        self._given: Any = copied(state)
        self._state: Any = self._given
        self._replaced: Tensor | None = None  # rows that are reset at the first step, (B,) bool
        self._like: Tensor | None = None  # zeros of the shape of a step's input, once there was one
        self._kind: tuple[Any, ...] = ()  # its shape, dtype and device
        self._link: Link | None = None
        self._start: Any = None  # the state in which it begins, while the link holds
        self._is_unchanged: Callable[[], bool] | None = None  # whether the link holds

    def __call__(self, input: Tensor) -> Tensor:
        if self._link is not None and isinstance(input, Tensor):
            if self._fits(input):
                return self._link.step(input)
            if input.dim() == 1 and self._fits(input.unsqueeze(0)):
                return self._link.step(input.unsqueeze(0)).squeeze(0)
        return self._run(input)

    def __getstate__(self) -> dict[str, Any]:
        """A copy has no link; it makes its own."""
        parts = {"_state": self.state, "_link": None, "_start": None, "_is_unchanged": None}
        return {**self.__dict__, **parts}

    def _holds(self) -> bool:
        """Whether there is a link, made for the layer as it is now."""
        return (
            self._link is not None
            and self._is_unchanged is not None
            and self._is_unchanged()
            and not has_global_hooks()
        )

    def _fits(self, x: Tensor) -> bool:
        """Whether the link holds, and was made for such a step."""
        return (
            (x.shape, x.dtype, x.device) == self._kind
            and self._holds()
            and not in_transform(x.device)
        )

    @property
    def state(self) -> Any:
        """The state after the last step, in the form in which the layer takes it.

        Before the first step it is what was given, or None. It may be set.
        """
        return copied(self._state) if self._link is None else self._link.read()

    @state.setter
    def state(self, state: Any) -> None:
        if self._link is not None and state is not None and self._holds():
            self._link.write(state)
        else:
            self._state, self._link, self._replaced = copied(state), None, None

    def reset(self, rows: Any = None) -> None:
        """Goes back to the state in which the stream began.

        Args:
            rows: which sequences of the batch: an index, several, or a mask of (B,) bool.
                Default: all.
        """
        if rows is None:
            if self._link is not None and self._holds():
                self._link.write(self._given)
            else:
                self._state, self._link, self._replaced = self._given, None, None
            return
        chosen = self._read_rows(rows)
        if self._link is not None and self._holds():
            mask = chosen.unsqueeze(1)
            pick = lambda begin, now: torch.where(mask, begin, now)  # noqa: E731
            self._link.write(_map(pick, self._start, self._link.read()))
            return
        self._state, self._link = self.state, None
        self._replaced = chosen if self._replaced is None else chosen | self._replaced

    def _run(self, input: Tensor) -> Tensor:
        """Steps through the layer itself, and makes what is quicker ready for the next one."""
        steps = self._read(input)
        options: dict[str, Any] = {}
        if self._replaced is not None:
            reset = torch.zeros(steps.shape[:2], dtype=torch.bool, device="cpu")
            reset[0] = self._replaced
            again = DEFAULT if self._given is None else self._given
            options = {"reset": self._time_first(reset), "reset_to": again}
        with torch.no_grad():
            output: Tensor
            output, state = self.layer(self._time_first(steps), self.state, **options)
        self._replaced = None
        if self._link is not None and self._fits(steps[0]):  # more steps than one
            self._link.write(state)
        else:
            self._state, self._link = state, None
            # Memory that outlives an inference mode that is on just now.
            with torch.inference_mode(False), torch.no_grad():
                shape, dtype, device = self._kind = steps[0].shape, steps.dtype, steps.device
                self._like = torch.zeros(shape, dtype=dtype, device=device)
                self._make_link()
        return output if input.dim() == 3 else self._time_first(output).view(*input.shape[:-1], -1)

    def _make_link(self) -> None:
        layer = self.layer
        assert self._like is not None
        glance = Glance.at(layer, classes=False)
        tensors = list(_tensors_of(layer))
        if (
            glance is None
            or in_transform(self._like.device)
            or not _runs_as_it_is(layer)
            or has_global_hooks()
            or any(tensor.is_inference() for tensor in tensors)  # they do not tell of changes
        ):
            return
        link = layer.link(self._like)
        if link is None:
            return
        versions = [tensor._version for tensor in tensors]

        def is_unchanged() -> bool:
            return [t._version for t in tensors] == versions and glance.is_unchanged()

        link.write(self._given)
        self._start = link.read()
        link.write(self._state)
        self._state, self._link, self._is_unchanged = None, link, is_unchanged

    def _time_first(self, steps: Tensor) -> Tensor:
        """From time first to the layer's layout, or back."""
        return steps.transpose(0, 1) if self.layer.batch_first else steps

    def _read(self, input: Any) -> Tensor:
        """The input as (T, B, features)."""
        rows = self.batch_size
        if not isinstance(input, Tensor):
            raise ArgumentTypeError(
                f"stream: expected the input to be a Tensor, got {type(input).__name__}"
            )
        if input.dim() == 1 and rows == 1:
            return input.view(1, 1, -1)
        if input.dim() == 2 and input.size(0) == rows:
            return input.unsqueeze(0)
        if input.dim() == 3 and self._time_first(input).size(1) == rows:
            return self._time_first(input)
        chunk = f"({rows}, T, features)" if self.layer.batch_first else f"(T, {rows}, features)"
        one = f"({rows}, features)" + " or (features)" * (rows == 1)
        raise ShapeError(
            f"stream: expected one step, {one}, or some, {chunk}, for batch_size {rows}, "
            f"got shape {tuple(input.shape)}"
        )

    def _read_rows(self, rows: Any) -> Tensor:
        """Which rows were asked for, (B,) bool."""
        count = self.batch_size
        wrong = ArgumentError(
            f"stream: expected rows to be indices from 0 to {count - 1}, or a mask of bool, "
            f"got {rows!r}"
        )
        if isinstance(rows, (bool, str)):
            raise wrong
        try:
            read = torch.as_tensor(rows, device="cpu")
        except (TypeError, ValueError, RuntimeError) as error:
            raise wrong from error
        mask = torch.zeros(count, dtype=torch.bool, device="cpu")
        if read.numel() == 0:
            return mask
        if read.dtype == torch.bool:
            if read.shape != (count,):
                raise ShapeError(
                    f"stream: expected a mask of rows of shape ({count},), batch_size, "
                    f"got {tuple(read.shape)}"
                )
            return read.clone()
        if read.is_floating_point() or bool(((read < 0) | (read >= count)).any()):
            raise wrong
        mask[read.flatten().long()] = True
        return mask


def _tensors_of(layer: nn.Module) -> Iterator[Tensor]:
    """Parameters, buffers, and tensors that are plain attributes."""
    yield from layer.parameters()
    yield from layer.buffers()
    for module in layer.modules():
        yield from (value for value in vars(module).values() if isinstance(value, Tensor))


def _runs_as_it_is(layer: nn.Module) -> bool:
    """Whether a call is the library's forward and nothing else: no hook, no other forward."""
    owner = next(kind for kind in type(layer).__mro__ if "forward" in vars(kind))
    hooks = (part._forward_hooks or part._forward_pre_hooks for part in layer.modules())
    return owner.__module__.startswith("openrnn.layers.") and not any(hooks)


def copied(state: Any) -> Any:
    """A state, however nested, in memory of its own and without its history."""
    if isinstance(state, Tensor):
        return state.detach().clone()
    return type(state)(map(copied, state)) if type(state) in (tuple, list) else state


def _map(join: Callable[[Tensor, Tensor], Tensor], a: Any, b: Any) -> Any:
    """Joins two states tensor by tensor; the rows of each are its last dimension but one."""
    if isinstance(a, Tensor):
        return join(a, b)
    return tuple(_map(join, x, y) for x, y in zip(a, b, strict=True))
