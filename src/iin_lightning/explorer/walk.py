"""Walk: one picture, moved along the main directions of a factor and along those of attributes (Figs. 8, 9)."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr
import torch
from matplotlib.figure import Figure
from torch import Tensor

from iin_lightning.explorer.explored import DIRECTIONS, Explored
from iin_lightning.explorer.pictures import Picture
from iin_lightning.explorer.states import FARTHEST, MOST_ATTRIBUTES, SEEDS, Fields, WalkState
from iin_lightning.explorer.tab import Tab, bars, beside, chosen_in, edited, gallery, pick, row, spoken, tile
from iin_lightning.factors import RESIDUAL
from iin_lightning.plots.charts import probabilities_figure
from iin_lightning.plots.contact import Panel, contact_figure

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
                    start = gr.HTML(elem_id="walk-start", min_width=90)
                    result = gr.HTML(elem_id="walk-result", min_width=160)
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
                    self.sliders = [
                        gr.Slider(**bounds, visible=False, elem_id=f"walk-{kind}-{i + 1}")
                        for kind, count in (("direction", DIRECTIONS), ("attribute", MOST_ATTRIBUTES))
                        for i in range(count)
                    ]
                with gr.Row():
                    self.reset = gr.Button("Reset", size="sm", elem_id="walk-reset")
                    self.random = gr.Button("Random samples of this factor", size="sm", elem_id="walk-random")
                samples = gr.HTML(elem_id="walk-samples")
        self.inputs, self.moving = [self.factor, self.attributes, *self.sliders], [result]
        self.outputs = [result, start, samples, self.gallery]

    def wire(self, tabs: Mapping[str, Tab[Any]], opened: Callable[..., Any]) -> None:
        """See ``Tab``."""
        self.live([slider.input for slider in self.sliders])
        self.change(
            self.gallery.click, lambda explored, state, event: replace(state, picture=chosen_in(explored, event))
        )
        self.change(
            self.upload.upload,
            lambda explored, state, _, content: replace(state, picture=explored.upload(content)),
            [self.upload],
        )
        self.change(self.factor.input, lambda explored, state, _: _still(explored, state))
        self.change(self.attributes.input, lambda _, state, __: state)
        self.change(
            self.reset.click,
            lambda explored, state, _: replace(
                _still(explored, state), attributes=dict.fromkeys(state.attributes, 0.0)
            ),
        )
        self.change(
            self.random.click,
            lambda _, state, __: replace(state, draws=0 if state.draws is None else (state.draws + 1) % SEEDS),
        )

    def first(self, explored: Explored) -> WalkState:
        """See ``Tab``."""
        factor, *_ = [*explored.factors.concepts, RESIDUAL]
        return _still(explored, WalkState(Picture(item=explored.gallery[0]), factor))

    def read(self, explored: Explored, filled: WalkState, *values: Any) -> WalkState:
        """See ``Tab``."""
        factor, attributes, *sliders = values
        factor = Fields({"factor": factor}).choice("factor", explored.factors)
        shown = len(explored.principal(factor).steps)
        places = dict(zip(filled.attributes, sliders[DIRECTIONS:]))  # of those that have a slider already
        asked = {name: places.get(name, 0) for name in attributes or ()}
        fields = Fields({"steps": sliders[:shown], "attributes": asked})
        steps = fields.numbers("steps", -FARTHEST, FARTHEST, DIRECTIONS)
        alphas = fields.named_numbers("attributes", explored.attributes, -FARTHEST, FARTHEST, MOST_ATTRIBUTES)
        return WalkState(filled.picture, factor, steps, alphas, filled.draws)

    def fill(self, explored: Explored, state: WalkState) -> list[Any]:
        """See ``Tab``."""
        steps, shares = explored.principal(state.factor)
        values = [*state.steps, *[0.0] * (len(steps) - len(state.steps))]
        directions = [
            (f"{spoken(state.factor)}, direction {i} ({share:.0%} of its variance)", value)
            for i, (share, value) in enumerate(zip(shares.tolist(), values), 1)
        ]
        attributes = [(f"towards {name}", value) for name, value in state.attributes.items()]
        names = list(explored.attributes)
        return [
            gr.Dropdown([(spoken(name), name) for name in explored.factors], value=state.factor),
            gr.Dropdown(names, value=list(state.attributes), visible=bool(names)),
            *_sliders(directions, DIRECTIONS),
            *_sliders(attributes, MOST_ATTRIBUTES),
        ]

    def draw(self, explored: Explored, state: WalkState, before: WalkState | None = None) -> list[Any]:
        """See ``Tab``."""
        start = beside(explored, state.picture, explored.caption(state.picture))
        samples = ""
        if state.draws is not None:
            made = _samples(explored, state)
            title = f"<h3>{DRAWS} random values of {spoken(state.factor)}, all else as it is (seed {state.draws})</h3>"
            if explored.makes_images:
                samples = title + row(*(tile(image, kind="small") for image in made))
            else:
                as_it_is = explored.reconstruct(state.picture)
                samples = title + row(*(bars(one, explored.class_names(), as_it_is, 4) for one in made), kind="bars")
        images = gallery(explored, [state.picture], again=before is not None)
        return [*self.move(explored, state), start, samples, images]

    def move(self, explored: Explored, state: WalkState) -> list[Any]:
        """See ``Tab``."""
        return [edited(explored, _walked(explored, state), _moves(state), state.picture, "the picture as it is")]

    def figure(self, explored: Explored, state: WalkState) -> Callable[[], Figure]:
        """See ``Tab``."""
        before, after = explored.reconstruct(state.picture), _walked(explored, state)
        if not explored.makes_images:
            outputs = {"as it is": before, _moves(state): after}
            return partial(probabilities_figure, outputs, explored.class_names())
        images = torch.stack([explored.image(state.picture), before, after])
        panels = [Panel(explored.name, images[:, None], ["image", "reconstruction", _moves(state)], 3)]
        if state.draws is not None:
            made = torch.stack(_samples(explored, state))[:, None]
            panels.append(Panel(f"random {spoken(state.factor)}, seed {state.draws}", made, [""] * len(made), 6))
        return partial(contact_figure, panels)


def _still(explored: Explored, state: WalkState) -> WalkState:
    """Return a state whose factor has not moved yet."""
    return replace(state, steps=(0.0,) * len(explored.principal(state.factor).steps), draws=None)


def _sliders(shown: list[tuple[str, float]], count: int) -> list[gr.Slider]:
    """Return so many sliders, the first with these labels and values."""
    sliders = [gr.Slider(label=label, value=value, visible=True) for label, value in shown]
    return sliders + [gr.Slider(value=0, visible=False) for _ in range(count - len(shown))]


def _walked(explored: Explored, state: WalkState) -> Tensor:
    return explored.walk(state.picture, state.factor, state.steps, state.attributes)


def _samples(explored: Explored, state: WalkState) -> list[Tensor]:
    assert state.draws is not None
    return [explored.redraw(state.picture, state.factor, state.draws, place) for place in range(DRAWS)]


def _moves(state: WalkState) -> str:
    """Say what was moved."""
    moves = [f"direction {i} of {spoken(state.factor)} by {step:+.3g}" for i, step in enumerate(state.steps, 1) if step]
    moves += [f"towards {name} by {step:+.3g}" for name, step in state.attributes.items() if step]
    return ", ".join(moves) or "nothing moved"
