"""Both directions of every bijection are one graph: nothing in them waits for the host."""

from collections.abc import Callable

import pytest
import torch
from tests.flows.networks import mlp

from iin_lightning.flows import ActNorm, AffineCoupling, Bijector, Chain, Inverse, Permutation, Translator

BIJECTORS: dict[str, Callable[[], Bijector]] = {
    "actnorm": lambda: ActNorm(6),
    "coupling": lambda: AffineCoupling(6, "first", mlp(8, 1)),
    "permutation": lambda: Permutation([2, 0, 1, 5, 4, 3]),
    "chain": lambda: Chain([ActNorm(6), Inverse(AffineCoupling(6, "second", mlp(8, 1)))]),
    "translator": lambda: Translator(6, n_blocks=2, hidden=8),
    "inverse": lambda: Inverse(Translator(6, n_blocks=2, hidden=8)),
}


@pytest.mark.parametrize("low", [False, True], ids=["float32", "bf16"])
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("name", BIJECTORS)
def test_a_bijection_is_one_graph(name, direction, training, low):
    torch._dynamo.reset()
    bijector, z = BIJECTORS[name](), torch.randn(16, 6)
    bijector.inverse(z) if name == "inverse" else bijector(z)  # for ActNorm
    written = getattr(bijector.train(training), direction)
    compiled = torch.compile(written, backend="eager", fullgraph=True)  # a break is an error
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        for a, b in zip(compiled(z), written(z)):
            torch.testing.assert_close(a, b)


def test_a_break_would_be_seen():
    def waits(z):
        return z if z.sum() > 0 else -z

    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(waits, backend="eager", fullgraph=True)(torch.randn(3))
