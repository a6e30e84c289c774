"""Recurrent layers for PyTorch that you can open: write the cell, keep the speed, see inside."""

__version__ = "0.1.0"
