"""The command ``analyse``: a question to one or many trained networks."""

from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console

from iin_lightning import serialization
from iin_lightning.analysis.dimensions import dimension_shares, factor_scores, whole_dimensions
from iin_lightning.app.evaluate import table, write_summary
from iin_lightning.app.quiet import quiet
from iin_lightning.app.results import add
from iin_lightning.app.run import load_network
from iin_lightning.app.subject import choose_data, find_runs, model_folder
from iin_lightning.data.latent_module import LatentData
from iin_lightning.data.sharing import sharing_pairs
from iin_lightning.encoders.base import Encoder
from iin_lightning.errors import CheckpointError, ConfigError, choices
from iin_lightning.plots.dimensions import dimension_figure
from iin_lightning.plots.style import save


def analyse(config: DictConfig) -> None:
    """Answer, write the answer down, draw it.

    Raises:
        ConfigError: there is no such analysis.
        CheckpointError: a folder holds no model, or none that encodes.
    """
    quiet()
    if config.analysis not in ANALYSES:
        raise ConfigError(f"There is no analysis={config.analysis}; {choices(str(config.analysis), ANALYSES)}.")
    ANALYSES[config.analysis](config)


def analyse_dimensions(config: DictConfig) -> None:
    """Dimensions of factors (Eq. 11) for each network, from pairs of training images."""
    folders = find_runs(config.run)
    found: dict[str, dict[str, float]] = {}
    networks: dict[str, list[dict[str, int]]] = {}
    for folder in folders:
        encoder = load_network(model_folder(folder))
        if not isinstance(encoder, Encoder):
            raise CheckpointError(f"{folder} holds a {type(encoder).__name__}, which encodes nothing: name another.")
        latents = LatentData(
            instantiate(choose_data(folder, config)),
            encoder.eval(),
            cache=Path(config.paths.cache) / "latents",
            cache_key=serialization.fingerprint(encoder),
        )
        scores = factor_scores(sharing_pairs(latents.latents("train")), config.method)
        dims = whole_dimensions(dimension_shares(scores), encoder.latent_dim)
        answer = {"method": config.method, "scores": scores, "dimensions": dims}
        add(folder, "analysis", {"dimensions": answer})
        found[str(folder)] = {f"score/{k}": v for k, v in scores.items()} | {k: float(v) for k, v in dims.items()}
        networks.setdefault(_kind(encoder), []).append(dims)
    console = Console()
    console.print(table(found))
    out = Path(config.out)
    paths = [save(dimension_figure(networks), out / f"dimensions.{suffix}") for suffix in ("png", "pdf")]
    for path in (*write_summary(found, out), *paths):
        console.print(f"written  {path}", soft_wrap=True)


ANALYSES = {"dimensions": analyse_dimensions}


def _kind(encoder: Encoder) -> str:
    """What runs are grouped by: the class of the network, within its wrapper."""
    return type(getattr(encoder, "encoder", encoder)).__name__.lower()
