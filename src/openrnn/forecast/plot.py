"""forecast.png: what happened and what was forecast, over the test part."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from openrnn.files import atomic_file
from openrnn.forecast.evaluate import Evaluation
from openrnn.forecast.score_table import show_number
from openrnn.forecast.settings import Settings
from openrnn.forecast.steps import Step

_ACTUAL, _FORECAST = "#6b7280", "#d1495b"


def plot_forecast(path: Path, evaluation: Evaluation, settings: Settings, step: Step) -> None:
    """Draw the first step ahead, and the last one below it where there are several."""
    steps = sorted({1, evaluation.horizon})
    # Figure and not pyplot: no window system, and no state that outlives this call.
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(10, 1.2 + 3.6 * len(steps)), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        for axes, ahead in zip(
            figure.subplots(len(steps), 1, sharex=True, sharey=True, squeeze=False)[:, 0],
            steps,
            strict=True,
        ):
            _draw(axes, evaluation, settings, ahead, _ahead(step, ahead))
        axes.set_xlabel("date")
        handles, labels = axes.get_legend_handles_labels()
        # Above the axes, where no data can be.
        figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False)
        with atomic_file(path) as temporary:
            figure.savefig(temporary)


def _draw(axes: Axes, evaluation: Evaluation, settings: Settings, ahead: int, name: str) -> None:
    dates = evaluation.target_dates(ahead).tz_localize(None).to_numpy()
    # One point is no line.
    marker = "o" if len(dates) <= 40 else None
    width = 1.3 if len(dates) <= 1000 else 0.6
    axes.plot(
        dates,
        evaluation.actual[:, ahead - 1],
        color=_ACTUAL,
        lw=width,
        marker=marker,
        ms=4,
        label="actual",
    )
    axes.plot(
        dates,
        evaluation.model[:, ahead - 1],
        color=_FORECAST,
        lw=width,
        marker=marker,
        ms=4,
        label="forecast",
    )
    locator = AutoDateLocator(minticks=4, maxticks=13)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    # For years, months, days, hours, minutes and seconds: a day is never without its month.
    formatter = ConciseDateFormatter(  # type: ignore[no-untyped-call]
        locator,
        formats=["%Y", "%b", "%d %b", "%H:%M", "%H:%M", "%S.%f"],
        zero_formats=["", "%Y", "%b", "%d %b", "%H:%M", "%H:%M"],
        offset_formats=["", "%Y", "%Y", "%d %b %Y", "%d %b %Y", "%d %b %Y %H:%M"],
    )
    axes.xaxis.set_major_formatter(formatter)
    axes.margins(x=0.01)
    axes.grid(visible=True, color="#e5e7eb", lw=0.8)
    axes.set_axisbelow(True)
    axes.set_ylabel(f"{settings.target} ({settings.unit})" if settings.unit else settings.target)
    mae = evaluation.by_step[ahead - 1].model.mae
    unit = f" {settings.unit}" if settings.unit else ""
    axes.set_title(
        f"{settings.target}, forecast {name} ahead (mean absolute error {show_number(mae)}{unit})",
        loc="left",
        fontsize=11,
    )


def _ahead(step: Step, count: int) -> str:
    name = str(step.times(count))
    return name if name[0].isdigit() else f"1 {name}"
