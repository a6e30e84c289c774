"""Training in one process or many, which goes on when one of them is lost.

    python examples/elastic.py                                       one process
    torchrun --standalone --nproc-per-node 2 examples/elastic.py     two
    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    torchrun --standalone --nproc-per-node 2 --max-restarts 3 examples/elastic.py --kill 50
                                     two, of which one is killed before step 50, to see that

An LSTM reads sequences of different lengths, and learns to tell the mean of their numbers. Every
rank takes its own part of a batch, and DistributedDataParallel averages the gradients. When a rank
is lost, torchrun ends the others and starts all of them again, and these go on from the last
checkpoint that is whole: what is lost is the steps since. (The variable gives them a new place to
meet; in the old one they may find the addresses of those that are gone.)

A step's batch follows from the number of the step, and weights and optimizer from the checkpoint.
So the end is the same, to the last bit, as that of a run that nobody killed.
"""

import os
import shutil
import signal
from datetime import timedelta
from pathlib import Path

import click
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.nn.parallel import DistributedDataParallel

import openrnn

LONGEST, BATCH = 20, 64  # T, and B over all ranks
TEST = 1001  # sequences to test on: no number of ranks has to divide it
PATIENCE = timedelta(minutes=1)  # a rank that waits longer for another ends with an error


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = openrnn.LSTM(1, 32)
        self.linear = nn.Linear(32, 1)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """From (T, B, 1) to (B): h_n is each sequence's state after its own last step."""
        _, (h_n, _) = self.lstm(x, lengths=lengths)
        estimate: Tensor = self.linear(h_n[-1]).squeeze(1)
        return estimate


def make_part(seed: int, count: int, rank: int, ranks: int) -> tuple[Tensor, Tensor, Tensor]:
    """A rank's own sequences of `count`: numbers (T, B, 1), lengths and means (B)."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, LONGEST + 1, (count,), generator=generator)
    x = torch.randn(LONGEST, count, 1, generator=generator)
    there = torch.arange(LONGEST).unsqueeze(1) < lengths
    means = (x.squeeze(2) * there).sum(0) / lengths
    own = slice(rank, None, ranks)  # each sequence is of one rank, and none is there twice
    return x[:, own], lengths[own], means[own]


def save(folder: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    weights, moments = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": moments}, checkpoint_id=folder / f"{step:06}")


def load(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Takes the last checkpoint, if there is one, and returns how many steps it has."""
    whole = sorted(path.parent for path in folder.glob("*/.metadata"))  # it is written last
    if not whole:
        return 0
    weights, moments = get_state_dict(model, optimizer)
    dcp.load({"model": weights, "optimizer": moments}, checkpoint_id=whole[-1])
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments)
    return int(whole[-1].name)


@torch.no_grad()
def evaluate(model: nn.Module, rank: int, ranks: int) -> tuple[float, int]:
    """The mean absolute error, and of how many sequences, each rank having tested its own."""
    x, lengths, means = make_part(0, TEST, rank, ranks)
    errors = (model(x, lengths) - means).abs()
    total = torch.tensor([errors.double().sum(), len(errors)], dtype=torch.float64)
    dist.all_reduce(total)
    return total[0].item() / total[1].item(), int(total[1])


def train(steps: int, every: int, checkpoints: Path, kill: int | None) -> None:
    rank, ranks = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    alone = Model()
    model = DistributedDataParallel(alone)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    begin = load(checkpoints, model, optimizer)
    if rank == 0 and begin:
        print(f"going on after step {begin}", flush=True)

    first = os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0"
    for step in range(begin + 1, steps + 1):
        if step == kill and rank == ranks - 1 and first:
            os.kill(os.getpid(), signal.SIGKILL)
        x, lengths, means = make_part(step, BATCH, rank, ranks)
        # DDP takes the mean over the ranks: of the sums, times their number, that of the batch.
        loss = (model(x, lengths) - means).square().sum() * ranks / BATCH
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % every == 0 or step == steps:
            save(checkpoints, step, model, optimizer)
            if rank == 0:
                print(f"step {step}", flush=True)
                for old in sorted(checkpoints.iterdir())[:-2]:
                    shutil.rmtree(old)

    error, count = evaluate(alone, rank, ranks)
    if rank == 0:
        print(f"mean absolute error {error:.4f}, of {count} sequences")


@click.command()
@click.option("--steps", default=100, show_default=True, help="Steps of the training.")
@click.option("--every", default=20, show_default=True, help="Steps from checkpoint to checkpoint.")
@click.option(
    "--checkpoints", default="checkpoints", show_default=True, type=click.Path(path_type=Path)
)
@click.option("--kill", type=int, help="Kill the last rank before this step, the first time.")
def main(steps: int, every: int, checkpoints: Path, kill: int | None) -> None:
    """Train in as many processes as were started."""
    if dist.is_torchelastic_launched():  # which tells the ranks how to find one another
        dist.init_process_group("gloo", timeout=PATIENCE)
    else:
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    train(steps, every, checkpoints, kill)
    # After the models of `train`: gloo may wait for ever in one that is the last to hold the group.
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
