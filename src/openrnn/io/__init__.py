"""Layers with weights from Keras, flax or an ONNX file, and layers as ONNX models."""

from openrnn.io.flax import from_flax
from openrnn.io.keras import from_keras
from openrnn.io.onnx import from_onnx
from openrnn.io.onnx_model import to_onnx
from openrnn.io.onnx_translation import onnx_translations

__all__ = ["from_flax", "from_keras", "from_onnx", "onnx_translations", "to_onnx"]
