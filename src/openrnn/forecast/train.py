"""Training with Lightning: early stopping, checkpoints, one process or many."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.strategies import DDPStrategy

from openrnn.errors import ArgumentError
from openrnn.forecast.checkpoints import BestCheckpoint, Checkpoints, LastCheckpoint
from openrnn.forecast.launch import PATIENCE, processes
from openrnn.forecast.model import Forecaster
from openrnn.forecast.module import ForecastModule, WindowData
from openrnn.forecast.process import process_state_kept
from openrnn.forecast.progress import progress
from openrnn.forecast.quiet import quiet_lightning
from openrnn.forecast.settings import Settings
from openrnn.forecast.windows import Windows

# Numbers in the hidden states of a batch, up to which one thread is the quickest.
_SMALL_STEP = 32_768


@dataclass(frozen=True)
class Hardware:
    """What to train on, in Lightning's terms."""

    accelerator: str = "auto"
    # One: a model of the usual size gains nothing from several.
    devices: int = 1
    num_nodes: int = 1

    def __post_init__(self) -> None:
        for option, value in (("--devices", self.devices), ("--num-nodes", self.num_nodes)):
            if value < 1:
                raise ArgumentError(
                    f"{option}: expected a whole number of 1 or more, received {value}; "
                    f"give for example {option} 1"
                )

    @property
    def processes(self) -> int:
        """How many share the training."""
        return self.devices * self.num_nodes

    def check_windows(self, count: int) -> None:
        """Raises ArgumentError if a process would get none of so many windows to validate with."""
        if self.processes > count:
            raise ArgumentError(
                f"--devices {self.devices} --num-nodes {self.num_nodes}: expected at most as many "
                f"processes as there are windows in the validation part, {count}, received "
                f"{self.processes}; give fewer devices, or a larger --validation"
            )


class TrainingInterrupted(KeyboardInterrupt):
    """The user stopped the training; the last checkpoint is there."""


def train(
    model: Forecaster,
    training: Windows,
    validation: Windows,
    settings: Settings,
    hardware: Hardware,
    checkpoints: Checkpoints,
    *,
    resume_from: Path | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Train `model` until the validation loss stops falling, and leave `checkpoints` behind."""
    bar = sys.stdout.isatty()  # elsewhere it cannot be redrawn
    callbacks = [
        EarlyStopping("val_loss", patience=settings.patience),
        BestCheckpoint(checkpoints),
        LastCheckpoint(checkpoints),
        progress(say, bar=bar),
    ]
    small = settings.batch_size * settings.hidden <= _SMALL_STEP
    with quiet_lightning(), process_state_kept(one_thread=small):
        trainer = _trainer(settings, hardware, callbacks, bar)
        try:
            with processes(trainer):
                trainer.fit(
                    ForecastModule(model, settings),
                    datamodule=WindowData(training, validation, settings),
                    ckpt_path=resume_from,
                )
        except SystemExit:
            # Lightning catches Ctrl-C, tidies up, and exits.
            if trainer.interrupted:
                raise TrainingInterrupted from None
            raise


def _trainer(
    settings: Settings, hardware: Hardware, callbacks: list[Callback], bar: bool
) -> pl.Trainer:
    try:
        return pl.Trainer(
            accelerator=hardware.accelerator,
            devices=hardware.devices,
            num_nodes=hardware.num_nodes,
            strategy=DDPStrategy(timeout=PATIENCE) if hardware.processes > 1 else "auto",
            use_distributed_sampler=False,  # `WindowData` has its own
            max_epochs=settings.epochs,
            callbacks=callbacks,
            enable_progress_bar=bar,
            # An accelerator may lack a deterministic form of some operation: go on without.
            deterministic="warn",
            gradient_clip_val=1.0,
            logger=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".!")
        raise ArgumentError(
            f"--accelerator {hardware.accelerator} --devices {hardware.devices} --num-nodes "
            f"{hardware.num_nodes}: expected hardware that is there, but Lightning says: {reason}; "
            "leave them out to train on one device"
        ) from error
