"""Concept: two sketches define one, which is trained on the model's latents and then explored (Fig. 3)."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from matplotlib.figure import Figure
from torch import Tensor

from iin_lightning.data.images import to_range
from iin_lightning.data.sketches import BUILT_IN, SIZE
from iin_lightning.data.stylize import ArbitraryStyle, Stylize, Stylizer
from iin_lightning.errors import ConfigError, IINError, MissingExtraError
from iin_lightning.explorer.computing import alone, once
from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.models import without_folders
from iin_lightning.explorer.pictures import (
    Picture,
    is_blank,
    png_uri,
    sketch_of_upload,
    sketch_pixels,
    to_pixels,
    to_png,
)
from iin_lightning.explorer.saved import Loaded
from iin_lightning.explorer.states import FEWEST, MOST_CHANGED, MOST_STEPS, ConceptState, Fields
from iin_lightning.explorer.tab import SLOW, Tab, row, sentence, tile, warned
from iin_lightning.explorer.training import Status, Workshop, base_data
from iin_lightning.plots.contact import Panel, contact_figure

SHEET = f"""
<canvas class="iin-sheet" width="{SIZE}" height="{SIZE}" role="img" aria-label="Sheet to draw a sketch on"></canvas>
<div class="iin-tools">
  <button type="button" data-tool="undo">Undo</button><button type="button" data-tool="clear">Clear</button>
  {"".join(f'<button type="button" data-tool="{name}">{name.capitalize()}</button>' for name in BUILT_IN)}
</div>
"""
SCRIPT = (
    (Path(__file__).parent / "sketch.js")
    .read_text(encoding="utf-8")
    .replace("/*SKETCHES*/{}", json.dumps({name: png_uri(to_png(sketch_pixels(name))) for name in BUILT_IN}))
)
SIDES = ("a", "b")
SHOWN = 4  # examples
KEPT = 256  # painted images
INTRODUCTION = (
    "Two sketches define a concept: images in the strokes of the one and of the other differ in nothing else. Draw "
    "them, see what they make of held-out images, and train a factor for it. The network itself stays as it is: it "
    "shows such images as well as it reconstructs them."
)


class ConceptTab(Tab[ConceptState]):
    """Two sketches, images in their strokes, and the training of the concept."""

    title, name = "Concept", "concept"

    def build(self) -> None:
        """See ``Tab``."""
        self.workshop = Workshop(self.models)
        self.stylizer, self.absent = None, ""
        try:
            self.stylizer = ArbitraryStyle()
        except MissingExtraError as error:
            self.absent = str(error)
        gr.Markdown(INTRODUCTION)
        with gr.Row(elem_classes="iin-panes"):
            with gr.Column(scale=3, min_width=300):
                self.sheets, self.uploads = {}, {}
                with gr.Row(elem_id="concept-sheets"):
                    for side in SIDES:
                        with gr.Column(min_width=140):
                            self.sheets[side] = gr.HTML(
                                html_template=SHEET, js_on_load=SCRIPT, elem_id=f"concept-canvas-{side}"
                            )
                            self.uploads[side] = gr.UploadButton(
                                f"Upload sketch {side}", size="sm", type="binary", elem_id=f"concept-upload-{side}"
                            )
                painted = gr.HTML(elem_id="concept-examples")
            with gr.Column(scale=2, min_width=280):
                self.concept = gr.Textbox(label="Name of the concept", max_lines=1, elem_id="concept-name")
                self.images = gr.Slider(
                    FEWEST, MOST_CHANGED, step=10, label="Images of each split, painted twice", elem_id="concept-images"
                )
                self.steps = gr.Slider(FEWEST, MOST_STEPS, step=10, label="Steps of training", elem_id="concept-steps")
                with gr.Row():
                    self.train = gr.Button("Train", variant="primary", elem_id="concept-train", min_width=100)
                    self.stop = gr.Button("Cancel", elem_id="concept-cancel", min_width=100)
                    self.explore = gr.Button("Explore it", elem_id="concept-explore", min_width=100)
                seen = [gr.HTML(elem_id="concept-progress"), gr.HTML(elem_id="concept-command")]
        self.timer = gr.Timer(1, active=False)
        self.inputs = [self.concept, *self.sheets.values(), self.images, self.steps]
        self.moving, self.watched = [painted], [*seen, self.timer, self.train, self.stop, self.explore]
        self.outputs = [*self.moving, *self.watched]

    def wire(self, tabs: Mapping[str, Tab[Any]], opened: Callable[..., Any]) -> None:
        """See ``Tab``."""
        changed = [sheet.input for sheet in self.sheets.values()]
        self.live([*changed, self.concept.blur, self.images.release, self.steps.release])
        for side, button in self.uploads.items():
            self.change(button.upload, partial(_uploaded, side), [button])
        model = self.shared.model
        self.train.click(warned(self._train), [model, *self.inputs], [*self.watched, model], **SLOW)
        self.stop.click(warned(self._cancel), None, [*self.watched, model], **SLOW)
        self.timer.tick(warned(self._watch), None, [*self.watched, model], **SLOW)
        opened(self.explore.click, partial(self._trained, tabs["swap"]))

    def first(self, explored: Explored) -> ConceptState:
        """See ``Tab``."""
        return ConceptState()

    def read(self, explored: Explored, filled: ConceptState, *values: Any) -> ConceptState:
        """See ``Tab``."""
        return ConceptState.read(Fields(dict(zip(vars(ConceptState()), values))), explored)

    def fill(self, explored: Explored, state: ConceptState) -> list[Any]:
        """See ``Tab``."""
        return list(vars(state).values())

    def draw(self, explored: Explored, state: ConceptState, before: ConceptState | None = None) -> list[Any]:
        """See ``Tab``."""
        return [*self.move(explored, state), *self._seen()]

    def move(self, explored: Explored, state: ConceptState) -> list[Any]:
        """See ``Tab``."""
        try:
            base_data(explored)
            lines = self._lines(explored, state)
        except IINError as error:
            return [f"<p>{sentence(error)}</p>"]
        rows = (row(*(tile(image, caption) for caption, image in line.items()), kind="versions") for line in lines)
        return [f"<h3>Held-out images in their strokes</h3>{''.join(rows)}"]

    def refresh(self) -> list[Any]:
        """See ``Tab``."""
        return [*[gr.skip()] * len(self.moving), *self._seen()]

    def figure(self, explored: Explored, state: ConceptState) -> Callable[[], Figure]:
        """See ``Tab``."""
        lines = self._lines(explored, state)
        sketches = torch.stack([to_range(sketch_pixels(sketch)) for sketch in (state.sketch_a, state.sketch_b)])
        cells = torch.stack([image for line in lines for image in line.values()])
        captions = [caption for line in lines for caption in line]
        panels = [
            Panel(f"{state.name}: two sketches", sketches[:, None], ["a", "b"], 2),
            Panel(f"{explored.name}, held-out images", cells[:, None], captions, len(lines[0])),
        ]
        return partial(contact_figure, panels)

    def _lines(self, explored: Explored, state: ConceptState) -> list[dict[str, Tensor]]:
        """Return a line an image: as it is, and in the strokes of either sketch."""
        if self.stylizer is None:
            raise ConfigError(self.absent)
        lines = []
        for item in explored.gallery[:SHOWN]:
            line = {"original": explored.image(Picture(item=item))}
            for side, sketch in zip(SIDES, (state.sketch_a, state.sketch_b)):
                if not is_blank(sketch):
                    name = sketch if sketch in BUILT_IN else f"sketch {side}"
                    line[name] = painter(explored, self.stylizer)(item, sketch)
            lines.append(line)
        return lines

    def _train(self, name: str, *values: Any) -> list[Any]:
        explored = self.models[name]
        if self.stylizer is None:
            raise ConfigError(self.absent)
        state = self.read(explored, self.first(explored), *values)
        for side, sketch in zip(SIDES, (state.sketch_a, state.sketch_b)):
            if is_blank(sketch):
                raise ConfigError(f"Sketch {side} is empty: draw some strokes, upload one, or take one of ours.")
        if state.sketch_a == state.sketch_b:
            raise ConfigError("Both sketches are the same: a concept is what makes the difference between them.")
        self.workshop.start(explored, state)
        return self._watch()

    def _cancel(self) -> list[Any]:
        self.workshop.cancel()
        return self._watch()

    def _watch(self) -> list[Any]:
        return [*self._seen(), gr.Dropdown(choices=list(self.models))]

    def _seen(self) -> list[Any]:
        status = self.workshop.status
        runs = status is not None and status.outcome == "running"
        ready = status is not None and status.outcome == "done" and status.model in list(self.models)
        return [
            "" if status is None else _progress(status),
            "" if status is None else _command(status),
            gr.Timer(active=runs),
            gr.Button(interactive=not runs and self.stylizer is not None),
            gr.Button(visible=runs),
            gr.Button(visible=ready),
        ]

    def _trained(self, swap: Tab[Any]) -> Loaded:
        status = self.workshop.status
        if status is None or not status.model:
            raise ConfigError("No concept has been trained yet.")
        explored = self.models[status.model]
        return Loaded(explored, swap.first(explored))


@once
def painter(explored: Explored, stylizer: Stylizer) -> Callable[[int, str], Tensor]:
    """Return what paints a held-out image (3, S, S) in the strokes of a clean sketch; the latest are remembered."""

    @lru_cache(KEPT)
    @alone
    def paint(item: int, sketch: str) -> Tensor:
        change = Stylize(stylizer, "round")
        change.style = to_range(sketch_pixels(sketch))[None]
        return to_range(change(to_pixels(explored.image(Picture(item=item)))))

    return paint


def _uploaded(side: str, _: Explored, state: ConceptState, __: gr.EventData, content: bytes) -> ConceptState:
    sketch = sketch_of_upload(content)
    return replace(state, sketch_a=sketch) if side == "a" else replace(state, sketch_b=sketch)


def _progress(status: Status) -> str:
    """Return HTML of how far a training is."""
    name = escape(status.concept)
    if status.outcome == "failed":
        return f'<p class="failed"><b>{name}</b> could not be trained. {escape(without_folders(status.reason))}</p>'
    if status.outcome == "cancelled":
        return f"<p><b>{name}</b> was cancelled after {status.seconds:.0f} s.</p>"
    curve = _curve(status.losses)
    if status.outcome == "done":
        return (
            f"<p><b>{name}</b> was trained in {status.seconds:.0f} s: it is the model {escape(status.model)} now, "
            f"which everyone on this page can choose.</p>{curve}"
        )
    phase = escape(status.phase.replace("Changing", "Painting"))
    count = f" {status.done:,}/{status.total:,}" if status.total else ""
    part = 100 * status.done / status.total if status.total else 0
    return (
        f"<p><b>{name}</b>, a short training on {escape(status.of)}<br>{phase}{count} "
        f"<em>{status.seconds:.0f} s</em></p>"
        f'<div class="bar" role="progressbar" aria-valuenow="{part:.0f}"><i style="width:{part:.1f}%"></i></div>{curve}'
    )


def _command(status: Status) -> str:
    """Return HTML of how to do the same in a shell, as long as the files that the command names exist."""
    if status.outcome in ("failed", "cancelled"):
        return ""
    return f"<details><summary>Command</summary><pre>{escape(status.command)}</pre></details>"


def _curve(losses: tuple[tuple[int, float], ...]) -> str:
    """Return the loss as a line."""
    if len(losses) < 2:
        return ""
    (first, _), (last, latest) = losses[0], losses[-1]
    low, high = min(value for _, value in losses), max(value for _, value in losses)
    points = " ".join(
        f"{200 * (step - first) / max(last - first, 1):.1f},{46 - 42 * (value - low) / max(high - low, 1e-9):.1f}"
        for step, value in losses
    )
    return (
        '<svg viewBox="0 0 200 50" preserveAspectRatio="none" role="img" aria-label="loss">'
        f'<polyline points="{points}"/></svg>'
        f"<p><small>negative log-likelihood {latest:.3f} nats per dimension, at step {last}</small></p>"
    )
