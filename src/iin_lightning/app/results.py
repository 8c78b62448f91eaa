"""What a run found: ``results.json`` in its folder, a table on the screen."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

FILE = "results.json"
TRANSFER = "test/transfer/"


def write(outcome: dict[str, Any], folder: Path) -> None:
    """Write ``results.json``."""
    (folder / FILE).write_text(json.dumps(outcome, indent=2) + "\n")


def add(folder: Path, section: str, numbers: Mapping[str, Any]) -> None:
    """Add to a section of a folder's ``results.json``, which need not be there; null stands for NaN and infinity."""
    file = folder / FILE
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    found[section] = found.get(section, {}) | _plain(dict(numbers))
    file.write_text(json.dumps(found, indent=2) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show(outcome: dict[str, Any], folder: Path) -> None:
    """Print the metrics, the paths of the pictures and the model's folder."""
    console = Console()
    metrics: dict[str, float] = outcome["metrics"]
    plain = Table(title=f"{outcome['name']}: test split", title_justify="left")
    plain.add_column("metric")
    plain.add_column("value", justify="right")
    for name, value in metrics.items():
        if not name.startswith(TRANSFER):
            plain.add_row(name.removeprefix("test/"), f"{value:.4g}")
    console.print(plain)
    transfer = {k.removeprefix(TRANSFER): v for k, v in metrics.items() if k.startswith(TRANSFER)}
    if transfer:
        console.print(transfer_table(transfer))
    for figure in outcome.get("figures", []):
        console.print(f"picture  {figure}", soft_wrap=True)
    console.print(f"model    {folder / 'model'}\nresults  {folder / FILE}", soft_wrap=True)


def transfer_table(scores: dict[str, float]) -> Table:
    """Rows: what was swapped. Columns: how each concept is read from the result.

    Args:
        scores: ``{concept}/{swapped factor}`` -> mean score, as ``FactorTransfer`` gives them.
    """
    concepts = list(dict.fromkeys(name.split("/")[0] for name in scores))
    cases = list(dict.fromkeys(name.split("/")[1] for name in scores))
    table = Table(title="After swapping a factor between held-out images", title_justify="left")
    table.add_column("swapped factor")
    for concept in concepts:
        table.add_column(concept, justify="right")
    for case in cases:
        bound = case in ("reconstruction", "images")
        label = {
            "reconstruction": "none (reconstruction: the bound)",
            "images": "none (the images themselves)",
        }
        cells = [
            f"{scores[f'{c}/{case}']:.3f} {'' if bound else ('from source' if c == case else 'kept')}" for c in concepts
        ]
        table.add_row(label.get(case, case), *cells)
    return table
