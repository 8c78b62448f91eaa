"""What is not the authors' network is refused, with the tensors that are wrong."""

import pytest
import torch

from iin_lightning.convert_from import autoencoder, classifier, translator
from iin_lightning.errors import CheckpointError, FactorError, NonFiniteError

CONVERT = {"autoencoder": autoencoder, "classifier": classifier, "translator": translator}
BLOCK = "realnvp.flow.1.flow"
INSIDE = {
    "autoencoder": "decoder_layers.0.sub_layers.0.weight",
    "classifier": "feature_layers.1.sub_layers.0.weight",
    "translator": f"{BLOCK}.1.t.0.main.2.weight",
}
"""A tensor in the middle."""


@pytest.fixture(params=CONVERT)
def kind(request):
    return request.param


@pytest.fixture
def refuse(small, kind):
    """Change a state dict, and see that it is refused."""

    def refuse(change, error, text):
        state = dict(small[kind])
        change(state)
        with pytest.raises(error, match=text):
            CONVERT[kind](state)

    return refuse


def test_an_unknown_tensor(refuse):
    refuse(lambda state: state.update({"ema.decay": torch.ones(1)}), CheckpointError, "has the unknown ema.decay")


def test_a_missing_tensor(refuse, kind):
    refuse(lambda state: state.pop(INSIDE[kind]), CheckpointError, f"lacks {INSIDE[kind]}")


def test_a_missing_layer_is_named_with_those_that_follow(refuse, kind):
    prefix = "realnvp.flow.0." if kind == "translator" else "feature_layers.0."

    def drop(state):
        for name in [name for name in state if name.startswith(prefix)]:
            del state[name]

    refuse(drop, CheckpointError, f"lacks {prefix}.*which gives the network's sizes")


def test_every_single_tensor_is_needed(small, kind):
    for name in small[kind]:
        state = {key: value for key, value in small[kind].items() if key != name}
        with pytest.raises(CheckpointError, match=f"lacks {name}"):
            CONVERT[kind](state)


def test_another_shape(refuse, kind):
    def cut(state):
        state[INSIDE[kind]] = state[INSIDE[kind]][:, :-1]

    refuse(cut, CheckpointError, f"do not fit the (Paper)?{kind.title()} .*{INSIDE[kind]} ")


def test_another_number_of_axes_where_sizes_come_from(refuse, kind):
    first = "realnvp.flow.0.flow.0.loc" if kind == "translator" else "feature_layers.0.sub_layers.0.weight"

    def flatten(state):
        state[first] = state[first].flatten()

    refuse(flatten, CheckpointError, f"{first} of the checkpoint must have 4 axes")


def test_values_that_are_not_finite(refuse, kind):
    def break_(state):
        state[INSIDE[kind]] = state[INSIDE[kind]] * float("nan")

    refuse(break_, NonFiniteError, f"not finite.*{INSIDE[kind]}")


def test_a_scale_without_a_logarithm(refuse, kind):
    scale = f"{BLOCK}.0.scale" if kind == "translator" else "feature_layers.1.sub_layers.1.scale"

    def zero(state):
        state[scale] = state[scale].clone()
        state[scale].view(-1)[0] = 0

    refuse(zero, NonFiniteError, f"no logarithm, in {scale}")


def test_a_permutation_that_is_none(small):
    for ways in (("forward",), ("backward",)):
        state = dict(small["translator"])
        for way in ways:
            state[f"{BLOCK}.2.{way}_shuffle_idx"] = torch.zeros(16, dtype=torch.long)
        with pytest.raises(CheckpointError, match=rf"{BLOCK}.2.forward_shuffle_idx .*is no permutation of 0, ..., 15"):
            translator(state)


def test_factors_that_do_not_fit(small):
    with pytest.raises(FactorError, match="sum to 12, but the latent has 16"):
        translator(small["translator"], {"digit": 5, "residual": 7})
    with pytest.raises(FactorError, match="have no 'residual'"):
        translator(small["translator"], {"digit": 9, "color": 7})


def test_an_unknown_normalisation(small):
    state = {name.replace("scale", "gain").replace("1.loc", "1.shift"): x for name, x in small["classifier"].items()}
    with pytest.raises(
        CheckpointError, match="have gain, initialized, shift, so their normalisation is none of actnorm"
    ):
        classifier(state)


def test_an_odd_latent_cannot_be_halved(small):
    state = dict(small["translator"])
    state["realnvp.flow.0.flow.0.loc"] = torch.zeros(1, 15, 1, 1)
    with pytest.raises(CheckpointError, match="latents have 15 dimensions"):
        translator(state)
