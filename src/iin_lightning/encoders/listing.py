"""The layers of a network: which there are, in which order, and through which everything goes."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from iin_lightning.encoders.taps import evaluating, tapped

Step = Any
"""A node of autograd's graph."""


class Layer(NamedTuple):
    """What one pass through a network shows of one of its modules.

    Attributes:
        name: as ``network.get_submodule`` takes it.
        shape: of its last output, without the batch; None if that is no tensor.
        calls: how often it was called; a network is cut at layers that are called once.
        passes_all: all that the network's output knows of the image went through it (as autograd's graph says).
    """

    name: str
    shape: tuple[int, ...] | None
    calls: int
    passes_all: bool


def layers(network: nn.Module, image: Tensor) -> list[Layer]:
    """The layers that one pass calls, in the order in which their outputs are there.

    Args:
        network: is run once in evaluation mode and left as it was.
        image: (B, C, H, W), as the network reads it.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.Flatten(), nn.Linear(8 * 7 * 7, 2))
        >>> for layer in layers(network, torch.zeros(1, 3, 16, 16)):
        ...     print(layer.name, layer.shape, layer.calls, layer.passes_all)
        0 (8, 7, 7) 1 True
        1 (392,) 1 True
        2 (2,) 1 True
    """
    outputs: dict[str, list[Any]] = {}

    def note(name: str, output: Any) -> Any:
        # A clone has a step of its own: that of an nn.Identity would be the step of what it was given.
        output = output.clone() if isinstance(output, Tensor) else output
        step = output.grad_fn if isinstance(output, Tensor) else None
        shape = tuple(output.shape[1:]) if isinstance(output, Tensor) else None
        calls = outputs.pop(name)[2] if name in outputs else 0  # popped, so that the last call gives the order
        outputs[name] = [shape, step, calls + 1]
        return output

    with evaluating(network), torch.inference_mode(False), torch.enable_grad(), ExitStack() as stack:
        for name, module in network.named_modules():
            if name:
                stack.enter_context(tapped(module, partial(note, name)))
        # No inference tensor, which autograd refuses; and no leaf, since the network may work in place.
        image = image.clone().detach().requires_grad_().clone()
        end = network(image)
    on_all_ways = _on_all_ways(end.grad_fn if isinstance(end, Tensor) else None, image.grad_fn)
    return [Layer(name, shape, calls, on_all_ways(step)) for name, (shape, step, calls) in outputs.items()]


def neighbours(network: nn.Module, image: Tensor, layer: str) -> str:
    """The end of an error's text: the nearest layers at which the network can be cut instead; empty if none can.

    Args:
        network: is run once in evaluation mode and left as it was.
        image: (B, C, H, W), as the network reads it.
        layer: the name at which it cannot be cut.
    """
    listed = layers(network, image)
    names = [one.name for one in listed]
    whole = [i for i, one in enumerate(listed) if one.calls == 1 and one.shape and one.passes_all]
    if layer in names:
        here = names.index(layer)
        near = [f"{names[i]} (before it)" for i in whole if i < here][-1:]
        near += [f"{names[i]} (behind it)" for i in whole if i > here][:1]
    else:
        near = [names[i] for i in whole[-3:]]
    return f"Everything goes through {' and '.join(near)}." if near else ""


def _on_all_ways(end: Step, start: Step) -> Callable[[Step], bool]:
    """Which steps do all ways of autograd's graph from end to start lead through?

    Counted: there are (ways from the end to it) * (ways from it to the start) that do. Whole numbers of Python are
    exact, however many ways a dense network has.
    """
    order: list[Step] = []
    seen = set()
    stack = [(end, False)] if end is not None else []
    while stack:
        step, done = stack.pop()
        if done:
            order.append(step)
        elif step not in seen:
            seen.add(step)
            stack += [(step, True), *((before, False) for before, _ in step.next_functions if before is not None)]
    to_start = {start: 1}
    for step in order:
        if step is not start:
            to_start[step] = sum(to_start.get(before, 0) for before, _ in step.next_functions)
    from_end = dict.fromkeys(order, 0) | {end: 1}
    for step in reversed(order):
        for before, _ in step.next_functions:
            if before is not None:
                from_end[before] += from_end[step]
    total = to_start.get(end, 0)
    return lambda step: step in from_end and from_end[step] * to_start.get(step, 0) == total > 0
