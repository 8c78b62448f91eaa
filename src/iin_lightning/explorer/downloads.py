"""What a user takes along from the page: the picture of a state as a PNG, and files that the browser saves."""

import base64
import io
import re
import threading
from typing import Any

from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.states import State
from iin_lightning.explorer.tabs.tab import Tab
from iin_lightning.plots.style import UNDATED, style

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
"""``js_on_load`` of a ``gr.HTML`` with a link and a button that copies it."""

DOWNLOAD = """saved => {
  if (!saved) return;
  const link = document.createElement('a');
  [link.download, link.href] = [saved.name, saved.href];
  document.body.append(link); link.click(); link.remove();
}"""
"""What the browser does with what ``download`` has made."""

_drawing = threading.Lock()  # matplotlib's settings are those of the process


def png_of(tab: Tab[Any], explored: Explored, state: State) -> bytes:
    """The PNG of a state: the same bytes for the same state."""
    buffer = io.BytesIO()
    draw = tab.figure(explored, state)
    with _drawing, style():
        figure = draw()
        figure.savefig(buffer, format="png", bbox_inches="tight", pad_inches=0.04, metadata=UNDATED[".png"])
    return buffer.getvalue()


def download(explored: Explored, state: State, suffix: str, kind: str, content: bytes) -> dict[str, str]:
    """A file of a state for ``DOWNLOAD``: its name, and its content as an address."""
    name = re.sub(r"\W+", "-", explored.name).strip("-")
    return {"name": f"{name}_{state.tab}.{suffix}", "href": f"data:{kind};base64,{base64.b64encode(content).decode()}"}
