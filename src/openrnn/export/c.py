"""`openrnn.export_c`: a layer as C99, for programs without Python."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path

from torch import nn

from openrnn.errors import ArgumentError, ArgumentTypeError
from openrnn.export.contents import Contents
from openrnn.export.names import is_identifier
from openrnn.export.source import header, source
from openrnn.export.steps import ASKED, read_steps
from openrnn.files import atomic_file, check_writable
from openrnn.layers.int8layer import check_float


@dataclass(frozen=True)
class ExportedC:
    """What `export_c` wrote.

    header, source: the files.
    weight_bytes: of the weights, which are constant.
    state_bytes: of the state of one sequence, with all that a step computes in.
    """

    header: Path
    source: Path
    weight_bytes: int
    state_bytes: int


def export_c(
    layer: nn.Module,
    directory: str | PathLike[str],
    name: str = "model",
    *,
    input_size: int | None = None,
    about: str = "",
    overwrite: bool = False,
) -> ExportedC:
    """Writes a layer as a header and a source of C99, with its weights, for one step after another.

    The files need a C compiler and math.h, and no memory but the state that the caller has:

        void model_init(model_state *state);
        void model_reset(model_state *state);
        void model_step(model_state *state, const float *x, float *y);

    `step` computes what `layer.eval()` does of one sequence, to rounding: nothing is dropped. The
    numbers are `float`, or `double` where the layer is in float64. Weights are written such that C
    reads the very same; what depends on weights alone, like the sum of two biases, is computed now.

    Args:
        layer: a layer of OpenRNN or of torch.nn, or a cell; each direction runs forward.
        directory: where to write `model.h` and `model.c`; it is made if need be.
        name: of the files, and what the names in them begin with: letters, digits and `_`.
            Default: "model".
        input_size: features of x; needed only for a cell that has no `input_size`, in a layer that
            has not run yet. Default: what the cell says, or the layer has seen.
        about: what x and y are, for the header's comment; it may have several lines.
        overwrite: whether files that are there are replaced. Default: False.

    Returns:
        An `ExportedC`: the files, and the bytes of weights and state.

    Raises:
        ArgumentTypeError: neither a layer nor a cell, or one with a backward direction.
        ArgumentError: a name that C does not take; files that are there already; a directory that
            cannot be written to; unknown features of x.
        CellError: a cell that cannot be compiled or is quantized, or weights that are not in
            float32 or float64.

    Examples:
        >>> import tempfile
        >>> from openrnn import LSTM
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     files = export_c(LSTM(30, 20), directory, "lstm")
        ...     print(files.header.name, files.source.name, files.weight_bytes, files.state_bytes)
        lstm.h lstm.c 16320 480
    """
    check_name(name, ASKED, "name='model'")
    check_float(ASKED, layer)
    contents = Contents(read_steps(layer, input_size), name)
    texts = header(contents, about), source(contents)
    folder = Path(fspath(directory))
    check_new_files(folder, name, ASKED, "overwrite=True to replace them", overwrite=overwrite)
    paths = _paths(folder, name)
    with atomic_file(paths[0]) as first, atomic_file(paths[1]) as second:
        for path, text in zip((first, second), texts, strict=True):
            path.write_text(text, encoding="utf-8")
    return ExportedC(*paths, contents.weight_bytes, contents.state_bytes)


def check_name(name: str, asked_by: str, example: str) -> None:
    """Raise an error unless the names of C may begin so."""
    if not isinstance(name, str):
        raise ArgumentTypeError(
            f"{asked_by}: expected a name of type str, received {type(name).__name__}; give for "
            f"example {example}"
        )
    if not is_identifier(name):
        raise ArgumentError(
            f"{asked_by}: expected a name that C takes, a letter, then letters, digits and _, "
            f"received {name!r}; give for example {example}"
        )


def check_new_files(
    folder: Path, name: str, asked_by: str, remedy: str, *, overwrite: bool
) -> None:
    """Raise `ArgumentError` unless the files can be written; make the directory if need be."""
    there = [path for path in _paths(folder, name) if path.exists()]
    if there and (not overwrite or any(path.is_dir() for path in there)):
        names = " and ".join(path.name for path in there)
        raise ArgumentError(
            f"{asked_by}: expected a directory for new files, received '{folder}', where {names} "
            f"{'is' if len(there) == 1 else 'are'} already; give another, or {remedy}"
        )
    check_writable(folder, asked_by)


def _paths(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.h", folder / f"{name}.c"
