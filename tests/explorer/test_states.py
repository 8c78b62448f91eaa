"""States leave and come back as they were, and what anyone else has made of them is refused in words."""

import base64
import json
import zlib

import pytest
import torch

from iin_lightning.data.color_mnist import ColorMNISTMini
from iin_lightning.errors import ConfigError
from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.models import Models
from iin_lightning.explorer.pictures import Picture
from iin_lightning.explorer.saved import LONGEST_LINK, from_json, from_link, held_out, pack, to_json, to_link
from iin_lightning.explorer.states import SEEDS, SampleState, SwapState, WalkState
from iin_lightning.runs.locate import RunSubject

DEEP = "[" * 100_000


def random_picture(explored, draw):
    if torch.rand((), generator=draw) < 0.5:
        return Picture(item=int(torch.randint(len(explored), (), generator=draw)))
    return Picture.of(torch.randint(256, explored.shape, dtype=torch.uint8, generator=draw))


def random_states(explored, seed):
    """One state of each of the three tabs."""
    draw = torch.Generator().manual_seed(seed)
    names = tuple(name for name in explored.factors if torch.rand((), generator=draw) < 0.5)
    blend, *steps = torch.rand(9, generator=draw).mul(4).round(decimals=2).tolist()
    factor = list(explored.factors)[seed % len(explored.factors)]
    shown = len(explored.directions.principal(factor).steps)
    attributes = dict(zip(explored.directions.attributes[: seed % 3], (-1.5, 0.25)))
    yield SwapState(random_picture(explored, draw), random_picture(explored, draw), names, blend / 4)
    yield WalkState(random_picture(explored, draw), factor, tuple(steps[:shown]), attributes, [None, seed][seed % 2])
    yield SampleState(seed, seed % 24, (seed + 7) % 24, blend / 4)


@pytest.mark.parametrize("seed", range(8))
def test_a_state_comes_back_as_it_was(explored, models, seed):
    for state in random_states(explored, seed):
        text = to_json(explored, state)
        loaded = from_json(text, models)
        assert loaded.state == state
        assert loaded.explored is explored
        assert not loaded.warning
        assert to_json(explored, loaded.state) == text
        if link := to_link(explored, state):  # two pictures of noise are too long for one
            assert from_json(from_link(link.removeprefix("?state=")), models).state == state


def test_a_link_that_would_be_too_long_is_none(explored):
    noise = Picture.of(torch.randint(256, explored.shape, dtype=torch.uint8))
    assert 0 < len(to_link(explored, SwapState(noise, Picture(item=0), ()))) <= LONGEST_LINK
    assert to_link(explored, SwapState(noise, Picture(png=noise.png * 3), ())) == ""


def test_no_state_holds_a_path(explored):
    for seed in range(4):
        for state in random_states(explored, seed):
            assert "/tmp" not in to_json(explored, state)
            assert str(explored.subject.folder) not in to_json(explored, state)


GOOD = {
    "swap": {"target": {"item": 0}, "source": {"item": 1}, "factors": ["digit"], "blend": 0.5},
    "walk": {"picture": {"item": 0}, "factor": "digit", "steps": [1, 2], "attributes": {}, "draws": None},
    "sample": {"seed": 0, "first": 0, "last": 1, "blend": 0.5},
}
HOSTILE = [
    ("swap", "target", {"item": -1}),
    ("swap", "target", {"item": 10**9}),
    ("swap", "target", {"item": True}),
    ("swap", "target", {"item": 1.0}),
    ("swap", "target", {"item": "0"}),
    ("swap", "target", {"item": 0, "png": ""}),
    ("swap", "target", {"path": "/etc/passwd"}),
    ("swap", "target", "/etc/passwd"),
    ("swap", "target", {"png": "no base64!"}),
    ("swap", "target", {"png": base64.b64encode(b"no png").decode()}),
    ("swap", "target", {"png": "A" * 600_000}),
    ("swap", "target", {"png": "A" * 6_000}),  # of 32x32 pixels
    ("swap", "target", None),
    ("swap", "factors", "digit"),
    ("swap", "factors", ["diigt"]),
    ("swap", "factors", [["digit"]]),
    ("swap", "factors", ["digit"] * 50),
    ("swap", "factors", {"digit": 1}),
    ("swap", "blend", 1.01),
    ("swap", "blend", float("nan")),
    ("swap", "blend", float("inf")),
    ("swap", "blend", "0.5"),
    ("swap", "blend", True),
    ("swap", "blend", 10**400),
    ("walk", "factor", "digits"),
    ("walk", "factor", ["digit"]),
    ("walk", "steps", [0] * 100),
    ("walk", "steps", [5]),
    ("walk", "steps", [None]),
    ("walk", "attributes", {"Smiling": 1}),
    ("walk", "attributes", {"digit=0": "far"}),
    ("walk", "attributes", {f"digit={k}": 1 for k in range(5)}),
    ("walk", "attributes", ["digit=0"]),
    ("walk", "draws", -1),
    ("walk", "draws", 1.5),
    ("sample", "seed", SEEDS + 1),
    ("sample", "seed", -1),
    ("sample", "first", 24),
    ("sample", "last", "1"),
]


@pytest.mark.parametrize(("tab", "name", "value"), HOSTILE)
def test_a_state_that_somebody_made_up_is_refused(explored, models, tab, name, value):
    def text(**changes):
        return json.dumps(whole(explored, tab) | {"state": GOOD[tab] | changes})

    assert from_json(text(), models).state.tab == tab
    with pytest.raises(ConfigError, match="state") as refusal:
        from_json(text(**{name: value}), models)
    assert len(str(refusal.value)) < 400


def whole(explored, tab):
    made_of = {"model": explored.name, "fingerprint": explored.fingerprint, "data": held_out(explored)}
    return {"format": 2, "tab": tab, "state": GOOD[tab]} | made_of


@pytest.mark.parametrize(
    "change",
    [
        {"format": 1},
        {"format": None},
        {"tab": "train"},
        {"tab": ["swap"]},
        {"model": 3},
        {"model": "x" * 1000},
        {"fingerprint": "../../etc"},
        {"data": "../../etc"},
        {"data": None},
        {"state": []},
        {"state": {}},
        {"state": GOOD["swap"] | {"more": 1}},
        {"more": 1},
    ],
)
def test_an_envelope_that_somebody_made_up_is_refused(explored, models, change):
    with pytest.raises(ConfigError):
        from_json(json.dumps(whole(explored, "swap") | change), models)


@pytest.mark.parametrize("text", ["", "no json", "[]", "3", DEEP, '{"a":' * 5000, b"\xff\xfe\x00", "x" * 3_000_000])
def test_what_is_no_state_is_refused(models, text):
    with pytest.raises(ConfigError):
        from_json(text, models)


def test_another_model_is_warned_of(explored, models):
    other = json.dumps(whole(explored, "swap") | {"fingerprint": "0" * 16})
    assert "other weights" in from_json(other, models).warning
    unknown = json.dumps(whole(explored, "swap") | {"fingerprint": "0" * 16, "model": "elsewhere"})
    with pytest.raises(ConfigError, match="no model elsewhere"):
        from_json(unknown, models)
    assert from_json(unknown, models, explored.name).explored is explored
    # The same weights under another name are the same model.
    assert not from_json(json.dumps(whole(explored, "swap") | {"model": "renamed"}), models).warning


def with_limit(explored, name, limit):
    """The same model with other data."""
    old = explored.subject
    data = ColorMNISTMini(views=1, limit=limit)
    return Explored(name, RunSubject(old.folder, old.interpreter, data, cache=old.folder / "cache"), 12, seed=0)


def test_other_data_are_warned_of(explored):
    fewer, same = with_limit(explored, "fewer", 150), with_limit(explored, "same", 200)
    assert fewer.fingerprint == same.fingerprint == explored.fingerprint
    text = to_json(explored, SwapState(Picture(item=0), Picture(item=1), ()))
    loaded = from_json(text, Models([fewer], None))
    assert "other held-out images than fewer" in loaded.warning
    assert "weights" not in loaded.warning
    # Among models of the same weights the one with the same data is taken.
    loaded = from_json(text, Models([fewer, same], None))
    assert loaded.explored is same
    assert not loaded.warning


@pytest.mark.parametrize("shape", [(3, 512, 512), (1, 28, 28), (3, 1024, 1024)])
def test_pictures_of_any_size_come_back(shape):
    noise = torch.randint(256, shape, dtype=torch.uint8)
    assert torch.equal(Picture.from_json(Picture.of(noise).to_json(), 0, shape).pixels(shape), noise)


def test_a_large_state_comes_back(models, explored, monkeypatch):
    monkeypatch.setattr(explored, "shape", (3, 700, 700))
    target, source = (Picture.of(torch.randint(256, explored.shape, dtype=torch.uint8)) for _ in range(2))
    state = SwapState(target, source, ())
    assert from_json(to_json(explored, state), models).state == state


@pytest.mark.parametrize(
    "packed",
    [
        "abc",
        "ü",
        "=" * 50,
        "A" * 9000,
        pack("a state")[:-4],
        base64.urlsafe_b64encode(zlib.compress(b"0" * 5_000_000, 9)).decode(),
        base64.urlsafe_b64encode(zlib.compress(b"\xff\xff")).decode(),
    ],
)
def test_a_damaged_link_is_refused(packed):
    with pytest.raises(ConfigError, match="link"):
        from_link(packed)


def test_models_added_on_the_page_are_few(explored):
    models = Models([explored], lambda folder, name: type("", (), {"name": name})())
    for i in range(12):
        models.add(None, f"concept {i}")
    models.add(None, "concept 11")
    assert list(models) == [explored.name, *(f"concept {i}" for i in range(4, 12))]
    with pytest.raises(ConfigError, match="did you mean concept 5"):
        models["concept_5"]
