"""`openrnn cells`."""

import click

from openrnn.cli.job import Job


@click.command(cls=Job)
def cells() -> None:
    """List the cells in the box, and what each costs."""
    from rich.console import Console

    from openrnn.explain.box import print_cells

    console = Console(highlight=False)
    with console.capture() as captured:
        print_cells(console)
    click.echo(captured.get(), nl=False)  # on a terminal of ASCII too
