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
from pathlib import Path
from secrets import token_hex
from types import FrameType

from omegaconf import DictConfig
from rich.markup import escape

from iin_lightning.cli import trust
from iin_lightning.errors import ConfigError, DataNotFoundError, MissingExtraError
from iin_lightning.explorer.explored import Explored
from iin_lightning.explorer.models import Models, name_folder
from iin_lightning.explorer.pictures import MOST_BYTES
from iin_lightning.explorer.saved import from_json
from iin_lightning.printing import quiet
from iin_lightning.progress import Screen
from iin_lightning.runs.locate import choose_device, find_runs, load_subject, names

PORTS = range(7860, 7960)


def explore(config: DictConfig) -> None:
    """Serve the page until it is ended."""
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
            from iin_lightning.explorer.door import Door, is_loopback, settings  # noqa: PLC0415
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
    """Return the models that the command names, by the shortest names that tell them apart."""
    device = choose_device(config.device)

    def load(folder: Path, name: str, asked: DictConfig) -> Explored:
        subject = load_subject(folder, device, asked)
        recipe = subject.recipe
        name_folder(folder, name)
        for key, path in ({} if recipe is None else recipe.paths).items():
            name_folder(path, f"paths.{key}")
        return Explored(name, subject, config.gallery, config.seed, recipe)

    folders = find_runs(config.run)
    own = deepcopy(config)
    own.data = None  # what is trained on the page has data of its own
    return Models(
        [load(folder, name, config) for folder, name in zip(folders, names(folders))], partial(load, asked=own)
    )
