"""Maps of factors: their points, their thumbnails, and what the page is told of them."""

import base64
import io
import math
import os
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("gradio", reason="the page needs the extra explore")

from tests.explored import make

from iin_lightning.errors import ConfigError, ResourceError
from iin_lightning.explorer import map as maps
from iin_lightning.explorer.computing import EmbeddingError, Map, embed_in_a_process
from iin_lightning.explorer.map import CELL, drawing, principal_map, sprite, umap
from iin_lightning.explorer.page import png_of
from iin_lightning.explorer.pictures import Picture
from iin_lightning.explorer.states import Fields, MapState, SwapState
from iin_lightning.plots.embed import CLASS_COLORS, UNKNOWN


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A model of which nobody has asked a map, where UMAP is installed."""
    monkeypatch.setattr(maps, "has_umap", lambda: True)
    return make(tmp_path)


def test_a_map_of_principal_components_is_kept(explored):
    shown = principal_map(explored, "digit")
    assert shown.name == "PCA"
    assert shown.points.shape == (len(explored), 2)
    z_tilde = explored.factors.split(explored.translated())["digit"]
    centred = (z_tilde - z_tilde.mean(0)).double()
    strongest = torch.linalg.svdvals(centred)[:2] ** 2
    torch.testing.assert_close((shown.points.double() ** 2).sum(0), strongest, rtol=1e-3, atol=1e-3)
    assert principal_map(explored, "digit") is shown
    assert principal_map(explored, "color") is not shown


@pytest.mark.commands
def test_another_process_makes_the_same_map_or_says_why_not(explored):
    z_tilde = explored.factors.split(explored.translated())["digit"]
    made = embed_in_a_process(z_tilde, "pca")
    assert made.name == "PCA"
    torch.testing.assert_close(made.points, principal_map(explored, "digit").points)
    with pytest.raises(EmbeddingError, match="no 2 principal components"):
        embed_in_a_process(torch.zeros(50, 1), "pca")


@pytest.mark.commands
def test_a_process_that_is_ended_is_no_end_of_the_page(fresh, monkeypatch):
    monkeypatch.setattr("iin_lightning.explorer.computing._embed", _ended)
    with pytest.raises(ResourceError, match="memory"):
        umap(fresh, "digit").result(60)
    assert principal_map(fresh, "digit").name == "PCA"


def _ended(*_):
    os._exit(1)


def test_where_umap_fails_principal_components_are_shown_and_the_reason(fresh, page, monkeypatch):
    made = Mock(side_effect=ResourceError("Memory ran out."))
    monkeypatch.setattr(maps, "embed_in_a_process", made)
    tab, state = page.tabs["map"], MapState("digit", "digit", "umap")
    with pytest.raises(ResourceError):
        umap(fresh, "digit").result(60)
    for _ in range(2):
        plot, note, timer, *_ = tab.move(fresh, state)
        assert "Memory ran out." in note
        assert "PCA of" in note
        assert not timer.active
        assert plot == {**drawing(fresh, principal_map(fresh, "digit"), "digit"), "chosen": None}
    assert made.call_count == 1
    with pytest.raises(ResourceError):
        png_of(tab, fresh, state)


def test_a_factor_of_one_dimension_has_a_map_too(fresh, monkeypatch):
    z_tilde = torch.randn(50, 1)
    monkeypatch.setattr(fresh.factors, "split", lambda _: {"digit": z_tilde})
    assert torch.equal(principal_map(fresh, "digit").points[:, :1], z_tilde)


def test_thumbnails_stand_where_their_points_say(explored):
    uri = sprite(explored)
    content = base64.b64decode(uri.partition("base64,")[2])
    sheet = torch.from_numpy(np.array(Image.open(io.BytesIO(content)).convert("RGB"))).float()
    across = math.ceil(math.sqrt(len(explored.some)))
    assert sheet.shape[1] == across * CELL
    for place in (0, across, len(explored.some) - 1):
        row, column = divmod(place, across)
        cell = sheet[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL].movedim(-1, 0)
        image = (explored.image(Picture(item=explored.some[place])) + 1) * 127.5
        errors = [(cell - other).abs().mean() for other in (image, 255 - image)]
        assert errors[0] < 12 < errors[1]  # compressed


def test_what_the_script_gets(explored):
    shown = Map(torch.tensor([[5.0, -1.0]] + [[3.0, 1.0]] * (len(explored) - 1)), "PCA")
    told = drawing(explored, shown, "digit")
    assert told["points"][:2] == [[1, 0], [0, 1]]
    assert told["items"] == explored.some
    assert told["names"] == list("0123456789")
    assert told["classes"] == explored.source.labels[explored.some, explored.source.concepts.index("digit")].tolist()
    assert told["colors"] == [*CLASS_COLORS, UNKNOWN]
    assert set(drawing(explored, shown, "")["classes"]) == {-1}


def test_a_map_is_the_same_picture_each_time_and_gives_a_source(explored, classifier, page):
    tab = page.tabs["map"]
    state = MapState("digit", "digit", "pca", 3)
    assert png_of(tab, explored, state) == png_of(tab, explored, state)
    assert png_of(tab, classifier, MapState("digit")).startswith(b"\x89PNG")
    swap = SwapState(Picture(item=0), Picture(item=1), ("digit",))
    clicked = (explored.name, MapState("digit", item=7))
    assert maps._used("source", explored, swap, None, clicked).source == Picture(item=7)
    assert maps._used("target", explored, swap, None, clicked).target == Picture(item=7)
    for nothing in (None, (explored.name, MapState("digit")), (classifier.name, clicked[1])):
        with pytest.raises(ConfigError, match="Click a dot"):
            maps._used("target", explored, swap, None, nothing)


@pytest.mark.parametrize(
    "wrong", [{"factor": "digits"}, {"concept": "shape"}, {"method": "tsne"}, {"item": -1}, {"item": 10**6}]
)
def test_states_that_mean_nothing_are_refused(explored, wrong):
    right = {"factor": "digit", "concept": "", "method": "pca", "item": None}
    assert MapState.read(Fields(right), explored) == MapState("digit")
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        MapState.read(Fields(right | wrong), explored)
