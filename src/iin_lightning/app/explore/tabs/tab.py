"""What all tabs of the page are: a view of one state of one model."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import wraps
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import gradio as gr
from matplotlib.figure import Figure

from iin_lightning.app.explore.explored import Explored
from iin_lightning.app.explore.models import Models
from iin_lightning.app.explore.states import State
from iin_lightning.errors import IINError

if TYPE_CHECKING:
    from iin_lightning.app.explore.page import Page

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
    shows, such as a picture, is in a ``gr.State``.

    Attributes:
        title: on the page.
        name: that of its states; its components have ids that begin so.
        inputs: components whose values say the state.
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
        """Say what happens when components are used: ``page.live``, ``page.change``; ``page.tab`` is another tab."""

    @abstractmethod
    def first(self, explored: Explored) -> S:
        """The state that the tab opens with."""

    @abstractmethod
    def read(self, explored: Explored, *values: Any) -> S:
        """The state that the values of the inputs mean.

        Raises:
            ConfigError: they mean none, as somebody has made them up.
        """

    @abstractmethod
    def fill(self, explored: Explored, state: S) -> list[Any]:
        """The values, or updates, with which the inputs show a state."""

    @abstractmethod
    def draw(self, explored: Explored, state: S) -> list[Any]:
        """The values of the outputs."""

    @abstractmethod
    def move(self, explored: Explored, state: S) -> list[Any]:
        """The values of the moving outputs alone."""

    @abstractmethod
    def figure(self, explored: Explored, state: S) -> Figure:
        """The state as a figure, for a PNG.

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
            raise gr.Error(_sentence(error), title="", print_exception=False) from error

    return call


def warned(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, after which all that was shown stays; only for events that are queued."""

    @wraps(function)
    def call(*args: Any) -> Any:
        try:
            return function(*args)
        except IINError as error:
            gr.Warning(_sentence(error), title="")
            return gr.skip()

    return call


def _sentence(error: IINError) -> str:
    return escape(without_folders(str(error)))


def without_folders(text: str) -> str:
    """A sentence whose paths are reduced to their last names.

    Example:
        >>> without_folders("/home/someone/outputs/run holds no model")
        'run holds no model'
    """
    return re.sub(r"(?<![\w/])/(?:[^\s/]+/)+", "", text)
