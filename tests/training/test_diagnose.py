import pytest
import torch

from iin_lightning.flows import Translator
from iin_lightning.training.finite import first_non_finite


@pytest.mark.parametrize(
    ("parameter", "layer"),
    [
        ("blocks.0.actnorm.layer.log_scale", "blocks.0.actnorm.layer"),
        ("blocks.1.coupling_1.conditioner.first.weight", "blocks.1.coupling_1.conditioner.first"),
        ("blocks.3.coupling_2.conditioner.last.bias", "blocks.3.coupling_2.conditioner.last"),
    ],
)
def test_the_layer_with_a_broken_parameter_is_named(parameter, layer):
    translator = Translator(5, n_blocks=4, hidden=8)
    translator.get_parameter(parameter).data.view(-1)[-1] = torch.nan
    assert first_non_finite(translator, torch.randn(4, 5)).startswith(f"layer {layer!r} (")


def test_a_layer_that_overflows_is_named():
    translator = Translator(5, n_blocks=4, hidden=8)
    translator.get_submodule("blocks.2.actnorm.layer").log_scale.data.fill_(100)
    assert first_non_finite(translator, torch.randn(4, 5)).startswith(
        "layer 'blocks.2.actnorm.layer' (ActNormalization)"
    )


def test_the_network_is_left_as_it_was():
    translator = Translator(5, n_blocks=2, hidden=8)
    assert "every layer's output is finite" in first_non_finite(translator, torch.randn(64, 5))
    assert translator.training
    assert not translator.ready
    assert not any(module._forward_hooks for module in translator.modules())


def test_hooks_go_even_if_the_network_fails():
    translator = Translator(5, n_blocks=2, hidden=8)
    with pytest.raises(ValueError, match="latents of shape"):
        first_non_finite(translator, torch.randn(4, 6))
    assert not any(module._forward_hooks for module in translator.modules())
