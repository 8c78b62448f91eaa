"""The command ``explore``: load the models, make the page, serve it until Ctrl-C."""

import os
import signal
import socket
import sys
import tempfile
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from secrets import token_hex
from types import FrameType
from typing import Any

from omegaconf import DictConfig
from rich.markup import escape

from iin_lightning.cli import trust
from iin_lightning.errors import ConfigError, DataNotFoundError, MissingExtraError
from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.models import Models
from iin_lightning.explorer.saved import MOST_BYTES, from_json
from iin_lightning.explorer.uploads import MOST_BYTES as MOST_UPLOADED
from iin_lightning.printing import quiet
from iin_lightning.progress import Screen
from iin_lightning.runs.locate import choose_device, find_runs, load_subject, names

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
        with directly():
            from iin_lightning.explorer.door import Door  # noqa: PLC0415
            from iin_lightning.explorer.page import Page  # noqa: PLC0415

            page = Page(models, opening)
            token = "" if is_loopback(config.host) else token_hex(16)
            page.blocks.launch(**settings(token, Path(folder)), server_name=config.host, server_port=port)
        address = page.blocks.local_url.rstrip("/") + (token and f"/?token={token}")
        if not isinstance(page.blocks.app.middleware_stack, Door):
            raise RuntimeError("Gradio has started without the door: see iin_lightning.explorer.door.")
        where = f"[bold]{escape(', '.join(models))}[/bold] at {escape(address)}"
        Screen().print(f"Explore {where}  (Ctrl-C ends it)", soft_wrap=True)
        if config.open:
            webbrowser.open(address)
        page.blocks.block_thread()


@contextmanager
def directly() -> Iterator[None]:
    """Without the proxies of the environment, through which gradio would ask its own server whether it answers."""
    before = {name: os.environ.get(name) for name in ("no_proxy", "NO_PROXY")}
    os.environ |= dict.fromkeys(before, "*")
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ |= {} if value is None else {name: value}


def exit_on_signals() -> None:
    """Have signals end the process as Ctrl-C does: else the folder of uploads, and what trains, would stay behind."""

    def leave(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    for name in ("SIGTERM", "SIGHUP"):  # the second is what a closed terminal sends, and not known everywhere
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:  # nohup is to be heeded
            signal.signal(number, leave)


def is_loopback(host: str) -> bool:
    """Whether a name or an address can only mean this machine.

    Example:
        >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "[::1]", "0.0.0.0", "127.0.0.1.evil.com")]
        [True, True, True, False, False]
    """
    try:
        return host.lower() == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


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


def settings(token: str, uploads: Path) -> dict[str, Any]:
    """How the page is launched, wherever it listens: nothing leaves this machine, and no file of it is served.

    Args:
        token: see ``Door``.
        uploads: see ``Door``.
    """
    import gradio as gr  # noqa: PLC0415

    from iin_lightning.explorer.door import in_front  # noqa: PLC0415

    theme = gr.themes.Base(
        primary_hue="blue", neutral_hue="gray", font=FONT, font_mono=MONO, radius_size=gr.themes.sizes.radius_sm
    )
    return {
        "prevent_thread_lock": True,
        "quiet": True,
        "app_kwargs": {"lifespan": in_front(token, uploads)},
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
