"""The one base of all Lightning data modules: it turns sources into loaders that resume exactly."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, ClassVar

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from iin_lightning.data.base import ORIGIN, LabelledBatch, Source, Split, Subset, digest
from iin_lightning.data.images import Trait
from iin_lightning.data.order import StepSampler
from iin_lightning.data.splits import choose
from iin_lightning.data.stream import FixedSingles, Singles
from iin_lightning.errors import ConfigError, DataNotFoundError, listed
from iin_lightning.seeding import FIXED

CPU = torch.device("cpu")


class StepLoader(DataLoader[Any]):
    """A loader whose position is the trainer's: Lightning asks for a state, and there is none to keep."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the sampler asks the trainer where training stands."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Accept what ``state_dict`` gave."""


class StreamModule(LightningDataModule):
    """Loaders over streams: a training loader over steps, an evaluation loader over fixed batches.

    A pass of training is the whole run where its length is known (the trainer's max_steps), otherwise an epoch.
    The trainer must have use_distributed_sampler=False, since streams share out the rows of a batch themselves.

    Args:
        batch_size: rows of a training step, over all processes; a run sets it to its model's.
        eval_batch_size: most rows of an evaluation batch, over all processes.
        num_workers: loader processes; batches do not depend on it.
        seed: of all that is random.
    """

    def __init__(
        self, *, batch_size: int = 128, eval_batch_size: int = 500, num_workers: int = 0, seed: int = 0
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.seed = seed

    @property
    def ranks(self) -> dict[str, int]:
        """This process among all, as streams want it; without a trainer it is the only one."""
        if self.trainer is None:
            return {"rank": 0, "world_size": 1}
        return {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}

    def steps_done(self) -> int:
        """Training batches behind us, in this run and in those that it resumes."""
        # Not global_step, which counts optimizer steps. "processed" is exact in a checkpoint, whether one is
        # written at the end of a batch ("completed" lags) or in the middle ("ready" is ahead).
        if self.trainer is None:
            return 0
        total: Any = self.trainer.fit_loop.epoch_loop.batch_progress.total  # typed as its base class
        return int(total.processed)

    def train_loader(
        self,
        stream: Dataset[Any],
        n_items: int,
        collate: Callable[[Any], Any] | None = None,
        device: torch.device = CPU,
    ) -> StepLoader:
        """A loader over the steps of a stream of n_items an epoch, from the step that training has reached."""
        sampler = StepSampler(self._pass_length(n_items), self.steps_done)
        return StepLoader(stream, sampler=sampler, collate_fn=collate, **self._loading(device))

    def eval_loader(
        self, batches: Dataset[Any], collate: Callable[[Any], Any] | None = None, device: torch.device = CPU
    ) -> DataLoader[Any]:
        """A loader over all batches of a fixed data set, which are drawn on a device."""
        return DataLoader(batches, collate_fn=collate, **self._loading(device))

    def _pass_length(self, n_items: int) -> int:
        if self.trainer is not None and self.trainer.max_steps > 0:
            return self.trainer.max_steps * self.trainer.accumulate_grad_batches
        return -(-n_items // self.batch_size)

    def _loading(self, device: torch.device) -> dict[str, Any]:
        to_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        workers = self.num_workers if device == CPU else 0  # another process has no tensors on a GPU
        return {
            "batch_size": None,  # an item is a batch already
            "num_workers": workers,
            "persistent_workers": workers > 0,
            "pin_memory": to_gpu and device == CPU,
        }


class DataModule(StreamModule, ABC):
    """A data set of labelled images: its splits as sources, and what a task must know about it.

    A subclass says the five attributes and ``load``.

    Args:
        val_fraction: about which part of the training data is kept for validation where there is no official split.
        limit: at most so many items of each split, the same for every seed, for a quick look; None: all.
        **loading: see ``StreamModule``.

    Attributes:
        title: the data set in one line.
        license: of the data.
        terms: what one may do with them, in one line.
        concepts: names of the K concepts, in the order of a label's columns.
        kinds: concept -> "class", whose labels have names; "color"; or "identity", whose labels say "the same one" and
            mean nothing in another split.
        classes: concept of kind "class" -> names of its labels 0, 1, ...
        traits: name -> measure of what no label names, to see what swaps keep of it.
        group: a concept whose items a limit keeps together, so that they find partners; None: any may be left out.
        image_shape: (C, H, W).
    """

    title: ClassVar[str]
    license: ClassVar[str]
    terms: ClassVar[str]
    # A subclass whose concepts depend on its arguments sets these three in its constructor.
    concepts: tuple[str, ...]
    kinds: Mapping[str, str]
    classes: Mapping[str, Sequence[str]]
    traits: Mapping[str, Trait] = {}
    group: str | None = None

    def __init__(self, *, val_fraction: float = 0.05, limit: int | None = None, **loading: Any) -> None:
        if not 0 < val_fraction < 1:
            raise ConfigError(
                f"val_fraction={val_fraction} must lie between 0 and 1: it is a part of the training data."
            )
        if limit is not None and limit < 1:
            raise ConfigError(f"limit={limit} must be at least 1, or null for all images.")
        super().__init__(**loading)
        self.val_fraction = val_fraction
        self.limit = limit
        self._sources: dict[Split, Source] = {}

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""

    @abstractmethod
    def load(self, split: Split) -> Source:
        """Read a split."""

    def source(self, split: Split) -> Source:
        """A split, read once, and no more of it than the limit."""
        if split not in self._sources:
            if ORIGIN in self.concepts:
                raise ConfigError(
                    f"A concept of {type(self).__name__} is called {ORIGIN!r}, the name that is kept for the number of "
                    "the image that an item is a version of: call the concept otherwise."
                )
            source = self.load(split)
            if self.limit is not None and self.limit < len(source):
                source = Subset(source, choose(source.labels, self.limit, FIXED, self.limit_by))
            self._sources[split] = source
        return self._sources[split]

    def fingerprint(self, split: Split, concept: str | None = None) -> str:
        """A hash of a split's images in order, wherever they lie, and of the labels and class names of a concept."""
        content, labels = self.content(split)
        if concept is not None:
            column = labels[:, self.concepts.index(concept)]
            content = f"{content} {digest(column)} {list(self.classes.get(concept, ()))}"
        return sha256(content.encode()).hexdigest()

    def content(self, split: Split) -> tuple[str, Tensor]:
        """A hash of what a split's images are made of, and their labels (n, K)."""
        source = self.source(split)
        return source.content(), source.labels

    @property
    def limit_by(self) -> int | None:
        """The label column whose groups a limit leaves whole."""
        return None if self.group is None else self.concepts.index(self.group)

    @property
    def broken(self) -> dict[str, int]:
        """Split -> how many of its images could not be read: they are left out, or others stand in for them."""
        return {}

    def notes(self) -> list[str]:
        """What else a user must know of the data, one sentence each."""
        return []

    def labels(self, split: Split) -> Tensor:
        """The labels long (n, K) of a split."""
        return self.source(split).labels

    def unlearnable(self) -> dict[str, str]:
        """Concepts of which nothing can be learned, each with the reason and the cure in a sentence.

        All training images are the same in them, or no two are.
        """
        labels, found = self.labels("train"), {}
        for name, column in zip(self.concepts, labels.T):
            n_values = len(column.unique())
            if n_values == 1:
                value = f" ({self.classes[name][int(column[0])]})" if name in self.classes else ""
                found[name] = f"All {len(column):,} training images have the same {name}{value}"
            elif n_values == len(column):
                found[name] = f"No two of the {len(column):,} training images have the same {name}"
        return {name: f"{why}, so nothing can be learned of it. {self.cure(name)}" for name, why in found.items()}

    def cure(self, concept: str) -> str:
        """What to do about an unlearnable concept, in a sentence."""
        more = "" if self.limit is None else f", or raise data.limit ({self.limit})"
        return f"Take other images{more}, or leave {concept} out of model.factors."

    def warnings(self, concepts: Sequence[str] | None = None) -> list[str]:
        """What would silently make results meaningless of the concepts that matter, a sentence each."""
        unlearnable, said = self.unlearnable(), []
        for name in self.concepts if concepts is None else concepts:
            if name in unlearnable:
                said.append(unlearnable[name])
            elif name in self.classes:
                for split in ("train", "test"):
                    if absent := self._absent(split, name):
                        said.append(
                            f"No {split} image is of the class {listed(absent)} ({name}), so no number tells of it."
                        )
        return said

    def _absent(self, split: Split, concept: str) -> list[str]:
        """The classes of a concept that no image of a split has."""
        try:
            there = set(self.labels(split)[:, self.concepts.index(concept)].tolist())
        except DataNotFoundError:  # which ends what needs the split
            return []
        return [name for number, name in enumerate(self.classes[concept]) if number not in there]

    def train_dataloader(self) -> DataLoader[LabelledBatch]:
        """Shuffled training batches."""
        source = self.source("train")
        return self.train_loader(Singles(source, self.batch_size, self.seed, **self.ranks), len(source))

    def val_dataloader(self) -> DataLoader[LabelledBatch]:
        """Every validation image once."""
        return self.eval_loader(FixedSingles(self.source("val"), self.eval_batch_size, **self.ranks))

    def test_dataloader(self) -> DataLoader[LabelledBatch]:
        """Every test image once."""
        return self.eval_loader(FixedSingles(self.source("test"), self.eval_batch_size, **self.ranks))
