"""Sample: new images, and the way between two of them (Eq. 13, Fig. 4)."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr
import torch
from matplotlib.figure import Figure
from torch import Tensor

from iin_lightning.errors import ConfigError
from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.states import SAMPLES, SEEDS, Fields, SampleState
from iin_lightning.explorer.tab import Tab, buttons, pick, row, tile
from iin_lightning.plots.contact import Panel, contact_figure

STRIP = 9  # steps that are shown at once
ENDS = ("first", "last")
NOTHING = (
    "This model is a classifier: it gives probabilities and no images, so that there is nothing to see of new latents. "
    "Walk shows how it responds to each factor."
)


class SampleTab(Tab[SampleState]):
    """A seed, its images, two of them and what lies between."""

    title, name = "Sample", "sample"

    def build(self) -> None:
        """See ``Tab``."""
        note = gr.Markdown()
        with gr.Row(elem_classes="iin-panes") as everything:
            with gr.Column(scale=2, min_width=300):
                with gr.Row():
                    self.seed = gr.Number(0, label="Seed", precision=0, minimum=0, elem_id="sample-seed")
                    self.next = gr.Button("Next seed", size="sm", elem_id="sample-next")
                self.role = gr.Radio(list(ENDS), value="first", label="A click chooses the", elem_id="sample-role")
                self.grid = gr.HTML(js_on_load=pick(*ENDS), chosen=[], elem_id="sample-grid")
            with gr.Column(scale=3, min_width=300):
                result = gr.HTML(elem_id="sample-result")
                self.blend = gr.Slider(
                    0, 1, 0.5, step=0.01, label="On the way from the first to the last", elem_id="sample-blend"
                )
                strip = gr.HTML(elem_id="sample-strip")
        self.inputs, self.moving = [self.seed, self.blend], [result]
        self.outputs = [result, strip, self.grid, note, everything]

    def wire(self, tabs: Mapping[str, Tab[Any]], opened: Callable[..., Any]) -> None:
        """See ``Tab``."""
        self.live([self.blend.input])
        self.live([self.seed.input], whole=True)
        self.change(self.next.click, lambda _, state, __: replace(state, seed=(state.seed + 1) % SEEDS))
        self.change(self.grid.click, _picked, [self.role])

    def first(self, explored: Explored) -> SampleState:
        """See ``Tab``."""
        return SampleState()

    def read(self, explored: Explored, filled: SampleState, *values: Any) -> SampleState:
        """See ``Tab``."""
        seed, blend = values
        return SampleState.read(Fields(vars(filled) | {"seed": seed, "blend": blend}), explored)

    def fill(self, explored: Explored, state: SampleState) -> list[Any]:
        """See ``Tab``."""
        return [state.seed, state.blend]

    def draw(self, explored: Explored, state: SampleState, before: SampleState | None = None) -> list[Any]:
        """See ``Tab``."""
        if not explored.makes_images:
            return ["", "", "", NOTHING, gr.Row(visible=False)]
        grid: dict[str, Any] = {"chosen": [state.first, state.last]}
        if before is None or before.seed != state.seed:
            grid["value"] = buttons(_samples(explored, state), [f"sample {i + 1}" for i in range(SAMPLES)])
        strip = row(*(tile(image, kind="small") for image in _strip(explored, state)), kind="strip")
        density = explored.interpreter.density.name
        note = f"New images: factors are drawn from **{density}**, and the network decodes what they mean."
        return [*self.move(explored, state), strip, gr.HTML(**grid), note, gr.Row(visible=True)]

    def move(self, explored: Explored, state: SampleState) -> list[Any]:
        """See ``Tab``."""
        if not explored.makes_images:
            return [""]
        first, last = (
            tile(_between(explored, state, end), f"sample {place + 1}")
            for end, place in ((0.0, state.first), (1.0, state.last))
        )
        middle = tile(_between(explored, state, state.blend), f"{state.blend:.0%} of the way", "large")
        return [row(first, middle, last, kind="stage")]

    def figure(self, explored: Explored, state: SampleState) -> Callable[[], Figure]:
        """See ``Tab``."""
        if not explored.makes_images:
            raise ConfigError(NOTHING)
        cells, strip = _samples(explored, state)[:, None], _strip(explored, state)[:, None]
        middle = _between(explored, state, state.blend)[None, None]
        between = f"from sample {state.first + 1} to {state.last + 1}"
        captions = [*(f"{i / (STRIP - 1):.0%}" for i in range(STRIP)), f"{state.blend:.0%}"]
        panels = [
            Panel(f"{explored.name}, seed {state.seed}", cells, [str(i + 1) for i in range(SAMPLES)], 6),
            Panel(between, torch.cat([strip, middle]), captions, 5),
        ]
        return partial(contact_figure, panels)


def _samples(explored: Explored, state: SampleState) -> Tensor:
    return torch.stack([explored.decode(explored.sample(state.seed, place)) for place in range(SAMPLES)])


def _between(explored: Explored, state: SampleState, blend: float) -> Tensor:
    first, last = (explored.sample(state.seed, place) for place in (state.first, state.last))
    return explored.decode(torch.lerp(first, last, blend))


def _strip(explored: Explored, state: SampleState) -> Tensor:
    return torch.stack([_between(explored, state, i / (STRIP - 1)) for i in range(STRIP)])


def _picked(_: Explored, state: SampleState, event: gr.EventData, role: str) -> SampleState:
    place = Fields({"place": getattr(event, "place", None)}).whole("place", 0, SAMPLES - 1)
    return replace(state, **{Fields({"role": role}).choice("role", ENDS): place})
