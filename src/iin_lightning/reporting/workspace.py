"""A W&B workspace with panels for what our runs log: ``report to=wandb``."""

import csv
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from omegaconf import DictConfig

from iin_lightning.errors import ConfigError, MissingExtraError
from iin_lightning.printing import show_files
from iin_lightning.progress import Screen
from iin_lightning.runs.locate import find_runs
from iin_lightning.runs.loggers import LOSSES, STEP, wandb_errors

TRANSFER = "tables/transfer"
LATEST = 50  # runs of a project that are asked for names
SWEPT = ("seed", "model.lr", "model.batch_size", "encoder.latent_dim", "flow.n_blocks", "flow.hidden", "model.loss.rho")
"""Keys that sweeps vary most often: the first axes of the parallel coordinates."""

RESULT = re.compile(r"test/(?:nll|loss|accuracy)|evaluation/likelihood/nll|evaluation/quality/samples/(?!.* from ).*")
"""Names on their last axes, after the least held-out loss; baselines of sample quality are left out."""


def to_wandb(config: DictConfig) -> None:
    """Lay out a workspace, and save it at W&B or, with ``out``, as a file.

    Raises:
        ConfigError: W&B cannot be reached, or the project has no runs.
    """
    names = set[str]().union(*map(logged, find_runs(config.run))) if config.run is not None else None
    if config.out is not None:
        if names is None:
            raise ConfigError("out=<file> is written without network: name runs for its panels, run=<run folder>.")
        view = layout(names, config.project, config.entity or "", config.name)._to_model()
        out = Path(config.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        content = view.model_dump(by_alias=True, exclude_none=True, mode="json")
        out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        show_files([("layout", out)])
        return
    with wandb_errors():
        import wandb  # noqa: PLC0415

        api = wandb.Api()
        entity = config.entity or api.default_entity or ""
        if names is None:
            runs = api.runs(f"{entity}/{config.project}", per_page=LATEST)[:LATEST]
            names = set[str]().union(*(run.summary.keys() for run in runs))
        if not names:
            raise ConfigError(f"{entity}/{config.project} has no runs yet: train with logger=wandb first.")
        workspace = layout(names, config.project, entity, config.name)
        workspace.save()
        Screen().print(f"written  {workspace.url}", soft_wrap=True)


def logged(folder: Path) -> set[str]:
    """Return the names under which the numbers and pictures of a run folder are at W&B."""
    names = set[str]()
    for file in folder.glob("metrics*.csv"):
        with file.open(encoding="utf-8", newline="") as lines:
            names |= set(next(csv.reader(lines), []))
    for group in ("figures", "analysis"):
        names |= {f"{group}/{path.stem}" for path in (folder / group).glob("*.png")}
    return names | ({TRANSFER} if any(name.startswith("test/transfer/") for name in names) else set())


def layout(names: Iterable[str], project: str, entity: str, title: str) -> Any:
    """Return an unsaved ``wandb_workspaces.workspaces.Workspace`` with panels for the names that runs log.

    Raises:
        MissingExtraError: That package is not installed.
    """
    try:
        from wandb_workspaces import workspaces as ws  # noqa: PLC0415
        from wandb_workspaces.reports import v2 as panels  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("wandb-workspaces", "workspace", "A W&B workspace") from error
    make = _Panels(sorted(names), panels)
    sections = {
        "Likelihoods": [*make.curves(), *make.bars("test/"), *make.bars_below("likelihood", "gaussianity")],
        "Transfer and leakage": [
            *make.bars_below("test/transfer/", "transfer", "leakage", "disentanglement"),
            *([make.panels.WeavePanelSummaryTable(table_name=TRANSFER)] if TRANSFER in make.names else []),
        ],
        "Sample quality (FID)": [*make.bars_below("quality")],
        "Swap grids and pictures": [*make.pictures("figures/")],
        "Analyses": [*make.pictures("analysis/"), *make.bars_below("analysis/")],
        "Sweeps": [*make.sweeps()],
    }
    return ws.Workspace(
        name=title,
        entity=entity,
        project=project,
        auto_generate_panels=True,  # all else has sections that W&B makes
        settings=ws.WorkspaceSettings(x_axis=STEP),
        sections=[ws.Section(name=name, panels=some, is_open=True) for name, some in sections.items() if some],
    )


class _Panels:
    """Makes panels of ``wandb_workspaces.reports.v2`` for sorted names."""

    def __init__(self, names: list[str], panels: ModuleType) -> None:
        self.names, self.panels = names, panels

    def curves(self) -> Iterator[Any]:
        """Yield a panel for each number in training and validation, likelihoods first; and the learning rates."""
        main = [name.partition("/")[2] for name in LOSSES]
        ends = {name.partition("/")[2] for name in self.names if name.startswith(("train/", "val/"))}
        for end in sorted(ends, key=lambda end: (end not in main, end)):
            both = [name for name in (f"train/{end}", f"val/{end}") if name in self.names]
            yield self.panels.LinePlot(title=end, x=STEP, y=both)
        if rates := [name for name in self.names if name == "lr" or name.startswith("lr/")]:
            yield self.panels.LinePlot(title="learning rate", x=STEP, y=rates)

    def bars(self, group: str) -> Iterator[Any]:
        """Yield a panel with the numbers of a group, without those of groups within."""
        if metrics := [n for n in self.names if n.startswith(group) and "/" not in n.removeprefix(group)]:
            yield self.panels.BarPlot(title=group.strip("/"), metrics=metrics)

    def bars_below(self, *groups: str) -> Iterator[Any]:
        """Yield a panel for each group within a group or a metric (a concept, say); pictures have none."""
        for group in (group if "/" in group else f"evaluation/{group}/" for group in groups):
            parts = {name[: name.rindex("/") + 1] for name in self.names if name.startswith(group)}
            for part in sorted(parts - {"analysis/"}):
                yield from self.bars(part)

    def pictures(self, group: str) -> Iterator[Any]:
        """Yield a panel for each picture, swap grids first, with several runs side by side."""
        found = [name for name in self.names if name.startswith(group) and name.count("/") == 1]
        for name in sorted(found, key=lambda name: ("swap" not in name, name)):
            yield self.panels.MediaBrowser(title=name, media_keys=[name], mode="gallery", gallery_axis="run")

    def sweeps(self) -> Iterator[Any]:
        """Yield panels with what was varied beside what came of it, and means over the runs of a sweep."""
        losses = [name for name in LOSSES if name in self.names]
        outcomes = [*(f"{name}.min" for name in losses), *(name for name in self.names if RESULT.fullmatch(name))]
        if not outcomes:
            return
        axes = [*map(self.panels.Config, SWEPT), *map(self.panels.SummaryMetric, outcomes)]
        columns = [self.panels.ParallelCoordinatesPlotColumn(metric=axis) for axis in axes]
        yield self.panels.ParallelCoordinatesPlot(title="What was varied, and what came of it", columns=columns)
        yield self.panels.ParameterImportancePlot(with_respect_to=outcomes[0])
        spread = {"x": STEP, "groupby": "Group", "groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
        for name in losses:
            yield self.panels.LinePlot(title=f"{name}: mean and deviation over each sweep", y=[name], **spread)
        yield self.panels.RunComparer(diff_only="split")
