"""``report to=html``: a page for each run, and one that compares several."""

from pathlib import Path

import torch
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from iin_lightning.cli import trust
from iin_lightning.cli.files import file_line
from iin_lightning.cli.quiet import quiet
from iin_lightning.cli.secrets import mask
from iin_lightning.cli.sentence import sentence
from iin_lightning.data.disk import check_writable, in_units
from iin_lightning.errors import ConfigError, IINError
from iin_lightning.progress import Screen
from iin_lightning.questions import results
from iin_lightning.questions.subject import load_model
from iin_lightning.reporting.compare import common_folder, comparison, entry
from iin_lightning.reporting.page import write
from iin_lightning.reporting.run_page import Found, run_page
from iin_lightning.runs.folder import CONFIG
from iin_lightning.runs.locate import choose_device, find_runs, load_subject

FILE = "report.html"
COMPARISON = "comparison.html"
"""Of several runs, where the folder that holds them all is one of them."""


def to_html(config: DictConfig) -> None:
    """Write ``report.html`` into the folder of each run; of several, one that compares them beside their folders.

    Raises:
        ConfigError: no run is named, or a page cannot be written.
        CheckpointError: a folder holds no model, or a damaged file.
        IINError: the same of some of several runs; those that are left have their pages.
    """
    quiet()
    trust.take(config)
    if config.run is None:
        raise ConfigError("Say which run to report on, run=<run folder>; a pattern in quotes names several.")
    folders, device = find_runs(config.run), choose_device(config.device)
    analysis, console = instantiate(config.response), Screen()
    out, several = config.out and Path(config.out), len(folders) > 1
    entries, failed = [], {}
    for folder in folders:
        try:
            file = folder / FILE if several or not out else out
            check_writable(file.parent, "Reports", "name another file, out=<file>")
            found = _find(folder, device, config)
            page = run_page(found, analysis, config.seed)
            _say(console, file, write(page, file))
        except IINError as error:
            if not several:
                raise
            failed[folder] = str(error)
            continue
        entries.append(entry(found, page, file))
    if len(entries) > 1:
        top = common_folder(folders)
        file = out or top / (COMPARISON if top in {folder.resolve() for folder in folders} else FILE)
        _say(console, file, write(comparison(entries, file.parent, failed), file))
    if failed:
        reasons = "".join(f"\n{folder}: {reason}" for folder, reason in failed.items())
        raise IINError(f"{len(failed)} of {len(folders)} runs have no page.{reasons}")


def _find(folder: Path, device: torch.device, config: DictConfig) -> Found:
    """A run and its data, which may lie on another machine, or be of another version."""
    outcome, why = results.read(folder), "No data are known: data=<data set> names them."
    if config.data is not None or (folder / CONFIG).is_file():
        try:
            subject = load_subject(folder, device, config, caches=False)
            subject.data.source("test")
            return Found(folder, subject.network, subject, "", outcome)
        except (IINError, HydraException, OmegaConfBaseException) as error:
            why = mask(" ".join(str(sentence(error) or error).split()))
    network = load_model(folder).to(device).eval()
    return Found(folder, network, None, f"There are no images here, so nothing new was drawn of them. {why}", outcome)


def _say(console: Screen, file: Path, size: int) -> None:
    console.print(file_line("report", file, f"({in_units(size)})"), soft_wrap=True)
