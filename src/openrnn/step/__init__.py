"""The compiler: from a cell to a step graph, its stages and its gradient."""
