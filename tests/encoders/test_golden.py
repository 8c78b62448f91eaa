"""The numbers of the authors' code: with their weights, networks and losses agree."""

import numpy as np
import pytest
import torch
from tests.encoders import theirs
from tests.encoders.theirs import close, drawn
from torch import nn

from iin_lightning import convert_from
from iin_lightning.convert_from.encoder import names
from iin_lightning.encoders import DiagonalGaussian, PatchDiscriminator
from iin_lightning.losses.adversarial import Adversarial, adaptive_weight, discriminator_loss, generator_loss
from iin_lightning.losses.autoencoding import AutoencodingLoss

DISCRIMINATOR = "discriminator.main."


def check_gradients(network, golden, case):
    """Sum and norm of each gradient; theirs is with respect to the scale, ours to its logarithm."""
    parameters, checked = dict(network.named_parameters()), 0
    for ours, (name,) in names(network).items():
        if f"{case}grad_sum_l2/{name}" not in golden:
            continue
        grad = parameters[ours].grad.double()
        if name.endswith(".scale"):
            grad = grad / parameters[ours].detach().double().exp()
        total, norm = golden[f"{case}grad_sum_l2/{name}"]
        close(grad.norm(), norm, rtol=1e-3)
        # The sum cancels: its rounding goes with the norm and the number of terms.
        close(grad.sum(), total, rtol=1e-3, atol=1e-5 * float(norm) * grad.numel() ** 0.5 + 1e-5)
        checked += 1
    return checked


@pytest.fixture(scope="module")
def golden():
    return theirs.arrays("c_autoencoder")


@pytest.fixture(scope="module")
def keys():
    return theirs.keys("c_autoencoder")


@pytest.fixture(scope="module")
def state(keys, golden):
    return theirs.state(keys["ae"], golden)


@pytest.fixture(scope="module")
def autoencoder(state):
    return convert_from.autoencoder(state)


@pytest.fixture(scope="module")
def posterior(autoencoder, golden):
    with torch.no_grad():
        return autoencoder.encode(golden["images"])


def discriminator(keys, golden, spectral_norm=False):
    network = PatchDiscriminator(spectral_norm=spectral_norm)
    state = network.state_dict()
    for name, (_, shape) in keys["losspnd_spectral_norm" if spectral_norm else "losspnd"].items():
        if not name.startswith(DISCRIMINATOR) or name.rpartition(".")[2] in ("running_mean", "running_var"):
            continue
        index, kind = name.removeprefix(DISCRIMINATOR).split(".")
        parametrised = {"weight_orig": "original", "weight_u": "0._u", "weight_v": "0._v"}
        target = f"parametrizations.weight.{parametrised[kind]}" if kind in parametrised else kind
        if kind in ("weight_u", "weight_v"):
            value = golden[f"pnd_active_calib_sn/sd/{name}"]
        elif kind != "num_batches_tracked":
            value = drawn(name, shape, kind == "weight" and isinstance(network.layers[int(index)], nn.BatchNorm2d))
        else:
            continue
        state[f"layers.{index}.{target}"].copy_(value)
    return network


def patch_logits(network, images):
    """A training pass, whose power iteration starts with u as their torch did; ours starts with v."""
    for module in network.layers:
        if hasattr(module, "parametrizations"):
            (norm,) = module.parametrizations.weight
            w = module.parametrizations.weight.original.detach().flatten(1)
            norm._v = nn.functional.normalize(w.T @ norm._u, dim=0)
            norm._u = nn.functional.normalize(w @ norm._v, dim=0)
            norm.eval()  # take these vectors as they are
    return network(images)


@pytest.fixture
def reconstruction(autoencoder, golden):
    """The training pass: z drawn with the authors' noise. Gradients start from zero."""
    autoencoder.zero_grad()
    posterior = autoencoder.encode(golden["images"])
    z = posterior.mean + posterior.scale * golden["sample_noise"].flatten(1)
    return autoencoder.decode(z), posterior


def test_features_posterior_samples_and_images_agree(autoencoder, posterior, golden):
    features, moments = golden["images"], []
    with torch.no_grad():
        for layer in autoencoder.trunk.layers:
            features = layer(features)
            moments.append([features.mean(), features.std()])
    close(torch.tensor(moments), golden["feature_layer_mean_std"])
    close(features, golden["feature_layer3"])
    close(posterior.mean, golden["posterior_mean"])
    close(posterior.scale, golden["posterior_std"])
    close(2 * posterior.scale.log(), golden["posterior_logvar"])
    close(posterior.kl(), golden["kl"])
    z = posterior.mean + posterior.scale * golden["sample_noise"].flatten(1)
    close(z, golden["sample"])
    close(autoencoder.decode(posterior.mean), golden["decode_mean"])
    close(autoencoder.decode(z), golden["decode_sample"])


def test_actnorm_starts_from_the_same_statistics(golden, state):
    fresh = convert_from.autoencoder(state).train()
    for layer in fresh.modules():
        if hasattr(layer, "initialized"):
            layer.load_state_dict(type(layer)(layer.num_features).state_dict())
    with torch.no_grad():
        # Data-dependent: each layer sees what the layers before make of the batch.
        fresh.decode(fresh.encode(golden["images"]).mean)
    for ours, (name,) in names(fresh).items():
        if name.endswith(".loc"):
            close(fresh.state_dict()[ours], golden[f"sd/{name}"])
        if name.endswith(".scale"):
            close(fresh.state_dict()[ours].exp(), golden[f"sd/{name}"])


def test_distributions_beyond_the_clamp_agree(golden):
    mean, logvar = golden["dist/params"].flatten(1).chunk(2, dim=1)
    posterior = DiagonalGaussian.from_logvar(mean, logvar)
    close(posterior.mean, golden["dist/mean"])
    close(posterior.scale, golden["dist/std"])
    close(posterior.kl(), golden["dist/kl"])
    point = DiagonalGaussian.deterministic(mean)
    close(point.sample(), golden["dist_det/sample"])
    close(point.kl(), golden["dist_det/kl"].expand(len(mean)))


@pytest.mark.parametrize("case", ["pnd_inactive_calib", "pnd_active_nocalib"])
def test_likelihood_and_kl_agree_up_to_constants(case, golden, reconstruction):
    x, (x_hat, posterior) = golden["images"], reconstruction
    pixel = "l2" if case == "pnd_active_nocalib" else "l1"
    terms = AutoencodingLoss(pixel, "learned")(x, x_hat, posterior)
    dims = x[0].numel()
    if pixel == "l1":
        nll = terms.nll - dims * np.log(2)
        close(terms.abs_error, golden[f"{case}/rec_loss"])
    else:
        nll = 2 * (terms.nll - dims * 0.5 * np.log(2 * np.pi))
    close(nll, golden[f"{case}/nll_loss"])
    close(terms.kl, golden[f"{case}/kl_loss"])


def test_gradients_of_the_autoencoder_agree(autoencoder, golden, reconstruction):
    x, (x_hat, posterior) = golden["images"], reconstruction
    loss = AutoencodingLoss("l1", "learned")
    loss(x, x_hat, posterior).total.backward()
    case = "pnd_inactive_calib/"
    close(loss.log_scale.grad, golden[f"{case}grad_logvar"])
    close(autoencoder.last_layer.grad, golden[f"{case}grad_last_layer"], rtol=1e-3, atol=1e-2)
    assert check_gradients(autoencoder, golden, case) == 26


CASES = ["pnd_active_calib", "pnd_active_calib_sn", "pnd_active_nocalib", "pnd_inactive_calib"]


@pytest.mark.parametrize("case", CASES)
def test_the_adversarial_terms_agree(case, golden, keys, autoencoder, reconstruction):
    x, (x_hat, posterior) = golden["images"], reconstruction
    network = discriminator(keys, golden, spectral_norm=case.endswith("_sn"))
    # One pass through the discriminator served both sides in their code; so it does here.
    real, fake = (patch_logits(network, images) for images in (x, x_hat))
    close(real.mean(), golden[f"{case}/logits_real"])
    close(fake.mean(), golden[f"{case}/logits_fake"])
    close(generator_loss(fake), golden[f"{case}/g_loss"])
    if f"{case}/d_weight" in golden:
        nll = AutoencodingLoss("l1", "learned")(x, x_hat, posterior).nll
        weight = adaptive_weight(nll, generator_loss(fake), autoencoder.last_layer)
        close(weight, golden[f"{case}/d_weight"])
    if case == "pnd_inactive_calib":
        return  # before its start, where their loss is 0
    close(discriminator_loss(real, fake), golden[f"{case}/d_loss"])


@pytest.mark.parametrize("case", ["pnd_active_calib", "pnd_inactive_calib"])
def test_the_total_of_the_autoencoder_agrees(case, golden, keys, autoencoder, reconstruction):
    x, (x_hat, posterior) = golden["images"], reconstruction
    adversarial = Adversarial(discriminator(keys, golden), start=10)
    terms = AutoencodingLoss("l1", "learned")(x, x_hat, posterior)
    step = 20 if case == "pnd_active_calib" else 0
    term = adversarial.generator_term(x_hat, terms.nll, autoencoder.last_layer, step)
    total = terms.total + (0 if term is None else term.value)
    close(total - x[0].numel() * np.log(2), golden[f"{case}/loss"])


def test_gradients_of_the_discriminator_agree(golden, keys, reconstruction):
    x, (x_hat, _) = golden["images"], reconstruction
    adversarial = Adversarial(discriminator(keys, golden), start=10)
    adversarial.discriminator_term(x, x_hat, step=20).value.backward()
    checked = 0
    for name, parameter in adversarial.discriminator.named_parameters():
        total, norm = golden[f"pnd_active_calib/dgrad_sum_l2/{name.replace('layers', 'main')}"]
        close(parameter.grad.double().norm(), norm, rtol=1e-3)
        close(parameter.grad.double().sum(), total, rtol=1e-3, atol=1e-5 * parameter.numel() ** 0.5)
        checked += 1
    assert checked == 13


def test_embedding_logits_and_gradients_of_the_classifier_agree():
    golden = theirs.arrays("d_classifier")
    classifier = convert_from.classifier(theirs.state(theirs.keys("d_classifier"), golden))
    posterior = classifier.encode(golden["images"])
    close(posterior.mean, golden["embedding"])
    assert not posterior.scale.any()
    logits = classifier(golden["images"])
    close(logits, golden["logits"])
    # They train with one-hot labels and binary cross entropy.
    one_hot = nn.functional.one_hot(golden["labels"], 10).float()
    loss = nn.functional.binary_cross_entropy_with_logits(logits, one_hot)
    close(loss, golden["bce_mean"])
    loss.backward()
    assert check_gradients(classifier, golden, "") == 16
