"""`openrnn record`."""

from pathlib import Path

import click

from openrnn.cli.job import Job
from openrnn.cli.options import count, option


@click.command(cls=Job, short_help="Write a page of what a model does inside.")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.argument("data", metavar="DATA.csv", type=click.Path(path_type=Path))
@option("--out", click.Path(path_type=Path), "Where to write.", required=True, metavar="FILE.html")
@option("--overwrite", bool, "Replace a file that is there.", is_flag=True)
@option("--rows", count, "How many rows, the last ones. [default: the window of the model]")
@option("--fill", bool, "Fill a missing value from the row before.", is_flag=True)
@option("--date-format", str, "Such as %d.%m.%Y. [default: that of the training]", metavar="FORMAT")
def record(
    model: Path,
    data: Path,
    out: Path,
    overwrite: bool,
    rows: int | None,
    fill: bool,
    date_format: str | None,
) -> None:
    """Write a page that shows what a model does with the last rows of a file.

    The page has the gates and states of the model's layer, row by row, with the dates and the
    target along the axis. MODEL is the directory `model` that `openrnn forecast` wrote.
    """
    from openrnn.forecast.extras import require_loading

    require_loading("openrnn record")
    import openrnn
    from openrnn.files import check_new_file
    from openrnn.forecast.dates import show_date
    from openrnn.forecast.last_rows import read_last_rows, too_extreme
    from openrnn.forecast.storage import load_model

    trained = load_model(model)
    config = trained.config
    last = read_last_rows(config, data, rows or config.window, fill=fill, date_format=date_format)
    if not last.features.isfinite().all():
        raise too_extreme(data)
    check_new_file(out, "page.html", overwrite=overwrite)
    recording = openrnn.record(trained.model.rnn, last.features[None])
    target = f"{config.encoder.target} ({config.unit})" if config.unit else config.encoder.target
    recording.title += f" on {target}"
    dates = [show_date(date) for date in last.dates]
    recording.to_html(out, labels=dates, input=last.target, input_name=target)
    click.echo(
        f"Recorded  {config.encoder.target} from {dates[0]} to {dates[-1]}, {len(dates)} rows\n"
        f"Written   {out}"
    )
