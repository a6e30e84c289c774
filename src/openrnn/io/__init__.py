"""Layers with weights from Keras, flax or an ONNX file, and layers as ONNX models."""

from openrnn.io.flax import from_flax
from openrnn.io.keras import from_keras
from openrnn.io.onnx import from_onnx
from openrnn.io.to_onnx import to_onnx

__all__ = ["from_flax", "from_keras", "from_onnx", "to_onnx"]
