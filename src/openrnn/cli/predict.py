"""`openrnn predict`."""

from pathlib import Path

import click

from openrnn.cli.job import Job
from openrnn.cli.options import option


@click.command(cls=Job)
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.argument("data", metavar="DATA.csv", type=click.Path(path_type=Path))
@option(
    "--out",
    click.Path(path_type=Path),
    "Also write the forecast to a CSV file.",
    metavar="FILE.csv",
)
@option("--fill", bool, "Fill a missing value from the row before.", is_flag=True)
@option("--date-format", str, "Such as %d.%m.%Y. [default: that of the training]", metavar="FORMAT")
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
    from openrnn.forecast.extras import require_loading

    require_loading("openrnn predict")
    from openrnn.files import check_writable_file
    from openrnn.forecast.predict import predict as run_predict
    from openrnn.forecast.prediction_table import print_prediction

    if out is not None:
        check_writable_file(out, "next.csv")
    prediction = run_predict(model, data, fill=fill, date_format=date_format)
    print_prediction(prediction)
    if out is not None:
        prediction.to_csv(out)
        click.echo(f"Written   {out}")
