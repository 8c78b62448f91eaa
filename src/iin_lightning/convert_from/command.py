"""The command ``convert``: what is made of what, with a progress bar and a summary."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig
from rich.text import Text

from iin_lightning.cli import trust
from iin_lightning.convert_from.convert_checkpoint import checkpoint
from iin_lightning.data.crops import Outcome, cut_all, find_coordinates, find_images, read_coordinates
from iin_lightning.errors import ConfigError, DataNotFoundError, choices
from iin_lightning.printing import argument, show_files, show_next, shown
from iin_lightning.progress import Screen, track

MISSING = "missing.txt"


def convert(config: DictConfig) -> None:
    """Make what ``kind`` says.

    Raises:
        ConfigError: there is no such kind, source or out is not named, or a key is another kind's.
        DataNotFoundError, CheckpointError: there is nothing to make it from.
    """
    trust.take(config)
    if config.kind not in KINDS:
        raise ConfigError(f"There is no kind={config.kind}; {choices(str(config.kind), KINDS)}.")
    kind = KINDS[config.kind]
    for key, what in (("source", kind.source), ("out", "folder")):
        if not config[key]:
            raise ConfigError(f"Say which {what}: {key}=<{what}>. What it is for says --help.")
    for name, other in KINDS.items():
        for key in other.options:
            if config[key] is not None and key not in kind.options:
                raise ConfigError(f"{key}={config[key]} is for kind={name}, not for kind={config.kind}: leave it out.")
    if config.workers is not None and config.workers < 1:
        raise ConfigError(f"workers={config.workers} must be at least 1, or null for one a core.")
    kind.make(config)


def animal_faces(config: DictConfig) -> None:
    """Cut the faces of AnimalFaces out of ImageNet's training images.

    Raises:
        ConfigError: the crops cannot be written.
        DataNotFoundError: the table or all images are missing.
    """
    source, out = Path(config.source), Path(config.out)
    table = Path(config.coordinates) if config.coordinates else find_coordinates([source, out])
    crops = read_coordinates(table)
    images = find_images(source, crops)
    failed: list[Outcome] = []
    counts: Counter[str] = Counter()
    try:
        # Workers start before the bar does, whose thread might hold a lock while they are forked.
        with cut_all(crops, images, out, config.workers) as outcomes:
            for outcome in track(outcomes, "Cutting", len(crops)):
                counts[outcome.status] += 1
                if outcome.status in ("missing", "broken"):
                    failed.append(outcome)
        listed = _write(failed, out / MISSING)
    except OSError as error:
        raise ConfigError(f"The crops cannot be written to {out}: {error}. Make room, or say another out=.") from error
    if len(failed) == len(crops):
        raise DataNotFoundError(
            f"Of the {len(crops):,} images that {table} names none could be read in {images}: {counts['missing']:,} "
            f"are missing and {counts['broken']:,} broken, see {listed}. Expected are images such as "
            f"{images / crops[0].synset / crops[0].file}."
        )
    _show(counts, out, listed)


class Conversion(NamedTuple):
    """What can be made.

    Attributes:
        make: does it.
        source: what it is made from.
        options: keys that are for this kind alone; null where they are not given.
    """

    make: Callable[[DictConfig], None]
    source: str
    options: tuple[str, ...]


KINDS: Mapping[str, Conversion] = {
    "animal_faces": Conversion(animal_faces, "folder", ("coordinates", "workers")),
    "checkpoint": Conversion(checkpoint, "file", ("first_stage", "factors", "posterior")),
}


def _write(failed: list[Outcome], path: Path) -> Path:
    """List what could not be made; no file where there is nothing to list."""
    path.unlink(missing_ok=True)
    if failed:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = (f"{outcome.crop}\t{outcome.reason or outcome.status}" for outcome in failed)
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def _show(counts: Counter[str], out: Path, listed: Path) -> None:
    print_ = Screen(highlight=False).print
    print_(Text(f"crops    {counts['cut']:,} cut, {counts['there']:,} were there"))
    if counts["missing"] or counts["broken"]:
        print_(
            Text(f"missing  {counts['missing']:,} images, and {counts['broken']:,} are broken: {listed}"),
            soft_wrap=True,
        )
    show_files([("folder", out)])
    show_next([("look", "data=animal_faces", argument("data.root", shown(out)))], "Look at them with")
