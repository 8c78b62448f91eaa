"""One of the two processes of test_actnorm: ``python actnorm_rank.py RANK FOLDER``."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

from iin_lightning.errors import NonFiniteError
from iin_lightning.layers.actnorm import ActNormalization


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    x = torch.load(folder / f"batch{rank}.pt")
    layer = ActNormalization(x.shape[1])
    layer(x)
    torch.save(layer.state_dict(), folder / f"state{rank}.pt")
    if rank == 1:
        x[0, 0, 0] = torch.nan
    try:
        ActNormalization(x.shape[1])(x)
    except NonFiniteError as error:
        (folder / f"error{rank}.txt").write_text(str(error))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
