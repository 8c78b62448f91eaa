"""Train an autoencoder: the image network that the paper explains most often."""

from typing import Any

from torch import Tensor

from iin_lightning.encoders.autoencoder import Autoencoder
from iin_lightning.layers.collective import count_over_ranks, world_size
from iin_lightning.losses.adversarial import Adversarial
from iin_lightning.losses.autoencoding import AutoencodingLoss, AutoencodingTerms
from iin_lightning.seeding import Noise
from iin_lightning.training.finite import first_non_finite
from iin_lightning.training.task import OptimizerFactory, SchedulerFactory, Task


class Autoencode(Task):
    """Minimise the negative evidence lower bound, and play against a discriminator if ``adversarial`` is given.

    Both players descend in the same step of one optimizer: the generator's term leaves no gradient at the
    discriminator, the discriminator's none at the autoencoder. So a step is a batch with one player or two; see
    ``training.task``.

    Samples of the posterior are a function of (seed, step) and of the place in the batch, so that a resumed run draws
    the same, and several processes do. The discriminator's rate is the autoencoder's times
    ``discriminator_lr_factor``.
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
        on_nan: str = "stop",
    ) -> None:
        super().__init__(optimizer, scheduler, on_nan)
        self.network, self.loss, self.adversarial = network, loss, adversarial
        self.discriminator_lr_factor, self.seed = discriminator_lr_factor, seed

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the autoencoder with its loss, and the discriminator at a rate of its own."""
        groups: list[dict[str, Any]] = [{"params": [*self.network.parameters(), *self.loss.parameters()]}]
        if self.adversarial is not None:
            rate = self.make_optimizer(groups).defaults["lr"] * self.discriminator_lr_factor
            groups.append({"params": list(self.adversarial.discriminator.parameters()), "lr": rate})
        return groups

    def _reconstruct(self, x: Tensor, batch: int, rows: int | None = None) -> tuple[Tensor, AutoencodingTerms]:
        posterior = self.network.encode(x)
        ranks: dict[str, Any] = {"rank": self.global_rank, "world_size": world_size(), "rows": rows}
        noise = Noise(self.seed, "posterior", batch, 0, device=x.device, **ranks)
        reconstruction = self.network.decode(posterior.sample(noise))
        return reconstruction, self.loss(x, reconstruction, posterior)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch, of both players together."""
        x, step = batch[0], self.global_step
        reconstruction, terms = self._reconstruct(x, self.batches_done)
        total, generated, judged, logged = terms.total, None, None, _named(terms)
        if self.adversarial is not None:
            generated = self.adversarial.generator_term(reconstruction, terms.nll, self.network.last_layer, step)
            judged = self.adversarial.discriminator_term(x, reconstruction, step)
        if generated is not None and judged is not None:  # the game has begun
            total = total + generated.value + judged.value
            logged |= {
                "discriminator_loss": judged.value.detach(),
                "logit_real": judged.logit_real,
                "logit_fake": judged.logit_fake,
                "adversarial_weight": generated.weight,
            }
        self.log_terms("train", logged, len(x))
        return self.require_finite(total, lambda: first_non_finite(self.network, x))

    def evaluate(self, stage: str, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the bound; a batch has the same noise every time."""
        x = batch[0]
        rows = count_over_ranks(len(x), x.device)  # held-out batches need not be shared out evenly
        self.log_terms(stage, _named(self._reconstruct(x, batch_idx, rows)[1]), len(x))


def _named(terms: AutoencodingTerms) -> dict[str, Tensor]:
    return {("loss" if name == "total" else name): value.detach() for name, value in terms._asdict().items()}
