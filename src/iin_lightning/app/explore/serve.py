"""The command ``explore``: load the models, make the page, serve it until Ctrl-C."""

import os
import signal
import socket
import sys
import tempfile
from copy import deepcopy
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape

from iin_lightning.app import trust
from iin_lightning.app.explore.explored import Explored
from iin_lightning.app.explore.models import Models
from iin_lightning.app.explore.saved import MOST_BYTES, from_json
from iin_lightning.app.explore.uploads import MOST_BYTES as MOST_UPLOADED
from iin_lightning.app.locate import choose_device, find_runs, load_subject
from iin_lightning.app.quiet import quiet
from iin_lightning.errors import ConfigError, DataNotFoundError, MissingExtraError

FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
PORTS = range(7860, 7960)
SESSIONS = 100  # each has about a megabyte: gradio keeps what all components of a page last showed
STYLE = Path(__file__).parent / "look.css"


def explore(config: DictConfig) -> None:
    """Serve the page until it is ended.

    Raises:
        MissingExtraError: gradio is not installed.
        ConfigError: a key is out of its range, or the port is taken.
        CheckpointError: a folder holds no interpreter.
        DataNotFoundError: there is no such saved state.
    """
    quiet()
    trust.take(config)
    if find_spec("gradio") is None:
        raise MissingExtraError("gradio", "explore", "The explorer")
    if config.gallery < 2:
        raise ConfigError(f"gallery={config.gallery} leaves nothing to choose from: take 2 or more.")
    port = choose_port(config.host, config.port)
    models = load_models(config)
    opening = None
    if config.state is not None:
        path = Path(config.state)
        if not path.is_file():
            raise DataNotFoundError(f"state={path} is not there: name a file that the page has saved.")
        with path.open("rb") as file:
            opening = from_json(file.read(MOST_BYTES + 1), models, models.first.name)
    exit_on_signals()
    with tempfile.TemporaryDirectory(prefix="iin-lightning-") as folder:
        # Set before gradio is imported: uploads lie there for some minutes, and nothing is told to anyone.
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
        from iin_lightning.app.explore.page import Page  # noqa: PLC0415

        page = Page(models, opening)
        page.blocks.launch(**settings(), server_name=config.host, server_port=port, inbrowser=config.open)
        address = page.blocks.local_url.rstrip("/")
        Console().print(
            f"Explore [bold]{escape(', '.join(models))}[/bold] at {address}  (Ctrl-C ends it)", soft_wrap=True
        )
        page.blocks.block_thread()


def exit_on_signals() -> None:
    """Have signals end the process as Ctrl-C does: else the folder of uploads, and what trains, would stay behind."""

    def leave(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    for name in ("SIGTERM", "SIGHUP"):  # the second is what a closed terminal sends, and not known everywhere
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:  # nohup is to be heeded
            signal.signal(number, leave)


def choose_port(host: str, asked: int | None) -> int:
    """The port to listen at: the one that is asked for; of 0 any, of None the first free one from 7860 on.

    Raises:
        ConfigError: it is taken, or the host is none of this machine.
    """
    error: Exception | None = None
    for port in PORTS if asked is None else [asked]:
        try:
            with socket.create_server((host, port)) as server:
                return int(server.getsockname()[1])
        except (OSError, OverflowError) as refused:
            error = refused
    raise ConfigError(
        f"The page cannot listen at host={host} port={'null' if asked is None else asked} ({error}): take another "
        "port, or 0 for any that is free; and as host 127.0.0.1, or 0.0.0.0 for everyone who can reach this machine."
    )


def load_models(config: DictConfig) -> Models:
    """The models that the command names, by the shortest names that tell them apart."""
    device = choose_device(config.device)

    def load(folder: Path, name: str, said: DictConfig) -> Explored:
        return Explored(name, load_subject(folder, device, said), config.gallery, config.seed)

    folders = find_runs(config.run)
    given = [load(folder, name, config) for folder, name in zip(folders, names(folders))]
    own = deepcopy(config)
    own.data = None  # what is trained on the page has data of its own
    return Models(given, partial(load, said=own))


def names(folders: list[Path]) -> list[str]:
    """Names of runs: that of the folder and the one it lies in, numbered where two have the same.

    Example:
        >>> names([Path("outputs/sup/2026-01-01_10-00-00"), Path("mine")])
        ['sup/2026-01-01_10-00-00', 'mine']
    """
    short = ["/".join(folder.parts[-2:] if len(folder.parts) > 1 else folder.parts) for folder in folders]
    short = [name.removeprefix("outputs/") for name in short]
    return [name if short.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(short, 1)]


def settings() -> dict[str, Any]:
    """How the page is launched, wherever it listens: nothing leaves this machine, and no file of it is served."""
    import gradio as gr  # noqa: PLC0415

    theme = gr.themes.Base(
        primary_hue="blue", neutral_hue="gray", font=FONT, font_mono=MONO, radius_size=gr.themes.sizes.radius_sm
    )
    return {
        "prevent_thread_lock": True,
        "quiet": True,
        "share": False,
        "show_error": False,
        "footer_links": [],
        "allowed_paths": [],
        "max_file_size": MOST_UPLOADED,
        "ssr_mode": False,
        "mcp_server": False,
        "run_history": False,
        "state_session_capacity": SESSIONS,
        "theme": theme,
        "css_paths": STYLE,
    }
