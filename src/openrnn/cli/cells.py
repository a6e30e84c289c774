"""`openrnn cells`."""

import click

from openrnn.cli.job import Job


@click.command(cls=Job)
def cells() -> None:
    """List the cells in the box, and what each costs."""
    from openrnn.explain.box import print_cells

    print_cells()
