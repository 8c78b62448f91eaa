"""A W&B workspace that is laid out for what our runs log, so that nobody has to drag panels."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from iin_lightning.errors import MissingExtraError
from iin_lightning.runs.loggers import LOSSES, STEP

SWEPT = ("seed", "model.lr", "model.batch_size", "encoder.latent_dim", "flow.n_blocks", "flow.hidden", "model.loss.rho")
"""Configuration keys that sweeps go through most often: the first axes of the parallel coordinates."""

RESULT = re.compile(r"test/(?:nll|loss|accuracy)|evaluation/likelihood/nll|evaluation/quality/samples/(?!.* from ).*")
"""Names of what is on their last axes, after the least held-out loss; baselines of sample quality are not."""


def logged(folder: Path) -> set[str]:
    """The names under which a run folder's numbers and pictures are in W&B."""
    names = set[str]()
    for file in folder.glob("metrics*.csv"):
        with file.open(encoding="utf-8", newline="") as lines:
            names |= set(next(csv.reader(lines), []))
    for group in ("figures", "analysis"):
        names |= {f"{group}/{path.stem}" for path in (folder / group).glob("*.png")}
    return names | ({"tables/transfer"} if any(name.startswith("test/transfer/") for name in names) else set())


def packages() -> tuple[ModuleType, ModuleType]:
    """What W&B has for workspaces, and for the panels on them.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        from wandb_workspaces import workspaces  # noqa: PLC0415
        from wandb_workspaces.reports import v2  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("wandb-workspaces", "workspace", "A W&B workspace") from error
    return workspaces, v2


def layout(names: Iterable[str], project: str, entity: str, title: str) -> Any:
    """Sections of panels for names that runs log; what has no names has no panel.

    Args:
        names: of numbers, pictures and tables, as ``logged`` gives them.
        project: of W&B.
        entity: user or team of W&B.
        title: of the workspace.

    Returns:
        A ``wandb_workspaces.workspaces.Workspace``, which is not saved yet.

    Raises:
        MissingExtraError: that package is not installed.
    """
    ws, panels = packages()
    make = _Panels(sorted(names), panels)
    sections = {
        "Likelihoods": [
            *make.curves(),
            *make.bars("test/"),
            *make.bars_of_each("evaluation/likelihood/", "evaluation/gaussianity/"),
        ],
        "Transfer and leakage": [
            *make.bars_of_each("test/transfer/", "evaluation/transfer/", "evaluation/leakage/"),
            *make.bars_of_each("evaluation/disentanglement/"),
            *make.tables("transfer"),
        ],
        "Sample quality (FID)": [*make.bars_of_each("evaluation/quality/")],
        "Swap grids and pictures": [*make.pictures("figures/")],
        "Analyses": [*make.pictures("analysis/"), *make.bars_of_each("analysis/")],
        "Sweeps": [*make.sweeps()],
        "Gradients and factors": [*make.bundles()],
    }
    return ws.Workspace(
        name=title,
        entity=entity,
        project=project,
        auto_generate_panels=True,  # what is logged besides has sections of its own
        settings=ws.WorkspaceSettings(x_axis=STEP),
        sections=[ws.Section(name=name, panels=some, is_open=True) for name, some in sections.items() if some],
    )


class _Panels:
    """Makes panels of the names that there are.

    Args:
        names: sorted.
        panels: ``wandb_workspaces.reports.v2``.
    """

    def __init__(self, names: Sequence[str], panels: ModuleType) -> None:
        self.names, self.panels = names, panels

    def curves(self) -> Iterator[Any]:
        """Of each number in training and validation one panel, likelihoods first; and the learning rates."""
        main = [name.partition("/")[2] for name in LOSSES]
        ends = {name.partition("/")[2] for name in self.names if name.startswith(("train/", "val/"))}
        for end in sorted(ends, key=lambda end: (end not in main, end)):
            both = [name for name in (f"train/{end}", f"val/{end}") if name in self.names]
            yield self.panels.LinePlot(title=end, x=STEP, y=both)
        if rates := [name for name in self.names if name == "lr" or name.startswith("lr/")]:
            yield self.panels.LinePlot(title="learning rate", x=STEP, y=rates)

    def bars(self, *groups: str) -> Iterator[Any]:
        """Of each group one panel with its numbers, and not those of groups within."""
        for group in groups:
            found = [n for n in self.names if n.startswith(group) and "/" not in n.removeprefix(group)]
            if found:
                yield self.panels.BarPlot(title=group.strip("/"), metrics=found)

    def bars_of_each(self, *groups: str) -> Iterator[Any]:
        """Of each group within a group (a concept, say) one panel; of pictures none."""
        for group in groups:
            parts = {name[: name.rindex("/") + 1] for name in self.names if name.startswith(group)}
            yield from self.bars(*sorted(parts - {"analysis/"}))

    def tables(self, *titles: str) -> Iterator[Any]:
        """Of each table one panel with its rows."""
        for title in titles:
            if f"tables/{title}" in self.names:
                yield self.panels.WeavePanelSummaryTable(table_name=f"tables/{title}")

    def pictures(self, group: str) -> Iterator[Any]:
        """Of each picture one panel, swap grids first; side by side those of several runs."""
        found = [name for name in self.names if name.startswith(group) and name.count("/") == 1]
        for name in sorted(found, key=lambda name: ("swap" not in name, name)):
            yield self.panels.MediaBrowser(title=name, media_keys=[name], mode="gallery", gallery_axis="run")

    def sweeps(self) -> Iterator[Any]:
        """What was varied beside what came of it, and means over the runs of a sweep."""
        losses = [name for name in LOSSES if name in self.names]
        outcomes = [*(f"{name}.min" for name in losses), *(name for name in self.names if RESULT.fullmatch(name))]
        if not outcomes:
            return
        axes = [*map(self.panels.Config, SWEPT), *map(self.panels.SummaryMetric, outcomes)]
        columns = [self.panels.ParallelCoordinatesPlotColumn(metric=axis) for axis in axes]
        yield self.panels.ParallelCoordinatesPlot(title="What was varied, and what came of it", columns=columns)
        yield self.panels.ParameterImportancePlot(with_respect_to=outcomes[0])
        for name in losses:
            yield self.panels.LinePlot(
                title=f"{name}: mean and deviation over each sweep",
                x=STEP,
                y=[name],
                groupby="Group",
                groupby_aggfunc="mean",
                groupby_rangefunc="stddev",
            )
        yield self.panels.RunComparer(diff_only="split")

    def bundles(self) -> Iterator[Any]:
        """The numbers of ``callbacks.histograms``; its histograms are in sections that W&B makes."""
        for title, group, end in (
            ("gradient norms", "gradients/", "/norm"),
            *((f"factors: {end} off N(0, 1)", "latents/", f"/{end}") for end in ("mean", "std", "kurtosis")),
        ):
            if found := [name for name in self.names if name.startswith(group) and name.endswith(end)]:
                yield self.panels.LinePlot(title=title, x=STEP, y=found, log_y=True)
