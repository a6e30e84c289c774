"""What `openrnn predict` shows."""

from rich.console import Console
from rich.table import Table as RichTable

from openrnn.forecast.dates import show_date
from openrnn.forecast.predict import Prediction
from openrnn.forecast.score_table import show_number


def print_prediction(prediction: Prediction, console: Console | None = None) -> None:
    """A row for each date that follows the data."""
    unit = f" ({prediction.unit})" if prediction.unit else ""
    last = show_date(prediction.last_known)
    table = RichTable(
        title=f"{prediction.target} after {last}", title_justify="left", title_style="bold"
    )
    table.add_column("date")
    table.add_column(f"{prediction.target}{unit}", justify="right")
    for date, value in zip(prediction.dates, prediction.values, strict=True):
        table.add_row(show_date(date), show_number(float(value), digits=4))
    (console or Console(highlight=False)).print(table)
