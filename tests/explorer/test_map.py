"""Maps of factors: their points, their thumbnails, and what the page is told of them."""

import base64
import io
import os
from contextlib import nullcontext
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("gradio", reason="the page needs the extra explore")

from iin_lightning.errors import ConfigError, ResourceError, ShapeError
from iin_lightning.explorer.downloads import png_of
from iin_lightning.explorer.embedding import EmbeddingError, Map, _embed, in_a_process
from iin_lightning.explorer.fields import Fields
from iin_lightning.explorer.maps import CELL, Maps, columns, drawing, line
from iin_lightning.explorer.pictures import Picture
from iin_lightning.explorer.states import MapState, SwapState
from iin_lightning.explorer.tabs import map as tabs_map
from iin_lightning.plots.embed import CLASS_COLORS, UNKNOWN


def test_principal_components_are_there_at_once_and_kept(explored):
    maps = Maps()
    asked = maps.ask(explored, "digit", "pca")
    shown = asked.result(timeout=0)
    assert shown.name == "PCA"
    assert shown.points.shape == (len(explored), 2)
    z_tilde = explored.factors.split(explored.translated())["digit"]
    centred = (z_tilde - z_tilde.mean(0)).double()
    strongest = torch.linalg.svdvals(centred)[:2] ** 2
    torch.testing.assert_close((shown.points.double() ** 2).sum(0), strongest, rtol=1e-3, atol=1e-3)
    assert maps.ask(explored, "digit", "pca") is asked
    assert maps.ask(explored, "color", "pca") is not asked


def test_another_process_makes_the_same_map(explored):
    z_tilde = explored.factors.split(explored.translated())["digit"]
    made = in_a_process(z_tilde, "pca")
    assert made.name == "PCA"
    torch.testing.assert_close(made.points, Maps().ask(explored, "digit", "pca").result(0).points)


@pytest.fixture
def with_umap(monkeypatch):
    monkeypatch.setattr("iin_lightning.explorer.maps.has_umap", lambda: True)


def test_a_process_that_is_ended_is_no_end_of_the_page(explored, monkeypatch, with_umap):
    monkeypatch.setattr("iin_lightning.explorer.embedding._embed", _ended)
    maps = Maps()
    with pytest.raises(ResourceError, match="memory"):
        maps.ask(explored, "digit", "umap").result(60)
    monkeypatch.undo()
    assert maps.ask(explored, "digit", "pca").result(0).name == "PCA"


def _ended(*_):
    os._exit(1)


@pytest.mark.parametrize(
    ("error", "said"), [(KeyError("a bug"), "KeyError: 'a bug'"), (ShapeError("Too few."), "Too few.")]
)
def test_a_process_says_why_it_has_failed(error, said, monkeypatch):
    sent = []
    monkeypatch.setattr("iin_lightning.explorer.embedding.fit_embedding", Mock(side_effect=error))
    sender = Mock(send=sent.append)
    with nullcontext() if isinstance(error, ShapeError) else pytest.raises(KeyError):
        _embed(sender, np.zeros((5, 2)), "umap")
    assert sent == [said]
    sender.close.assert_called_once()


def test_what_a_process_says_is_an_error_here():
    with pytest.raises(EmbeddingError, match="no 2 principal components"):
        in_a_process(torch.zeros(50, 1), "pca")


def test_a_map_that_failed_is_made_again_when_somebody_asks_for_it_by_hand(explored, models, monkeypatch, with_umap):
    made = Mock(side_effect=ResourceError("Memory ran out."))
    monkeypatch.setattr("iin_lightning.explorer.maps.in_a_process", made)
    tab, state = tabs_map.MapTab(models), MapState("digit", "digit", "umap")
    with pytest.raises(ResourceError):
        tab.maps.ask(explored, "digit", "umap").result(60)
    for _ in range(3):
        plot, note, timer, *_ = tab.move(explored, state)
        assert "Memory ran out." in note
        assert "PCA of" in note
        assert not timer.active
        expected = drawing(explored, tab.maps.ask(explored, "digit", "pca").result(0), "digit")
        assert plot == {**expected, "chosen": None}
    assert made.call_count == 1
    with pytest.raises(ResourceError):
        png_of(tab, explored, state)
    points = Map(torch.rand(len(explored), 2), "UMAP")
    made.side_effect = [points]
    tab._again(explored.name, "digit", "digit", "umap")
    assert tab.maps.ask(explored, "digit", "umap").result(60) is points
    assert tab.move(explored, state)[1].startswith("UMAP of")
    tab._again(explored.name, "digit", "digit", "umap")
    assert made.call_count == 2


def test_umap_is_offered_where_it_is_installed_alone(explored, models, monkeypatch):
    monkeypatch.setattr("iin_lightning.explorer.maps.has_umap", lambda: False)
    tab = tabs_map.MapTab(models)
    assert tab.maps.methods == ("pca",)
    assert tab.first(explored).method == "pca"
    # The state of another machine.
    state = MapState("digit", "digit", "umap")
    assert tab.fill(explored, state)[-1] == "pca"
    _, note, timer, *_ = tab.move(explored, state)
    assert "umap-learn" in note
    assert not timer.active
    with pytest.raises(ConfigError, match="allowed"):
        tab._again(explored.name, "digits", "digit", "pca")


def test_a_factor_of_one_dimension_has_a_map_too():
    z_tilde = torch.randn(50, 1)
    shown = line(z_tilde)
    assert torch.equal(shown.points[:, :1], z_tilde)
    assert torch.equal(shown.points, line(z_tilde).points)


def test_thumbnails_stand_where_their_points_say(explored):
    uri = Maps().sprite(explored)
    content = base64.b64decode(uri.partition("base64,")[2])
    sheet = torch.from_numpy(np.array(Image.open(io.BytesIO(content)).convert("RGB"))).float()
    across = columns(len(explored.some))
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


def test_a_map_is_the_same_picture_each_time_and_gives_a_source(explored, classifier, models):
    tab = tabs_map.MapTab(models)
    state = MapState("digit", "digit", "pca", 3)
    assert png_of(tab, explored, state) == png_of(tabs_map.MapTab(models), explored, state)
    assert png_of(tab, explored, state) != png_of(tab, explored, MapState("color", "digit", "pca", 3))
    assert png_of(tab, classifier, MapState("digit")).startswith(b"\x89PNG")
    swap = SwapState(Picture(item=0), Picture(item=1), ("digit",))
    clicked = (explored.name, MapState("digit", item=7))
    assert tabs_map._used("source", explored, swap, None, clicked).source == Picture(item=7)
    assert tabs_map._used("target", explored, swap, None, clicked).target == Picture(item=7)
    for nothing in (None, (explored.name, MapState("digit")), (classifier.name, clicked[1])):
        with pytest.raises(ConfigError, match="Click a dot"):
            tabs_map._used("target", explored, swap, None, nothing)


@pytest.mark.parametrize(
    "wrong", [{"factor": "digits"}, {"concept": "shape"}, {"method": "tsne"}, {"item": -1}, {"item": 10**6}]
)
def test_states_that_mean_nothing_are_refused(explored, wrong):
    right = {"factor": "digit", "concept": "", "method": "pca", "item": None}
    assert MapState.read(Fields(right), explored) == MapState("digit")
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        MapState.read(Fields(right | wrong), explored)
