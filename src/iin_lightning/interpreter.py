"""The interpreter: a frozen network, its translator, and the edits that they make possible.

    x (B,C,H,W) -> E -> z (B,N) -> T -> z̃ = z̃_0 | z̃_1 | ... | z̃_K -> edit -> T^-1 -> z* -> G -> x* or logits

E and G are the two halves of the network f = G ∘ E that is explained, T is a bijection, so the network is neither
changed nor degraded: G(T^-1(T(E(x)))) = f(x). Source: Esser, Rombach, Ommer, CVPR 2020, arXiv 2004.13166.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from iin_lightning import serialization
from iin_lightning.bounded import Bounded
from iin_lightning.data.images import check_images
from iin_lightning.encoders.attach import Attached, attach_latents
from iin_lightning.encoders.base import Encoder
from iin_lightning.encoders.frozen import Frozen
from iin_lightning.errors import CheckpointError, FactorError, ShapeError
from iin_lightning.factors import Factors
from iin_lightning.flows.base import Bijector
from iin_lightning.flows.density import Mixture, StandardNormal


class Interpreter(nn.Module):
    """A frozen encoder E, a translator T, a decoder G and the factors: ask it and edit with it.

    Args:
        encoder: E, and G as its ``decode``; it is frozen here and stays so.
        translator: T, a bijection of R^N.
        factors: names and dimensions of the parts of z̃, the residual first.
        decoder: G, if it is another network than ``encoder.decode``.

    Raises:
        FactorError: the factors do not sum to the latent's dimension.
        ShapeError: the translator works on another dimension than the encoder.

    Example:
        >>> from iin_lightning.encoders.autoencoder import Autoencoder
        >>> from iin_lightning.flows.translator import Translator
        >>> network = Autoencoder(image_size=16, latent_dim=8, width=4, norm="batch")
        >>> factors = Factors({"residual": 4, "digit": 4}, latent_dim=8)
        >>> interpreter = Interpreter(network, Translator(8, n_blocks=2, hidden=16), factors)
        >>> a, b = torch.rand(2, 5, 3, 16, 16) * 2 - 1
        >>> interpreter.swap(a, b, ["digit"]).shape
        torch.Size([5, 3, 16, 16])
        >>> {name: tuple(part.shape) for name, part in interpreter.factors_of(a).items()}
        {'residual': (5, 4), 'digit': (5, 4)}
    """

    def __init__(
        self, encoder: Encoder, translator: Bijector, factors: Factors, decoder: nn.Module | None = None
    ) -> None:
        super().__init__()
        if factors.latent_dim != encoder.latent_dim:
            raise FactorError(
                f"{factors} sum to {factors.latent_dim}, but the encoder's latent has {encoder.latent_dim} dimensions."
            )
        dim = getattr(translator, "dim", encoder.latent_dim)
        if dim != encoder.latent_dim:
            raise ShapeError(
                f"The translator works on {dim} dimensions, the encoder's latent has {encoder.latent_dim}: "
                f"build it with dim={encoder.latent_dim}."
            )
        self.encoder = encoder if isinstance(encoder, Frozen) else Frozen(encoder)
        self.translator = translator
        self.factors = factors
        self.decoder = decoder

    @property
    def density(self) -> StandardNormal | Mixture:
        """The density of z̃ with ``log_prob`` and ``sample``: the translator's own, or N(0, 1)."""
        return getattr(self.translator, "density", None) or StandardNormal(self.factors.latent_dim)

    @property
    def device(self) -> torch.device:
        """The device of its weights; the CPU if it has none."""
        return next((t.device for t in chain(self.parameters(), self.buffers())), torch.device("cpu"))

    def encode(self, x: Tensor) -> Tensor:
        """Images (B,C,H,W) in [-1,1] to latents z (B,N): the mean of E's distribution.

        Raises:
            RangeError: images are no tensor, no batch, no floating-point numbers, or in another range.
        """
        check_images(x)
        return self.encoder.encode(x.to(self.device)).mean

    def decode(self, z: Tensor) -> Tensor:
        """Latents z (B,N) through G: images in [-1,1], or logits, as ``encoder.output`` says."""
        return self.encoder.decode(z) if self.decoder is None else self.decoder(z)

    def complement(self, x: Tensor) -> Tensor | None:
        """What z does not say of images (B,C,H,W) and G reads all the same; None where z says everything."""
        return self.encoder.complement(x.to(self.device))

    def resume(self, z: Tensor, complement: Tensor | None) -> Tensor:
        """Latents z (B,N) with what they do not say through G: ``decode`` where they say everything."""
        return self.encoder.resume(z, complement) if self.decoder is None else self.decoder(z)

    def translate(self, z: Tensor) -> Tensor:
        """Latents to factors: z̃ = T(z), both (B,N)."""
        return self.translator(z)[0]

    def untranslate(self, z_tilde: Tensor) -> Tensor:
        """Factors to latents: z = T^-1(z̃), both (B,N)."""
        return self.translator.inverse(z_tilde)[0]

    def factors_of(self, x: Tensor) -> dict[str, Tensor]:
        """Images (B,C,H,W) to their factors by name, each (B,N_k)."""
        return self.factors.split(self.translate(self.encode(x)))

    def replace(self, z: Tensor, parts: Mapping[str, Tensor]) -> Tensor:
        """Latents z* (B,N) whose named factors are the given ones (B,N_k), all others those of z.

        z* = T^-1(T(z)*), where * replaces parts: the one edit of which all others are made.
        """
        for name in parts:
            self.factors[name]
        return self.untranslate(self.factors.merge(self.factors.split(self.translate(z)) | dict(parts)))

    @torch.no_grad()
    def edit(self, x: Tensor, parts: Mapping[str, Tensor]) -> Tensor:
        """Give images x new values of the named factors, keep the rest, and decode."""
        return self.resume(self.replace(self.encode(x), parts), self.complement(x))

    @torch.no_grad()
    def swap(self, target: Tensor, source: Tensor, names: str | Iterable[str]) -> Tensor:
        """Targets (B,C,H,W) with the named factors of the sources (B,C,H,W), pair by pair (Figs. 2, 5, 6).

        No name gives the target's reconstruction, all names the source's, but for what a cut network reads beside z.
        Grids of many are made by `iin_lightning.analysis.swap.swap_grid`.
        """
        chosen = self.factors.mask(names).tolist()
        parts = self.factors_of(source)
        return self.edit(target, {name: parts[name] for name, taken in zip(self.factors, chosen) if taken})

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """f(x) = G(T^-1(T(E(x)))): what the edit that changes nothing shows."""
        return self.edit(x, {})

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw new outputs x = G(T^-1(z̃)) of z̃ ~ N(0, 1) (Eq. 13), by a CPU's generator: the same on every device.

        A translator with another density of z̃ draws from that.
        """
        z_tilde = self.density.sample(count, generator)
        return self.decode(self.untranslate(z_tilde.to(self.device)))

    @torch.no_grad()
    def interpolate(self, a: Tensor, b: Tensor, steps: int) -> Tensor:
        """Walk straight in z̃ from images a to images b, (B,C,H,W) both, to outputs (steps, B, ...) (Fig. 4).

        Both ends count as steps.
        """
        z_tilde_a, z_tilde_b = self.translate(self.encode(a)), self.translate(self.encode(b))
        weights = torch.linspace(0, 1, steps, device=self.device)[:, None, None]
        path = torch.lerp(z_tilde_a, z_tilde_b, weights)
        rest_a, rest_b = self.complement(a), self.complement(b)
        if rest_a is not None and rest_b is not None:
            weights = weights.view(-1, *[1] * rest_a.ndim).to(rest_a.dtype)
            rest_a = torch.lerp(rest_a, rest_b, weights).flatten(0, 1)
        return self.resume(self.untranslate(path.flatten(0, 1)), rest_a).unflatten(0, (steps, len(z_tilde_a)))

    @contextmanager
    def attach(
        self,
        network: nn.Module,
        layer: str,
        *,
        edit: Callable[[dict[str, Tensor]], Mapping[str, Tensor]] | None = None,
    ) -> Iterator[Attached]:
        """Read, and edit, factors within a network's own forward pass, in this thread, while the context lasts.

        The layer is the submodule whose output E gives; other branches may bypass it. ``edit`` gets its factors by
        name, each (B,N_k), and returns new values of some; if of none, nothing is written back. ``factors`` of what is
        yielded are those of the layer's last call, before the edit; gradients flow through them.

        Raises:
            ConfigError: the network has no such layer; at a pass: its output is no tensor.
            ShapeError: at a pass: its output has another shape than E's.
            FactorError: at a pass: an edit names an unknown factor.

        Example:
            >>> from iin_lightning.encoders import Classifier
            >>> from iin_lightning.flows.translator import Translator
            >>> network = Classifier(n_classes=3, image_size=16, latent_dim=8, width=4).eval()
            >>> factors = Factors({"residual": 6, "gray": 2}, latent_dim=8)
            >>> interpreter = Interpreter(network, Translator(8, n_blocks=2, hidden=16), factors)
            >>> without = lambda factors: {"gray": torch.zeros_like(factors["gray"])}
            >>> with interpreter.attach(network, "to_latent", edit=without) as attached:
            ...     logits = network(torch.rand(5, 3, 16, 16) * 2 - 1)
            >>> logits.shape, attached.factors["gray"].shape
            (torch.Size([5, 3]), torch.Size([5, 2]))
        """
        attached = Attached()

        def change(z: Tensor) -> Tensor | None:
            attached.factors = self.factors.split(self.translate(z))
            parts = edit(dict(attached.factors)) if edit is not None else {}
            return self.replace(z, parts) if parts else None

        with attach_latents(network, layer, self.encoder.encoder, change):
            yield attached

    @torch.no_grad()
    def log_prob(self, x: Tensor) -> Tensor:
        """Log-likelihood log p(z) = log p(T(z)) + log |det T'(z)| at z = E(x), in nats, (B,)."""
        z_tilde, logdet = self.translator(self.encode(x))
        return self.density.log_prob(z_tilde) + logdet

    def save_pretrained(self, folder: str | Path, **extra: Any) -> None:
        """Write ``model.safetensors`` and ``model.json`` into a folder, with plain values as ``extra`` (provenance)."""
        parts = {"encoder": self.encoder, "translator": self.translator, "decoder": self.decoder}
        structure = {
            "parts": {k: None if v is None else serialization.describe(v) for k, v in parts.items()},
            "factors": dict(self.factors),
            "latent_dim": self.factors.latent_dim,
        }
        serialization.save(self, Path(folder), structure | extra)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "Interpreter":
        """Read the interpreter that ``save_pretrained`` wrote, from its folder or from that of its run.

        Raises:
            CheckpointError: the folder holds no interpreter, or a damaged one.
        """
        folder = serialization.model_folder(Path(folder))
        structure = serialization.read_structure(folder)
        source = str(folder / serialization.STRUCTURE)
        if "parts" not in structure:
            raise CheckpointError(f"{folder} holds no interpreter; a single network is read by serialization.load.")
        try:
            with Bounded(Path(folder) / serialization.WEIGHTS):
                parts: dict[str, Any] = {
                    k: None if v is None else serialization.build(v, source, own=structure[serialization.SIGNATURE])
                    for k, v in structure["parts"].items()
                }
            interpreter = cls(factors=Factors(structure["factors"], structure["latent_dim"]), **parts)
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{source} lacks {error}, or it is damaged. Copy the folder again.") from error
        serialization.load_weights(interpreter, folder)
        return interpreter.eval()

    def extra_repr(self) -> str:
        """The factors, for ``print``."""
        return repr(self.factors)
