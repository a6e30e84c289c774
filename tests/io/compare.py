"""What a layer with weights from elsewhere is held against: what the other library computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from openrnn.layers.layer import Layer

# Of numbers about 1, after ten steps at most; a wrong equation shows in the first digits.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def tensor(value: Any) -> Tensor:
    return torch.tensor(np.asarray(value))


def assert_equal(ours: Any, theirs: Any) -> None:
    """To the rounding of the dtype, which is the same."""
    theirs = tensor(theirs)
    tolerance = TOLERANCE[theirs.dtype]
    torch.testing.assert_close(ours.detach(), theirs, rtol=tolerance, atol=tolerance)


def assert_streams(layer: Layer, x: Tensor, output: Any) -> None:
    """Step by step, the layer gives what the other library gave for the whole sequence."""
    layer.eval()
    dim = 1 if layer.batch_first else 0
    stream = layer.stream(x.size(1 - dim))
    assert_equal(torch.stack([stream(step) for step in x.unbind(dim)], dim), output)


def assert_plain(layer: Layer) -> None:
    """Its parameters are its own: they can be trained, and lie as torch has them."""
    for name, parameter in layer.named_parameters():
        assert parameter.is_leaf, name
        assert parameter.requires_grad, name
        assert parameter.is_contiguous(), name
        assert parameter.device.type == "cpu", name
