"""The page through HTTP, as a browser and as somebody who means harm speak to it."""

import base64
import http.client
import io
import json
import re
import tempfile
from concurrent.futures import Future
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from PIL import Image

pytest.importorskip("gradio", reason="the page needs the extra explore")

from iin_lightning.errors import ConfigError
from iin_lightning.explorer import map as maps
from iin_lightning.explorer.computing import Map
from iin_lightning.explorer.models import name_folder, without_folders
from iin_lightning.explorer.page import png_of
from iin_lightning.explorer.pictures import Picture, data_uri, to_pixels
from iin_lightning.explorer.saved import pack, to_json, to_link
from iin_lightning.explorer.states import MapState, SampleState, SwapState, WalkState
from iin_lightning.explorer.training import Status


def is_skipped(value):
    """Whether an output stays as it is; of a gr.HTML gradio says so twice."""
    return value in ({"__type__": "update"}, {"__type__": "update", "props": {"__type__": "update"}})


def refused(answer):
    """The sentence with which a slider's event is refused: by gradio, or on the page, where all else stays."""
    if "error" in answer:
        return str(answer["error"])
    said = answer["state-link"]
    assert 'role="alert"' in said
    assert all(is_skipped(value) for name, value in answer.items() if name != "state-link" and value is not None)
    return said


def images(html):
    return re.findall(r'src="(data:image/png[^"]+)"', html)


def test_it_opens_with_a_picture_and_a_link_to_it(visitor, explored):
    shown = visitor.open()
    first = SwapState(Picture(item=explored.gallery[0]), Picture(item=explored.gallery[1]), ("digit",))
    assert images(shown["swap-result"]) == [data_uri(explored.swap(first.target, first.source, ("digit",), 1.0))]
    assert to_link(explored, first) in shown["state-link"]
    assert len(images(shown["swap-gallery"]["value"])) == len(explored.gallery) == 12
    assert shown["swap-gallery"]["props"]["chosen"] == [0, 1]


@pytest.mark.parametrize("tab", ["swap", "walk", "sample"])
def test_links_files_and_pngs_bring_the_same_pictures_back(visitor, visit, page, explored, tab):
    state = {
        "swap": SwapState(Picture.of(to_pixels(explored.image(Picture(item=5)))), Picture(item=9), ("color",), 0.25),
        "walk": WalkState(Picture(item=8), "color", (1.5, -0.5), {"digit=4": 0.5}, 3),
        "sample": SampleState(4, 2, 9, 0.75),
    }[tab]
    expected = page.tabs[tab].draw(explored, state)[0]
    link = to_link(explored, state)
    linked = visitor.open(link)
    assert linked[f"{tab}-result"] == expected
    assert linked["tabs"]["selected"] == tab
    assert link in linked["state-link"]
    saved = visitor.call("state-save-json", "click")
    picture = visitor.call("state-save-png", "click")
    (saved,), (picture,) = saved.values(), picture.values()
    assert (saved["name"], picture["name"]) == (f"mine_{tab}.json", f"mine_{tab}.png")
    text = base64.b64decode(saved["href"].partition(",")[2])
    assert text.decode() == to_json(explored, state)
    png = base64.b64decode(picture["href"].partition(",")[2])
    assert Image.open(io.BytesIO(png)).size[0] > 200
    if tab == "swap":
        assert png == png_of(page.tabs[tab], explored, state)
    other = visit(f"{tab} again")
    other.open()
    loaded = other.call("state-load", "upload", state_load=other.upload("state.json", text))
    assert loaded[f"{tab}-result"] == expected


def test_a_link_of_anything_opens_the_page_with_a_warning(visitor):
    for packed in ("abc", pack("[]"), pack('{"format": 1, "tab": "<script>"}')):
        assert "data:image" in visitor.open(f"?state={packed}")["swap-result"]
        assert "opens with its first state" in visitor.warnings[0]
        assert "<script>" not in visitor.warnings[0]


def test_walk_and_sample_are_filled_when_they_are_opened(visitor, explored):
    assert "__type__" in visitor.open()["walk-result"]
    walk = visitor.call("tab-walk", "select")
    start = Picture(item=explored.gallery[0])
    assert images(walk["walk-result"]) == [data_uri(explored.walk(start, "digit", (), {}))]
    assert [walk[f"walk-direction-{i}"].get("visible") for i in range(1, 7)] == [True] * 3 + [False] * 3
    chosen = visitor.call("walk-gallery", "click", place=4)
    assert images(chosen["walk-start"])[0] == data_uri(explored.image(Picture(item=explored.gallery[4])))


def test_a_tab_that_is_selected_while_the_page_opens_changes_nothing(visitor, explored):
    before = dict(visitor.values)
    visitor.call("tab-swap", "select")  # as browsers do by themselves
    assert visitor.values == before
    state = SwapState(Picture(item=5), Picture(item=9), ("color",), 0.25)
    visitor.open(to_link(explored, state))
    before = dict(visitor.values)
    visitor.call("tab-swap", "select")
    assert visitor.values == before


def test_each_tab_remembers_its_state(visitor, explored):
    visitor.open()
    link = visitor.call("swap-blend", "input", swap_blend=0.25)["state-link"]
    walk = visitor.call("tab-walk", "select")["state-link"]
    assert visitor.call("tab-swap", "select")["state-link"] == link
    assert visitor.call("tab-walk", "select")["state-link"] == walk != link
    # What happens in a tab that is not open changes it, and not what is saved.
    visitor.call("swap-blend", "input", swap_blend=0.5)
    assert visitor.values["state-link"] == walk


def test_images_to_choose_from_are_sent_once(visitor):
    visitor.open()
    clicked = visitor.call("swap-gallery", "click", place=7)["swap-gallery"]
    assert clicked["props"]["chosen"] == [7, 1]
    assert "value" not in clicked
    assert visitor.call("model", "input", model="classes")["swap-gallery"]["value"]
    assert visitor.call("tab-sample", "select")["sample-grid"] == ""
    assert visitor.call("model", "input", model="mine")["sample-grid"]["value"]
    assert visitor.call("sample-grid", "click", place=5)["sample-grid"]["props"]["chosen"] == [5, 1]
    assert "value" not in visitor.call("sample-grid", "click", place=6)["sample-grid"]
    # Another seed has other images, whichever way it came.
    assert "value" in visitor.call("sample-next", "click")["sample-grid"]
    assert "value" in visitor.call("sample-seed", "input", sample_seed=9)["sample-grid"]


@pytest.mark.parametrize("before", ["asleep", "opening"])
def test_a_page_of_which_nothing_is_known_says_so_or_is_filled_anew(visitor, page, explored, before):
    def sleep():
        if before == "asleep":
            page.blocks.state_holder.delete_state(visitor.session)  # as gradio does after an hour

    if before == "asleep":
        visitor.open()
        visitor.call("tab-walk", "select")
        visitor.call("tab-swap", "select")
    sleep()
    assert "reload it" in refused(visitor.call("swap-blend", "input"))
    for name in ("state-save-png", "state-save-json"):
        sleep()
        assert list(visitor.call(name, "click").values()) == [None]
        assert "reload it" in visitor.warnings[0]
    sleep()
    shown = visitor.call("swap-gallery", "click", place=7)
    first = Picture(item=explored.gallery[7]), Picture(item=explored.gallery[1])
    assert images(shown["swap-result"]) == [data_uri(explored.swap(*first, ("digit",), 1.0))]
    assert images(shown["swap-gallery"]["value"])
    sleep()
    assert images(visitor.call("tab-walk", "select")["walk-result"])


@pytest.fixture
def umap(explored, monkeypatch):
    """A map by UMAP that is at work until it is told to end."""
    promise = Future()
    monkeypatch.setattr(maps, "umap", lambda *_: promise)
    return promise


def on_map(visitor, page, explored):
    """Open a map that UMAP is at work on; the name of its clock."""
    shown = visitor.open(to_link(explored, MapState("digit", "digit", "umap")))
    clock = page.tabs["map"].timer._id
    assert shown[clock]["active"]
    assert "UMAP is at work" in shown["map-note"]
    return clock


def test_the_clock_of_a_map_draws_once_umap_is_there(visitor, page, explored, umap):
    clock = on_map(visitor, page, explored)
    for _ in range(2):
        assert all(map(is_skipped, visitor.call(clock, "tick").values()))
    clicked = visitor.call("map-plot", "select", item=5)
    assert clicked["map-plot"]["chosen"] == 5
    assert is_skipped(clicked["map-sprite"])
    # A picture that is saved meanwhile waits for nothing.
    assert list(visitor.call("state-save-png", "click").values()) == [None]
    assert "UMAP is at work still" in visitor.warnings[0]
    umap.set_result(Map(torch.rand(len(explored), 2), "UMAP"))
    drawn = visitor.call(clock, "tick")
    assert drawn["map-plot"]["chosen"] == 5
    assert drawn["map-note"].startswith("UMAP of")
    assert not drawn[clock]["active"]
    source = visitor.call("map-source", "click")["swap-source"]
    assert images(source)[0] == data_uri(explored.image(Picture(item=5)))


@pytest.mark.parametrize("reason", ["another model", "a failure"])
def test_the_clock_of_a_map_stops_where_nothing_can_be_drawn(visitor, page, explored, umap, monkeypatch, reason):
    clock = on_map(visitor, page, explored)
    if reason == "a failure":
        monkeypatch.setattr(maps, "ask", None)
    else:
        visitor.call("tab-swap", "select")
        visitor.call("model", "input", model="classes")
    ticked = visitor.call(clock, "tick")
    assert ticked.pop(clock) == {"__type__": "update", "active": False}
    assert all(map(is_skipped, ticked.values()))


def test_who_comes_back_to_a_tab_sees_what_others_have_trained(visitor, page, models, monkeypatch, tmp_path):
    visitor.open()
    visitor.call("tab-concept", "select")
    visitor.call("tab-swap", "select")
    models.add(tmp_path, "shade")
    try:
        monkeypatch.setattr(
            page.tabs["concept"].workshop, "_status", Status("shade", "mine", "done", "python", model="shade")
        )
        shown = visitor.call("tab-concept", "select")
        assert "shade</b> was trained" in shown["concept-progress"]
        assert shown["concept-explore"]["visible"]
        assert ["shade", "shade"] in [list(choice) for choice in shown["model"]["choices"]]
        assert is_skipped(shown["concept-name"])  # as it was left
    finally:
        models._added.clear()


def test_a_classifier_shows_bars_and_says_why_it_samples_nothing(visitor, classifier, page):
    visitor.open()
    shown = visitor.call("model", "input", model="classes")
    assert shown["swap-result"].count("<dt>") == 10
    assert "iin-bars" in shown["swap-target"]
    state = page.tabs["walk"].first(classifier)
    assert page.tabs["walk"].draw(classifier, state)[0].count("<i style") == 10
    png_of(page.tabs["swap"], classifier, page.tabs["swap"].first(classifier))
    *_, note, _row = page.tabs["sample"].draw(classifier, SampleState())
    assert "no images" in note
    with pytest.raises(ConfigError, match="no images"):
        png_of(page.tabs["sample"], classifier, SampleState())


@pytest.mark.parametrize(
    "said",
    [
        {"swap_factors": ["all"]},
        {"swap_blend": 7},
        {"swap_blend": None},
        {"model": "no"},
    ],
)
def test_values_that_somebody_made_up_are_refused(visitor, said):
    visitor.open()
    answer = visitor.call("swap-blend", "input", **said)
    assert refused(answer)
    assert "/" not in re.sub("</?p[^>]*>", "", refused(answer))


def test_a_tab_can_be_used_once_it_is_filled_and_a_failure_is_shown_on_the_page(visitor, page, monkeypatch):
    veils = {name: tab.veil._id for name, tab in page.tabs.items()}
    parts = {part["id"]: part["props"] for part in visitor.client.get("/config").json()["components"]}
    assert all(parts[veil]["elem_classes"] == ["iin-unfilled"] for veil in veils.values())

    def usable(shown):
        return [name for name, veil in veils.items() if shown.get(veil, {}).get("elem_classes") == []]

    assert usable(visitor.open()) == ["swap"]
    assert usable(visitor.call("tab-walk", "select")) == ["walk"]
    assert usable(visitor.call("model", "input", model="classes")) == ["walk"]
    monkeypatch.setattr(page.tabs["walk"], "move", lambda *_: 1 / 0)
    assert "see what the server has printed" in refused(visitor.call("walk-direction-1", "input"))


@pytest.mark.parametrize("place", [-1, 12, 1.0, None, {}])
def test_clicks_that_somebody_made_up_are_refused(visitor, place):
    visitor.open()
    visitor.call("swap-gallery", "click", place=place)
    assert "place" in visitor.warnings[0]


def test_a_picture_is_uploaded_and_no_image_is_refused(visitor, explored):
    visitor.open()
    own = Picture.of(to_pixels(explored.image(Picture(item=33))))
    shown = visitor.call("upload-target", "upload", upload_target=visitor.upload("mine.png", own.png))
    assert "uploaded" in shown["swap-target"]
    assert shown["swap-gallery"]["props"]["chosen"] == [None, 1], (
        "no mark is the target's, and the source keeps its own"
    )
    assert images(shown["swap-target"])[0] == data_uri(explored.image(own))
    before = dict(visitor.values)
    visitor.call("upload-target", "upload", upload_target=visitor.upload("no.png", b"no image"))
    assert visitor.warnings[0].startswith("This file is no image")
    assert {name for name in before if visitor.values[name] != before[name]} == {"upload-target"}


SECRET = "the secret of this machine"
READING = (
    "/gradio_api/file={path}",
    "/file={path}",
    "/gradio_api/file=%2e%2e/%2e%2e{path}",
    "/gradio_api/file=file://{path}",
    "/assets/..%2f..%2f..%2f..%2f..%2f..%2f..{path}",
    "/theme.css/../../../../..{path}",
    "/gradio_api/stream/{path}",
)


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret.json"
    path.write_text(json.dumps(SECRET))
    return path


@pytest.mark.parametrize("address", READING)
def test_no_path_of_the_server_is_read_by_its_address(page, secret, explored, address):
    server = page.blocks.local_url.removeprefix("http://").rstrip("/")
    for path in (secret, explored.subject.folder / "model.json", "/etc/passwd", "pyproject.toml"):
        connection = http.client.HTTPConnection(server, timeout=30)
        connection.request("GET", address.format(path=path))  # as it is: other clients resolve dots themselves
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
        connection.close()
        assert answer.status >= 400, text
        assert not any(word in text for word in (SECRET, "root:", "translator", "build-system"))


@pytest.mark.parametrize("button", ["upload-target", "state-load"])
def test_no_path_of_the_server_is_read_through_an_upload(visitor, secret, button):
    visitor.open()
    for path in (secret, "http://127.0.0.1:1/x"):
        for file in ({"path": str(path)}, {"path": str(path), "meta": {"_type": "gradio.FileData"}}, str(path)):
            answer = visitor.call(button, "upload", **{button.replace("-", "_"): file})
            assert "swap-result" not in answer
            assert not any(word in str(answer) for word in (SECRET, "root:", "translator", "build-system"))


def test_sentences_lose_their_folders(tmp_path, monkeypatch):
    home = tmp_path / "home" / "a b"
    (home / "my work").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(home / "my work")
    assert without_folders(f"run={home}/my work/outputs/x y: {home}/my work") == "run=outputs/x y: ."
    assert without_folders(f"No {home}/my work.") == "No .."
    assert without_folders("outputs/x and ../data/y stay") == "outputs/x and ../data/y stay"
    name_folder(home / "my data", "paths.data")
    name_folder(Path("..", "other runs", "a"), "sup/a")
    assert without_folders(f"{home}/my data/celeba, '{home}/other runs/a'") == "<paths.data>/celeba, '<sup/a>'"
    assert without_folders(f"{home}/my data 2") == "<paths.data> 2"
    assert without_folders(f"file://{home}/my database/x") == "file://<home>/my database/x"
    assert without_folders(f"{home}2/x is empty") == "a b2/x is empty"  # nobody knows it
    assert without_folders("run=/srv/me/outputs/a b: /etc/x/y.json") == "run=a b: y.json"
    assert without_folders("https://a.org/b and c/d") == "https://a.org/b and c/d"


def test_the_style_sheet_and_scripts_travel_with_the_package():
    found = {path.name for path in files("iin_lightning.explorer").iterdir()}
    assert {"look.css", "copy.js", "map.js", "pick.js", "sketch.js"} <= found
