"""torch.nn's layers, dynamically quantized by torch.ao: int8 weights, a scale for each tensor."""

from __future__ import annotations

import warnings

import torch
from torch import nn

NAME = "torch.ao"


def quantized(model: nn.Module) -> nn.Module:
    """A copy of a model whose RNN, LSTM and GRU are quantized."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it will move to another package
        found: nn.Module = torch.ao.quantization.quantize_dynamic(
            nn.Sequential(model), {nn.LSTM, nn.GRU}, torch.qint8
        )[0]
        return found
