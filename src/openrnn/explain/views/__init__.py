"""The views of `openrnn.draw`: one module each, with `draw(request) -> Figure`."""

from __future__ import annotations

from dataclasses import dataclass

from openrnn.explain.parts import Network
from openrnn.explain.views.colors import Colors

# By the view's name the module that draws it, which is imported when it is asked for: it needs
# matplotlib. A new view is a module and a line here.
VIEWS = {
    "sequence": "openrnn.explain.views.sequence",
    "cell": "openrnn.explain.views.cell",
    "parameters": "openrnn.explain.views.parameters",
    "equations": "openrnn.explain.views.equations",
}
# Those that show what a step computes: of a cell that cannot be read they show nothing.
OF_STEPS = ("cell", "equations")


@dataclass(frozen=True)
class Request:
    """What is to be drawn.

    steps, batch: the numbers T and B, or None where the letters stand for them.
    compare: what is drawn beside it, by views that do that.
    """

    network: Network
    colors: Colors
    steps: int | None = None
    batch: int | None = None
    compare: Network | None = None

    @property
    def rows(self) -> str:
        """B, or its number."""
        return "B" if self.batch is None else str(self.batch)

    def show(self, *dims: object) -> str:
        """A shape as text: `show("B", 30)` is (B, 30), or (3, 30) where B is 3."""
        known = {"B": self.batch, "T": self.steps}
        shown = [str(dim if known.get(str(dim)) is None else known[str(dim)]) for dim in dims]
        return f"({', '.join(shown)})"
