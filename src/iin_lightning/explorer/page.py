"""The page: a header with the models, the tabs, and a bar that saves and loads what the open tab shows."""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from html import escape
from typing import Any

import gradio as gr

from iin_lightning.errors import ConfigError, IINError
from iin_lightning.explorer.downloads import COPY, DOWNLOAD, download, png_of
from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.models import Models
from iin_lightning.explorer.saved import Loaded, from_json, from_link, to_json, to_link
from iin_lightning.explorer.states import State
from iin_lightning.explorer.tabs.concept import ConceptTab
from iin_lightning.explorer.tabs.map import MapTab
from iin_lightning.explorer.tabs.sample import SampleTab
from iin_lightning.explorer.tabs.swap import SwapTab
from iin_lightning.explorer.tabs.tab import LIVE, SLOW, Tab, said, sentence, warned
from iin_lightning.explorer.tabs.walk import WalkTab

TABS: tuple[type[Tab[Any]], ...] = (SwapTab, WalkTab, SampleTab, MapTab, ConceptTab)
NO_LINK = "<p>With its drawn or uploaded pictures this state is too long for a link: save it as JSON.</p>"
UNFILLED = ["iin-unfilled"]  # classes of a tab: what is typed before it is filled would be overwritten
SLEPT = "This page has slept, and has forgotten what it showed: reload it."

log = logging.getLogger(__name__)

Shown = tuple[str, State]
"""The name of a model, and the state of a tab."""


class Page:
    """The page as a whole.

    Args:
        models: that are explored on it.
        opening: the state that it opens with; None: the first tab, with the first model.

    Attributes:
        model: the drop-down with the models' names.
        tabs: by their names.
        filled: of each tab the state that it was last filled with: what no component shows is read from it.
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
            # Of each session: the state that is shown, and of each tab the one that it was filled with and the one that
            # it has come to by sliders since; these are two, as a slider may move while a tab is filled. Gradio deletes
            # each an hour after it was set last, where the browser was away for a moment.
            self._shown = gr.State()
            self.filled, self._last = ({name: gr.State() for name in self.tabs} for _ in range(2))
            self._tabs, places = gr.Tabs(elem_id="tabs"), {}
            self._veils: dict[str, gr.Column] = {}
            with self._tabs:
                for name, tab in self.tabs.items():
                    with (
                        gr.Tab(tab.title, id=name, elem_id=f"tab-{name}") as places[name],
                        gr.Column(elem_classes=UNFILLED) as self._veils[name],
                    ):
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
            for tab in self.tabs.values():
                everything += self._parts(tab)
            for tab in self.tabs.values():
                tab.wire(self)
                for part in (self.model, *tab.inputs):
                    if hasattr(part, "choices"):  # gradio forgets them, too, and would refuse what ``read`` looks at
                        part.preprocess = lambda payload: payload  # type: ignore[method-assign]
            for name, place in places.items():
                tab = self.tabs[name]
                place.select(
                    warned(self._select(tab)),
                    [self.model, self._shown, self.filled[name], self._last[name]],
                    [self.model, *self._parts(tab), *self._after],
                    **(SLOW | {"show_progress": "minimal", "show_progress_on": tab.moving}),
                )
            self.blocks.load(warned(self._open), None, everything, **SLOW)
            load.upload(warned(self._load), [load, self.model], everything, **SLOW)
            self.model.input(warned(self._choose), [self.model, self._shown], everything, **SLOW)
            png.click(said(self._png), self._shown, saved, **SLOW).success(None, saved, None, js=DOWNLOAD)
            text.click(said(self._json), self._shown, saved, **SLOW).success(None, saved, None, js=DOWNLOAD)

    def live(self, listeners: Sequence[Callable[..., Any]], tab: Tab[Any], *, whole: bool = False) -> None:
        """Draw a tab anew as often as one of its inputs changes.

        Args:
            listeners: events of its inputs, such as ``slider.input``.
            tab: of them.
            whole: all its outputs, not the moving ones alone.
        """
        inputs = [self.model, self._shown, self.filled[tab.name], self._last[tab.name], *tab.inputs]
        outputs = [*(tab.outputs if whole else tab.moving), self._last[tab.name], *self._after]

        def draw(name: str, shown: Shown | None, filled: Shown | None, last: Shown | None, *values: Any) -> Any:
            explored, known = self.models[name], filled or last
            if known is None:
                raise ConfigError(SLEPT)
            if known[0] != name:  # another model has been chosen, and the tab will be filled anew
                return gr.skip()
            state = tab.read(explored, known[1], *values)
            drawn = (tab.draw if whole else tab.move)(explored, state)
            # What happens in a tab that has been left meanwhile is not what is saved.
            hidden = shown is not None and shown[1].tab != tab.name
            after = [gr.skip()] * len(self._after) if hidden else self._show(explored, state)
            return [*drawn, (name, state), *after]

        def answer(*values: Any) -> Any:
            try:
                return draw(*values)
            except IINError as error:
                reason = sentence(error)
            except Exception:
                log.exception("The tab %s could not be drawn.", tab.name)
                reason = "This could not be drawn: see what the server has printed."
            # As a component: boxes with errors are shown for queued events alone.
            return [*[gr.skip()] * (len(outputs) - 1), f'<p class="failed" role="alert">{reason}</p>']

        for listener in listeners:
            listener(answer, inputs, outputs, **LIVE)

    def clock(self, timer: gr.Timer, tab: Tab[Any], is_due: Callable[[Explored, Any], bool]) -> None:
        """Draw a tab anew once that is done which goes on without the user.

        Args:
            timer: whose ticks ask, one of the tab's moving outputs. It is stopped where the tab shows another model.
            tab: that waits.
            is_due: explored, the tab's state -> whether it is done.
        """

        def tick(name: str, filled: Shown | None, *values: Any) -> Any:
            with suppress(Exception):  # else it would be said every second; who does something next is told
                if filled is not None and filled[0] == name:
                    explored = self.models[name]
                    state = tab.read(explored, filled[1], *values)
                    return tab.move(explored, state) if is_due(explored, state) else gr.skip()
            return [gr.Timer(active=False) if output is timer else gr.skip() for output in tab.moving]

        timer.tick(tick, [self.model, self.filled[tab.name], *tab.inputs], tab.moving, **LIVE)

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
        count = len(tab.inputs)

        def changed(
            event: gr.EventData, name: str, filled: Shown | None, last: Shown | None, *values: Any
        ) -> list[Any]:
            explored, known, before = self.models[name], _of(name, filled, last), _of(name, last)
            state = tab.first(explored) if known is None else tab.read(explored, known, *values[:count])
            state = to(explored, state, event, *values[count:])
            opened = [] if of is None else [gr.Tabs(selected=tab.name)]
            return [*opened, *self._whole(tab, explored, state, before), *self._show(explored, state)]

        inputs = [self.model, self.filled[tab.name], self._last[tab.name], *tab.inputs, *also]
        outputs = [*([] if of is None else [self._tabs]), *self._parts(tab), *self._after]
        listener(warned(changed), inputs, outputs, **(SLOW | how))

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

    def _parts(self, tab: Tab[Any]) -> list[Any]:
        """What is filled of a tab; see ``_whole``."""
        return [self.filled[tab.name], self._last[tab.name], self._veils[tab.name], *tab.inputs, *tab.outputs]

    def _whole(self, tab: Tab[Any], explored: Explored, state: State, before: State | None = None) -> list[Any]:
        shown = (explored.name, state)
        return [
            shown,
            shown,
            gr.Column(elem_classes=[]),
            *tab.fill(explored, state),
            *tab.draw(explored, state, before),
        ]

    def _select(self, tab: Tab[Any]) -> Callable[..., Any]:
        def select(name: str, shown: Shown | None, filled: Shown | None, last: Shown | None) -> Any:
            if shown is None and tab.name == next(iter(self.tabs)):  # browsers select it before the page is opened
                return gr.skip()
            models, explored = gr.Dropdown(choices=list(self.models)), self.models[name]
            state = _of(name, last, filled)
            if state is not None and _of(name, filled) is not None:
                parts = [*[gr.skip()] * (3 + len(tab.inputs)), *tab.refresh()]
            else:
                state = state or tab.first(explored)
                parts = self._whole(tab, explored, state)
            return [models, *parts, *self._show(explored, state)]

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
                values += self._whole(tab, explored, state)
            else:
                values += [None, None, gr.Column(elem_classes=UNFILLED), *[gr.skip()] * len(tab.inputs), *tab.leave()]
        return values

    def _png(self, shown: Shown | None) -> dict[str, str]:
        explored, state = self._saved(shown)
        return download(explored, state, "png", "image/png", png_of(self.tabs[state.tab], explored, state))

    def _json(self, shown: Shown | None) -> dict[str, str]:
        explored, state = self._saved(shown)
        return download(explored, state, "json", "application/json", to_json(explored, state).encode())

    def _saved(self, shown: Shown | None) -> tuple[Explored, State]:
        if shown is None:
            raise ConfigError(SLEPT)
        return self.models[shown[0]], shown[1]


def _of(model: str, *shown: Shown | None) -> State | None:
    """The first of some states that is of a model."""
    return next((one[1] for one in shown if one is not None and one[0] == model), None)
