"""The graph of a network: its layers, through which of them everything goes, and what follows a layer, alone."""

import inspect
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from threading import Lock, get_ident
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from iin_lightning.encoders.taps import evaluating, tapped

Step = Any
"""A node of autograd's graph."""

_TRACING = Lock()
"""torch.fx patches classes while it traces, and two at a time would put back each other's patches."""


class Layer(NamedTuple):
    """What a pass through a network shows of one of its modules.

    ``shape`` is of its last output, without the batch; None if that is no tensor. ``passes_all``: all that the
    network's output knows of the image went through it, as autograd's graph says.
    """

    name: str
    shape: tuple[int, ...] | None
    calls: int
    passes_all: bool


def layers(network: nn.Module, image: Tensor) -> list[Layer]:
    """List the layers that a pass in evaluation mode calls, in the order of their outputs; the network stays as it is.

    ``image`` (B, C, H, W) is as the network reads it.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.Flatten(), nn.Linear(8 * 7 * 7, 2))
        >>> for layer in layers(network, torch.zeros(1, 3, 16, 16)):
        ...     print(layer.name, layer.shape, layer.calls, layer.passes_all)
        0 (8, 7, 7) 1 True
        1 (392,) 1 True
        2 (2,) 1 True
    """
    outputs: dict[str, tuple[tuple[int, ...] | None, Step, int]] = {}

    def note(name: str, output: Any) -> Any:
        # A clone has a step of its own: that of an nn.Identity would be the step of what it was given.
        output = output.clone() if isinstance(output, Tensor) else output
        shape, step = (tuple(output.shape[1:]), output.grad_fn) if isinstance(output, Tensor) else (None, None)
        *_, calls = outputs.pop(name, (None, None, 0))  # popped, so that the last call gives the order
        outputs[name] = shape, step, calls + 1
        return output

    with evaluating(network), torch.inference_mode(False), torch.enable_grad(), ExitStack() as stack:
        for name, module in network.named_modules():
            if name:
                stack.enter_context(tapped(module, partial(note, name)))
        # No inference tensor, which autograd refuses; and no leaf, since the network may work in place.
        image = image.clone().detach().requires_grad_().clone()
        end = network(image)
    start, last = image.grad_fn, end.grad_fn if isinstance(end, Tensor) else None
    connected = _leads(last, start)
    return [
        Layer(name, shape, calls, connected and not _leads(last, start, without=step))
        for name, (shape, step, calls) in outputs.items()
    ]


def neighbours(network: nn.Module, image: Tensor, layer: str) -> str:
    """Name the nearest layers at which the network can be cut instead, for the end of an error; empty without any."""
    found = layers(network, image)
    names, cuts = [each.name for each in found], [each.calls == 1 and each.shape and each.passes_all for each in found]
    if layer not in names:
        near = [name for name, cut in zip(names, cuts) if cut][-1:]
    else:
        here = names.index(layer)
        near = [f"{name} (before it)" for name, cut in zip(names[:here], cuts) if cut][-1:]
        near += [f"{name} (behind it)" for name, cut in zip(names[here + 1 :], cuts[here + 1 :]) if cut][:1]
    return f"Everything goes through {' and '.join(near)}." if near else ""


def _leads(end: Step, start: Step, without: Step = None) -> bool:
    """Tell whether a way of autograd's graph leads from end to start, round the step ``without``."""
    ahead, seen = [end], {None, without}
    while ahead:
        step = ahead.pop()
        if step in seen:
            continue
        if step is start:
            return True
        seen.add(step)
        ahead += [before for before, _ in step.next_functions]
    return False


class Remainder:
    """What follows a layer: the nodes of a network's graph that the layer's output alone feeds, on the live modules.

    Only the modules around the layer are traced, in the mode that they are in; all others are single nodes, whatever
    happens inside them. A network that torch.fx cannot trace raises whatever torch.fx says; an output that needs more
    than the layer's raises LookupError.
    """

    def __init__(self, network: nn.Module, layer: nn.Module) -> None:
        self.network = network
        self.around = [m for m in network.modules() if m is not layer and any(part is layer for part in m.modules())]
        tracer = _Tracer(self.around)
        # Options of forward stand at their defaults, so that `if option:` can be traced.
        options = {
            name: parameter.default
            for name, parameter in inspect.signature(type(network).forward).parameters.items()
            if parameter.default is not parameter.empty
        }
        with _TRACING:
            graph = tracer.trace(network, concrete_args=options or None)
        self.graph = _behind(graph, lambda node: tracer.modules.get(node) is layer)

    @classmethod
    def of(cls, network: nn.Module, layer: nn.Module) -> "Remainder | None":
        """Return what lies behind the layer, if it can be traced."""
        try:
            remainder = cls(network, layer)
        except Exception:  # a network may do whatever Python can; then all of it is run again
            return None
        # A hook that is there now is traced, too, and would act on after it is removed.
        return remainder if remainder.valid else None

    def gives(self, output: Tensor, activation: Tensor) -> bool:
        """Tell whether it makes the same bits of what the layer gave as the whole network does."""
        try:
            return torch.equal(self(activation.clone()), output)
        except Exception:  # what was traced may not be all that the network does
            return False

    @property
    def valid(self) -> bool:
        """Whether the modules that were traced through are in evaluation mode, and nobody's hook is on them."""
        return not any(
            m.training or m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks
            for m in self.around
        )

    def __call__(self, activation: Tensor) -> Any:
        """Return the network's output, given what the layer gives."""
        # An Interpreter holds the values of one run: each call, and so each thread, has its own.
        return fx.Interpreter(self.network, graph=self.graph).run(activation)


class _Tracer(fx.Tracer):
    # Read anew at each run: buffers change when weights are loaded, and move with the network.
    proxy_buffer_attributes = True

    def __init__(self, around: list[nn.Module]) -> None:
        super().__init__()
        self._around = {id(module) for module in around}
        self._owner = get_ident()
        self.modules: dict[fx.Node, nn.Module] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return id(m) not in self._around

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        # While it traces, fx patches nn.Module for all threads; those of the others just go on.
        if get_ident() != self._owner:
            return forward(*args, **kwargs)
        result = super().call_module(m, forward, args, kwargs)
        if isinstance(result, fx.Proxy) and result.node.op == "call_module":
            self.modules.setdefault(result.node, m)
        return result

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return super().getattr(attr, attr_val, parameter_proxy_cache) if get_ident() == self._owner else attr_val

    def get_fresh_qualname(self, prefix: str) -> str:
        # fx asks for a name to keep a tensor by, in the network itself, as it was when it was traced.
        raise ValueError("The network makes a tensor of its own, which would stay as it is now.")


def _behind(graph: fx.Graph, is_layer: Callable[[fx.Node], bool]) -> fx.Graph:
    (layer,) = filter(is_layer, graph.nodes)
    # Everything that can be computed of the layer alone, also what nobody reads: it may work in place.
    behind: set[fx.Node] = {layer}
    free: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or node is layer:
            continue
        inputs = set(node.all_input_nodes)
        if inputs <= free:
            free.add(node)  # parameters, and what is made of them
        elif inputs <= behind | free:
            behind.add(node)
    (end,) = (node for node in graph.nodes if node.op == "output")
    if end not in behind:
        raise LookupError("The output needs more than this layer.")
    needed = set(behind)
    for node in reversed(graph.nodes):
        if node in needed and node is not layer:
            needed.update(node.all_input_nodes)
    rest = fx.Graph()
    copies = {layer: rest.placeholder("activation")}
    for node in graph.nodes:
        if node in needed and node is not layer:
            copies[node] = rest.node_copy(node, copies.__getitem__)
    return rest
