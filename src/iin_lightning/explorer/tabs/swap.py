"""Swap: a target takes factors over from a source (Figs. 2, 5, 6)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr
import torch
from matplotlib.figure import Figure

from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.fields import Fields
from iin_lightning.explorer.per_model import per_model
from iin_lightning.explorer.pictures import Picture, bars, buttons, pick, row, tile
from iin_lightning.explorer.states import SwapState
from iin_lightning.explorer.tabs.tab import Tab
from iin_lightning.explorer.uploads import uploaded
from iin_lightning.factors import RESIDUAL
from iin_lightning.plots.charts import probabilities_figure
from iin_lightning.plots.contact import Panel, contact_figure

if TYPE_CHECKING:
    from iin_lightning.explorer.page import Page

ROLES = ("target", "source")


class SwapTab(Tab[SwapState]):
    """Two pictures, the factors to take over, and how far."""

    title, name = "Swap", "swap"

    def build(self) -> None:
        """See ``Tab``."""
        gr.Markdown(
            "The result keeps all factors of the **target** but the ticked ones, which it takes from the **source**."
        )
        with gr.Row(elem_classes="iin-panes"):
            with gr.Column(scale=2, min_width=300):
                self.role = gr.Radio(list(ROLES), value="target", label="A click chooses the", elem_id="swap-role")
                self.gallery = gr.HTML(js_on_load=pick(*ROLES), chosen=[], elem_id="swap-gallery")
                with gr.Row():
                    self.uploads = {
                        role: gr.UploadButton(f"Upload a {role}", size="sm", type="binary", elem_id=f"upload-{role}")
                        for role in ROLES
                    }
            with gr.Column(scale=3, min_width=300):
                with gr.Row(elem_id="swap-stage"):
                    self.shown = {role: gr.HTML(elem_id=f"swap-{role}", min_width=90) for role in ROLES}
                    self.result = gr.HTML(elem_id="swap-result", min_width=160)
                self.factors = gr.CheckboxGroup([], label="Factors to take from the source", elem_id="swap-factors")
                self.blend = gr.Slider(
                    0, 1, 1, step=0.01, label="Blend, from the target's factors to the source's", elem_id="swap-blend"
                )
        self.inputs = [self.factors, self.blend]
        self.moving = [self.result]
        self.outputs = [self.result, *self.shown.values(), self.gallery]

    def wire(self, page: "Page") -> None:
        """See ``Tab``."""
        page.live([self.factors.input, self.blend.input], self)
        page.change(self.gallery.click, self, _picked, [self.role])
        for role, button in self.uploads.items():
            page.change(button.upload, self, partial(_uploaded, role), [button])

    def first(self, explored: Explored) -> SwapState:
        """See ``Tab``."""
        target, source = (Picture(item=item) for item in explored.gallery[:2])
        return SwapState(target, source, explored.factors.concepts[:1] or (RESIDUAL,))

    def read(self, explored: Explored, filled: SwapState, *values: Any) -> SwapState:
        """See ``Tab``."""
        fields = Fields(dict(zip(("factors", "blend"), values)))
        factors, blend = fields.chosen("factors", explored.factors), fields.number("blend", 0, 1)
        return replace(filled, factors=factors, blend=blend)

    def fill(self, explored: Explored, state: SwapState) -> list[Any]:
        """See ``Tab``."""
        boxes = gr.CheckboxGroup([(spoken(name), name) for name in explored.factors], value=list(state.factors))
        return [boxes, state.blend]

    def draw(self, explored: Explored, state: SwapState, before: SwapState | None = None) -> list[Any]:
        """See ``Tab``."""
        shown = [
            row(
                tile(explored.image(picture), f"{role}: {explored.caption(picture)}"),
                output(explored, picture),
                kind="beside",
            )
            for role, picture in (("target", state.target), ("source", state.source))
        ]
        pictures = gallery(explored, [state.target, state.source], again=before is not None)
        return [*self.move(explored, state), *shown, pictures]

    def move(self, explored: Explored, state: SwapState) -> list[Any]:
        """See ``Tab``."""
        result = explored.swap(state.target, state.source, state.factors, state.blend)
        if explored.makes_images:
            return [tile(result, f"result: {_taken(state)}", "large")]
        note = f"result: {_taken(state)}; a mark is the target's own"
        return [bars(result, explored.class_names, explored.reconstruct(state.target), note=note)]

    def figure(self, explored: Explored, state: SwapState) -> Callable[[], Figure]:
        """See ``Tab``."""
        result = explored.swap(state.target, state.source, state.factors, state.blend)
        pictures = {"target": state.target, "source": state.source}
        outputs = {role: explored.reconstruct(picture) for role, picture in pictures.items()}
        if not explored.makes_images:
            outputs[f"target, {_taken(state)}"] = result
            return partial(probabilities_figure, outputs, explored.class_names)
        images = [
            explored.image(state.target),
            outputs["target"],
            result,
            outputs["source"],
            explored.image(state.source),
        ]
        captions = ["target", "target, reconstructed", f"target, {_taken(state)}", "source, reconstructed", "source"]
        panels = [Panel(explored.name, torch.stack(images)[:, None], captions, len(images))]
        return partial(contact_figure, panels)


def spoken(name: str) -> str:
    """A factor's name on the page."""
    return "residual (all else)" if name == RESIDUAL else name.replace("_", " ")


def output(explored: Explored, picture: Picture) -> str:
    """HTML of what the model makes of a picture as it is."""
    made = explored.reconstruct(picture)
    return tile(made, "reconstruction") if explored.makes_images else bars(made, explored.class_names, most=6)


def gallery(explored: Explored, chosen: Sequence[Picture], *, again: bool) -> gr.HTML:
    """The held-out images to choose from, the chosen ones marked; ``chosen_in`` says which one was clicked.

    Args:
        explored: the model.
        chosen: pictures; those that are none of the gallery are not marked.
        again: the images are there already, and marked otherwise.
    """
    places = [explored.gallery.index(one.item) if one.item in explored.gallery else None for one in chosen]
    return gr.HTML(chosen=places) if again else gr.HTML(_held_out(explored), chosen=places)


@per_model
def _held_out(explored: Explored) -> str:
    return buttons(explored.images(explored.gallery), explored.gallery_captions)


def chosen_in(explored: Explored, event: gr.EventData) -> Picture:
    """The held-out image that was clicked in a gallery.

    Raises:
        ConfigError: none was.
    """
    count = len(explored.gallery)
    place = Fields({"place": getattr(event, "place", None)}).whole("place", 0, count - 1)
    return Picture(item=explored.gallery[place])


def _picked(explored: Explored, state: SwapState, event: gr.EventData, role: str) -> SwapState:
    role = Fields({"role": role}).choice("role", ROLES)
    return _with(state, role, chosen_in(explored, event))


def _uploaded(role: str, explored: Explored, state: SwapState, _: gr.EventData, content: bytes) -> SwapState:
    return _with(state, role, uploaded(content, explored))


def _with(state: SwapState, role: str, picture: Picture) -> SwapState:
    return replace(state, target=picture) if role == "target" else replace(state, source=picture)


def _taken(state: SwapState) -> str:
    """What the result has of the source, in words."""
    names = " and ".join(map(spoken, state.factors)) or "nothing"
    return f"{names} of the source" if state.blend == 1 else f"{state.blend:.0%} {names} of the source"
