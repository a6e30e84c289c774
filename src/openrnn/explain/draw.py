"""`openrnn.draw`: pictures of a layer, drawn from the layer itself."""

from __future__ import annotations

import io
from dataclasses import dataclass
from importlib import import_module
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from openrnn.errors import ArgumentError, CellError
from openrnn.explain.given import read_given
from openrnn.explain.parts import Network, read
from openrnn.explain.views import OF_STEPS, VIEWS, Request
from openrnn.explain.views.colors import DARK, LIGHT
from openrnn.extras import require_extra
from openrnn.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SUFFIXES = (".svg", ".png")
_PNG_DPI = 192  # two pixels for each of the page's, for fine screens


@dataclass(frozen=True, eq=False, repr=False)
class Drawing:
    """What `draw` made. A notebook shows it.

    title: what is drawn.
    svg: the picture, as the text of an SVG file.
    figure: the picture as a figure of matplotlib.
    """

    title: str
    svg: str
    figure: Figure

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the picture to a file, all of it or nothing.

        Args:
            path: of the file, which is replaced if it is there; it ends in .svg or .png.

        Raises:
            ArgumentError: another ending, or a path that cannot be written to.
        """
        path = _check_path(path)
        try:
            with atomic_file(path) as temporary:
                if path.suffix.lower() == ".svg":
                    temporary.write_text(self.svg, encoding="utf-8")
                else:
                    self._write_png(temporary)
        except OSError as error:
            raise ArgumentError(
                f"draw: expected a path that can be written to, got '{path}': "
                f"{error.strerror or error}. Give another path"
            ) from None

    def _write_png(self, path: Path) -> None:
        from openrnn.explain.views.canvas import style

        with style():
            # Without the library's version, so that the file changes only with the picture.
            self.figure.savefig(path, format="png", dpi=_PNG_DPI, metadata={"Software": None})

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<Drawing of {self.title}>"


def draw(
    module: nn.Module,
    view: str = "sequence",
    path: str | PathLike[str] | None = None,
    *,
    x_shape: tuple[int, ...] | None = None,
    input_size: int | None = None,
    dark: bool = False,
    compare: nn.Module | str | None = None,
) -> Drawing:
    """Draws a layer, or a cell, from what it is and does: nothing is drawn for its name.

    It needs matplotlib, of the extra `train`. The same layer gives the same file.

    Args:
        module: a layer of OpenRNN or of torch.nn, or a cell.
        view: "sequence", the layer unrolled over time, with layers, directions and all shapes;
            "cell", what one step computes, from the states before to the states after;
            "parameters", the weights to scale, in the blocks of the gates;
            "equations", the step as mathematics, with the shape of each symbol beneath it, as
            `openrnn.equations` has it. Default: "sequence".
        path: where to save the picture, ending in .svg or .png. Default: nowhere.
        x_shape: the shape of an input, (T, B, I), or (B, T, I) of a layer with batch_first, to
            have numbers for T and B; (B, I) of a cell. Default: the letters stand for them.
        input_size: features of x; needed only for a cell that has no `input_size`, in a layer that
            has not run yet. Default: what the cell says, or the layer has seen.
        dark: for a dark page. Default: False.
        compare: with view="parameters", what is drawn beside it at the same scale: a layer or a
            cell, or "RNN", "LSTM" or "GRU" for one of the same sizes. Default: nothing.

    Returns:
        A `Drawing`, with the picture in `svg`.

    Raises:
        ArgumentTypeError: neither a layer nor a cell.
        ArgumentError: an unknown view; an x_shape that does not fit; compare with another view; a
            path with another ending, or that cannot be written to; unknown features of x.
        CellError: view="cell" or "equations" of a cell that cannot be read.
        MissingExtraError: matplotlib is not installed.

    Examples:
        >>> from openrnn import LSTM
        >>> drawing = draw(LSTM(30, 20, num_layers=2), "sequence", x_shape=(12, 3, 30))
        >>> "(12, 3, 30)" in drawing.svg
        True
    """
    if view not in VIEWS:
        known = ", ".join(map(repr, VIEWS))
        raise ArgumentError(f"draw: expected view to be one of {known}, got {view!r}")
    if compare is not None and view != "parameters":
        raise ArgumentError(
            f"draw: compare goes with view='parameters' alone, got view={view!r}. Leave it out"
        )
    if path is not None:
        _check_path(path)
    require_extra("openrnn.draw", ("matplotlib",))
    given = read_given("draw", module, x_shape, input_size)
    network = read(module, "draw", given.features)
    if view in OF_STEPS:
        _check_steps(view, network)
    beside = None if compare is None else _read_compare(compare, network)
    request = Request(network, DARK if dark else LIGHT, given.steps, given.batch, beside)
    drawing = _draw(view, request)
    if path is not None:
        drawing.save(path)
    return drawing


def _draw(view: str, request: Request) -> Drawing:
    from openrnn.explain.views.canvas import style

    title = f"{request.network.title}, {view}"
    with style(), io.StringIO() as file:
        figure: Figure = import_module(VIEWS[view]).draw(request)
        # Without a date and the library's version, so that the text changes only with the picture.
        about = {"Title": title, "Date": None, "Creator": None}
        figure.savefig(file, format="svg", metadata=about)
        svg = file.getvalue()
    return Drawing(title, svg, figure)


def _check_path(path: str | PathLike[str]) -> Path:
    path = Path(fspath(path))
    if path.suffix.lower() not in _SUFFIXES:
        raise ArgumentError(
            f"draw: expected a path that ends in {' or '.join(_SUFFIXES)}, got '{path}'. "
            f"Give for example '{path.with_suffix('.svg') if path.name else 'picture.svg'}'"
        )
    return path


def _check_steps(view: str, network: Network) -> None:
    """Raises a CellError if the step of any cell cannot be read."""
    for lane in network.lanes:
        try:
            _ = lane.program
        except CellError as error:
            raise CellError(
                f"draw: view={view!r} needs a cell that can be read, and {lane.name} cannot: "
                f"{str(error).rstrip('.')}. view='sequence' and view='parameters' draw it"
            ) from error


def _read_compare(compare: nn.Module | str, network: Network) -> Network:
    if not isinstance(compare, str):
        return read(compare, "draw: compare", network.levels[0].input_size)
    from openrnn.layers.gru import GRU
    from openrnn.layers.lstm import LSTM
    from openrnn.layers.rnn import RNN

    known: dict[str, Any] = {"RNN": RNN, "LSTM": LSTM, "GRU": GRU}
    if compare not in known:
        raise ArgumentError(
            f"draw: expected compare to be a layer, a cell, or one of "
            f"{', '.join(map(repr, known))}, got {compare!r}"
        )
    level = network.levels[0]
    hidden = max(level.lanes[0].states.values())
    options = {"num_layers": len(network.levels), "bidirectional": len(level.lanes) == 2}
    return read(known[compare](level.input_size, hidden, device="meta", **options))
