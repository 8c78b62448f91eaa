"""Swaps of factors between test images, shared out over the processes."""

from typing import Any

from torch.utils.data import DataLoader

from iin_lightning.data.module import DataModule, StreamModule
from iin_lightning.data.swaps import FixedSwaps
from iin_lightning.seeding import FIXED


class SwapData(StreamModule):
    """Targets and sources from a data set's test split, the same for every model.

    Args:
        images: the data set.
    """

    def __init__(self, images: DataModule) -> None:
        super().__init__(eval_batch_size=images.eval_batch_size, num_workers=images.num_workers)
        self.images = images

    def test_dataloader(self) -> DataLoader[Any]:
        """Every test image once as a target."""
        return self.eval_loader(FixedSwaps(self.images.source("test"), self.eval_batch_size, FIXED, **self.ranks))
