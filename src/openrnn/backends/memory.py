"""What a kernel would read otherwise than it lies in memory is refused."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from openrnn.errors import BackendError


def check_memory(name: str, tensors: Iterable[Tensor | None], device: torch.device) -> None:
    """Raises a BackendError if any has its numbers on another device, or elsewhere altogether."""
    for tensor in tensors:
        if tensor is None:
            continue
        kind = type(tensor)
        if (
            kind is not Tensor
            and kind is not nn.Parameter
            and kind.__torch_dispatch__ is not Tensor.__torch_dispatch__
        ):
            raise BackendError(
                f"{name}: the input, a state or a parameter is a {kind.__name__}, whose numbers "
                "are not in memory as those of a torch.Tensor are"
            )
        if tensor.device == device:
            continue
        if tensor.dim() > 0 or tensor.device.type != "cpu":  # torch lets lone numbers be
            raise BackendError(
                f"{name}: the input is on {device}, but a state or a parameter is on "
                f"{tensor.device}. Move all to one device"
            )


def check_dtypes(name: str, states: Iterable[Tensor | None], dtype: torch.dtype) -> None:
    """Raises a BackendError if any is not of the input's dtype, for which a step is traced."""
    for state in states:
        if state is not None and state.dtype != dtype:
            raise BackendError(
                f"{name}: expected states of the input's dtype {dtype}, got {state.dtype}. "
                f"Convert them: state.to({dtype})"
            )
