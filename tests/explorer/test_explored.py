"""What becomes of pictures: edits agree with the interpreter's own, and come out the same whoever asks beside."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tests.explored import make

from iin_lightning.errors import ConfigError
from iin_lightning.explorer import explored as exploring
from iin_lightning.explorer.computing import once
from iin_lightning.explorer.pictures import Picture, data_uri, to_pixels

A, B = Picture(item=3), Picture(item=150)


@pytest.mark.parametrize("kind", ["explored", "classifier"])
def test_swap_is_the_interpreters(kind, request):
    explored = request.getfixturevalue(kind)
    network, (a, b) = explored.interpreter, explored.images([3, 150])[:, None]
    for names in ((), ("digit",), ("residual", "color"), tuple(explored.factors)):
        expected = network.swap(a, b, names)[0]
        expected = expected if explored.makes_images else expected.softmax(0)
        torch.testing.assert_close(explored.swap(A, B, names, 1.0), expected)
        torch.testing.assert_close(explored.swap(A, B, names, 0.0), explored.reconstruct(A))
    parts = [network.factors_of(x)["digit"] for x in (a, b)]
    halfway = network.edit(a, {"digit": (parts[0] + parts[1]) / 2})[0]
    halfway = halfway if explored.makes_images else halfway.softmax(0)
    torch.testing.assert_close(explored.swap(A, B, ("digit",), 0.5), halfway)


def test_walks_start_at_the_reconstruction_and_move_one_factor(explored):
    assert torch.equal(explored.walk(A, "digit", (0.0, 0.0), {}), explored.walk(A, "color", (), {}))
    torch.testing.assert_close(explored.walk(A, "digit", (), {}), explored.reconstruct(A))
    assert not torch.allclose(explored.walk(A, "digit", (2.0,), {}), explored.reconstruct(A))


def test_a_step_of_1_along_a_direction_is_a_standard_deviation(explored):
    values = explored.factors.split(explored.translated())["residual"]
    steps, shares = explored.principal("residual")
    assert len(steps) == 3
    assert shares.sum() == pytest.approx(1, abs=1e-4)
    for step in steps:
        assert (values @ (step / step.norm())).std().item() == pytest.approx(step.norm().item(), rel=1e-3)


def test_attributes_lead_from_those_without_to_those_with(explored):
    assert explored.attributes == tuple(f"digit={k}" for k in range(10))
    vector = explored.towards("digit=3")
    assert vector.shape == (8,)
    before = explored.encode(A)[0]
    moved = explored.decode(before + vector)
    torch.testing.assert_close(explored.walk(A, "digit", (), {"digit=3": 1.0}), moved)
    with pytest.raises(ConfigError, match="did you mean digit=3"):
        explored.towards("digit=33")


@pytest.fixture
def fresh(tmp_path):
    """A model that nobody has asked yet, and which never encodes a whole split."""
    model = make(tmp_path, "classifier")
    model.subject.latents = lambda split: pytest.fail(f"all of {split}")
    return model


def test_an_attribute_is_found_from_some_training_images_some_at_a_time(fresh, monkeypatch):
    monkeypatch.setattr(exploring, "EXAMPLES", 7)
    monkeypatch.setattr(exploring, "CHUNK", 4)
    source, drawn = fresh.subject.data.source("train"), []
    draw = source.draw
    monkeypatch.setattr(source, "draw", lambda items, noise: drawn.append(items) or draw(items, noise))
    vector = fresh.towards("digit=3")
    assert [len(items) for items in drawn] == [4, 4, 4, 2]
    items = torch.cat(drawn)
    having = source.labels[items, source.concepts.index("digit")] == 3
    assert having.sum() == 7
    with torch.no_grad():
        z_tilde = fresh.interpreter.translate(fresh.interpreter.encode(draw(items, None)))
    torch.testing.assert_close(vector, z_tilde[having].mean(0) - z_tilde[~having].mean(0))
    fresh.towards("digit=3")
    assert len(drawn) == 4


def test_while_an_attribute_is_found_main_directions_are_there(fresh, monkeypatch):
    began, goes_on = threading.Event(), threading.Event()
    fit = exploring.fit_directions

    def slow(*arguments):
        began.set()
        assert goes_on.wait(60)
        return fit(*arguments)

    monkeypatch.setattr(exploring, "fit_directions", slow)
    with ThreadPoolExecutor(3) as many:
        asked = [many.submit(fresh.towards, "digit=3") for _ in range(2)]
        assert began.wait(60)
        try:
            assert len(many.submit(fresh.principal, "digit").result(60).steps) == 3
        finally:
            goes_on.set()
        assert asked[0].result() is asked[1].result()


def test_names_of_classes_are_found_from_some_images_some_at_a_time(fresh, monkeypatch):
    monkeypatch.setattr(exploring, "NAMING", 50)
    monkeypatch.setattr(exploring, "CHUNK", 20)
    drawn, draw = [], fresh.source.draw
    monkeypatch.setattr(fresh.source, "draw", lambda items, noise: drawn.append(len(items)) or draw(items, noise))
    assert fresh.class_names() == list("0123456789")
    assert drawn == [20, 20, 10]


def test_what_has_failed_is_made_anew_for_who_asks_next():
    answers = iter([ValueError("the first time"), 7])

    def make(_):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    made, owner = once(lambda owner, key: make(key)), Picture(item=0)
    with pytest.raises(ValueError, match="the first time"):
        made(owner, "x")
    assert made(owner, "x") == made(owner, "x") == 7


def test_redrawn_factors_leave_the_others_alone(explored):
    images = [explored.redraw(A, "color", 7, place) for place in range(3)]
    assert torch.equal(images[1], explored.redraw(A, "color", 7, 1))
    assert not torch.allclose(images[0], images[1])


def test_pictures_are_the_same_to_the_last_bit_whoever_asks_beside(explored):
    def ask(i):
        explored.images(list(range(i % 5 + 1)))
        return data_uri(explored.swap(Picture(item=i % 3), B, ("digit",), 0.3))

    with ThreadPoolExecutor(8) as many:
        answers = list(many.map(ask, range(60)))
    assert answers[:3] * 20 == answers


def test_captions_say_what_is_seen(explored):
    label = explored.source.labels[3, explored.source.concepts.index("digit")]
    assert explored.caption(A) == f"digit {label}"
    own = Picture.of(to_pixels(explored.image(A)))
    assert explored.caption(own) == "uploaded"
    torch.testing.assert_close(explored.image(own), explored.image(A))
    assert explored.upload(own.png) == own


def test_a_classifier_shows_probabilities_of_named_classes(classifier):
    assert not classifier.makes_images
    assert classifier.class_names() == list("0123456789")
    assert classifier.swap(A, B, ("digit",), 1.0).sum() == pytest.approx(1, abs=1e-5)
