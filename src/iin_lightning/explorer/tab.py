"""What all tabs of the page are: a view of a state of a model, with events that change it, and pieces of HTML."""

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import gradio as gr
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import interpolate

from iin_lightning.errors import ConfigError, IINError
from iin_lightning.explorer.computing import once
from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.models import Models, without_folders
from iin_lightning.explorer.pictures import Picture, data_uri
from iin_lightning.explorer.saved import to_link
from iin_lightning.explorer.states import Fields, State
from iin_lightning.factors import RESIDUAL

S = TypeVar("S", bound=State)
Shown = tuple[str, State]
"""The name of a model, and the state of a tab."""

LIVE: dict[str, Any] = {
    "show_progress": "hidden",
    "trigger_mode": "always_last",  # while a picture is made only the last place of a slider is remembered
    "queue": False,
    "api_visibility": "private",
}
"""Of events whose answer comes at once, such as those of a slider."""
SLOW: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""Of all other events."""
UNFILLED = ["iin-unfilled"]  # classes of a tab: what is typed before it is filled would be overwritten
NO_LINK = "<p>With its drawn or uploaded pictures this state is too long for a link: save it as JSON.</p>"
SLEPT = "This page has slept, and has forgotten what it showed: reload it."
THUMBNAIL = 96  # pixels: the most that a side of an image to choose has
PICK = (Path(__file__).parent / "pick.js").read_text(encoding="utf-8")

log = logging.getLogger(__name__)


class Shared(NamedTuple):
    """Components outside the tabs: the model's name, what is shown (``Shown``), a link to it, and the row of tabs."""

    model: gr.Dropdown
    shown: gr.State
    link: gr.HTML
    tabs: gr.Tabs


class Tab(ABC, Generic[S]):
    """Components that show a state of a model, and are changed by hand into another.

    Many users share a tab: what no component shows, such as a picture, is in the state that it was last filled with.

    Attributes:
        name: that of its states; its components have ids that begin so.
        inputs: components whose values say the state, besides what none of them shows.
        outputs: components that show what comes of it.
        moving: those of the outputs that a slider changes.
        filled: what it was last filled with (``Shown``), in each session.
        parts: all of these, as ``whole`` fills them.
    """

    title: ClassVar[str]
    name: ClassVar[str]
    inputs: list[Any]
    outputs: list[Any]
    moving: list[Any]

    def __init__(self, models: Models, shared: Shared) -> None:
        self.models, self.shared = models, shared
        self.filled = gr.State()
        with gr.Column(elem_classes=UNFILLED) as self.veil:
            self.build()
        self.parts = [self.filled, self.veil, *self.inputs, *self.outputs]

    @abstractmethod
    def build(self) -> None:
        """Make the components, within the tab that the page has opened."""

    @abstractmethod
    def wire(self, tabs: Mapping[str, "Tab[Any]"], opened: Callable[..., Any]) -> None:
        """Say what happens when components are used, by ``live`` and ``change``; see ``Page.opened``."""

    @abstractmethod
    def first(self, explored: Explored) -> S:
        """Return the state that the tab opens with."""

    @abstractmethod
    def read(self, explored: Explored, filled: S, *values: Any) -> S:
        """Return the state that the inputs' values mean in a tab filled with another; refuse made up values."""

    @abstractmethod
    def fill(self, explored: Explored, state: S) -> list[Any]:
        """Return the values, or updates, with which the inputs show a state."""

    @abstractmethod
    def draw(self, explored: Explored, state: S, before: S | None = None) -> list[Any]:
        """Return the values of the outputs; what looks the same as ``before`` need not be sent again."""

    @abstractmethod
    def move(self, explored: Explored, state: S) -> list[Any]:
        """Return the values of the moving outputs alone."""

    def refresh(self) -> list[Any]:
        """Return the values of the outputs for who comes back to the tab: only what has gone on meanwhile changes."""
        return [gr.skip()] * len(self.outputs)

    @abstractmethod
    def figure(self, explored: Explored, state: S) -> Callable[[], Figure]:
        """Compute all that a PNG of a state shows, and return what draws it; refuse where nothing can be seen."""

    def whole(self, explored: Explored, state: S, before: S | None = None) -> list[Any]:
        """Return the values of ``parts``, then the new ``shown`` and ``link``."""
        values = [*self.fill(explored, state), *self.draw(explored, state, before)]
        return [(explored.name, state), gr.Column(elem_classes=[]), *values, *self.show(explored, state)]

    def show(self, explored: Explored, state: S) -> list[Any]:
        """Return the values of ``shown`` and ``link``."""
        link = to_link(explored, state)
        html = f'<a href="{link}">Link to this state</a><button type="button">Copy</button>' if link else NO_LINK
        return [(explored.name, state), html]

    def live(self, listeners: Sequence[Callable[..., Any]], *, whole: bool = False) -> None:
        """Draw the moving outputs anew, or all of them, when something happens to the inputs."""
        model, shown_, link, _ = self.shared
        outputs = [*(self.outputs if whole else self.moving), shown_, link]

        def draw(name: str, shown: Shown | None, filled: tuple[str, S] | None, *values: Any) -> Any:
            explored = self.models[name]
            if filled is None:
                raise ConfigError(SLEPT)
            if filled[0] != name:  # another model has been chosen, and the tab will be filled anew
                return gr.skip()
            state = self.read(explored, filled[1], *values)
            drawn = (self.draw if whole else self.move)(explored, state)
            # What happens in a tab that has been left meanwhile is not what is saved.
            hidden = shown is not None and shown[1].tab != self.name
            return [*drawn, *([gr.skip()] * 2 if hidden else self.show(explored, state))]

        def answer(*values: Any) -> Any:
            try:
                return draw(*values)
            except IINError as error:
                reason = sentence(error)
            except Exception:
                log.exception("The tab %s could not be drawn.", self.name)
                reason = "This could not be drawn: see what the server has printed."
            # In a component: boxes with errors are shown for queued events alone.
            return [*[gr.skip()] * (len(outputs) - 1), f'<p class="failed" role="alert">{reason}</p>']

        for listener in listeners:
            listener(answer, [model, shown_, self.filled, *self.inputs], outputs, **LIVE)

    def change(
        self, listener: Callable[..., Any], to: Callable[..., S], also: Sequence[Any] = (), *, opens: bool = False
    ) -> None:
        """Bring the tab into another state when something happens.

        Args:
            listener: the event, such as ``button.click``.
            to: explored, the tab's state, what the event says (``gr.EventData``), values of ``also`` -> the new state.
            also: components that the new state depends on.
            opens: whether the tab is opened then, since the event is one of another tab.
        """
        model, shown, link, tabs = self.shared

        def changed(event: gr.EventData, name: str, filled: tuple[str, S] | None, *values: Any) -> list[Any]:
            explored = self.models[name]
            count, before = len(self.inputs), filled[1] if filled is not None and filled[0] == name else None
            state = self.first(explored) if before is None else self.read(explored, before, *values[:count])
            state = to(explored, state, event, *values[count:])
            opened = [gr.Tabs(selected=self.name)] if opens else []
            return [*opened, *self.whole(explored, state, before)]

        outputs = [*([tabs] if opens else []), *self.parts, shown, link]
        listener(warned(changed), [model, self.filled, *self.inputs, *also], outputs, **SLOW)


def warned(function: Callable[..., Any], *, clear: bool = False) -> Callable[..., Any]:
    """Have an error of a queued event shown in a box; its outputs stay as they are, or its only output is cleared."""

    @wraps(function)
    def call(*args: Any) -> Any:
        try:
            return function(*args)
        except IINError as error:
            gr.Warning(sentence(error), title="")
            return None if clear else gr.skip()

    return call


def sentence(error: BaseException) -> str:
    """Return what an error says, as HTML without folders of the server."""
    reason = str(error) if isinstance(error, IINError) else f"{type(error).__name__}: {error}"
    return escape(without_folders(reason))


def tile(image: Tensor, caption: str = "", kind: str = "") -> str:
    """Return HTML of an image (C, H, W) in [-1, 1] with its caption; ``kind`` is "large" or "small"."""
    said = escape(caption)
    text = f"<figcaption>{said}</figcaption>" if caption else ""
    return f'<figure class="iin-tile {kind}"><img src="{data_uri(image)}" alt="{said}">{text}</figure>'


def row(*tiles: str, kind: str = "") -> str:
    """Return HTML of tiles side by side, in more rows where there is no room."""
    return f'<div class="iin-row {kind}">{"".join(tiles)}</div>'


def buttons(images: Tensor, captions: Sequence[str]) -> str:
    """Return HTML of images (n, C, S, S) in [-1, 1] to be clicked, made small where they are large; see ``pick``."""
    if (longest := max(images.shape[-2:])) > THUMBNAIL:
        small = [max(1, round(side * THUMBNAIL / longest)) for side in images.shape[-2:]]
        images = interpolate(images, small, mode="bilinear", antialias=True)
    made = [
        f'<button type="button" data-place="{place}" title="{escape(caption)}" aria-label="{escape(caption)}">'
        f'<img src="{data_uri(image)}" alt=""></button>'
        for place, (image, caption) in enumerate(zip(images, captions))
    ]
    return f'<div class="iin-gallery">{"".join(made)}</div>'


def pick(*roles: str) -> str:
    """Return the ``js_on_load`` of a ``gr.HTML`` with ``buttons`` and a prop ``chosen``: the places that are marked."""
    # Roles stand in the script, since gradio forgets the props of a tab that has not been opened yet.
    return f"const roles = {json.dumps(roles)};\n{PICK}"


def bars(
    probabilities: Tensor, names: Sequence[str], before: Tensor | None = None, most: int = 12, note: str = ""
) -> str:
    """Return HTML of the highest class probabilities (C,) as bars, those before an edit as marks, a note below."""
    rank = probabilities if before is None else torch.maximum(probabilities, before)
    shown = sorted(rank.topk(min(most, len(names))).indices.tolist())
    lines = []
    for k in shown:
        value = probabilities[k].item()
        mark = "" if before is None else f'<i style="left:{100 * before[k].item():.1f}%"></i>'
        first = ' class="first"' if k == int(probabilities.argmax()) else ""
        lines.append(
            f"<dt>{escape(names[k])}</dt><dd{first}><span><b style='width:{100 * value:.1f}%'></b>{mark}</span>"
            f"<em>{100 * value:.1f} %</em></dd>"
        )
    said = f'<p class="iin-note">{escape(note)}</p>' if note else ""
    return f'<dl class="iin-bars">{"".join(lines)}</dl>{said}'


def spoken(name: str) -> str:
    """Return a factor's name on the page."""
    return "residual (all else)" if name == RESIDUAL else name.replace("_", " ")


def beside(explored: Explored, picture: Picture, caption: str) -> str:
    """Return HTML of a picture, and beside it what the model makes of it as it is."""
    made = explored.reconstruct(picture)
    output = tile(made, "reconstruction") if explored.makes_images else bars(made, explored.class_names(), most=6)
    return row(tile(explored.image(picture), caption), output, kind="beside")


def edited(explored: Explored, made: Tensor, caption: str, picture: Picture, mark: str) -> str:
    """Return HTML of what became of a picture; of classes, what they were before is a mark, which is explained."""
    if explored.makes_images:
        return tile(made, caption, "large")
    note = f"{caption}; a mark is {mark}"
    return bars(made, explored.class_names(), explored.reconstruct(picture), note=note)


def gallery(explored: Explored, chosen: Sequence[Picture], *, again: bool) -> gr.HTML:
    """Return the held-out images to choose from, the chosen ones marked; ``again``: the images are there already."""
    items = explored.gallery
    places = [items.index(picture.item) if picture.item in items else None for picture in chosen]
    return gr.HTML(chosen=places) if again else gr.HTML(_held_out(explored), chosen=places)


@once
def _held_out(explored: Explored) -> str:
    captions = [explored.caption(Picture(item=item)) for item in explored.gallery]
    return buttons(explored.images(explored.gallery), captions)


def chosen_in(explored: Explored, event: gr.EventData) -> Picture:
    """Return the held-out image that was clicked in a gallery."""
    count = len(explored.gallery)
    place = Fields({"place": getattr(event, "place", None)}).whole("place", 0, count - 1)
    return Picture(item=explored.gallery[place])
