"""`openrnn export`."""

from pathlib import Path

import click

from openrnn.cli.job import Job
from openrnn.cli.options import option


@click.command(cls=Job, short_help="Write a model as C, for programs without Python.")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@option("--to", click.Choice(["c"]), "c, for C99.", required=True, metavar="LANGUAGE")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@option("--name", str, "Of the files, and what names in C begin with.", default="forecast")
@option("--overwrite", bool, "Replace files that are there.", is_flag=True)
def export(model: Path, to: str, directory: Path, name: str, overwrite: bool) -> None:
    """Write a model as a header and a source of C99, with its weights.

    A step takes a row as the file has it and gives the forecast after it; the header says how.
    MODEL is the directory `model` that `openrnn forecast` wrote.
    """
    from openrnn.forecast.extras import require_loading

    require_loading("openrnn export")
    from openrnn.export.c import check_name, check_new_files, export_c
    from openrnn.forecast.row_cell import RowCell, describe_rows
    from openrnn.forecast.storage import load_model

    check_name(name, "--name", "--name forecast")
    trained = load_model(model)
    check_new_files(directory, name, "DIR", "--overwrite to replace them", overwrite=overwrite)
    about = describe_rows(trained)
    files = export_c(RowCell(trained), directory, name, about=about, overwrite=True)
    click.echo(
        f"Exported  {trained.config.encoder.target}\n"
        f"Weights   {files.weight_bytes:,} bytes\n"
        f"State     {files.state_bytes:,} bytes, with what a step computes in\n"
        f"Written   {files.header}\n"
        f"          {files.source}"
    )
