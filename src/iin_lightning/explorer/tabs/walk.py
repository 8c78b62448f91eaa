"""Walk: one picture, moved along the main directions of a factor and along those of attributes (Figs. 8, 9)."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr
import torch
from matplotlib.figure import Figure
from torch import Tensor

from iin_lightning.explorer.directions import DIRECTIONS
from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.fields import Fields
from iin_lightning.explorer.pictures import Picture, bars, pick, row, tile
from iin_lightning.explorer.states import FARTHEST, MOST_ATTRIBUTES, SEEDS, WalkState
from iin_lightning.explorer.tabs.swap import chosen_in, gallery, output, spoken
from iin_lightning.explorer.tabs.tab import Tab
from iin_lightning.explorer.uploads import uploaded
from iin_lightning.factors import RESIDUAL
from iin_lightning.plots.charts import probabilities_figure
from iin_lightning.plots.contact import Panel, contact_figure

if TYPE_CHECKING:
    from iin_lightning.explorer.page import Page

DRAWS = 12


class WalkTab(Tab[WalkState]):
    """A picture, a factor, and sliders."""

    title, name = "Walk", "walk"

    def build(self) -> None:
        """See ``Tab``."""
        gr.Markdown(
            "Move a picture in **one factor**, along the directions in which held-out images differ most, or towards "
            "an **attribute**."
        )
        with gr.Row(elem_classes="iin-panes"):
            with gr.Column(scale=2, min_width=300):
                self.gallery = gr.HTML(js_on_load=pick(), chosen=[], elem_id="walk-gallery")
                self.upload = gr.UploadButton("Upload a picture", size="sm", type="binary", elem_id="upload-walk")
            with gr.Column(scale=3, min_width=300):
                with gr.Row(elem_id="walk-stage"):
                    self.start = gr.HTML(elem_id="walk-start", min_width=90)
                    self.result = gr.HTML(elem_id="walk-result", min_width=160)
                with gr.Row():
                    self.factor = gr.Dropdown([], label="Factor", filterable=False, elem_id="walk-factor")
                    self.attributes = gr.Dropdown(
                        [],
                        multiselect=True,
                        max_choices=MOST_ATTRIBUTES,
                        label=f"Attributes to move towards (up to {MOST_ATTRIBUTES})",
                        elem_id="walk-attributes",
                    )
                bounds: dict[str, Any] = {"minimum": -FARTHEST, "maximum": FARTHEST, "value": 0, "step": 0.05}
                with gr.Group(elem_id="walk-sliders"):
                    self.steps = [
                        gr.Slider(**bounds, visible=False, elem_id=f"walk-direction-{i}")
                        for i in range(1, DIRECTIONS + 1)
                    ]
                    self.alphas = [
                        gr.Slider(**bounds, visible=False, elem_id=f"walk-attribute-{i}")
                        for i in range(1, MOST_ATTRIBUTES + 1)
                    ]
                with gr.Row():
                    self.reset = gr.Button("Reset", size="sm", elem_id="walk-reset")
                    self.random = gr.Button("Random samples of this factor", size="sm", elem_id="walk-random")
                self.samples = gr.HTML(elem_id="walk-samples")
        self.inputs = [self.factor, self.attributes, *self.steps, *self.alphas]
        self.moving = [self.result]
        self.outputs = [self.result, self.start, self.samples, self.gallery]

    def wire(self, page: "Page") -> None:
        """See ``Tab``."""
        page.live([slider.input for slider in (*self.steps, *self.alphas)], self)
        page.change(self.gallery.click, self, _picked)
        page.change(self.upload.upload, self, _uploaded, [self.upload])
        page.change(self.factor.input, self, _other_factor)
        # The first time training images are translated.
        page.change(self.attributes.input, self, _same, show_progress="minimal", show_progress_on=self.result)
        page.change(self.reset.click, self, _reset)
        page.change(self.random.click, self, _drawn)

    def first(self, explored: Explored) -> WalkState:
        """See ``Tab``."""
        return _at(explored, Picture(item=explored.gallery[0]), (*explored.factors.concepts, RESIDUAL)[0])

    def read(self, explored: Explored, filled: WalkState, *values: Any) -> WalkState:
        """See ``Tab``."""
        factor, attributes, *sliders = values
        factor = Fields({"factor": factor}).choice("factor", explored.factors)
        shown = len(explored.directions.principal(factor).steps)
        places = dict(zip(filled.attributes, sliders[DIRECTIONS:]))  # of those that have a slider already
        asked = {name: places.get(name, 0) for name in attributes or ()}
        fields = Fields({"steps": sliders[:shown], "attributes": asked})
        steps = fields.numbers("steps", -FARTHEST, FARTHEST, DIRECTIONS)
        alphas = fields.named_numbers(
            "attributes", explored.directions.attributes, -FARTHEST, FARTHEST, MOST_ATTRIBUTES
        )
        return WalkState(filled.picture, factor, steps, alphas, filled.draws)

    def fill(self, explored: Explored, state: WalkState) -> list[Any]:
        """See ``Tab``."""
        steps, shares = explored.directions.principal(state.factor)
        sliders = []
        for i in range(DIRECTIONS):
            if i < len(steps):
                label = f"{spoken(state.factor)}, direction {i + 1} ({shares[i]:.0%} of its variance)"
                value = state.steps[i] if i < len(state.steps) else 0
                sliders.append(gr.Slider(value=value, label=label, visible=True))
            else:
                sliders.append(gr.Slider(value=0, visible=False))
        for i in range(MOST_ATTRIBUTES):
            named = list(state.attributes.items())[i : i + 1]
            sliders += [gr.Slider(value=value, label=f"towards {name}", visible=True) for name, value in named]
            sliders += [gr.Slider(value=0, visible=False)] * (not named)
        return [
            gr.Dropdown([(spoken(name), name) for name in explored.factors], value=state.factor),
            gr.Dropdown(
                list(explored.directions.attributes),
                value=list(state.attributes),
                visible=bool(explored.directions.attributes),
            ),
            *sliders,
        ]

    def draw(self, explored: Explored, state: WalkState, before: WalkState | None = None) -> list[Any]:
        """See ``Tab``."""
        start = row(
            tile(explored.image(state.picture), explored.caption(state.picture)),
            output(explored, state.picture),
            kind="beside",
        )
        samples = ""
        if state.draws is not None:
            made = _samples(explored, state)
            title = f"<h3>{DRAWS} random values of {spoken(state.factor)}, all else as it is (seed {state.draws})</h3>"
            if explored.makes_images:
                samples = title + row(*(tile(image, kind="small") for image in made))
            else:
                as_it_is = explored.reconstruct(state.picture)
                samples = title + row(*(bars(one, explored.class_names, as_it_is, 4) for one in made), kind="bars")
        return [
            *self.move(explored, state),
            start,
            samples,
            gallery(explored, [state.picture], again=before is not None),
        ]

    def move(self, explored: Explored, state: WalkState) -> list[Any]:
        """See ``Tab``."""
        result = _walked(explored, state)
        if explored.makes_images:
            return [tile(result, _moves(state), "large")]
        note = f"{_moves(state)}; a mark is the picture as it is"
        return [bars(result, explored.class_names, explored.reconstruct(state.picture), note=note)]

    def figure(self, explored: Explored, state: WalkState) -> Callable[[], Figure]:
        """See ``Tab``."""
        before, after = explored.reconstruct(state.picture), _walked(explored, state)
        if not explored.makes_images:
            outputs = {"as it is": before, _moves(state): after}
            return partial(probabilities_figure, outputs, explored.class_names)
        images = torch.stack([explored.image(state.picture), before, after])
        panels = [Panel(explored.name, images[:, None], ["image", "reconstruction", _moves(state)], 3)]
        if state.draws is not None:
            made = torch.stack(_samples(explored, state))[:, None]
            panels.append(Panel(f"random {spoken(state.factor)}, seed {state.draws}", made, [""] * len(made), 6))
        return partial(contact_figure, panels)


def _at(explored: Explored, picture: Picture, factor: str) -> WalkState:
    return WalkState(picture, factor, (0.0,) * len(explored.directions.principal(factor).steps))


def _walked(explored: Explored, state: WalkState) -> Tensor:
    return explored.walk(state.picture, state.factor, state.steps, state.attributes)


def _samples(explored: Explored, state: WalkState) -> list[Tensor]:
    assert state.draws is not None
    return [explored.redraw(state.picture, state.factor, state.draws, place) for place in range(DRAWS)]


def _moves(state: WalkState) -> str:
    """What was moved, in words."""
    moves = [f"direction {i} of {spoken(state.factor)} by {step:+.3g}" for i, step in enumerate(state.steps, 1) if step]
    moves += [f"towards {name} by {step:+.3g}" for name, step in state.attributes.items() if step]
    return ", ".join(moves) or "nothing moved"


def _picked(explored: Explored, state: WalkState, event: gr.EventData) -> WalkState:
    return replace(state, picture=chosen_in(explored, event))


def _uploaded(explored: Explored, state: WalkState, _: gr.EventData, content: bytes) -> WalkState:
    return replace(state, picture=uploaded(content, explored))


def _other_factor(explored: Explored, state: WalkState, _: gr.EventData) -> WalkState:
    return replace(_at(explored, state.picture, state.factor), attributes=state.attributes)


def _same(_: Explored, state: WalkState, __: gr.EventData) -> WalkState:
    return state


def _reset(explored: Explored, state: WalkState, _: gr.EventData) -> WalkState:
    still = dict.fromkeys(state.attributes, 0.0)
    return replace(_at(explored, state.picture, state.factor), attributes=still)


def _drawn(_: Explored, state: WalkState, __: gr.EventData) -> WalkState:
    return replace(state, draws=0 if state.draws is None else (state.draws + 1) % SEEDS)
