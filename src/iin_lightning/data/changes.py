"""Concepts without labels: a transform of images defines one, which is what it changes and nothing else.

Symbols: n images x of a data set; a change concept F with versions a, b, ... of each, x_a, x_b, ...; V versions of an
image over all change concepts, the original included. The pairs (x, x_a), (x, x_b) and (x_a, x_b) differ in F only.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from iin_lightning.data.base import ORIGIN, Source, Split, Subset
from iin_lightning.data.change import Change, ChangedSource
from iin_lightning.data.module import DataModule
from iin_lightning.data.pixels import Cache, cache_folder, kept_images, processes
from iin_lightning.data.splits import choose
from iin_lightning.data.versions import VersionedImages
from iin_lightning.errors import ConfigError, choices
from iin_lightning.seeding import FIXED

Changes = Mapping[str, Mapping[str, Change]]
"""Concept -> name of a version -> what makes it of an image."""

ORIGINAL = "original"


class ChangedImages(DataModule):
    """The images of a data set, and versions of each that differ from it in one concept.

    * splits: those of the data set; each image has all its versions in its own split
    * concepts: those of the data set that are kept, which are labels, and the change concepts, of kind "class", whose
      classes are "original" and the versions
    * a change is made for each image on its own, and is the same for every seed of a run
    * a source has one more column of labels, last: ``ORIGIN``, of which image an item is a version; see
      ``versions`` for the pairs that this makes

    If ``base`` has changed images itself, its changes are made of its own images, too, beside these: no version has two
    changes. Concepts are kept whose labels are classes, unless ``keep`` says others: a version may have another colour
    than its image. Versions are kept in files that runs share (cache="disk", below cache_dir/versions/), in memory
    ("ram"), or made at every draw ("none"), by ``num_workers`` processes; None: one a core, up to 8, where versions are
    made.

    Example:
        >>> from torchvision.transforms.v2 import Grayscale
        >>> from iin_lightning.data.color_mnist import ColorMNISTMini
        >>> gray = Grayscale(num_output_channels=3)
        >>> data = ChangedImages(ColorMNISTMini(views=1), {"gray": {"gray": gray}}, limit=10)
        >>> data.concepts, len(data.source("test"))
        (('digit', 'gray'), 20)
    """

    def __init__(
        self,
        base: DataModule,
        changes: Changes | None,
        *,
        keep: Sequence[str] | None = None,
        cache: Cache = "none",
        cache_dir: str | Path | None = None,
        num_workers: int | None = None,
        limit: int | None = None,
        **loading: Any,
    ) -> None:
        self.folder = cache_folder(cache, cache_dir, "versions", "versions of images")
        self.makers, loaders = processes(cache, num_workers)
        super().__init__(val_fraction=base.val_fraction, limit=limit, num_workers=loaders, **loading)
        changes = changes or {}
        if isinstance(base, ChangedImages):
            twice = sorted(set(changes) & set(base.changes))
            if twice:
                raise ConfigError(f"{', '.join(twice)} is a change of data.base already: give this one another name.")
            changes = {**base.changes, **changes}
            keep = base.keep if keep is None else keep
            self.limit = min((one for one in (limit, base.limit) if one is not None), default=None)
            base = base.base
        if cache != "none" and getattr(base, "cache", None) == "none":
            raise ConfigError(
                f"data.cache={cache} keeps versions of images that data.base decodes at every draw, where another "
                "takes the place of a broken one: set data.base.cache to disk or ram, or data.cache to none."
            )
        self.base: DataModule = base
        self.changes: Changes = changes
        self.keep: Sequence[str] | None = keep
        self.cache: Cache = cache

    # What the data set says is read at first use, since its folder may be; to mypy the attributes of the base class are
    # then read-only.
    @property
    def title(self) -> str:  # type: ignore[override]
        """That of the data set, and what is changed."""
        return f"{self.base.title}; changed: {', '.join(self.changes)}"

    @property
    def license(self) -> str:  # type: ignore[override]
        """That of the data set."""
        return self.base.license

    @property
    def terms(self) -> str:  # type: ignore[override]
        """Those of the data set."""
        return self.base.terms

    @property
    def concepts(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those that are kept, then those that are changed."""
        return (*self.kept, *self.changes)

    @property
    def kinds(self) -> dict[str, str]:  # type: ignore[override]
        """Versions have names."""
        return {name: self.base.kinds[name] for name in self.kept} | dict.fromkeys(self.changes, "class")

    @property
    def classes(self) -> dict[str, Sequence[str]]:  # type: ignore[override]
        """The original and the versions of a change concept."""
        named = {name: self.base.classes[name] for name in self.kept if name in self.base.classes}
        return named | {concept: (ORIGINAL, *versions) for concept, versions in self.changes.items()}

    @property
    def kept(self) -> tuple[str, ...]:
        """The concepts of the data set that are concepts here.

        Raises:
            ConfigError: see the class.
        """
        has, classes = self.base.concepts, self.base.classes
        kept = tuple(name for name in has if name in classes) if self.keep is None else tuple(self.keep)
        for name in kept:
            if name not in has:
                raise ConfigError(f"data.keep: the data set has no concept {name!r}; {choices(name, has)}.")
        _check_names(self.changes, kept)
        return kept

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.base.image_shape

    @property
    def broken(self) -> dict[str, int]:
        """Those of the data set."""
        return self.base.broken

    def notes(self) -> list[str]:
        """What the data set notes, and what an item is."""
        n = sum(map(len, self.changes.values()))
        return [*self.base.notes(), f"Each image is there as it was and in {n} version{'s' * (n > 1)}."]

    def unlearnable(self) -> dict[str, str]:
        """Those of the data set that are kept."""
        return {name: why for name, why in self.base.unlearnable().items() if name in self.kept}

    def warnings(self, concepts: Sequence[str] | None = None) -> list[str]:
        """Those of the data set."""
        return self.base.warnings([name for name in self.kept if concepts is None or name in concepts])

    def prepare_data(self) -> None:
        """Download the data set, if necessary."""
        self.base.prepare_data()

    def source(self, split: Split) -> Source:
        """A split, read once: no more images of it than the limit, each with all its versions."""
        if split not in self._sources:
            self._sources[split] = self.load(split)
        return self._sources[split]

    def content(self, split: Split) -> tuple[str, Tensor]:
        """A hash of a split's images and of what makes the versions, and their labels; no version is made."""
        source = self._versions(split, lambda versions, _: versions)
        return source.content(), source.labels

    def load(self, split: Split) -> VersionedImages:
        """Read a split of the data set, and make or find its versions."""
        return self._versions(split, self._made)

    def _versions(self, split: Split, made: Callable[[ChangedSource, str], Source]) -> VersionedImages:
        kept = self.kept
        self.base.trainer = self.trainer  # by which it knows whether it is one of several processes
        images = self.base.source(split)
        if self.limit is not None and self.limit < len(images):
            images = Subset(images, choose(images.labels, self.limit, FIXED, self.base.limit_by))
        makers = {
            concept: {name: ChangedSource(images, change) for name, change in versions.items()}
            for concept, versions in self.changes.items()
        }
        for concept, makers_of in makers.items():
            if len({maker.description for maker in makers_of.values()}) < len(makers_of):
                raise ConfigError(
                    f"Two versions of {concept} ({', '.join(makers_of)}) are made by the same change, so that they are "
                    "the same images: leave one out, or let them differ."
                )
        key = repr([[maker.description for maker in versions.values()] for versions in makers.values()])
        versions = {
            concept: [made(maker, f"Changing {split} images: {name}") for name, maker in makers_of.items()]
            for concept, makers_of in makers.items()
        }
        return VersionedImages(images, kept, versions, key)

    def _made(self, versions: ChangedSource, title: str) -> Source:
        if self.cache == "none":
            return versions
        return kept_images(
            versions.make,
            versions.labels,
            versions.concepts,
            versions.image_shape,
            versions.content(),
            self.folder,
            what=f"The versions of {len(versions)} images",
            title=title,
            workers=self.makers,
            quiet=self.ranks["rank"] > 0,
        )


def _check_names(changes: Changes, kept: Sequence[str]) -> None:
    if not changes:
        raise ConfigError(
            "There is no change, so no versions: data.changes={<concept>: {<version>: {_target_: <a transform>}}}."
        )
    for concept, versions in changes.items():
        if concept in (*kept, ORIGIN):
            raise ConfigError(
                f"A change concept is called {concept!r}, but the data set's are {', '.join(kept) or 'none'}, and "
                f"{ORIGIN!r} is kept for the number of an image: call it otherwise, or leave the data set's concept "
                "out with data.keep."
            )
        if not versions or ORIGINAL in versions:
            raise ConfigError(
                f"The change concept {concept!r} has the versions {', '.join(versions) or 'none'}: name one or more, "
                f"and none of them {ORIGINAL!r}, which is the unchanged image."
            )
