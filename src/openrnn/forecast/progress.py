"""Lightning's progress bar, made to fit 80 columns, and what stands for it in a log."""

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm


class EpochBar(TQDMProgressBar):
    """One line for all epochs: the batches of this one, and the losses so far."""

    def init_train_tqdm(self) -> Tqdm:
        """The bar, without what the width of 80 columns has no room for."""
        bar = super().init_train_tqdm()
        bar.bar_format = "{desc} {bar} {n_fmt}/{total_fmt} batches{postfix}"
        return bar

    def init_validation_tqdm(self) -> Tqdm:
        """None to be seen: it would flicker between two epochs."""
        return Tqdm(disable=True)

    def on_train_epoch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """Say which epoch it is, counted from one."""
        super().on_train_epoch_start(trainer, *args)
        self.train_progress_bar.set_description_str(
            f"Epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        )

    def on_exception(self, trainer: pl.Trainer, *_: Any) -> None:
        """Let go of the line, so that what is said next is not drawn over."""
        if trainer.training:
            self.train_progress_bar.close()

    def get_metrics(self, *args: Any) -> dict[str, int | str | float | dict[str, float]]:
        """The loss alone: there is no logger whose version could matter."""
        loss = super().get_metrics(*args).get("val_loss")
        return {} if loss is None else {"val_loss": f"{loss:.4f}"}


class EpochLines(Callback):
    """A line every few epochs, for output that is not a terminal."""

    def __init__(self, say: Callable[[str], None], every: int = 10) -> None:
        self.say = say
        self.every = every

    def on_train_epoch_end(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        """Say how far the training is."""
        epoch = trainer.current_epoch + 1
        if epoch == 1 or epoch % self.every == 0:
            loss = float(trainer.callback_metrics["val_loss"])
            self.say(f"Epoch {epoch}/{trainer.max_epochs}: validation loss {loss:.4f}")


def progress(say: Callable[[str], None], *, bar: bool) -> Callback:
    """A bar, or the lines that stand for it."""
    return EpochBar() if bar else EpochLines(say)
