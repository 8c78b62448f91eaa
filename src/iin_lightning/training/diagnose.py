"""Where in a network NaN or infinity begins, for error messages."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def first_non_finite(network: nn.Module, x: Tensor) -> str:
    """Run a network once more and name the first module whose output is not finite.

    It runs in evaluation mode, so that no layer takes statistics from the batch under suspicion, and is left as it
    was. It waits for the device at each module: meant for after a failure.

    Args:
        network: any; modules may return tensors or tuples of them.
        x: what it was given, (B, ...).

    Returns:
        Half a sentence.

    Example:
        >>> first_non_finite(nn.Sequential(nn.Identity(), nn.ReLU()), torch.tensor([[1.0], [float("nan")]]))
        '1 of 2 examples in the batch are not finite'
    """
    bad = int((~torch.isfinite(x)).flatten(1).any(1).sum())
    if bad:
        return f"{bad} of {len(x)} examples in the batch are not finite"
    found: list[str] = []

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            outputs = output if isinstance(output, tuple) else (output,)
            if not found and not all(torch.isfinite(t).all() for t in outputs if isinstance(t, Tensor)):
                found.append(f"layer {name!r} ({type(module).__name__}) is the first whose output is not finite")

        return hook

    hooks = [module.register_forward_hook(watch(name)) for name, module in network.named_modules() if name]
    was_training = network.training
    try:
        network.eval()(x)
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return found[0] if found else "every layer's output is finite, so the loss itself overflowed"
