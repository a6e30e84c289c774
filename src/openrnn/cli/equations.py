"""`openrnn equations`."""

import shutil

import click

from openrnn.cli.job import Job
from openrnn.cli.layer import LAYER, Subject, takes_a_layer
from openrnn.cli.options import option


@click.command(
    cls=Job,
    short_help="Write a step as mathematics.",
    help=f"""Write a step as mathematics, with the shape of each symbol beneath it.

    {LAYER}""",
)
@takes_a_layer(shape=False)
@option("--backward", bool, "The equations of the gradient.", is_flag=True)
@option("--latex", bool, "As LaTeX.", is_flag=True)
def equations(subject: Subject, backward: bool, latex: bool) -> None:
    """See the help."""
    import openrnn

    found = openrnn.equations(subject.module, backward=backward)
    width = max(min(shutil.get_terminal_size((100, 24)).columns, 100), 40)
    click.echo(found.latex if latex else found.text(width))
