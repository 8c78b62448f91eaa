"""Swap: a target takes factors over from a source (Figs. 2, 5, 6)."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr
import torch
from matplotlib.figure import Figure

from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.pictures import Picture
from iin_lightning.explorer.states import Fields, SwapState
from iin_lightning.explorer.tab import Tab, beside, chosen_in, edited, gallery, pick, spoken
from iin_lightning.factors import RESIDUAL
from iin_lightning.plots.charts import probabilities_figure
from iin_lightning.plots.contact import Panel, contact_figure

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
                    shown = [gr.HTML(elem_id=f"swap-{role}", min_width=90) for role in ROLES]
                    result = gr.HTML(elem_id="swap-result", min_width=160)
                factors = gr.CheckboxGroup([], label="Factors to take from the source", elem_id="swap-factors")
                blend = gr.Slider(
                    0, 1, 1, step=0.01, label="Blend, from the target's factors to the source's", elem_id="swap-blend"
                )
        self.inputs, self.moving, self.outputs = [factors, blend], [result], [result, *shown, self.gallery]

    def wire(self, tabs: Mapping[str, Tab[Any]], opened: Callable[..., Any]) -> None:
        """See ``Tab``."""
        self.live([part.input for part in self.inputs])
        self.change(self.gallery.click, _picked, [self.role])
        for role, button in self.uploads.items():
            self.change(
                button.upload,
                lambda explored, state, _, content, role=role: state.taking(role, explored.upload(content)),
                [button],
            )

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
        pictures = [state.target, state.source]
        shown = [
            beside(explored, picture, f"{role}: {explored.caption(picture)}") for role, picture in zip(ROLES, pictures)
        ]
        return [*self.move(explored, state), *shown, gallery(explored, pictures, again=before is not None)]

    def move(self, explored: Explored, state: SwapState) -> list[Any]:
        """See ``Tab``."""
        result = explored.swap(state.target, state.source, state.factors, state.blend)
        return [edited(explored, result, f"result: {_taken(state)}", state.target, "the target's own")]

    def figure(self, explored: Explored, state: SwapState) -> Callable[[], Figure]:
        """See ``Tab``."""
        target, source = (explored.reconstruct(picture) for picture in (state.target, state.source))
        result = explored.swap(state.target, state.source, state.factors, state.blend)
        taken = f"target, {_taken(state)}"
        if not explored.makes_images:
            outputs = {"target": target, "source": source, taken: result}
            return partial(probabilities_figure, outputs, explored.class_names())
        images = [explored.image(state.target), target, result, source, explored.image(state.source)]
        captions = ["target", "target, reconstructed", taken, "source, reconstructed", "source"]
        return partial(contact_figure, [Panel(explored.name, torch.stack(images)[:, None], captions, len(images))])


def _picked(explored: Explored, state: SwapState, event: gr.EventData, role: str) -> SwapState:
    role = Fields({"role": role}).choice("role", ROLES)
    return state.taking(role, chosen_in(explored, event))


def _taken(state: SwapState) -> str:
    """Say what the result has of the source."""
    names = " and ".join(map(spoken, state.factors)) or "nothing"
    return f"{names} of the source" if state.blend == 1 else f"{state.blend:.0%} {names} of the source"
