"""Any network, cut at any of its layers: E up to and including the layer, G behind it.

    x -> preprocess -> network up to the layer -> a (B, *activation_shape) -> flatten, reduce -> z (B, N)
    z -> restore -> a written back at the layer -> the rest of the network -> logits or image

The network is not changed. What z does not say of x is the *complement*: nothing, where all goes through the layer;
the images themselves, where a skip connection or a branch goes round it (the layer is *bypassed*); what a reduction
left out of a.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from iin_lightning import seeding
from iin_lightning.encoders.base import DiagonalGaussian, Encoder, Output, Size, plain, sides
from iin_lightning.encoders.graph import Remainder, layers, neighbours
from iin_lightning.encoders.reductions import PCA, Reduction
from iin_lightning.encoders.taps import evaluating, find, output_of, reading, run_with, tapped
from iin_lightning.errors import ConfigError, ShapeError
from iin_lightning.progress import Bar, waiting

PROBES = 2
"""Images of the dry run: more than one, so that a batch can be told from an axis of size 1."""


class Cut(Encoder):
    """E and G of any network at one of its layers; f(x) = G(E(x)) = network(preprocess(x)) bit for bit.

    z is the activation, flattened to H*W*C numbers, or what a reduction keeps of it. ``decode`` runs only what lies
    behind the layer where torch.fx can trace that, and else the whole network on a picture of noise, with the
    activation written back at the layer.

    Args:
        network: any module that makes logits (B, classes), values (B, V) or images of ``preprocess``'s images.
        layer: name of a submodule that is called once in a pass, "layer4.1" (``layers`` lists them).
        image_size: side of x, or height and width.
        preprocess: of images in [-1, 1] what the network reads; None hands them on.
        reduction: keeps fewer numbers than the activation has.

    Attributes:
        activation_shape: of what the layer gives, without the batch.
        bypassed: whether what follows reads more than this layer, so that ``decode`` needs the images.

    Raises:
        ConfigError: the layer does not exist or is not called once in a pass, its output is no tensor, the network's
            output is no tensor or not the same twice, or what is asked for needs more than a bypassed layer.
        ShapeError: the layer's output has no batch axis; ``encode`` or ``decode`` is given another shape.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 10))
        >>> cut = Cut(network, "1", image_size=16)
        >>> x = torch.rand(2, 3, 16, 16) * 2 - 1
        >>> z = cut.encode(x).mean
        >>> z.shape, cut.activation_shape, torch.equal(cut.decode(z), network(x))
        (torch.Size([2, 1568]), (8, 14, 14), True)
    """

    def __init__(
        self,
        network: nn.Module,
        layer: str,
        *,
        image_size: Size = 224,
        channels: int = 3,
        output: Output = "logits",
        preprocess: nn.Module | None = None,
        reduction: Reduction | None = None,
    ) -> None:
        super().__init__()
        self.network, self.layer, self.image_size, self.channels = network, layer, plain(image_size), channels
        self.output, self.preprocess, self.reduction = output, preprocess, reduction
        find(network, layer)
        with evaluating(self):
            self._dry_run()
        if reduction is None:
            self.latent_dim = torch.Size(self.activation_shape).numel()
        elif self.bypassed:
            raise ConfigError(
                f"What follows {layer!r} reads more than this layer, so a reduction of it has no way back. "
                f"{self._neighbours()}"
            )
        else:
            self.latent_dim = reduction.prepare(self.activation_shape)
            reduction.to(self._like.device)

    def encode(self, x: Tensor) -> DiagonalGaussian:
        """Return the point z (B, N) of images (B, C, H, W) in [-1, 1]; nothing behind the layer is computed."""
        return DiagonalGaussian.deterministic(self.latents_of(self._activation(x)))

    def decode(self, z: Tensor) -> Tensor:
        """Return the network's output, given z (B, N) alone: of a reduction the complement is 0."""
        return self.resume(z, None)

    def complement(self, x: Tensor) -> Tensor | None:
        """Return what z does not say of images (B, C, H, W): the images, what the reduction leaves out, or None."""
        if self.bypassed:
            self._check_images(x, self.channels, self.image_size)
            return x
        return None if self.reduction is None else self.rest_of(self._activation(x))

    def resume(self, z: Tensor, complement: Tensor | None) -> Tensor:
        """Return the network's output, given z (B, N) and what it does not say."""
        self._check_latents(z)
        if complement is not None and len(complement) != len(z):
            raise ShapeError(f"The complement of {len(complement)} images comes with {len(z)} latents: give as many.")
        if not self.bypassed:
            return self._follow(self.activation_of(z, complement))
        if complement is None:
            raise ConfigError(
                f"What follows {self.layer!r} reads more than this layer, so z alone is not enough: use "
                f"resume(z, complement(images)) or Interpreter.attach. {self._neighbours()}"
            )
        return self._rerun(complement, self.activation_of(z))

    def latents_of(self, activation: Tensor) -> Tensor:
        """Map what the layer gives (B, *activation_shape) to z (B, N)."""
        return activation.flatten(1) if self.reduction is None else self.reduction.reduce(activation)

    def rest_of(self, activation: Tensor) -> Tensor | None:
        """Return what z does not say of what the layer gives: (B, *activation_shape), None without a reduction."""
        if self.reduction is None:
            return None
        return activation - self.reduction.restore(self.reduction.reduce(activation))

    def activation_of(self, z: Tensor, rest: Tensor | None = None) -> Tensor:
        """Map z (B, N) and the rest to what the layer would give (B, *activation_shape), in a tensor of its own."""
        activation = z.unflatten(1, self.activation_shape) if self.reduction is None else self.reduction.restore(z)
        if rest is not None:
            activation = activation + rest
        activation = activation.to(self._dtype or self._like.dtype)
        # Laid out as the layer does, since kernels round as the layout goes.
        # A clone, since what follows may work in place.
        back = sorted(range(len(self._order)), key=self._order.__getitem__)
        return activation.permute(self._order).clone(memory_format=torch.contiguous_format).permute(back)

    def fit_reduction(self, batches: Iterable[Tensor], n_images: int | None = None) -> None:
        """Fit a PCA to the activations of training images; a reduction that learns nothing is left alone.

        Only as many batches (B, C, H, W) are taken as needed: for ``n_images``, or else for four images a component,
        since with about as many images as components the last ones follow chance. The fit takes twice
        n_images * H*W*C floats of memory.

        Raises:
            ConfigError: fewer images than components.
        """
        if not isinstance(self.reduction, PCA):
            return
        wanted = 4 * self.reduction.n_components if n_images is None else n_images
        device, size = self.reduction.mean.device, torch.Size(self.activation_shape).numel()
        activations, count = torch.empty(wanted, size), 0
        with evaluating(self), torch.no_grad(), Bar() as bar:
            task = bar.add_task("Reading activations", total=wanted)
            for batch in batches:
                taken = batch[: wanted - count].to(device)
                activations[count : count + len(taken)] = self._activation(taken).flatten(1).cpu()
                count += len(taken)
                bar.advance(task, len(taken))
                if count == wanted:
                    break
        with waiting(f"Finding {self.reduction.n_components} principal components"):
            self.reduction.fit(activations[:count])

    @property
    def _module(self) -> nn.Module:
        return self.network.get_submodule(self.layer)

    @property
    def _like(self) -> Tensor:
        """A tensor that is where and as the network's numbers are."""
        return next((p for p in self.network.parameters() if p.is_floating_point()), torch.empty(0))

    def _run(self, x: Tensor) -> Any:
        return self.network(x if self.preprocess is None else self.preprocess(x))

    def _activation(self, x: Tensor) -> Tensor:
        self._check_images(x, self.channels, self.image_size)
        return output_of(self._module, lambda: self._run(x))

    def _follow(self, activation: Tensor) -> Tensor:
        """Run what lies behind the layer, of its output alone."""
        if self._remainder is not None and self._remainder.valid:
            return self._remainder(activation)
        return self._rerun(self._noise(1).to(activation.device).expand(len(activation), -1, -1, -1), activation)

    def _rerun(self, x: Tensor, activation: Tensor) -> Tensor:
        """Run the whole network on x, with the activation written back at the layer."""
        return run_with(self._module, activation, lambda: self._run(x))

    def _noise(self, count: int) -> Tensor:
        """Draw images of noise, the same each time, where and as the network's numbers are."""
        shape = (count, self.channels, *sides(self.image_size))
        noise = torch.rand(shape, generator=seeding.generator(seeding.FIXED, "split")) * 2 - 1
        return noise.to(self._like)

    @torch.no_grad()
    def _dry_run(self) -> None:
        """Find out the activation's shape and layout, and how to come back from it."""
        module = self._module
        x, other = self._noise(2 * PROBES).split(PROBES)
        given: list[Any] = []
        # A clone, since what follows may work in place.
        tap = tapped(module, lambda output: given.append(output.clone() if isinstance(output, Tensor) else output))
        with reading(self._read()), tap:
            output = self._run(x)
        activation = self._checked(given)
        if not isinstance(output, Tensor):
            raise ConfigError(
                f"{type(self.network).__name__} gives a {type(output).__name__}, not a tensor: wrap it in a module "
                "whose forward returns the logits or the image alone."
            )
        if not _close(self._run(x), output):
            raise ConfigError(
                f"{type(self.network).__name__} gives two answers to the same images in evaluation mode: what it "
                "draws or remembers (dropout that ignores eval(), running statistics) has to be off."
            )
        self.activation_shape = tuple(activation.shape[1:])
        # From the axis that varies slowest to the axis that varies fastest: (0, 2, 3, 1) of channels_last.
        self._order = sorted(range(activation.ndim), key=activation.stride, reverse=True)
        self._dtype = None if activation.dtype == x.dtype else activation.dtype
        remainder = Remainder.of(self.network, module)
        # So that a network that remembers its last images gives itself away, and forgets what was traced.
        self._run(other)
        self._remainder = remainder if remainder is not None and remainder.gives(output, activation) else None
        self.bypassed = self._remainder is None and not (
            # Another image must make no difference, and autograd's graph must show no way round: a network whose
            # last weights are still zero says the same of all images.
            _close(self._rerun(other, activation.clone()), output) and self._passes_all()
        )

    def _checked(self, given: list[Any]) -> Tensor:
        """Return the activation, if it is the only output of the layer and a batch of real numbers."""
        if len(given) != 1:
            raise ConfigError(
                f"The layer {self.layer!r} is called {len(given)} times in one pass, so the network cannot be cut "
                f"there: name a layer that is called once. {self._neighbours()}"
            )
        (activation,) = given
        if not isinstance(activation, Tensor) or not activation.is_floating_point():
            kind = f"a {type(activation).__name__}, not a tensor"
            if isinstance(activation, Tensor):
                kind = f"{activation.dtype}, not real numbers"
            raise ConfigError(
                f"The layer {self.layer!r} gives {kind}: name a layer behind it or inside it. {self._neighbours()}"
            )
        if activation.ndim < 2 or len(activation) != PROBES:
            raise ShapeError(
                f"The layer {self.layer!r} gives {tuple(activation.shape)} for {PROBES} images: the batch must be its "
                f"first axis of at least two. Name another layer."
            )
        return activation

    def _passes_all(self) -> bool:
        listed = layers(self.network, self._read())
        return next(each.passes_all for each in listed if self.network.get_submodule(each.name) is self._module)

    def _read(self) -> Tensor:
        """Return an image of noise as the network reads it."""
        image = self._noise(1)
        return image if self.preprocess is None else self.preprocess(image)

    def _neighbours(self) -> str:
        return neighbours(self.network, self._read(), self.layer)


def _close(a: Tensor, b: Tensor) -> bool:
    """Tell whether they agree but for rounding; kernels may be chosen anew at each call."""
    scale = b.abs().nan_to_num(0.0, 0.0).amax().item()
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5 * scale, equal_nan=True)
