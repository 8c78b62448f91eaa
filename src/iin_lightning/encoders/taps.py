"""Hooks that live for one call: watch what a layer gives, or put something else in its place.

The network itself never changes: a hook is removed when its context ends, also by an exception, and it answers calls
of its own thread alone, so that several threads may look into the same network at once.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn

from iin_lightning.errors import ConfigError, IINError

NEVER_CALLED = "This batch never called the layer: the network went another way. Name a layer that every image passes."


class _Reached(Exception):
    """No error: the end of a pass that need not go on."""


@contextmanager
def tapped(module: nn.Module, react: Callable[[Any], Any]) -> Iterator[None]:
    """Call ``react`` with each output of ``module`` in this thread; unless it returns None, that replaces the output.

    Example:
        >>> double = nn.Identity()
        >>> with tapped(double, lambda output: 2 * output):
        ...     double(torch.ones(1))
        tensor([2.])
        >>> double(torch.ones(1)), len(double._forward_hooks)
        (tensor([1.]), 0)
    """
    owner = get_ident()
    handle = module.register_forward_hook(
        lambda _module, _inputs, output: react(output) if get_ident() == owner else None
    )
    try:
        yield
    finally:
        handle.remove()


def output_of(module: nn.Module, run: Callable[[], Any]) -> Any:
    """Return what ``module`` gives within ``run()``, which ends there: nothing behind the module is computed."""
    outputs: list[Any] = []

    def stop(output: Any) -> None:
        outputs.append(output)
        raise _Reached

    with tapped(module, stop):
        try:
            run()
        except _Reached:
            return outputs[0]
    raise ConfigError(NEVER_CALLED)


def run_with(module: nn.Module, output: Tensor, run: Callable[[], Any]) -> Any:
    """Return ``run()`` where ``module`` gives ``output``, whatever the module computed."""
    calls: list[None] = []

    def replace(_: Any) -> Tensor:
        calls.append(None)
        return output

    with tapped(module, replace):
        result = run()
    if not calls:
        raise ConfigError(NEVER_CALLED)
    return result


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Hold evaluation mode for a block; then each module is back in the mode that it was in."""
    modes = {module: module.training for module in network.modules()}
    try:
        for module in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def reading(image: Tensor) -> Iterator[None]:
    """Turn any failure within the block, but of memory, into a ConfigError: the network reads other images."""
    try:
        yield
    except (IINError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a network of others may raise anything
        shape, reason = "x".join(map(str, image.shape[1:])), next(iter(str(error).splitlines()), "")
        raise ConfigError(
            f"The network fails on images of {shape} ({type(error).__name__}: {reason}). If it reads another number of "
            "channels, say mean and std of each (for one 'encoder.mean=[0.5]' 'encoder.std=[0.5]'); if another size, "
            "say that (encoder.size=224, 'encoder.size=[64,128]')."
        ) from error


def find(network: nn.Module, layer: str) -> nn.Module:
    """Return the module of that name; without it, the ConfigError names the nearest."""
    names = [name for name, _ in network.named_modules(remove_duplicate=False) if name]
    if layer in names:
        return network.get_submodule(layer)
    near = get_close_matches(layer, names, n=6, cutoff=0.0)
    hint = f"; nearest of its {len(names)} layers: {', '.join(near)} (did you mean {near[0]}?)" if near else ""
    raise ConfigError(f"{type(network).__name__} has no layer {layer!r}{hint}")
