"""Both directions of a translator are a single graph: nothing in them waits for the host."""

import pytest
import torch

from iin_lightning.flows import PaperTranslator, Translator


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training, bf16"])
@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("kind", [Translator, PaperTranslator])  # between them they have every layer
def test_a_translator_is_one_graph(kind, direction, training):
    torch._dynamo.reset()
    translator, z = kind(6, n_blocks=1, hidden=8), torch.randn(16, 6)
    translator.initialize(z)
    written = getattr(translator.train(training), direction)
    compiled = torch.compile(written, backend="eager", fullgraph=True)  # a break is an error
    with torch.autocast("cpu", torch.bfloat16, enabled=training):
        for a, b in zip(compiled(z), written(z)):
            torch.testing.assert_close(a, b)


def test_compiled_training_initialises_with_the_first_batch():
    translator = Translator(5, n_blocks=1, hidden=8)
    compiled, z = torch.compile(translator, backend="eager"), torch.randn(64, 5)
    first, second = compiled(z), compiled(z)
    assert translator.ready
    torch.testing.assert_close(first, second)


def test_a_break_would_be_seen():
    def waits(z):
        return z if z.sum() > 0 else -z

    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(waits, backend="eager", fullgraph=True)(torch.randn(3))
