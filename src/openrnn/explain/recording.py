"""What `openrnn.record` found, and the ways to look at it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from openrnn.extras import require_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Recording(Mapping[str, Tensor]):
    """What `record` found: tensors by name, each (T, B, features), or (T, features).

    The names are the variables of the cell, with torch's endings where there are several cells:
    `i_l0` is i of the first layer, `i_l0_reverse` that of its backward cell. Of one cell alone the
    ending may be left out. Behind a sequence's end all is 0.

    `plot` and `to_html` show it. What they leave out at first are the sums before the gates: what
    is named after another value that is no state, as a_i beside i, and r_x and r_h beside r; and
    what is wider than every state, several sums in one.

    title: the layer.
    states: the names that are states.
    endings: of the names, one for each cell.
    input: what the layer got, time first: (T, B, I), or (T, I).
    steps: of each sequence, (B,), or ().
    output: what the layer returned.
    state: the state after the last step.
    """

    def __init__(
        self,
        title: str,
        values: dict[str, Tensor],
        *,
        states: frozenset[str],
        endings: tuple[str, ...],
        input: Tensor,
        steps: Tensor,
        output: Any,
        state: Any,
    ) -> None:
        self.title, self.states, self.endings = title, states, endings
        self.input, self.steps, self.output, self.state = input, steps, output, state
        self._values = values

    def __getitem__(self, name: str) -> Tensor:
        if name in self._values:
            return self._values[name]
        if len(self.endings) == 1 and name + self.endings[0] in self._values:
            return self._values[name + self.endings[0]]
        raise KeyError(f"{name!r} was not recorded: there are {', '.join(self._values)}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        lines = [f"Recording of {self.title}"]
        width = max(map(len, self._values), default=0)
        lines += [f"  {name:<{width}}  {tuple(v.shape)}" for name, v in self._values.items()]
        return "\n".join(lines)

    def plot(
        self,
        names: str | Iterable[str] | None = None,
        *,
        sequence: int = 0,
        units: Iterable[int] | slice | None = None,
        labels: Iterable[Any] | None = None,
        dark: bool = False,
    ) -> Figure:
        """Heat maps of one sequence: time from left to right, units from top to bottom.

        Red is above 0, blue below; a value between 0 and 1, as of a gate, goes from white to green.
        Each cell has a column of its own. It needs matplotlib, of the extra `train`.

        Args:
            names: what is drawn; a variable's name stands for that of every cell. Default: all but
                the sums before the gates, and of more than 32 the states alone.
            sequence: its number in the batch. Default: 0.
            units: the numbers of those drawn, `[3, 17]` or `slice(10)` say. Default: all.
            labels: a word for each step, of the sequence alone or with its padding.
            dark: for a dark page. Default: False.

        Returns:
            A figure: `figure.savefig("inside.png")` writes it, a notebook shows it.

        Raises:
            ArgumentError: no such name, sequence or unit; too few or too many labels.
            MissingExtraError: matplotlib is not installed.
        """
        require_extra("Recording.plot", ("matplotlib",))
        from openrnn.explain.plot import draw
        from openrnn.explain.views.colors import DARK, LIGHT

        return draw(self, names, sequence, units, labels, DARK if dark else LIGHT)

    def to_html(
        self,
        path: str | PathLike[str],
        names: str | Iterable[str] | None = None,
        *,
        sequence: int = 0,
        units: Iterable[int] | slice | None = None,
        labels: Iterable[Any] | None = None,
        input: Any = None,
        input_name: str = "input",
    ) -> None:
        """Writes a page to move through the steps of one sequence.

        It is one file for any browser, light or dark as that is, and loads nothing. Numbers are
        float32. Of a recording too large for a page it says what is left out.

        Args:
            path: of the file, which is replaced if it is there.
            names, units: what the page holds. Default: all.
            sequence, labels: as in `plot`.
            input: the series shown along the axis, (T) or (T, features), of the sequence alone or
                with its padding. Default: the input that was recorded.
            input_name: what that is called on the page. Default: "input".

        Raises:
            ArgumentError: no such name, sequence or unit; labels or an input of another length; a
                path that cannot be written to.
        """
        from openrnn.explain.page import write_page

        write_page(Path(path), self, names, sequence, units, labels, input, input_name)
