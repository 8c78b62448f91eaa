"""Map: a factor over the held-out images, near each other where it is alike (Figs. 9 and 10).

Symbols: z̃_k (n, N_k) is one factor of n held-out images.
"""

import base64
import io
import math
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

from iin_lightning.analysis.embed import fit_embedding
from iin_lightning.errors import ConfigError, MissingExtraError
from iin_lightning.explorer.computing import Map, alone, embed_in_a_process, once
from iin_lightning.explorer.explored import CHUNK, Explored
from iin_lightning.explorer.pictures import Picture, to_pixels
from iin_lightning.explorer.states import Fields, MapState, SwapState
from iin_lightning.explorer.swap import ROLES
from iin_lightning.explorer.tab import LIVE, Shown, Tab, row, sentence, spoken, tile
from iin_lightning.plots.embed import CLASS_COLORS, UNKNOWN, Coloring, map_figure
from iin_lightning.seeding import FIXED, generator

CELL = 32  # pixels: the side of a thumbnail
METHODS = {"umap": "UMAP", "pca": "principal components"}
SOON = "UMAP is at work, which takes up to a minute the first time; until then you see the principal components."
CHOOSE = "<p>Point at a dot to see its image; click it to use it.</p>"
SCRIPT = (Path(__file__).parent / "map.js").read_text(encoding="utf-8")
PLOT = """
<div class="iin-map">
  <canvas tabindex="0" role="img" aria-label="Held-out images as points; arrow keys go through them, Enter chooses one">
  </canvas>
  <figure class="iin-card" hidden><canvas></canvas><figcaption></figcaption></figure>
  <div class="iin-legend"></div>
</div>
"""

_turn = threading.Lock()  # of UMAP


class MapTab(Tab[MapState]):
    """A factor, what colours it, and the image that was clicked."""

    title, name = "Map", "map"

    def build(self) -> None:
        """See ``Tab``."""
        self.methods = list(METHODS) if has_umap() else ["pca"]
        with gr.Row(elem_classes="iin-panes"):
            with gr.Column(scale=1, min_width=240, elem_id="map-left"):
                factor = gr.Dropdown([], label="Factor", elem_id="map-factor", filterable=False)
                concept = gr.Dropdown([], label="Coloured by", elem_id="map-concept", filterable=False)
                methods = [(METHODS[method], method) for method in self.methods]
                method = gr.Radio(methods, label="Placed by", elem_id="map-method")
                note = gr.Markdown(elem_id="map-note")
                picture = gr.HTML(elem_id="map-chosen")
                with gr.Row(elem_id="map-uses"):
                    self.buttons = {
                        role: gr.Button(f"Use as {role}", size="sm", elem_id=f"map-{role}", min_width=100)
                        for role in ROLES
                    }
            with gr.Column(scale=3, min_width=300, elem_id="map-right"):
                self.plot = gr.HTML(html_template=PLOT, js_on_load=SCRIPT, elem_id="map-plot")
                thumbnails = gr.HTML(elem_id="map-sprite")
        self.timer = gr.Timer(1, active=False)
        self.inputs = [factor, concept, method]
        self.moving = [self.plot, note, self.timer, picture, *self.buttons.values()]
        self.outputs = [*self.moving, thumbnails]

    def wire(self, tabs: Mapping[str, Tab[Any]], opened: Callable[..., Any]) -> None:
        """See ``Tab``."""
        self.live([part.input for part in self.inputs])
        self.timer.tick(self._tick, [self.shared.model, self.filled, *self.inputs], self.moving, **LIVE)
        self.change(self.plot.select, _clicked)
        for role, button in self.buttons.items():
            tabs["swap"].change(button.click, partial(_used, role), [self.filled], opens=True)

    def first(self, explored: Explored) -> MapState:
        """See ``Tab``."""
        factor, *_ = [*explored.factors.concepts, *explored.factors]
        classes = explored.data.classes
        return MapState(factor, factor if factor in classes else next(iter(classes), ""), self.methods[0])

    def read(self, explored: Explored, filled: MapState, *values: Any) -> MapState:
        """See ``Tab``."""
        shown = dict(zip(("factor", "concept", "method"), values))
        return MapState.read(Fields(vars(filled) | shown), explored)

    def fill(self, explored: Explored, state: MapState) -> list[Any]:
        """See ``Tab``."""
        factors = gr.Dropdown([(spoken(name), name) for name in explored.factors], value=state.factor)
        classes = [(spoken(name), name) for name in explored.data.classes]
        method = state.method if state.method in self.methods else "pca"
        return [factors, gr.Dropdown([*classes, ("nothing", "")], value=state.concept), method]

    def draw(self, explored: Explored, state: MapState, before: MapState | None = None) -> list[Any]:
        """See ``Tab``."""
        images = f'<img src="{sprite(explored)}" alt="" hidden>' if before is None else gr.skip()
        return [*self.move(explored, state), images]

    def move(self, explored: Explored, state: MapState) -> list[Any]:
        """See ``Tab``."""
        asked = ask(explored, state)
        waits, failure = not asked.done(), asked.exception() if asked.done() else None
        shown = principal_map(explored, state.factor) if waits or failure else asked.result()
        note = f"{shown.name} of {len(explored.some):,} held-out images; close together where the factor is alike."
        if failure:
            note = f"UMAP cannot be shown here: {sentence(failure)}\n\n{note}"
        plot = {**drawing(explored, shown, state.concept), "chosen": state.item}
        usable = [gr.Button(interactive=state.item is not None) for _ in ROLES]
        return [plot, SOON if waits else note, gr.Timer(active=waits), _chosen(explored, state), *usable]

    def figure(self, explored: Explored, state: MapState) -> Callable[[], Figure]:
        """See ``Tab``."""
        asked = ask(explored, state)
        if not asked.done():
            raise ConfigError("UMAP is at work still: save the picture once its map is drawn.")
        shown, coloring = asked.result(), Coloring(state.concept, None)
        if state.concept:
            classes = list(explored.data.classes[state.concept])
            coloring = Coloring(state.concept, labels(explored, state.concept), classes)
        return partial(map_figure, shown.points, coloring, f"{explored.name}: {spoken(state.factor)}", shown.name)

    def _tick(self, name: str, filled: Shown | None, *values: Any) -> Any:
        """Draw once UMAP is done; stop the clock where the tab shows another model, or nothing can be drawn."""
        with suppress(Exception):  # else it would be said every second; who does something next is told
            if filled is not None and filled[0] == name and isinstance(filled[1], MapState):
                state = self.read(self.models[name], filled[1], *values)
                return self.move(self.models[name], state) if ask(self.models[name], state).done() else gr.skip()
        return [gr.Timer(active=False) if output is self.timer else gr.skip() for output in self.moving]


def _chosen(explored: Explored, state: MapState) -> str:
    if state.item is None:
        return CHOOSE
    picture = Picture(item=state.item)
    return row(tile(explored.image(picture), f"image {state.item}: {explored.caption(picture)}"))


def _clicked(explored: Explored, state: MapState, event: gr.EventData) -> MapState:
    return MapState.read(Fields(vars(state) | {"item": getattr(event, "item", None)}), explored)


def _used(role: str, explored: Explored, state: SwapState, _: gr.EventData, of: Shown | None) -> SwapState:
    item = of[1].item if of is not None and of[0] == explored.name and isinstance(of[1], MapState) else None
    if item is None:
        raise ConfigError("Click a dot of the map first.")
    return state.taking(role, Picture(item=item))


def has_umap() -> bool:
    """Say whether umap-learn is installed; its import would take seconds, and another package is called umap, too."""
    try:
        version("umap-learn")
    except PackageNotFoundError:
        return False
    return True


def ask(explored: Explored, state: MapState) -> "Future[Map]":
    """Return the promise of a map: principal components come at once, UMAP takes some seconds."""
    if state.method == "umap":
        return umap(explored, state.factor)
    promise: Future[Map] = Future()
    promise.set_result(principal_map(explored, state.factor))
    return promise


@once
def principal_map(explored: Explored, factor: str) -> Map:
    """Return the first two principal components of a factor; of a factor (n, 1) its value and a random height."""
    z_tilde_k = explored.factors.split(explored.translated())[factor]
    if z_tilde_k.shape[1] > 1:
        return _components(z_tilde_k)
    heights = torch.rand(len(z_tilde_k), 1, generator=generator(FIXED, "heights of a map"))
    return Map(torch.cat([z_tilde_k, heights], 1), "Value and random height (the factor has one dimension)")


@alone
def _components(z_tilde_k: Tensor) -> Map:
    embedding = fit_embedding(z_tilde_k, 2, "pca")
    return Map(embedding.points, embedding.name)


@once
def umap(explored: Explored, factor: str) -> "Future[Map]":
    """Return the promise of UMAP's map of a factor, one after the other; what fails stays so until the server ends."""
    promise: Future[Map] = Future()

    def make() -> None:
        try:
            z_tilde_k = explored.factors.split(explored.translated())[factor]
            with _turn:
                promise.set_result(embed_in_a_process(z_tilde_k, "umap"))
        except BaseException as error:
            promise.set_exception(error)

    if has_umap():  # in no thread of a pool, for which the program would wait at its end
        threading.Thread(target=make, daemon=True).start()
    else:
        promise.set_exception(MissingExtraError("umap-learn", "embed", "UMAP"))
    return promise


@once
def sprite(explored: Explored) -> str:
    """Return thumbnails of ``Explored.some``, row by row in a square picture, as a data URI."""
    items = [explored.some[i : i + CHUNK] for i in range(0, len(explored.some), CHUNK)]
    pixels = torch.cat([_small(explored, chunk) for chunk in items])
    across = math.ceil(math.sqrt(len(pixels)))
    rows = -(-len(pixels) // across)
    sheet = torch.zeros(rows * across, *pixels.shape[1:], dtype=torch.uint8)
    sheet[: len(pixels)] = pixels
    sheet = sheet.view(rows, across, 3, CELL, CELL).permute(0, 3, 1, 4, 2).reshape(rows * CELL, across * CELL, 3)
    buffer = io.BytesIO()
    Image.fromarray(sheet.numpy()).save(buffer, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@alone
def _small(explored: Explored, items: list[int]) -> Tensor:
    """Return thumbnails (n, 3, CELL, CELL) of held-out images."""
    images = explored.images(items)
    longest = max(images.shape[-2:])
    images = interpolate(images, [max(1, round(side * CELL / longest)) for side in images.shape[-2:]], mode="area")
    height, width = images.shape[-2:]
    top, left = (CELL - height) // 2, (CELL - width) // 2
    images = pad(images, (left, CELL - width - left, top, CELL - height - top), value=1.0)
    return to_pixels(images).expand(-1, 3, -1, -1)


def drawing(explored: Explored, shown: Map, concept: str) -> dict[str, Any]:
    """Return a map, coloured by the classes of a concept ("": by none), as plain values for the script of the page.

    ``points`` [x, y] lie in [0, 1], upwards; of ``classes`` -1 is unknown, and its color the last; ``across`` and
    ``cell`` are those of the sheet of thumbnails.
    """
    low, high = shown.points.amin(0), shown.points.amax(0)
    points = (shown.points - low) / (high - low).clamp(min=1e-9)
    names = list(explored.data.classes[concept]) if concept else []
    colors = [CLASS_COLORS[i % len(CLASS_COLORS)] for i in range(len(names))]
    return {
        "points": [[round(x, 4), round(y, 4)] for x, y in points.tolist()],
        "items": explored.some,
        "classes": labels(explored, concept).tolist(),
        "names": names,
        "concept": concept,
        "colors": [*colors, UNKNOWN if concept else "#7d8590"],
        "across": math.ceil(math.sqrt(len(points))),
        "cell": CELL,
    }


def labels(explored: Explored, concept: str) -> Tensor:
    """Return the classes (n,) of ``Explored.some``, -1 where they are not known, or the concept is ""."""
    if concept not in explored.source.concepts:
        return torch.full((len(explored.some),), -1)
    return explored.source.labels[explored.some, explored.source.concepts.index(concept)].cpu()
