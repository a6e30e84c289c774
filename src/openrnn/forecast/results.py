"""forecast.csv and metrics.json."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import openrnn
from openrnn.files import atomic_file, write_text
from openrnn.forecast.evaluate import Evaluation
from openrnn.forecast.metrics import Score, Scores
from openrnn.forecast.settings import Settings


def write_forecast(path: Path, evaluation: Evaluation) -> None:
    """A row for each date and step ahead: what happened, the forecast, and the baselines."""
    horizon = evaluation.horizon
    steps = np.tile(np.arange(1, horizon + 1), len(evaluation.origins))
    origins = np.repeat(evaluation.origins, horizon)
    frame = pd.DataFrame(
        {
            "date": evaluation.dates[origins + steps],
            "step": steps,
            "last_known_date": evaluation.dates[origins],
            "actual": evaluation.actual.ravel(),
            "forecast": evaluation.model.ravel(),
            "persistence": evaluation.persistence.ravel(),
            "last_year": evaluation.last_year.ravel(),
        }
    )
    with atomic_file(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.10g")


def write_metrics(
    path: Path, evaluation: Evaluation, settings: Settings, training: dict[str, Any]
) -> None:
    """All figures of the run, with the settings that led to them."""
    dates = evaluation.dates[evaluation.origins + 1]
    metrics = {
        "openrnn": openrnn.__version__,
        "target": settings.target,
        "unit": settings.unit,
        "test": {
            "first_date": dates[0].isoformat(),
            "last_date": evaluation.target_dates(evaluation.horizon)[-1].isoformat(),
            "windows": len(evaluation.origins),
        },
        "overall": _scores(evaluation.overall),
        "by_step": [
            {"step": step} | _scores(scores)
            for step, scores in enumerate(evaluation.by_step, start=1)
        ],
        "training": training,
        "settings": settings.as_json(),
    }
    write_text(path, json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")


def _scores(scores: Scores) -> dict[str, Any]:
    return {name: _score(getattr(scores, name)) for name in Scores.__dataclass_fields__}


def _score(score: Score | None) -> dict[str, Any] | None:
    return None if score is None else asdict(score)
