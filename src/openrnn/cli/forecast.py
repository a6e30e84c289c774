"""`openrnn forecast`."""

from pathlib import Path
from typing import Any

import click

from openrnn.cli.job import Job
from openrnn.cli.options import option


@click.command(cls=Job, short_help="Train on a CSV file and forecast a column of it.")
@click.argument("data", metavar="DATA.csv", type=click.Path(path_type=Path))
@option("--target", str, "Column to forecast.", required=True, metavar="COLUMN")
@option("--window", int, "Rows to look back at.", default=12)
@option("--horizon", int, "Rows to forecast ahead, all at once.", default=1)
@option("--unit", str, "Unit of the target, for labels.", default="", metavar="TEXT")
@option(
    "--out", click.Path(path_type=Path), "Where to write. [default: forecast-COLUMN]", metavar="DIR"
)
@option("--resume", bool, "Go on with an interrupted run.", is_flag=True)
@option("--overwrite", bool, "Replace the results of another run.", is_flag=True)
@option("--date", str, "Column of dates. [default: found by its name]", metavar="COLUMN")
@option("--date-format", str, "Such as %d.%m.%Y. [default: found out]", metavar="FORMAT")
@option("--fill", bool, "Fill a missing value from the row before.", is_flag=True)
@option("--ignore", str, "Column to leave out; may be repeated.", multiple=True, metavar="COLUMN")
@option(
    "--calendar/--no-calendar", bool, "Let the model see the time of year and day.", default=True
)
@option("--test", float, "Fraction of the rows, the last ones, to test on.", default=0.25)
@option("--validation", float, "Fraction before them, to stop the training by.", default=0.15)
@option("--cell", str, "lstm, gru or rnn.", default="lstm", metavar="NAME")
@option("--hidden", int, "Size of the hidden state.", default=64)
@option("--layers", int, "Recurrent layers on each other.", default=1)
@option("--epochs", int, "Most passes over the training part.", default=100)
@option("--patience", int, "Epochs without a better loss before stopping.", default=15)
@option("--batch-size", int, "Windows in a training step, for each device.", default=32)
@option("--learning-rate", float, "Step size of Adam.", default=0.001)
@option("--seed", int, "Start of all random numbers.", default=0)
@option("--accelerator", click.Choice(["auto", "cpu", "gpu"]), "What to train on.", default="auto")
@option("--devices", int, "Processes (GPUs or CPUs) on each machine.", default=1)
@option("--num-nodes", int, "Machines to train on.", default=1)
@click.pass_context
def forecast(
    ctx: click.Context,
    /,
    out: Path | None,
    resume: bool,
    overwrite: bool,
    accelerator: str,
    devices: int,
    num_nodes: int,
    **choices: Any,
) -> None:
    """Train on a CSV file, test on its last rows, and write forecasts and model.

    The file needs a column of dates, in the order of time, and a column of numbers to forecast.
    """
    from openrnn.forecast.extras import require_training
    from openrnn.forecast.settings import Settings

    settings = Settings(**choices)
    require_training()
    from openrnn.forecast.job import run_forecast
    from openrnn.forecast.train import Hardware

    run_forecast(
        settings,
        out,
        hardware=Hardware(accelerator, devices, num_nodes),
        resume=resume,
        overwrite=overwrite,
        command=ctx.meta["openrnn.arguments"],
    )
