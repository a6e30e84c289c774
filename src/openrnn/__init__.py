"""Recurrent layers for PyTorch that you can open: write the cell, keep the speed, see inside."""

from openrnn import cells, io
from openrnn.cells import GRUCell, LSTMCell, RNNCell
from openrnn.convert import convert, to_torch
from openrnn.errors import (
    ArgumentError,
    ArgumentTypeError,
    BackendError,
    CellError,
    ConversionError,
    DataError,
    MissingExtraError,
    OpenRNNError,
    ShapeError,
    StateError,
)
from openrnn.explain.draw import draw
from openrnn.explain.equations import equations
from openrnn.explain.explain import explain
from openrnn.explain.record import record
from openrnn.export.c import export_c
from openrnn.layers.bidirectional import Bidirectional
from openrnn.layers.gru import GRU
from openrnn.layers.lstm import LSTM
from openrnn.layers.recurrent import Recurrent
from openrnn.layers.rnn import RNN
from openrnn.layers.stack import Stack
from openrnn.layers.tbptt import tbptt
from openrnn.quantize import quantize

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "ArgumentError",
    "ArgumentTypeError",
    "BackendError",
    "Bidirectional",
    "CellError",
    "ConversionError",
    "DataError",
    "GRUCell",
    "LSTMCell",
    "MissingExtraError",
    "OpenRNNError",
    "RNNCell",
    "Recurrent",
    "ShapeError",
    "Stack",
    "StateError",
    "cells",
    "convert",
    "draw",
    "equations",
    "explain",
    "export_c",
    "io",
    "quantize",
    "record",
    "tbptt",
    "to_torch",
]
