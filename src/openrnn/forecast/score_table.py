"""The tables of the test part."""

from rich.table import Table as RichTable

from openrnn.forecast.dates import show_date
from openrnn.forecast.evaluate import Evaluation
from openrnn.forecast.metrics import Score
from openrnn.forecast.settings import Settings

# So many steps ahead are shown one by one; metrics.json has them all.
_MOST_STEPS = 14


def overall_table(evaluation: Evaluation, settings: Settings) -> RichTable:
    """A row for each method, over all steps ahead."""
    overall = evaluation.overall
    first = show_date(evaluation.target_dates(1)[0])
    last = show_date(evaluation.target_dates(evaluation.horizon)[-1])
    ahead = f", 1 to {evaluation.horizon} steps ahead" if evaluation.horizon > 1 else ""
    table = _table(f"{settings.target}, test part {first} to {last}{ahead}", "method", settings)
    table.add_column("forecasts", justify="right")
    table.add_column("MAE against\npersistence", justify="right")
    _add(table, f"openrnn {settings.cell.upper()}", overall.model, _improvement(overall.model))
    _add(table, "persistence (no change)", overall.persistence, "")
    if overall.last_year is not None:
        _add(table, "same day last year", overall.last_year, _improvement(overall.last_year))
    return table


def step_table(evaluation: Evaluation, settings: Settings) -> RichTable:
    """A row for each step ahead."""
    more = f" (the first {_MOST_STEPS}; all are in metrics.json)"
    title = "By step ahead" + (more if evaluation.horizon > _MOST_STEPS else "")
    table = _table(title, "step", settings)
    table.add_column("persistence\nMAE", justify="right")
    table.add_column("last year\nMAE", justify="right")
    table.add_column("MAE against\npersistence", justify="right")
    for step, scores in enumerate(evaluation.by_step[:_MOST_STEPS], start=1):
        table.add_row(
            str(step),
            show_number(scores.model.mae),
            show_number(scores.model.rmse),
            show_number(scores.persistence.mae),
            show_number(scores.last_year.mae) if scores.last_year else "none",
            _improvement(scores.model),
        )
    return table


def about_last_year(evaluation: Evaluation) -> str:
    """What to say when last year cannot be compared on all the rows; else nothing."""
    overall = evaluation.overall
    if overall.last_year is None or overall.model_where_last_year is None:
        return "the data do not reach back a year, so there is no same day last year"
    if overall.last_year.count == overall.model.count:
        return ""
    return (
        f"{overall.last_year.count:,} of {overall.model.count:,} forecasts have a same day last "
        f"year; on those the MAE of openrnn is {show_number(overall.model_where_last_year.mae)}, "
        f"that of last year {show_number(overall.last_year.mae)}"
    )


def show_number(value: float, digits: int = 3) -> str:
    """A number in so many digits, but never fewer than it has before its point."""
    if abs(value) >= 10**digits - 0.5:
        return f"{value:,.0f}"
    return f"{value:#.{digits}g}".rstrip(".")


def _table(title: str, first: str, settings: Settings) -> RichTable:
    unit = f"\n({settings.unit})" if settings.unit else ""
    table = RichTable(title=title, title_justify="left", title_style="bold")
    table.add_column(first)
    table.add_column(f"MAE{unit}", justify="right")
    table.add_column(f"RMSE{unit}", justify="right")
    return table


def _add(table: RichTable, method: str, score: Score, improvement: str) -> None:
    cells = (method, show_number(score.mae), show_number(score.rmse), f"{score.count:,}")
    table.add_row(*cells, improvement)


def _improvement(score: Score) -> str:
    if score.improvement is None:
        return "-"
    percent = round(100 * score.improvement, 1)
    if percent < -1000:
        return "far worse"
    return f"{abs(percent):.1f} % {'better' if percent >= 0 else 'worse'}"
