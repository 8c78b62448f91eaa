"""The page: a header with the models, the tabs, and a bar that saves and loads what the open tab shows."""

import base64
import io
import re
import threading
from collections.abc import Callable
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from iin_lightning.errors import ConfigError
from iin_lightning.explorer.concept import ConceptTab
from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.map import MapTab
from iin_lightning.explorer.models import Models
from iin_lightning.explorer.sample import SampleTab
from iin_lightning.explorer.saved import Loaded, from_json, to_json, unpack
from iin_lightning.explorer.states import State
from iin_lightning.explorer.swap import SwapTab
from iin_lightning.explorer.tab import SLEPT, SLOW, UNFILLED, Shared, Shown, Tab, warned
from iin_lightning.explorer.walk import WalkTab
from iin_lightning.plots.style import UNDATED, style

TABS: tuple[type[Tab[Any]], ...] = (SwapTab, WalkTab, SampleTab, MapTab, ConceptTab)
COPY = (Path(__file__).parent / "copy.js").read_text(encoding="utf-8")
DOWNLOAD = """saved => {
  if (!saved) return;
  const link = document.createElement('a');
  [link.download, link.href] = [saved.name, saved.href];
  document.body.append(link); link.click(); link.remove();
}"""

_drawing = threading.Lock()  # matplotlib's settings are those of the process


class Page:
    """The page as a whole.

    Args:
        models: that are explored on it.
        opening: the state that it opens with; None: that of the first tab, with the first model.

    Attributes:
        tabs: by their names.
        blocks: what is served.
    """

    def __init__(self, models: Models, opening: Loaded | None = None) -> None:
        self.models, self.opening = models, opening
        self.tabs: dict[str, Tab[Any]] = {}
        with gr.Blocks(title="iin-lightning explorer", analytics_enabled=False, delete_cache=(600, 600)) as self.blocks:
            with gr.Row(elem_id="header"):
                gr.HTML("<h1>iin-lightning</h1><p>What a network has learned, concept by concept.</p>", elem_id="title")
                model = gr.Dropdown(
                    list(models), value=models.first.name, label="Model", elem_id="model", filterable=False
                )
            card = gr.HTML(elem_id="card")
            # States are of each session; gradio deletes them an hour after they were set, if the browser was away.
            shown, link = gr.State(), gr.HTML(js_on_load=COPY, elem_id="state-link", render=False)
            with gr.Tabs(elem_id="tabs") as tabs:
                shared, places = Shared(model, shown, link, tabs), {}
                for kind in TABS:
                    with gr.Tab(kind.title, id=kind.name, elem_id=f"tab-{kind.name}") as places[kind.name]:
                        self.tabs[kind.name] = kind(models, shared)
            with gr.Row(elem_id="bar"):
                link.render()
                with gr.Row(elem_id="bar-buttons"):
                    png = gr.Button("Save PNG", size="sm", elem_id="state-save-png")
                    text = gr.Button("Save JSON", size="sm", elem_id="state-save-json")
                    load = gr.UploadButton(
                        "Load JSON", size="sm", elem_id="state-load", type="binary", file_types=[".json"]
                    )
            saved = gr.JSON(visible=False)
            parts = [part for tab in self.tabs.values() for part in tab.parts]
            self._everything = [model, card, tabs, shown, link, *parts]
            for name, tab in self.tabs.items():
                tab.wire(self.tabs, self.opened)
                for part in (model, *tab.inputs):
                    if hasattr(part, "choices"):  # gradio forgets new ones, and would refuse what ``read`` looks at
                        part.preprocess = lambda payload: payload
                places[name].select(
                    warned(self._select(tab)),
                    [model, shown, tab.filled, *tab.inputs],
                    [model, *tab.parts, shown, link],
                    **(SLOW | {"show_progress": "minimal", "show_progress_on": tab.moving}),
                )
            self.opened(self.blocks.load, self._first)
            self.opened(load.upload, lambda content, name: from_json(content, models, name), [load, model])
            self.opened(model.input, self._chosen, [model, shown])
            for button, save in ((png, self._png), (text, self._json)):
                saving = button.click(warned(save, clear=True), shown, saved, **SLOW)
                saving.success(None, saved, None, js=DOWNLOAD)

    def opened(self, listener: Callable[..., Any], to: Callable[..., Loaded], also: list[Any] | None = None) -> None:
        """Open a model and a state of a tab when something happens; they may depend on the values of components.

        The tab of the state is filled, the others will be once they are selected.
        """

        @wraps(to)  # gradio gives what a function's arguments are annotated with, such as the request
        def fill(*values: Any) -> list[Any]:
            explored, state, warning = to(*values)
            if warning:
                gr.Warning(escape(warning))
            parts: list[Any] = []
            for name, tab in self.tabs.items():
                if name == state.tab:
                    *filled, shown, link = tab.whole(explored, state)
                    parts += filled
                else:
                    parts += [None, gr.Column(elem_classes=UNFILLED), *[gr.skip()] * (len(tab.parts) - 2)]
            names = gr.Dropdown(list(self.models), value=explored.name)
            return [names, f"<p>{escape(explored.card)}</p>", gr.Tabs(selected=state.tab), shown, link, *parts]

        listener(warned(fill), also, self._everything, **SLOW)

    def _select(self, tab: Tab[Any]) -> Callable[..., Any]:
        def select(name: str, shown: Shown | None, filled: Shown | None, *values: Any) -> Any:
            if shown is None and tab.name == next(iter(self.tabs)):  # browsers select it before the page is opened
                return gr.skip()
            explored, names = self.models[name], gr.Dropdown(choices=list(self.models))
            if filled is None or filled[0] != name:
                return [names, *tab.whole(explored, tab.first(explored))]
            state, kept = tab.read(explored, filled[1], *values), [gr.skip()] * (2 + len(tab.inputs))
            return [names, *kept, *tab.refresh(), *tab.show(explored, state)]

        return select

    def _first(self, request: gr.Request) -> Loaded:
        packed = request.query_params.get("state")
        if packed:
            try:
                return from_json(unpack(packed), self.models, self.models.first.name)
            except ConfigError as error:
                gr.Warning(escape(f"{error} The page opens with its first state."))
        return self.opening or self._chosen(self.models.first.name, None)

    def _chosen(self, name: str, shown: Shown | None) -> Loaded:
        explored = self.models[name]
        tab = self.tabs[shown[1].tab if shown else next(iter(self.tabs))]
        return Loaded(explored, tab.first(explored))

    def _png(self, shown: Shown | None) -> dict[str, str]:
        explored, state = self._saved(shown)
        return _file(explored, state, "png", "image/png", png_of(self.tabs[state.tab], explored, state))

    def _json(self, shown: Shown | None) -> dict[str, str]:
        explored, state = self._saved(shown)
        return _file(explored, state, "json", "application/json", to_json(explored, state).encode())

    def _saved(self, shown: Shown | None) -> tuple[Explored, State]:
        if shown is None:
            raise ConfigError(SLEPT)
        return self.models[shown[0]], shown[1]


def png_of(tab: Tab[Any], explored: Explored, state: State) -> bytes:
    """Return the PNG of a state: the same bytes for the same state."""
    buffer = io.BytesIO()
    draw = tab.figure(explored, state)
    with _drawing, style():
        draw().savefig(buffer, format="png", bbox_inches="tight", pad_inches=0.04, metadata=UNDATED[".png"])
    return buffer.getvalue()


def _file(explored: Explored, state: State, suffix: str, kind: str, content: bytes) -> dict[str, str]:
    """Return a file of a state for ``DOWNLOAD``: its name, and its content as an address."""
    name = re.sub(r"\W+", "-", explored.name).strip("-")
    return {"name": f"{name}_{state.tab}.{suffix}", "href": f"data:{kind};base64,{base64.b64encode(content).decode()}"}
