"""The progress bars of a run that counts steps."""

import math
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar
from rich.progress import TaskID

from iin_lightning.progress import Bar


class StepProgress(ProgressBar):
    """A bar of the steps of training, with a loss when one is logged; below it one of validation, and one of a test.

    There are no epochs, as one stream of batches makes the whole run. Listeners of ``progress`` are told the loss, too.

    What is logged for Lightning's own bars is read at every step, however seldom they are drawn, and the host waits for
    the device. So the first training value is taken here, from what loggers get, when they do.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bars: dict[str, tuple[Bar, TaskID]] = {}
        self._more = ""

    def enable(self) -> None:
        """Show bars."""
        self._enabled = True

    def disable(self) -> None:
        """Show none, as in processes beside the first."""
        self._enabled = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count, in the middle if the run goes on."""
        self._more = ""
        total = trainer.max_steps if trainer.max_steps > 0 else trainer.estimated_stepping_batches
        self._begin("Training", total, trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show the step; what is logged more seldom, since the host waits for the device to know it."""
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        loss = self._read(trainer) if trainer.global_step % every == 0 else None
        bar, task = self._bars["Training"]
        bar.update(task, completed=trainer.global_step, more=self._more, loss=loss)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the bar vanish."""
        self._end("Training")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count."""
        batches = trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
        self._begin("Validation", sum(batches))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count."""
        self._count("Validation")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the bar vanish."""
        self._end("Validation")
        self._read(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count."""
        self._begin("Test", sum(trainer.num_test_batches))

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count."""
        self._count("Test")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the bar vanish."""
        self._end("Test")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let all bars vanish, so that what is wrong can be read."""
        for what in tuple(self._bars):
            self._end(what)

    def _begin(self, what: str, total: float, first: int = 0) -> None:
        bar = Bar(quiet=not self._enabled)
        bar.start()
        self._bars[what] = bar, bar.add_task(what, total=total if math.isfinite(total) else None, completed=first)

    def _count(self, what: str) -> None:
        bar, task = self._bars[what]
        bar.advance(task)

    def _end(self, what: str) -> None:
        bar, _ = self._bars.pop(what)
        bar.stop()

    def _read(self, trainer: Trainer) -> float | None:
        """The first training value, which stands behind the bar together with the latest of validation."""
        logged = trainer.callback_metrics
        shown = {name: logged[name].item() for name in [name for name in logged if name.startswith("train/")][:1]}
        loss = next(iter(shown.values()), None)
        shown |= {name: float(value) for name, value in trainer.progress_bar_metrics.items() if "/" in name}
        self._more = ", ".join(f"{name} {value:.3f}" for name, value in shown.items())
        return loss
