"""`openrnn draw`."""

from dataclasses import replace
from pathlib import Path

import click
import torch

from openrnn.cli.job import Job
from openrnn.cli.layer import LAYER, Subject, takes_a_layer
from openrnn.cli.options import option
from openrnn.errors import ArgumentError
from openrnn.explain.views import VIEWS

_ENDINGS = (".svg", ".png")


@click.command(
    cls=Job,
    short_help="Draw a layer, a step or the weights.",
    help=f"""Draw a layer, a step of it, or its weights.

    {LAYER}""",
)
@takes_a_layer()
@option(
    "--view",
    click.Choice(list(VIEWS)),
    f"{', '.join(list(VIEWS)[:-1])} or {list(VIEWS)[-1]}.",
    default="sequence",
    metavar="VIEW",
)
@option(
    "--out",
    click.Path(path_type=Path),
    "Where to write; it ends in .svg or .png.",
    required=True,
    metavar="FILE",
)
@option("--overwrite", bool, "Replace a file that is there.", is_flag=True)
@option("--dark", bool, "For a dark page.", is_flag=True)
@option("--compare", str, "Draw the weights of this kind too, of the same sizes.", metavar="KIND")
def draw(
    subject: Subject, view: str, out: Path, overwrite: bool, dark: bool, compare: str | None
) -> None:
    """See the help."""
    import openrnn
    from openrnn.cli.kinds import build
    from openrnn.files import check_new_file

    if out.suffix.lower() not in _ENDINGS:
        raise ArgumentError(
            f"--out: expected a name that ends in {' or '.join(_ENDINGS)}, received '{out}'; "
            f"give for example --out {out.with_suffix('.svg') if out.name else 'picture.svg'}"
        )
    if compare is not None and view != "parameters":
        raise ArgumentError(
            f"--compare: goes with --view parameters, received --view {view}; leave it out"
        )
    beside = None
    if compare is not None:
        sizes = replace(subject.sizes, batch_first=False, proj_size=0)
        with torch.device("meta"):
            beside = build(compare, sizes, "--compare")
    check_new_file(out, "picture.svg", overwrite=overwrite)
    openrnn.draw(subject.module, view, out, x_shape=subject.x_shape, dark=dark, compare=beside)
    click.echo(f"Written   {out}")
