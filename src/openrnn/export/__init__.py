"""Layers as source code that needs neither torch nor Python."""
