"""What several processes check together: `python -m tests.citizen.ranks FOLDER`.

Four ranks are forked from one process, which has imported torch and built the kernels for all of
them. Each check runs on two pairs of ranks, then on all four, and the outcomes, empty or
tracebacks, are written to FOLDER/outcomes.json. It ends in any case: a rank that waits for another
gives up after `PATIENCE`.
"""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.multiprocessing.spawn import ProcessExitedException, start_processes

WORLD = 4
SIZES = (2, 4)
PATIENCE = timedelta(seconds=20)


@dataclass(frozen=True)
class Group:
    """Ranks that work on the same thing, as one of them sees it."""

    mesh: DeviceMesh
    folder: Path

    @property
    def all(self) -> dist.ProcessGroup:
        return self.mesh.get_group()

    @property
    def rank(self) -> int:
        return self.mesh.get_local_rank()

    @property
    def size(self) -> int:
        return self.mesh.size()


Check = Callable[[Group], None]


def work(rank: int, folder: Path, checks: dict[str, Check]) -> None:
    """A rank, from its start to its end."""
    warnings.simplefilter("error")
    # What torch.nn.Linear gives is one; what our layers give must not be.
    warnings.filterwarnings("ignore", r".*\(FSDPModel\) returned a view")
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(str(folder / "store"), WORLD),
        rank=rank,
        world_size=WORLD,
        timeout=PATIENCE,
    )
    for size in SIZES:
        mesh = init_device_mesh("cpu", (WORLD // size, size), mesh_dim_names=("groups", "ranks"))
        own = folder / f"{size} ranks, from {rank - rank % size}"
        own.mkdir(exist_ok=True)
        for name, check in checks.items():
            torch.manual_seed(0)
            outcome = ""
            try:
                check(Group(mesh["ranks"], own))
            except Exception:  # noqa: BLE001  it is told, with the outcomes of the others
                outcome = f"rank {rank}: {traceback.format_exc()}"
            with (folder / f"outcomes of {rank}").open("a", encoding="utf-8") as file:
                file.write(json.dumps([f"{name}, {size} ranks", outcome]) + "\n")
    dist.destroy_process_group()


def main(folder: Path) -> None:
    from tests.citizen.rank_checks import CHECKS, build_kernels

    torch.set_num_threads(1)
    build_kernels()
    end = ""
    try:
        start_processes(work, (folder, CHECKS), nprocs=WORLD, start_method="fork")
    except ProcessExitedException as error:  # a failed check may leave others in such a state
        end = str(error)
    outcomes = {f"{name}, {size} ranks": "" for size in SIZES for name in CHECKS}
    for rank in range(WORLD):
        lines = (folder / f"outcomes of {rank}").read_text(encoding="utf-8").splitlines()
        own = dict(map(json.loads, lines))
        for name in outcomes:
            outcomes[name] += own.get(name, f"rank {rank} has not come so far: {end}\n")
    (folder / "outcomes.json").write_text(json.dumps(outcomes), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
