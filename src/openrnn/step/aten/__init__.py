"""From ATen operations to the operations of our table."""

from openrnn.step.aten import pointwise, products, reductions, sources, views
from openrnn.step.aten.registry import CONVERTERS

__all__ = ["CONVERTERS", "pointwise", "products", "reductions", "sources", "views"]
