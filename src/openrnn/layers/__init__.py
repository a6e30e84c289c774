"""Cells over sequences: any cell, stacks, and the drop-in layers of torch.nn."""
