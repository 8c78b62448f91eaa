"""Map: a factor over the held-out images, near each other where it is alike (Figs. 9 and 10)."""

from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr
from matplotlib.figure import Figure

from iin_lightning.app.explore.explored import Explored
from iin_lightning.app.explore.fields import Fields
from iin_lightning.app.explore.maps import Map, Maps, drawing, labels
from iin_lightning.app.explore.models import Models
from iin_lightning.app.explore.pictures import Picture, row, tile
from iin_lightning.app.explore.states import MapState, SwapState
from iin_lightning.app.explore.tabs.swap import ROLES, spoken
from iin_lightning.app.explore.tabs.tab import LIVE, Tab, said
from iin_lightning.errors import ConfigError
from iin_lightning.plots.embed import Coloring, map_figure

PLOT = """
<div class="iin-map">
  <canvas tabindex="0" role="img" aria-label="Held-out images as points; arrow keys go through them, Enter chooses one">
  </canvas>
  <figure class="iin-card" hidden><canvas></canvas><figcaption></figcaption></figure>
  <div class="iin-legend"></div>
</div>
"""
SCRIPT = (Path(__file__).parent / "map.js").read_text()
METHODS = [("UMAP", "umap"), ("principal components", "pca")]
SOON = "UMAP is at work, which takes up to a minute the first time; until then you see the principal components."
CHOOSE = "<p>Point at a dot to see its image; click it to use it.</p>"


class MapTab(Tab[MapState]):
    """A factor, what colours it, and the image that was clicked."""

    title, name = "Map", "map"

    def __init__(self, models: Models) -> None:
        super().__init__(models)
        self.maps = Maps()

    def build(self) -> None:
        """See ``Tab``."""
        with gr.Row(elem_classes="iin-panes"):
            with gr.Column(scale=1, min_width=240, elem_id="map-left"):
                self.factor = gr.Dropdown([], label="Factor", elem_id="map-factor", filterable=False)
                self.concept = gr.Dropdown([], label="Coloured by", elem_id="map-concept", filterable=False)
                self.method = gr.Radio(METHODS, label="Placed by", elem_id="map-method")
                self.note = gr.Markdown(elem_id="map-note")
                self.picture = gr.HTML(elem_id="map-chosen")
                with gr.Row(elem_id="map-uses"):
                    self.buttons = {
                        role: gr.Button(f"Use as {role}", size="sm", elem_id=f"map-{role}", min_width=100)
                        for role in ROLES
                    }
            with gr.Column(scale=3, min_width=300, elem_id="map-right"):
                self.plot = gr.HTML(html_template=PLOT, js_on_load=SCRIPT, elem_id="map-plot")
                self.sprite = gr.HTML(elem_id="map-sprite")
        self.item = gr.State()
        self.timer = gr.Timer(1, active=False)
        self.inputs = [self.factor, self.concept, self.method, self.item]
        self.moving = [self.plot, self.note, self.timer, self.picture, *self.buttons.values()]
        self.outputs = [*self.moving, self.sprite]

    def wire(self, page: Any) -> None:
        """See ``Tab``."""
        page.live([self.factor.input, self.concept.input, self.method.input], self)
        page.live([self.timer.tick], self)
        page.live([self.plot.select(said(_clicked), None, self.item, **LIVE).then], self)
        for role, button in self.buttons.items():
            page.change(button.click, page.tab("swap"), partial(_used, role), [self.item], of=self)

    def first(self, explored: Explored) -> MapState:
        """See ``Tab``."""
        factor, *_ = [*explored.factors.concepts, *explored.factors]
        classes = explored.subject.data.classes
        concept = factor if factor in classes else next(iter(classes), "")
        return MapState(factor, concept, "umap" if find_spec("umap") is not None else "pca")

    def read(self, explored: Explored, *values: Any) -> MapState:
        """See ``Tab``."""
        return MapState.read(Fields(dict(zip(("factor", "concept", "method", "item"), values))), explored)

    def fill(self, explored: Explored, state: MapState) -> list[Any]:
        """See ``Tab``."""
        factors = gr.Dropdown([(spoken(name), name) for name in explored.factors], value=state.factor)
        classes = [(spoken(name), name) for name in explored.subject.data.classes]
        return [factors, gr.Dropdown([*classes, ("nothing", "")], value=state.concept), state.method, state.item]

    def draw(self, explored: Explored, state: MapState) -> list[Any]:
        """See ``Tab``."""
        sheet = self.maps.sprite(explored)
        return [*self.move(explored, state), f'<img src="{sheet}" alt="" hidden>']

    def move(self, explored: Explored, state: MapState) -> list[Any]:
        """See ``Tab``."""
        asked = self.maps.ask(explored, state.factor, state.method)
        waits = not asked.done()
        shown = self.maps.ask(explored, state.factor, "pca").result() if waits else asked.result()
        note = SOON if waits else f"{_said(shown, explored)}; close together where the factor is alike."
        plot = {**drawing(explored, shown, state.concept), "chosen": state.item}
        usable = [gr.Button(interactive=state.item is not None) for _ in ROLES]
        return [plot, note, gr.Timer(active=waits), _chosen(explored, state), *usable]

    def figure(self, explored: Explored, state: MapState) -> Figure:
        """See ``Tab``."""
        shown = self.maps.ask(explored, state.factor, state.method).result()
        coloring = Coloring(state.concept, None)
        if state.concept:
            classes = list(explored.subject.data.classes[state.concept])
            coloring = Coloring(state.concept, labels(explored, state.concept), classes)
        title = f"{explored.name}: {spoken(state.factor)}"
        return map_figure(shown.points, coloring, title, shown.name)


def _said(shown: Map, explored: Explored) -> str:
    return f"{shown.name} of {len(explored.some):,} held-out images"


def _chosen(explored: Explored, state: MapState) -> str:
    if state.item is None:
        return CHOOSE
    picture = Picture(item=state.item)
    return row(tile(explored.image(picture), f"image {state.item}: {explored.caption(picture)}"))


def _clicked(event: gr.EventData) -> Any:
    return getattr(event, "item", None)


def _used(role: str, explored: Explored, state: SwapState, _: gr.EventData, item: Any) -> SwapState:
    if item is None:
        raise ConfigError("Click a dot of the map first.")
    picture = Fields({"picture": {"item": item}}).picture("picture", explored)
    return replace(state, target=picture) if role == "target" else replace(state, source=picture)
