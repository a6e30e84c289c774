"""The command line: each command is one file.

Everything but click and torch is imported when a command runs, so that `--help` comes at once.
"""

import click

import openrnn
from openrnn.cli.cells import cells
from openrnn.cli.draw import draw
from openrnn.cli.equations import equations
from openrnn.cli.explain import explain
from openrnn.cli.export import export
from openrnn.cli.forecast import forecast
from openrnn.cli.job import OneLineErrors
from openrnn.cli.predict import predict
from openrnn.cli.record import record


@click.group(
    "openrnn",
    cls=OneLineErrors,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(openrnn.__version__, "-V", "--version", message="openrnn %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Recurrent networks on the command line."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


# In the order of the help: a forecast, what is inside a layer or a model, a model elsewhere, what
# there is.
for command in (forecast, predict, explain, equations, draw, record, export, cells):
    main.add_command(command)
