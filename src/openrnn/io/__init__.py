"""Layers with weights that were trained elsewhere: in Keras, in flax, or in an ONNX file."""

from openrnn.io.flax import from_flax
from openrnn.io.keras import from_keras
from openrnn.io.onnx import from_onnx

__all__ = ["from_flax", "from_keras", "from_onnx"]
