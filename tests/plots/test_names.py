"""What users call things is drawn as they call it: a $ begins no formula."""

import html
import re

import matplotlib as mpl
import pytest
import torch

from iin_lightning.plots import style
from iin_lightning.plots.charts import dimension_figure, probabilities_figure
from iin_lightning.plots.directions import direction_figure, edit_figure, matrix_figure
from iin_lightning.plots.embed import Coloring, Pair, Walk, map_figure, pair_figure, walk_map_figure
from iin_lightning.plots.grids import swap_figure
from iin_lightning.plots.walk import FactorResponse, response_figure

NAMES = ["$_$", "$5 or $10", "cheap ($)"]
IMAGES = torch.zeros(2, 3, 8, 8)
POINTS = torch.rand(9, 2, generator=torch.Generator().manual_seed(0))
COLORING = Coloring("$_$", torch.arange(9) % 3, NAMES)
QUANTITY = Coloring("$_$", torch.linspace(0, 1, 9))
PART = FactorResponse(
    2, torch.zeros(4, 3).log_softmax(1), torch.zeros(5, 3).log_softmax(1), torch.ones(4), {"share": (0.5, 0.4, 0.6)}
)

FIGURES = {
    "response": lambda: response_figure(dict.fromkeys(NAMES, PART), NAMES, "$_$", 9, "N(0, 1)"),
    "probabilities": lambda: probabilities_figure(dict.fromkeys(NAMES, torch.full((3,), 0.3)), NAMES),
    "dimensions": lambda: dimension_figure({name: [dict.fromkeys(NAMES, 3)] for name in NAMES}),
    "swap": lambda: swap_figure(IMAGES, IMAGES, dict.fromkeys(NAMES, IMAGES.expand(2, -1, -1, -1, -1))),
    "directions": lambda: direction_figure([{name: IMAGES[None]} for name in NAMES], [0.0]),
    "edit": lambda: edit_figure(IMAGES, IMAGES.expand(2, -1, -1, -1, -1), [0.0, 1.0], ", ".join(NAMES)),
    "matrix": lambda: matrix_figure({"agreement": torch.eye(3)}, NAMES, NAMES, "cosine"),
    "walk map": lambda: walk_map_figure(POINTS, COLORING, {name: Walk(POINTS) for name in NAMES}, "PCA"),
    "map": lambda: map_figure(POINTS, COLORING, ", ".join(NAMES), "PCA"),
    "map of a quantity": lambda: map_figure(POINTS, QUANTITY, ", ".join(NAMES), "PCA"),
    "pairs": lambda: pair_figure(
        [Pair(*NAMES[:2], POINTS, "$_$", 0.1)], {"$_$": COLORING, "$5 or $10": COLORING}, "PCA"
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_dollar_begins_no_formula(name, tmp_path):
    with mpl.rc_context({"svg.fonttype": "none"}):  # letters stay letters
        svg = style.save(FIGURES[name](), tmp_path / "figure.svg").read_text()
    drawn = html.unescape(" ".join(re.findall(r"<text[^>]*>([^<]*)</text>", svg)))
    for called in NAMES:
        assert called in drawn or called.replace("_", " ") in drawn, drawn
    assert "\\$" not in drawn
