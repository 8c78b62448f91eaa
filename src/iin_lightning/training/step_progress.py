"""The progress bars of a run that counts steps."""

import math
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar
from rich.progress import TaskID

from iin_lightning.progress import Bar


class StepProgress(ProgressBar):
    """Show a bar of the training steps with the loss, below it bars of validation and of a test.

    It counts steps, not epochs: the stream of batches has no end. Listeners of ``progress`` also get the loss.

    Lightning's own bars read a logged number at every step, and the host waits for the device. Here the training loss
    is read only when loggers get it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._quiet = False
        self._bars: list[tuple[Bar, TaskID]] = []  # of validation within training; the last belongs to what runs
        self._more = ""

    def disable(self) -> None:
        """Show no bars, as in processes beside the first."""
        self._quiet = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count, in the middle if the run is resumed."""
        self._more = ""
        total = trainer.max_steps if trainer.max_steps > 0 else trainer.estimated_stepping_batches
        self._begin("Training", total, trainer.global_step)

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Show the step, and the loss as often as loggers get it."""
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        loss = self._read(trainer) if trainer.global_step % every == 0 else None
        bar, task = self._bars[-1]
        bar.update(task, completed=trainer.global_step, more=self._more, loss=loss)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count."""
        batches = trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
        self._begin("Validation", sum(batches))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the bar vanish, and keep its number beside the training bar."""
        self._end()
        self._read(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count."""
        self._begin("Test", sum(trainer.num_test_batches))

    def on_exception(self, *args: Any) -> None:
        """Let all bars vanish, so that the error can be read."""
        while self._bars:
            self._end()

    def _begin(self, stage: str, total: float, first: int = 0) -> None:
        bar = Bar(quiet=self._quiet)
        bar.start()
        self._bars.append((bar, bar.add_task(stage, total=total if math.isfinite(total) else None, completed=first)))

    def _count(self, *args: Any, **kwargs: Any) -> None:
        bar, task = self._bars[-1]
        bar.advance(task)

    def _end(self, *args: Any, **kwargs: Any) -> None:
        bar, _ = self._bars.pop()
        bar.stop()

    on_validation_batch_end = on_test_batch_end = _count
    on_train_end = on_test_end = _end

    def _read(self, trainer: Trainer) -> float | None:
        """Read the first training number, and what stands behind the bar: it and the latest of validation."""
        logged = trainer.callback_metrics
        shown = {name: logged[name].item() for name in [name for name in logged if name.startswith("train/")][:1]}
        loss = next(iter(shown.values()), None)
        shown |= {name: float(value) for name, value in trainer.progress_bar_metrics.items() if "/" in name}
        self._more = ", ".join(f"{name} {value:.3f}" for name, value in shown.items())
        return loss
