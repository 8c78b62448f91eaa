"""Map: a factor over the held-out images, near each other where it is alike (Figs. 9 and 10)."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from matplotlib.figure import Figure

from iin_lightning.errors import ConfigError, IINError
from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.fields import Fields
from iin_lightning.explorer.folders import without_folders
from iin_lightning.explorer.maps import Maps, drawing, labels
from iin_lightning.explorer.models import Models
from iin_lightning.explorer.pictures import Picture, row, tile
from iin_lightning.explorer.states import MapState, SwapState
from iin_lightning.explorer.tabs.swap import ROLES, spoken
from iin_lightning.explorer.tabs.tab import LIVE, Tab, said
from iin_lightning.plots.embed import Coloring, map_figure

if TYPE_CHECKING:
    from iin_lightning.explorer.page import Page

PLOT = """
<div class="iin-map">
  <canvas tabindex="0" role="img" aria-label="Held-out images as points; arrow keys go through them, Enter chooses one">
  </canvas>
  <figure class="iin-card" hidden><canvas></canvas><figcaption></figcaption></figure>
  <div class="iin-legend"></div>
</div>
"""
SCRIPT = (Path(__file__).parent / "map.js").read_text(encoding="utf-8")
METHODS = {"umap": "UMAP", "pca": "principal components"}
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
                methods = [(METHODS[method], method) for method in self.maps.methods]
                self.method = gr.Radio(methods, label="Placed by", elem_id="map-method")
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
        self.timer = gr.Timer(1, active=False)
        self.inputs = [self.factor, self.concept, self.method]
        self.moving = [self.plot, self.note, self.timer, self.picture, *self.buttons.values()]
        self.outputs = [*self.moving, self.sprite]

    def wire(self, page: "Page") -> None:
        """See ``Tab``."""
        asked = self.method.input(said(self._again), [page.model, *self.inputs], None, **LIVE)
        page.live([self.factor.input, self.concept.input, asked.then], self)
        page.clock(self.timer, self, self._is_made)
        page.change(self.plot.select, self, _clicked, trigger_mode="always_last")
        for role, button in self.buttons.items():
            page.change(button.click, page.tabs["swap"], partial(_used, role), [page.filled[self.name]], of=self)

    def first(self, explored: Explored) -> MapState:
        """See ``Tab``."""
        factor, *_ = [*explored.factors.concepts, *explored.factors]
        classes = explored.subject.data.classes
        concept = factor if factor in classes else next(iter(classes), "")
        return MapState(factor, concept, self.maps.methods[0])

    def read(self, explored: Explored, filled: MapState, *values: Any) -> MapState:
        """See ``Tab``."""
        shown = dict(zip(("factor", "concept", "method"), values))
        return MapState.read(Fields(vars(filled) | shown), explored)

    def fill(self, explored: Explored, state: MapState) -> list[Any]:
        """See ``Tab``."""
        factors = gr.Dropdown([(spoken(name), name) for name in explored.factors], value=state.factor)
        classes = [(spoken(name), name) for name in explored.subject.data.classes]
        method = state.method if state.method in self.maps.methods else "pca"
        return [factors, gr.Dropdown([*classes, ("nothing", "")], value=state.concept), method]

    def draw(self, explored: Explored, state: MapState, before: MapState | None = None) -> list[Any]:
        """See ``Tab``."""
        sprite = f'<img src="{self.maps.sprite(explored)}" alt="" hidden>' if before is None else gr.skip()
        return [*self.move(explored, state), sprite]

    def move(self, explored: Explored, state: MapState) -> list[Any]:
        """See ``Tab``."""
        asked = self.maps.ask(explored, state.factor, state.method)
        waits, failure = not asked.done(), asked.exception() if asked.done() else None
        shown = self.maps.ask(explored, state.factor, "pca").result() if waits or failure else asked.result()
        said = f"{shown.name} of {len(explored.some):,} held-out images; close together where the factor is alike."
        note = SOON if waits else f"{_reason(failure)}\n\n{said}" if failure else said
        plot = {**drawing(explored, shown, state.concept), "chosen": state.item}
        usable = [gr.Button(interactive=state.item is not None) for _ in ROLES]
        return [plot, note, gr.Timer(active=waits), _chosen(explored, state), *usable]

    def leave(self) -> list[Any]:
        """See ``Tab``."""
        return [gr.Timer(active=False) if output is self.timer else gr.skip() for output in self.outputs]

    def figure(self, explored: Explored, state: MapState) -> Callable[[], Figure]:
        """See ``Tab``."""
        asked = self.maps.ask(explored, state.factor, state.method)
        if not asked.done():
            raise ConfigError("UMAP is at work still: save the picture once its map is there.")
        shown = asked.result()
        coloring = Coloring(state.concept, None)
        if state.concept:
            classes = list(explored.subject.data.classes[state.concept])
            coloring = Coloring(state.concept, labels(explored, state.concept), classes)
        title = f"{explored.name}: {spoken(state.factor)}"
        return partial(map_figure, shown.points, coloring, title, shown.name)

    def _is_made(self, explored: Explored, state: MapState) -> bool:
        return self.maps.ask(explored, state.factor, state.method).done()

    def _again(self, name: str, factor: str, concept: str, method: str) -> None:
        """Who chooses UMAP after it has failed wants to see whether it fails again."""
        explored = self.models[name]
        state = self.read(explored, MapState(factor), factor, concept, method)
        self.maps.ask(explored, state.factor, state.method, again=True)


def _reason(failure: BaseException) -> str:
    """Why there is no map, in words."""
    said = str(failure) if isinstance(failure, IINError) else f"{type(failure).__name__}: {failure}"
    return f"There is no UMAP here, until you choose it anew: {without_folders(said)}"


def _chosen(explored: Explored, state: MapState) -> str:
    if state.item is None:
        return CHOOSE
    picture = Picture(item=state.item)
    return row(tile(explored.image(picture), f"image {state.item}: {explored.caption(picture)}"))


def _clicked(explored: Explored, state: MapState, event: gr.EventData) -> MapState:
    return MapState.read(Fields(vars(state) | {"item": getattr(event, "item", None)}), explored)


def _used(
    role: str, explored: Explored, state: SwapState, _: gr.EventData, of: tuple[str, MapState] | None
) -> SwapState:
    if of is None or of[0] != explored.name or of[1].item is None:
        raise ConfigError("Click a dot of the map first.")
    picture = Picture(item=of[1].item)
    return replace(state, target=picture) if role == "target" else replace(state, source=picture)
