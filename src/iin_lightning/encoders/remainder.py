"""What follows a layer, without what comes before it: the part of a network's graph that its output alone feeds."""

import inspect
from collections.abc import Callable
from threading import Lock, get_ident
from typing import Any

import torch
from torch import Tensor, fx, nn

_TRACING = Lock()
"""torch.fx patches classes while it traces, and two at a time would put back each other's patches."""


class Remainder:
    """Runs the nodes behind a layer on the live modules of a network; none of them is copied or registered again.

    Only the modules around the layer are traced; all others are single nodes, whatever happens inside them.

    Args:
        network: is traced in the mode that it is in.
        layer: one of its modules.

    Raises:
        Exception: whatever torch.fx says of a network that it cannot trace.
        LookupError: the output needs more than this layer's.
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
        """What lies behind the layer, if it can be traced."""
        try:
            remainder = cls(network, layer)
        except Exception:  # a network may do whatever Python can; then all of it is run again
            return None
        # A hook that is there now is traced, too, and would act on after it is removed.
        return remainder if remainder.valid else None

    def gives(self, output: Tensor, activation: Tensor) -> bool:
        """Whether it makes the same bits of what the layer gave as the whole network does."""
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
        """The network's output, given what the layer gives."""
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
