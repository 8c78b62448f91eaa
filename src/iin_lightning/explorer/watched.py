"""Within the process of a training: tell the page how far it is, and end with the page.

Nothing of the page is imported here.
"""

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from iin_lightning.progress import listeners

PROGRESS = "progress.json"
"""In the folder of the run."""

SECONDS = 0.25  # between two writings
PATIENCE = 10.0  # seconds that the run has to end by itself


class Watched(Callback):
    """Hydra's callback for a run whose standard input is a pipe from the page, which ends when the page does."""

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Listen to the run."""
        folder = Path(config.hydra.runtime.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        listeners.append(Progress(folder / PROGRESS))
        threading.Thread(target=_end_with_the_page, daemon=True).start()


class Progress:
    """A file that says how far a run is: {"phase", "done", "total", "losses": [[step, loss], ...]}.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.losses: list[tuple[int, float]] = []
        self._written = 0.0

    def __call__(self, what: str, done: int, total: int, loss: float | None) -> None:
        """See ``iin_lightning.progress.Listener``."""
        if loss is not None:
            self.losses.append((done, loss))
        now = time.monotonic()
        if now - self._written < SECONDS and done < total:
            return
        self._written = now
        said = {"phase": what, "done": done, "total": total, "losses": self.losses}
        new = self.path.with_suffix(".new")
        # A wrong number after a power cut is no harm: nothing is flushed to the disk.
        new.write_text(json.dumps(said), encoding="utf-8")
        os.replace(new, self.path)


def _end_with_the_page() -> None:
    while os.read(0, 1):  # not sys.stdin, whose lock would be held when this process ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    if os.getpgrp() == os.getpid():  # as the page starts it
        os.killpg(os.getpgrp(), signal.SIGKILL)
