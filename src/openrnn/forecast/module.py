"""The model as Lightning trains it."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, DistributedSampler
from torchmetrics import MeanMetric

from openrnn.forecast.model import Forecaster
from openrnn.forecast.settings import Settings
from openrnn.forecast.windows import Windows

# The parts that are only read need no gradients: large batches, to be quick.
READING_BATCH = 1024


class ForecastModule(pl.LightningModule):
    """Loss and optimiser."""

    def __init__(self, model: Forecaster, settings: Settings) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        # Lightning's own mean over processes rounds the number of windows of each down.
        self.validation_loss = MeanMetric()

    def on_train_epoch_start(self) -> None:
        """Make an epoch's random numbers those of the epoch, so that a resumed run repeats them."""
        torch.manual_seed(self.settings.seed + self.current_epoch)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """The loss of a batch."""
        inputs, targets = batch
        return mse_loss(self.model(inputs), targets)

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Log the loss, averaged over the validation part (and over the processes)."""
        inputs, targets = batch
        self.validation_loss.update(mse_loss(self.model(inputs), targets), len(inputs))
        self.log("val_loss", self.validation_loss, prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam at a constant rate."""
        return torch.optim.Adam(self.parameters(), lr=self.settings.learning_rate)


class WindowData(pl.LightningDataModule):
    """The windows to train on and to validate with."""

    def __init__(self, training: Windows, validation: Windows, settings: Settings) -> None:
        super().__init__()
        self.training = training
        self.validation = validation
        self.settings = settings

    def train_dataloader(self) -> "DataLoader[tuple[Tensor, Tensor]]":
        """Windows in an order that depends on seed and epoch only.

        `DistributedSampler` does that for one process as for many, which torch's `RandomSampler`
        does not: after a resume its order would be another.
        """
        trainer = self.trainer
        assert trainer is not None
        sampler: DistributedSampler[tuple[Tensor, Tensor]] = DistributedSampler(
            self.training,
            num_replicas=trainer.world_size,
            rank=trainer.global_rank,
            seed=self.settings.seed,
        )
        return DataLoader(
            self.training, self.settings.batch_size, sampler=sampler, collate_fn=_as_it_is
        )

    def val_dataloader(self) -> "DataLoader[tuple[Tensor, Tensor]]":
        """This process' share of the windows: each is in one, and none twice to fill up."""
        trainer = self.trainer
        assert trainer is not None
        own = range(trainer.global_rank, len(self.validation), trainer.world_size)
        return reading_loader(self.validation, own)


def reading_loader(
    windows: Windows, chosen: range | None = None
) -> "DataLoader[tuple[Tensor, Tensor]]":
    """Batches of windows, all or those chosen, in the order of time."""
    return DataLoader(windows, READING_BATCH, sampler=chosen, collate_fn=_as_it_is)


def _as_it_is(batch: Any) -> Any:
    """`Windows` hands out whole batches, there is nothing to collate."""
    return batch
