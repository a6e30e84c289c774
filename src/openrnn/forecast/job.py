"""`openrnn forecast`, from the file to the files."""

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from openrnn.errors import ArgumentError, DataError
from openrnn.forecast.checkpoints import best_epoch, best_weights, read_progress
from openrnn.forecast.evaluate import Evaluation, evaluate
from openrnn.forecast.memory import enough_memory
from openrnn.forecast.model import Forecaster
from openrnn.forecast.model_config import ModelConfig
from openrnn.forecast.outdir import OutputDirectory
from openrnn.forecast.plot import plot_forecast
from openrnn.forecast.prepare import Prepared, prepare
from openrnn.forecast.ranks import is_first_process
from openrnn.forecast.report import Report
from openrnn.forecast.results import write_forecast, write_metrics
from openrnn.forecast.settings import Settings
from openrnn.forecast.storage import TrainedModel, save_model
from openrnn.forecast.train import Hardware, TrainingInterrupted, train


def run_forecast(
    settings: Settings,
    out: Path | None = None,
    *,
    hardware: Hardware | None = None,
    resume: bool = False,
    overwrite: bool = False,
    console: Console | None = None,
    command: Sequence[str] = (),
) -> Evaluation | None:
    """Train on a file, evaluate on its last part, and write results and model to `out`.

    `command` is the command line that was given: what to repeat with `--resume` is said by it when
    the user interrupts the training. Returns None in the processes that Lightning started to help
    the first one, which neither print nor write.
    """
    if resume and overwrite:
        raise ArgumentError(
            "--resume and --overwrite: expected one of them, received both; leave one out"
        )
    first = is_first_process()
    quiet = Console(quiet=True)
    report = Report(quiet if not first else console or Console(highlight=False))
    prepared = prepare(settings)
    hardware = hardware or Hardware()
    hardware.check_windows(len(prepared.validation))
    output = OutputDirectory(out or default_directory(settings.target))
    if first and resume:
        output.resume(settings, prepared.data.sha256)
    elif first:
        output.begin(settings, prepared.data.sha256, overwrite=overwrite)
    report.data(prepared.data, prepared.encoder)
    report.split(prepared.data, prepared.split)
    try:
        with enough_memory(settings):
            model = _train(prepared, settings, hardware, output, resume, report)
        return _finish(prepared, settings, output, model, report) if first else None
    except KeyboardInterrupt:
        raise TrainingInterrupted(_how_to_resume(output, command)) from None


def default_directory(target: str) -> Path:
    """Where the results go when nothing else is said: `forecast-<target>`."""
    safe = "".join(each if each.isalnum() or each in "-_." else "-" for each in target)
    return Path(f"forecast-{safe}")


def _train(
    prepared: Prepared,
    settings: Settings,
    hardware: Hardware,
    output: OutputDirectory,
    resume: bool,
    report: Report,
) -> Forecaster:
    """Train unless that was done before, and return the model of the best epoch."""
    checkpoints = output.checkpoints
    torch.manual_seed(settings.seed)
    model = Forecaster(prepared.size(settings), prepared.encoder.target_index)
    report.model(settings, sum(each.numel() for each in model.parameters()))
    done = read_progress(checkpoints) if resume else None
    if done is not None and done.finished(settings.epochs):
        report.note(f"the training had already finished, after {done.epochs} epochs")
    else:
        if done is not None:
            report.note(f"going on after epoch {done.epochs}")
        train(
            model,
            prepared.training,
            prepared.validation,
            settings,
            hardware,
            checkpoints,
            resume_from=checkpoints.last if resume else None,
            say=lambda text: report.line("", text),
        )
    if not is_first_process():
        return model
    if not math.isfinite(read_progress(checkpoints).best_loss):
        raise DataError(
            "training: expected a validation loss that falls, received none that is finite; look "
            f"for extreme values in the data, or give a lower --learning-rate than "
            f"{settings.learning_rate:g}"
        )
    model.load_state_dict(best_weights(checkpoints))
    return model.eval()


def _finish(
    prepared: Prepared,
    settings: Settings,
    output: OutputDirectory,
    model: Forecaster,
    report: Report,
) -> Evaluation:
    data, encoder = prepared.data, prepared.encoder
    training = _training_figures(output)
    report.training(training["epochs"], training["best_epoch"], training["validation_loss"])
    evaluation = evaluate(model, prepared.test, data, encoder.target_scale)
    write_forecast(output.forecast, evaluation)
    write_metrics(output.metrics, evaluation, settings, training)
    plot_forecast(output.plot, evaluation, settings, data.step)
    save_model(
        output.model,
        TrainedModel(
            model,
            ModelConfig(
                encoder=encoder,
                size=prepared.size(settings),
                window=settings.window,
                step=data.step,
                date=data.dates.column,
                date_format=data.dates.format,
                unit=settings.unit,
            ),
        ),
    )
    report.scores(evaluation, settings)
    report.written([output.forecast, output.metrics, output.plot, output.model])
    return evaluation


def _training_figures(output: OutputDirectory) -> dict[str, Any]:
    done = read_progress(output.checkpoints)
    return {
        "epochs": done.epochs,
        "best_epoch": best_epoch(output.checkpoints),
        "validation_loss": done.best_loss,
        "stopped_early": done.stopped,
    }


def _how_to_resume(output: OutputDirectory, command: Sequence[str]) -> str:
    if not output.checkpoints.exist():
        return "stopped before the first epoch was complete: there is nothing to resume"
    epochs = read_progress(output.checkpoints).epochs
    again = [each for each in command if each not in ("--resume", "--overwrite")]
    return f"stopped; epochs 1 to {epochs} are kept. Go on with: {shlex.join([*again, '--resume'])}"
