"""What the command ``convert`` does: AnimalFaces out of ImageNet, model folders out of the authors' checkpoints."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich.text import Text

from iin_lightning import serialization
from iin_lightning.convert_from import Checkpoint, Kind, autoencoder, classifier, kind_of, read, translator
from iin_lightning.convert_from.animal_faces import Outcome, cut_all, find_coordinates, find_images, read_coordinates
from iin_lightning.encoders import Autoencoder, Classifier, Encoder
from iin_lightning.encoders.base import sides
from iin_lightning.errors import CheckpointError, ConfigError, DataNotFoundError, choices
from iin_lightning.interpreter import Interpreter
from iin_lightning.printing import LABEL, argument, command_line, file_line, show_files, show_next, shown
from iin_lightning.progress import Screen, track

MISSING = "missing.txt"

OPTIONS: dict[Kind, tuple[str, ...]] = {
    "autoencoder": ("posterior",),
    "classifier": (),
    "translator": ("first_stage", "factors"),
}
"""Which options say what a checkpoint of that kind does not."""


def convert(kind: str, source: str | None, out: str | None, **options: Any) -> None:
    """Make what ``kind`` says out of ``source``, in the folder ``out``; an option that is None is not given.

    Raises:
        ConfigError: the kind is unknown, source or out is missing, or an option is another kind's.
        DataNotFoundError, CheckpointError: the source holds nothing to make it from.
    """
    if kind not in KINDS:
        raise ConfigError(f"There is no kind={kind}; {choices(kind, KINDS)}.")
    conversion = KINDS[kind]
    for key, value, what in (("source", source, conversion.source), ("out", out, "folder")):
        if not value:
            raise ConfigError(f"{key} is missing: name the {what}, {key}=<{what}>.")
    for other, key in ((name, key) for name, each in KINDS.items() for key in each.options):
        if options.get(key) is not None and key not in conversion.options:
            raise ConfigError(f"{key}={options[key]} is for kind={other}, not for kind={kind}: leave it out.")
    conversion.make(Path(str(source)), Path(str(out)), **{key: options.get(key) for key in conversion.options})


def animal_faces(source: Path, out: Path, coordinates: str | None, workers: int | None) -> None:
    """Cut the faces of AnimalFaces out of ImageNet's training images.

    Raises:
        ConfigError: the crops cannot be written.
        DataNotFoundError: the table or all images are missing.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"workers={workers} must be at least 1, or null for one a core.")
    table = Path(coordinates) if coordinates else find_coordinates([source, out])
    crops = read_coordinates(table)
    images = find_images(source, crops)
    failed: list[Outcome] = []
    counts: Counter[str] = Counter()
    try:
        # Workers start before the bar does, whose thread might hold a lock while they are forked.
        with cut_all(crops, images, out, workers) as outcomes:
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
    print_ = Screen(highlight=False).print
    print_(Text(f"crops    {counts['cut']:,} cut, {counts['there']:,} were there"))
    if failed:
        missing = f"missing  {counts['missing']:,} images, and {counts['broken']:,} are broken: {listed}"
        print_(Text(missing), soft_wrap=True)
    show_files([("folder", out)])
    show_next([("look", "data=animal_faces", argument("data.root", shown(out)))], "Look at them with")


def checkpoint(source: Path, out: Path, first_stage: str | None, factors: Any, posterior: Any) -> None:
    """Convert the authors' autoencoder, classifier, or translator; a translator with its encoder is an interpreter.

    Raises:
        CheckpointError: the file is none of theirs or does not fit the encoder, or ``out`` holds another model.
        ConfigError: an option has no meaning for this kind of network.
        FactorError: the factors do not sum to the latent's dimension.
    """
    if (out / serialization.STRUCTURE).exists():
        raise CheckpointError(f"{out} holds a model: say another out=<folder>, or remove that one.")
    if not isinstance(factors, Mapping | None):
        raise ConfigError(f"factors={factors} must be names and dimensions, {{digit: 22, residual: 42}} say.")
    file = read(source)
    kind = kind_of(file.tensors)
    for key, value in (("first_stage", first_stage), ("factors", factors), ("posterior", posterior)):
        if value is not None and key not in OPTIONS[kind]:
            raise ConfigError(f"{source} is of the authors' {kind}, for which {key}={value} has no meaning.")
    origin = {"kind": kind, "file": source.name, "sha256": file.sha256, "step": file.step}
    if kind == "autoencoder":
        about, use = _save_encoder(autoencoder(file.tensors, posterior or "gaussian"), out, origin)
    elif kind == "classifier":
        about, use = _save_encoder(classifier(file.tensors), out, origin)
    else:
        about, use = _save_translator(file, out, origin, first_stage, factors)
    lines = {
        "network": f"{kind}: {about}",
        "step": "unknown" if file.step is None else f"{file.step:,}",
        "left out": ", ".join(file.rest) or "nothing",
        "folder": str(out),
        "use": use,
    }
    console = Screen(highlight=False)
    for name, text in lines.items():
        console.print(file_line(name, text) if name == "folder" else Text(name.ljust(LABEL) + text), soft_wrap=True)


class Conversion(NamedTuple):
    """A kind of conversion: the function, what the source is, and the options."""

    make: Callable[..., None]
    source: str
    options: tuple[str, ...]


KINDS = {
    "animal_faces": Conversion(animal_faces, "folder", ("coordinates", "workers")),
    "checkpoint": Conversion(checkpoint, "file", ("first_stage", "factors", "posterior")),
}


def _write(failed: list[Outcome], path: Path) -> Path:
    """List what could not be made; an empty list is no file."""
    path.unlink(missing_ok=True)
    if failed:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = (f"{outcome.crop}\t{outcome.reason or outcome.status}" for outcome in failed)
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def _save_encoder(network: Autoencoder | Classifier, out: Path, origin: dict[str, Any]) -> tuple[str, str]:
    """Save it; return what it is and how it is used."""
    serialization.save(network, out, {"network": serialization.describe(network), "origin": origin})
    model = "unsup" if isinstance(network, Autoencoder) else "sup"
    height, width = sides(network.image_size)
    about = (
        f"images {network.channels}x{height}x{width}, latents of {network.latent_dim}, width {network.width}, "
        f"{network.n_down} layers, {network.norm}"
    )
    arguments = (f"model={model}", argument("first_stage.path", out), f"encoder.latent_dim={network.latent_dim}")
    return about, f"{command_line('train', *arguments)} data=<its data set>"


def _save_translator(
    file: Checkpoint, out: Path, origin: dict[str, Any], first_stage: str | None, named: Mapping[str, int] | None
) -> tuple[str, str]:
    """Save it, with its encoder if that is given; return what it is and how it is used."""
    network, factors = translator(file.tensors, named)
    if first_stage is not None:
        encoder = serialization.load(Path(first_stage))
        if not isinstance(encoder, Encoder):
            raise CheckpointError(
                f"{first_stage} holds a {type(encoder).__name__}, which encodes nothing: name another."
            )
        Interpreter(encoder, network, factors).save_pretrained(out, origin=origin)
        use = f"Interpreter.from_pretrained({str(out)!r})"
    else:
        structure = {"network": serialization.describe(network), "factors": dict(factors), "origin": origin}
        serialization.save(network, out, structure)
        load = f"serialization.load({str(out)!r})"
        use = f"Interpreter(encoder, {load}, factors), or first_stage=<folder> for a whole one"
    about = f"latents of {network.dim}, {network.n_blocks} blocks, hidden {network.hidden}, depth {network.depth}"
    return f"{about}, {factors}", use
