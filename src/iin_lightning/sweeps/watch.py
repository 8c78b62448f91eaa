"""What the process that starts a sweep must know of it, however it ends."""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from iin_lightning.errors import STOP_SIGNALS

STOPPED = "stopped"
"""In the folder of a sweep whose workers are asked to stop: none of them begins another job."""


class Watch(Callback):
    """Hydra's callback at the start of a sweep; of its end Hydra says nothing if that is an error.

    Attributes:
        folder: of the sweep that this process has started.
        study: whether a search chooses its jobs, one after the other.
        signal: that the sweep was stopped with, where its jobs run in other processes of this machine.
    """

    folder: ClassVar[Path | None] = None
    study: ClassVar[bool] = False
    signal: ClassVar[int | None] = None

    @staticmethod
    def is_on() -> bool:
        """Whether the job at hand belongs to a sweep that is watched."""
        hydra = HydraConfig.get()
        watched = any(callback._target_.endswith(Watch.__name__) for callback in hydra.callbacks.values())
        return hydra.mode == RunMode.MULTIRUN and watched

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Remember where the sweep is, and let its workers end what they do when it is stopped."""
        hydra = config.hydra
        folder = Path(hydra.sweep.dir)
        (folder / STOPPED).unlink(missing_ok=True)
        Watch.folder, Watch.study = folder, "optuna" in hydra.sweeper._target_
        if Watch.study:
            Path(config.paths.outputs, "sweeps").mkdir(parents=True, exist_ok=True)  # its data base lies there
        if "joblib" in hydra.launcher._target_:
            for number in STOP_SIGNALS:
                signal.signal(number, _patiently)


def _patiently(number: int, frame: FrameType | None) -> None:
    """Wait for the jobs at work, which have got the signal, too; joblib would end their processes."""
    if Watch.signal is not None:
        raise KeyboardInterrupt
    Watch.signal = number
    print("\nStopping: the jobs at work write their state. Once more stops at once.", file=sys.stderr)
    assert Watch.folder is not None
    Watch.folder.mkdir(parents=True, exist_ok=True)
    (Watch.folder / STOPPED).touch()
