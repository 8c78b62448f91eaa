"""Train an autoencoder: the image network that the paper explains most often."""

from typing import Any

from torch import Tensor

from iin_lightning.encoders.autoencoder import Autoencoder
from iin_lightning.losses.adversarial import Adversarial
from iin_lightning.losses.autoencoding import AutoencodingLoss, AutoencodingTerms
from iin_lightning.seeding import generator
from iin_lightning.tasks.base import OptimizerFactory, SchedulerFactory, Task
from iin_lightning.tasks.diagnose import first_non_finite


class Autoencode(Task):
    """Minimise the negative evidence lower bound, and play against a discriminator if there is one.

    Both players descend in one step of one optimizer: the generator's term leaves no gradient at the discriminator,
    the discriminator's none at the autoencoder. So a step is a batch, whatever their number; see ``tasks.base``.

    Args:
        network: the autoencoder.
        loss: (x, x̂, posterior) -> terms in nats per image.
        optimizer: parameters -> optimizer.
        scheduler: optimizer -> schedule.
        adversarial: the game with the discriminator, or None.
        discriminator_lr_factor: the discriminator's learning rate over the autoencoder's.
        seed: of the posterior's samples, which are a function of (seed, step, rank), so that a resumed run draws the
            same ones.
    """

    def __init__(
        self,
        network: Autoencoder,
        loss: AutoencodingLoss,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory,
        adversarial: Adversarial | None = None,
        discriminator_lr_factor: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(optimizer, scheduler)
        self.network = network
        self.loss = loss
        self.adversarial = adversarial
        self.discriminator_lr_factor = discriminator_lr_factor
        self.seed = seed

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The autoencoder with its loss, and the discriminator at a rate of its own."""
        groups: list[dict[str, Any]] = [{"params": [*self.network.parameters(), *self.loss.parameters()]}]
        if self.adversarial is not None:
            rate = self.make_optimizer(groups).defaults["lr"] * self.discriminator_lr_factor
            groups.append({"params": list(self.adversarial.discriminator.parameters()), "lr": rate})
        return groups

    def _reconstruct(self, x: Tensor, step: int) -> tuple[Tensor, AutoencodingTerms]:
        posterior = self.network.encode(x)
        noise = generator(self.seed, "posterior", step, self.global_rank, device=x.device)
        reconstruction = self.network.decode(posterior.sample(noise))
        return reconstruction, self.loss(x, reconstruction, posterior)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """One step of both players."""
        x, step = batch[0], self.global_step
        reconstruction, terms = self._reconstruct(x, self.batches_done)
        self._log("train", terms, len(x))
        total, generated, judged = terms.total, None, None
        if self.adversarial is not None:
            generated = self.adversarial.generator_term(reconstruction, terms.nll, self.network.last_layer, step)
            judged = self.adversarial.discriminator_term(x, reconstruction, step)
        if generated is not None and judged is not None:  # the game has begun
            total = total + generated.value + judged.value
            game = {
                "discriminator_loss": judged.value.detach(),
                "logit_real": judged.logit_real,
                "logit_fake": judged.logit_fake,
                "adversarial_weight": generated.weight,
            }
            self.log_dict({f"train/{name}": value for name, value in game.items()}, batch_size=len(x))
        return self.require_finite(total, lambda: first_non_finite(self.network, x))

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Held-out bound; the noise of each batch is the same every time."""
        self._log("val", self._reconstruct(batch[0], batch_idx)[1], len(batch[0]))

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """As validation, on the test split."""
        self._log("test", self._reconstruct(batch[0], batch_idx)[1], len(batch[0]))

    def _log(self, stage: str, terms: AutoencodingTerms, batch_size: int) -> None:
        values = {("loss" if name == "total" else name): value.detach() for name, value in terms._asdict().items()}
        self.log_terms(stage, values, batch_size)
