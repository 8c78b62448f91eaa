"""What all tabs of the page are: a view of one state of one model."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import wraps
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import gradio as gr
from matplotlib.figure import Figure

from iin_lightning.errors import IINError
from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.folders import without_folders
from iin_lightning.explorer.models import Models
from iin_lightning.explorer.states import State

if TYPE_CHECKING:
    from iin_lightning.explorer.page import Page

S = TypeVar("S", bound=State)

LIVE: dict[str, Any] = {
    "show_progress": "hidden",
    "trigger_mode": "always_last",  # while a picture is made only the last place of a slider is remembered
    "queue": False,
    "api_visibility": "private",
}
"""Of events whose answer is there at once, such as those of a slider."""
SLOW: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""Of all other events."""


class Tab(ABC, Generic[S]):
    """A tab: components that show a state, and are changed by hand into another one.

    A subclass makes its components in ``build``. Nothing else is kept: many users share a tab, and what no component
    shows, such as a picture, is in the state with which the page has last filled the tab.

    Attributes:
        title: on the page.
        name: that of its states; its components have ids that begin so.
        inputs: components whose values say the state, besides what none of them shows.
        outputs: components that show what comes of it.
        moving: those of the outputs that a slider changes.
    """

    title: ClassVar[str]
    name: ClassVar[str]
    inputs: list[gr.components.Component]
    outputs: list[gr.components.Component]
    moving: list[gr.components.Component]

    def __init__(self, models: Models) -> None:
        self.models = models

    @abstractmethod
    def build(self) -> None:
        """Make the components, within the tab that the page has opened."""

    @abstractmethod
    def wire(self, page: "Page") -> None:
        """Say what happens when components are used: ``page.live``, ``page.change``; ``page.tabs`` has the others."""

    @abstractmethod
    def first(self, explored: Explored) -> S:
        """The state that the tab opens with."""

    @abstractmethod
    def read(self, explored: Explored, filled: S, *values: Any) -> S:
        """The state that the values of the inputs mean.

        Args:
            explored: the model.
            filled: the state that the tab was last filled with, which has what no input shows.
            *values: of the inputs.

        Raises:
            ConfigError: they mean none, as somebody has made them up.
        """

    @abstractmethod
    def fill(self, explored: Explored, state: S) -> list[Any]:
        """The values, or updates, with which the inputs show a state."""

    @abstractmethod
    def draw(self, explored: Explored, state: S, before: S | None = None) -> list[Any]:
        """The values of the outputs.

        Args:
            explored: the model.
            state: what to show.
            before: what the tab shows of the same model: what looks the same need not be sent again. None: nothing.
        """

    @abstractmethod
    def move(self, explored: Explored, state: S) -> list[Any]:
        """The values of the moving outputs alone."""

    def refresh(self) -> list[Any]:
        """The values of the outputs for who comes back to the tab: as they are, but for what has gone on meanwhile."""
        return [gr.skip()] * len(self.outputs)

    def leave(self) -> list[Any]:
        """The values of the outputs once another model has been chosen: as they are, but clocks are stopped."""
        return [gr.skip()] * len(self.outputs)

    @abstractmethod
    def figure(self, explored: Explored, state: S) -> Callable[[], Figure]:
        """The state as a figure, for a PNG: all is computed now, and what is returned only draws it.

        Raises:
            ConfigError: there is nothing to be seen.
        """


def said(function: Callable[..., Any]) -> Callable[..., Any]:
    """An event's function, whose errors that a user can cure are said in a box on the page."""

    @wraps(function)
    def call(*args: Any) -> Any:
        try:
            return function(*args)
        except IINError as error:
            raise gr.Error(sentence(error), title="", print_exception=False) from error

    return call


def warned(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, after which all that was shown stays; only for events that are queued."""

    @wraps(function)
    def call(*args: Any) -> Any:
        try:
            return function(*args)
        except IINError as error:
            gr.Warning(sentence(error), title="")
            return gr.skip()

    return call


def sentence(error: IINError) -> str:
    """What an error says, as HTML without folders of the server."""
    return escape(without_folders(str(error)))
