"""The command line: `openrnn forecast`, `openrnn predict` and `openrnn cells`.

Everything but click is imported when a command runs, so that `--help` comes at once.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

import openrnn
from openrnn.errors import OpenRNNError

BAD_INPUT = 2
INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it


class OneLineErrors(click.Group):
    """A group whose errors are one line on stderr, without usage or traceback."""

    def main(  # type: ignore[override]  # click's own has overloads that add nothing here
        self, args: Sequence[str] | None = None, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        """Run the command line, as `click.Group.main` does."""
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **extra)
        try:
            code = super().main(args, standalone_mode=False, **extra)
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            command = context.command_path if context else "openrnn"
            message = error.format_message()
            if not isinstance(error, JobError):
                message = f"{message.rstrip('.')}; see {command} --help"
            _say_error(command, message)
            sys.exit(BAD_INPUT)
        except (click.Abort, KeyboardInterrupt):
            _say_error("openrnn", "stopped; nothing was written")
            sys.exit(INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)


class JobError(click.UsageError):
    """An error of a job, which says by itself what to do."""


class Job(click.Command):
    """A command whose expected failures are errors of the command line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as click does, and keep what was given, to tell the user what to repeat."""
        ctx.meta["openrnn.arguments"] = [*ctx.command_path.split(), *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except OpenRNNError as error:
            raise JobError(str(error), ctx) from error
        except BrokenPipeError:
            raise  # click's matter
        except OSError as error:
            where = f" '{error.filename}'" if error.filename else ""
            reason = error.strerror or str(error)
            raise JobError(f"cannot read or write{where}: {reason}", ctx) from error
        except KeyboardInterrupt as error:
            if sys.stderr.isatty():
                click.echo(err=True)  # below the ^C that the terminal shows
            _say_error(ctx.command_path, str(error) or "stopped; nothing was written")
            raise click.exceptions.Exit(INTERRUPTED) from None


def _say_error(command: str, message: str) -> None:
    click.echo(f"{command}: {' '.join(message.split())}", err=True)


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


_METAVARS = {int: "N", float: "X"}


def _option(name: str, kind: Any, text: str, **more: Any) -> Callable[[Any], Any]:
    shown = more.get("default") not in (None, "")
    if kind in _METAVARS:
        more.setdefault("metavar", _METAVARS[kind])
    return click.option(name, type=kind, help=text, show_default=shown, **more)


@main.command(cls=Job)
@click.argument("data", metavar="DATA.csv", type=click.Path(path_type=Path))
@_option("--target", str, "Column to forecast.", required=True, metavar="COLUMN")
@_option("--window", int, "Rows to look back at.", default=12)
@_option("--horizon", int, "Rows to forecast ahead, all at once.", default=1)
@_option("--unit", str, "Unit of the target, for labels.", default="", metavar="TEXT")
@_option(
    "--out", click.Path(path_type=Path), "Where to write. [default: forecast-COLUMN]", metavar="DIR"
)
@_option("--resume", bool, "Go on with an interrupted run.", is_flag=True)
@_option("--overwrite", bool, "Replace the results of another run.", is_flag=True)
@_option("--date", str, "Column of dates. [default: found by its name]", metavar="COLUMN")
@_option("--date-format", str, "Such as %d.%m.%Y. [default: found out]", metavar="FORMAT")
@_option("--fill", bool, "Fill a missing value from the row before.", is_flag=True)
@_option("--ignore", str, "Column to leave out; may be repeated.", multiple=True, metavar="COLUMN")
@_option(
    "--calendar/--no-calendar", bool, "Let the model see the time of year and day.", default=True
)
@_option("--test", float, "Fraction of the rows, the last ones, to test on.", default=0.25)
@_option("--validation", float, "Fraction before them, to stop the training by.", default=0.15)
@_option("--cell", str, "lstm, gru or rnn.", default="lstm", metavar="NAME")
@_option("--hidden", int, "Size of the hidden state.", default=64)
@_option("--layers", int, "Recurrent layers on each other.", default=1)
@_option("--epochs", int, "Most passes over the training part.", default=100)
@_option("--patience", int, "Epochs without a better loss before stopping.", default=15)
@_option("--batch-size", int, "Windows in a training step, for each device.", default=32)
@_option("--learning-rate", float, "Step size of Adam.", default=0.001)
@_option("--seed", int, "Start of all random numbers.", default=0)
@_option("--accelerator", click.Choice(["auto", "cpu", "gpu"]), "What to train on.", default="auto")
@_option("--devices", int, "Processes (GPUs or CPUs) on each machine.", default=1)
@_option("--num-nodes", int, "Machines to train on.", default=1)
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


@main.command(cls=Job)
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.argument("data", metavar="DATA.csv", type=click.Path(path_type=Path))
@_option(
    "--out",
    click.Path(path_type=Path),
    "Also write the forecast to a CSV file.",
    metavar="FILE.csv",
)
@_option("--fill", bool, "Fill a missing value from the row before.", is_flag=True)
@_option(
    "--date-format", str, "Such as %d.%m.%Y. [default: that of the training]", metavar="FORMAT"
)
def predict(
    model: Path,
    data: Path,
    out: Path | None,
    fill: bool,
    date_format: str | None,
) -> None:
    """Forecast what comes after the last row of a CSV file.

    MODEL is the directory `model` that `openrnn forecast` wrote.
    """
    from openrnn.forecast.extras import require_predicting

    require_predicting()
    from openrnn.forecast.files import check_writable_file
    from openrnn.forecast.predict import predict as run_predict
    from openrnn.forecast.prediction_table import print_prediction

    if out is not None:
        check_writable_file(out)
    prediction = run_predict(model, data, fill=fill, date_format=date_format)
    print_prediction(prediction)
    if out is not None:
        prediction.to_csv(out)
        click.echo(f"Written   {out}")


@main.command(cls=Job)
def cells() -> None:
    """List the cells in the box, and what each costs."""
    from openrnn.explain.box import print_cells

    print_cells()


if __name__ == "__main__":
    main()
