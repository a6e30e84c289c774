"""Products in 8 bits, in torch operations: the meaning that every kernel of them must have."""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 255  # steps between the smallest and the largest number of a row
LARGEST = 127  # of a weight
DEEPEST = (2**31 - 1) // (LEVELS * LARGEST)  # terms of a sum that 32 bits certainly hold
# A scale below is taken for 0, so that its inverse is finite.
SMALLEST = torch.finfo(torch.float32).tiny

NO_GRADIENT = (
    "a quantized layer is for inference alone: products in 8 bits have no gradient. Call it under "
    "torch.no_grad(), or train the layer that it was made from, and quantize that"
)


def quantize_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(..., columns, depth) as int8, -127 to 127, and the scale of each column's weights.

    weight ≈ int8 · scale, with an error of at most half a scale.
    """
    scale = weight.abs().amax(-1) / LARGEST
    scale = torch.where(scale < SMALLEST, 0, scale)
    levels = torch.round(weight / torch.where(scale == 0, 1, scale).unsqueeze(-1))
    return levels.clamp(-LARGEST, LARGEST).to(torch.int8), scale


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """(..., depth) as whole numbers of float32, and the scale of each row, (..., 1).

    x ≈ levels · scale, with an error of at most half a scale. 255 steps lead from the smallest
    number of a row, or 0, to its largest, or 0; so 0 is exact. The scale of a row with a number
    that is not finite is NaN.
    """
    low, high = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True).clamp(min=0)
    scale = high / LEVELS - low / LEVELS
    scale = torch.where(scale < SMALLEST, 0, torch.where(scale.isfinite(), scale, torch.nan))
    inverse = torch.where(scale > 0, 1 / scale, 0)
    zero = torch.round(-low * inverse)
    return (torch.round(x * inverse) + zero).clamp(0, LEVELS) - zero, scale


def linear(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """x Wᵀ for rows of x in 8 bits: whole numbers are summed exactly, and then scaled.

    Args:
        x: (..., rows, depth), float32.
        weight: (..., columns, depth), int8.
        scale: (..., columns), float32.
    """
    levels, of_row = quantize_rows(x)
    sums = levels.double() @ weight.double().mT  # exact
    return sums.to(x.dtype) * (of_row * scale.unsqueeze(-2))
