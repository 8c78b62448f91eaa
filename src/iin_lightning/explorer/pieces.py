"""What tabs are made of: HTML of pictures, of class probabilities, and of galleries to choose from."""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

import gradio as gr
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from iin_lightning.explorer.computing import once
from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.pictures import Picture, data_uri
from iin_lightning.explorer.states import Fields
from iin_lightning.factors import RESIDUAL

THUMBNAIL = 96  # pixels: the most that a side of an image to choose has
PICK = (Path(__file__).parent / "pick.js").read_text(encoding="utf-8")


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
    """Return the ``js_on_load`` of a ``gr.HTML`` with ``buttons`` and a prop ``chosen``: the places that are marked.

    The data of its event ``click`` say which ``place`` was clicked. The roles of the chosen ones, in the order of
    ``chosen``, stand in the script, since gradio forgets the props of a tab that has not been opened yet.
    """
    return f"const roles = {json.dumps(roles)};\n{PICK}"


def bars(
    probabilities: Tensor, names: Sequence[str], before: Tensor | None = None, most: int = 12, note: str = ""
) -> str:
    """Return HTML of class probabilities (C,) as bars, those before an edit as marks, a note below.

    At most ``most`` classes are shown: the likeliest before and after, in the order of the classes.
    """
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


def output(explored: Explored, picture: Picture) -> str:
    """Return HTML of what the model makes of a picture as it is."""
    made = explored.reconstruct(picture)
    return tile(made, "reconstruction") if explored.makes_images else bars(made, explored.class_names(), most=6)


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
