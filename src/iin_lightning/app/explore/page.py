"""The page: a header with the models, the tabs, and a bar that saves and loads what the open tab shows."""

import base64
import io
import re
import threading
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import gradio as gr

from iin_lightning.app.explore.explored import Explored
from iin_lightning.app.explore.models import Models
from iin_lightning.app.explore.saved import Loaded, from_json, from_link, to_json, to_link
from iin_lightning.app.explore.states import State
from iin_lightning.app.explore.tabs.concept import ConceptTab
from iin_lightning.app.explore.tabs.map import MapTab
from iin_lightning.app.explore.tabs.sample import SampleTab
from iin_lightning.app.explore.tabs.swap import SwapTab
from iin_lightning.app.explore.tabs.tab import LIVE, SLOW, Tab, said, warned
from iin_lightning.app.explore.tabs.walk import WalkTab
from iin_lightning.errors import ConfigError
from iin_lightning.plots.style import UNDATED, style

TABS: tuple[type[Tab[Any]], ...] = (SwapTab, WalkTab, SampleTab, MapTab, ConceptTab)
NO_LINK = "<p>With an uploaded picture this state is too long for a link: save it as JSON.</p>"
COPY = """
element.addEventListener('click', async event => {
  const button = event.target.closest('button');
  if (!button) return;
  const address = element.querySelector('a').href;
  try {
    await navigator.clipboard.writeText(address);
    button.textContent = 'Copied';
  } catch {  // browsers have a clipboard on secure pages alone
    window.prompt('Link to this state', address);
  }
});
"""
DOWNLOAD = """saved => {
  if (!saved) return;
  const link = document.createElement('a');
  [link.download, link.href] = [saved.name, saved.href];
  document.body.append(link); link.click(); link.remove();
}"""


Shown = tuple[str, State]
"""The name of a model, and the state of a tab."""

_drawing = threading.Lock()  # matplotlib's settings are those of the process


class Page:
    """The page as a whole.

    Args:
        models: that are explored on it.
        opening: the state that it opens with; None: the first tab, with the first model.

    Attributes:
        model: the drop-down with the models' names.
        blocks: what is served.
    """

    def __init__(self, models: Models, opening: Loaded | None = None) -> None:
        self.models, self.opening = models, opening
        self.tabs = {kind.name: kind(models) for kind in TABS}
        with gr.Blocks(title="iin-lightning explorer", analytics_enabled=False, delete_cache=(600, 600)) as self.blocks:
            with gr.Row(elem_id="header"):
                gr.HTML("<h1>iin-lightning</h1><p>What a network has learned, concept by concept.</p>", elem_id="title")
                self.model = gr.Dropdown(
                    list(models), value=models.first.name, label="Model", elem_id="model", filterable=False
                )
            self._card = gr.HTML(elem_id="card")
            self._shown = gr.State()
            self._last = {name: gr.State() for name in self.tabs}
            self._tabs, places = gr.Tabs(elem_id="tabs"), {}
            with self._tabs:
                for name, tab in self.tabs.items():
                    with gr.Tab(tab.title, id=name, elem_id=f"tab-{name}") as places[name]:
                        tab.build()
            with gr.Row(elem_id="bar"):
                self._link = gr.HTML(js_on_load=COPY, elem_id="state-link")
                with gr.Row(elem_id="bar-buttons"):
                    png = gr.Button("Save PNG", size="sm", elem_id="state-save-png")
                    text = gr.Button("Save JSON", size="sm", elem_id="state-save-json")
                    load = gr.UploadButton(
                        "Load JSON", size="sm", elem_id="state-load", type="binary", file_types=[".json"]
                    )
            saved = gr.JSON(visible=False)
            self._everything = everything = [self.model, self._card, self._tabs, *self._after]
            for name, tab in self.tabs.items():
                everything += [self._last[name], *tab.inputs, *tab.outputs]
            for tab in self.tabs.values():
                tab.wire(self)
            for name, place in places.items():
                tab = self.tabs[name]
                place.select(
                    warned(self._select(tab)),
                    [self.model, self._shown, self._last[name]],
                    [self._last[name], *tab.inputs, *tab.outputs, *self._after],
                    **(SLOW | {"show_progress": "minimal", "show_progress_on": tab.moving}),
                )
            self.blocks.load(warned(self._open), None, everything, **SLOW)
            load.upload(warned(self._load), [load, self.model], everything, **SLOW)
            self.model.input(warned(self._choose), [self.model, self._shown], everything, **SLOW)
            png.click(said(self._png), self._shown, saved, **SLOW).success(None, saved, None, js=DOWNLOAD)
            text.click(said(self._json), self._shown, saved, **SLOW).success(None, saved, None, js=DOWNLOAD)

    def tab(self, name: str) -> Tab[Any]:
        """A tab by its name."""
        return self.tabs[name]

    def live(self, listeners: Sequence[Callable[..., Any]], tab: Tab[Any], *, whole: bool = False) -> None:
        """Draw a tab anew as often as one of its inputs changes.

        Args:
            listeners: events of its inputs, such as ``slider.input``.
            tab: of them.
            whole: all its outputs, not the moving ones alone.
        """

        def draw(name: str, shown: Shown | None, *values: Any) -> list[Any]:
            explored = self.models[name]
            state = tab.read(explored, *values)
            drawn = (tab.draw if whole else tab.move)(explored, state)
            # A clock may go on in a tab that is not open.
            hidden = shown is not None and shown[1].tab != tab.name
            after = [gr.skip()] * len(self._after) if hidden else self._show(explored, state)
            return [*drawn, (name, state), *after]

        outputs = [*(tab.outputs if whole else tab.moving), self._last[tab.name], *self._after]
        for listener in listeners:
            listener(said(draw), [self.model, self._shown, *tab.inputs], outputs, **LIVE)

    def change(
        self,
        listener: Callable[..., Any],
        tab: Tab[Any],
        to: Callable[..., State],
        also: Sequence[gr.components.Component] = (),
        *,
        of: Tab[Any] | None = None,
        **how: Any,
    ) -> None:
        """Bring a tab into another state when something happens.

        Args:
            listener: the event, such as ``button.click``.
            tab: that is changed.
            to: explored, the tab's state, what the event says (``gr.EventData``) and the values of ``also`` -> the new
                state.
            also: components that the new state depends on.
            of: the tab to open then, where the event is one of another tab.
            **how: of the event.
        """
        here, count = [self._last[tab.name], *tab.inputs], len(tab.inputs)

        def changed(event: gr.EventData, name: str, last: Shown | None, *values: Any) -> list[Any]:
            explored = self.models[name]
            state = tab.read(explored, *values[:count]) if _is_of(last, name) else tab.first(explored)
            state = to(explored, state, event, *values[count:])
            opened = [] if of is None else [gr.Tabs(selected=tab.name)]
            return [*opened, (name, state), *self._filled(tab, explored, state), *self._show(explored, state)]

        outputs = [*([] if of is None else [self._tabs]), *here, *tab.outputs, *self._after]
        listener(warned(changed), [self.model, *here, *also], outputs, **(SLOW | how))

    def open(self, listener: Callable[..., Any], to: Callable[[], Loaded]) -> None:
        """Open a model and a state of a tab when something happens.

        Args:
            listener: the event, such as ``button.click``.
            to: -> the model and the state.
        """
        listener(warned(lambda: self._opened(to())), None, self._everything, **SLOW)

    @property
    def _after(self) -> list[gr.components.Component]:
        """What every event that shows something changes, too."""
        return [self._shown, self._link]

    def _show(self, explored: Explored, state: State) -> list[Any]:
        link = to_link(explored, state)
        said = f'<a href="{link}">Link to this state</a><button type="button">Copy</button>' if link else NO_LINK
        return [(explored.name, state), said]

    def _filled(self, tab: Tab[Any], explored: Explored, state: State) -> list[Any]:
        return [*tab.fill(explored, state), *tab.draw(explored, state)]

    def _select(self, tab: Tab[Any]) -> Callable[..., Any]:
        def select(name: str, shown: Shown | None, last: Shown | None) -> Any:
            if shown is None:  # a tab is selected before the page has been opened, which fills it
                return gr.skip()
            explored = self.models[name]
            if last is not None and _is_of(last, name):
                return [*[gr.skip()] * (1 + len(tab.inputs) + len(tab.outputs)), *self._show(explored, last[1])]
            state = tab.first(explored)
            return [(name, state), *self._filled(tab, explored, state), *self._show(explored, state)]

        return select

    def _open(self, request: gr.Request) -> list[Any]:
        packed = request.query_params.get("state")
        if packed:
            try:
                return self._opened(from_json(from_link(packed), self.models, self.models.first.name))
            except ConfigError as error:
                gr.Warning(escape(f"{error} The page opens with its first state."))
        if self.opening is not None:
            return self._opened(self.opening)
        first = self.models.first
        return self._opened(Loaded(first, next(iter(self.tabs.values())).first(first)))

    def _load(self, content: bytes, name: str) -> list[Any]:
        return self._opened(from_json(content, self.models, name))

    def _choose(self, name: str, shown: Shown | None) -> list[Any]:
        explored = self.models[name]
        tab = self.tabs[shown[1].tab if shown else next(iter(self.tabs))]
        return self._opened(Loaded(explored, tab.first(explored)))

    def _opened(self, loaded: Loaded) -> list[Any]:
        """The values of everything: the tab of the state is filled, the others will be once they are selected."""
        explored, state = loaded.explored, loaded.state
        if loaded.warning:
            gr.Warning(escape(loaded.warning))
        values = [
            gr.Dropdown(list(self.models), value=explored.name),
            f"<p>{escape(explored.card)}</p>",
            gr.Tabs(selected=state.tab),
            *self._show(explored, state),
        ]
        for name, tab in self.tabs.items():
            if name == state.tab:
                values += [(explored.name, state), *self._filled(tab, explored, state)]
            else:
                values += [None, *[gr.skip()] * (len(tab.inputs) + len(tab.outputs))]
        return values

    def _png(self, shown: Shown) -> dict[str, str]:
        explored, state = self.models[shown[0]], shown[1]
        return _download(explored, state, "png", "image/png", png_of(self.tabs[state.tab], explored, state))

    def _json(self, shown: Shown) -> dict[str, str]:
        explored, state = self.models[shown[0]], shown[1]
        return _download(explored, state, "json", "application/json", to_json(explored, state).encode())


def _is_of(last: Shown | None, model: str) -> bool:
    return last is not None and last[0] == model


def png_of(tab: Tab[Any], explored: Explored, state: State) -> bytes:
    """The PNG of a state: the same bytes for the same state."""
    buffer = io.BytesIO()
    with _drawing, style():
        figure = tab.figure(explored, state)
        figure.savefig(buffer, format="png", bbox_inches="tight", pad_inches=0.04, metadata=UNDATED[".png"])
    return buffer.getvalue()


def _download(explored: Explored, state: State, suffix: str, kind: str, content: bytes) -> dict[str, str]:
    name = re.sub(r"\W+", "-", explored.name).strip("-")
    return {"name": f"{name}_{state.tab}.{suffix}", "href": f"data:{kind};base64,{base64.b64encode(content).decode()}"}
