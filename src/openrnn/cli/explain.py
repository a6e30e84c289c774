"""`openrnn explain`."""

from shutil import get_terminal_size

import click

from openrnn.cli.job import Job
from openrnn.cli.layer import LAYER, Subject, takes_a_layer
from openrnn.cli.options import option


@click.command(
    cls=Job,
    short_help="Say what is inside a layer or a model.",
    help=f"""Say what is inside a layer: shapes, parameters, the stages of a step.

    {LAYER}""",
)
@takes_a_layer()
@option("--source", bool, "Show the generated C++ too.", is_flag=True)
def explain(subject: Subject, source: bool) -> None:
    """See the help."""
    import openrnn

    if subject.about:
        click.echo(click.wrap_text(subject.about, get_terminal_size().columns) + "\n")
    openrnn.explain(subject.module, x_shape=subject.x_shape, source=source)
