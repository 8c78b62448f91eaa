"""How the dimensions of a latent are shared out among factors (Tab. 1)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from iin_lightning.plots.grids import plain
from iin_lightning.plots.style import style

# Okabe and Ito's colours, which the colour-blind tell apart; the residual is grey.
COLORS = ("#999999", "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
LUMINANCE = (0.2126, 0.7152, 0.0722)


def dimension_figure(networks: Mapping[str, Sequence[Mapping[str, int]]]) -> Figure:
    """A stacked bar a network, the factors' mean dimensions written into it, with deviations over its runs.

    Args:
        networks: name of a network -> factor -> dimension of each of its runs; all with the same factors.

    Returns:
        The figure.
    """
    factors = list(next(iter(next(iter(networks.values())))))
    with style():
        figure = Figure(figsize=(4.5, 0.7 + 0.45 * len(networks)), layout="constrained")
        axes = figure.subplots()
        for row, runs in enumerate(networks.values()):
            start = 0.0
            for number, factor in enumerate(factors):
                values = np.array([run[factor] for run in runs], dtype=float)
                width = values.mean()
                label = plain(factor) if row == 0 else None
                color = COLORS[number % len(COLORS)]
                axes.barh(row, width, left=start, color=color, label=label, height=0.7)
                spread = f" ± {values.std(ddof=1):.1f}" if len(runs) > 1 else ""
                ink = "white" if np.dot(to_rgb(color), LUMINANCE) < 0.45 else "black"
                text = f"{width:.3g}{spread}"
                axes.text(start + width / 2, row, text, ha="center", va="center", fontsize=7, color=ink)
                start += width
        axes.set_yticks(range(len(networks)), list(map(plain, networks)))
        axes.invert_yaxis()
        axes.set_xlabel("dimensions of the latent")
        axes.set_xlim(0, None)
        figure.legend(loc="outside upper center", ncols=len(factors), frameon=False)
    return figure
