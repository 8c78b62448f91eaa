"""Runs to report on, of networks that know nothing yet: what is shown does not depend on what they know."""

import json
from collections.abc import Mapping

import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig

from iin_lightning import serialization
from iin_lightning.cli.compose import compose_train, register
from iin_lightning.cli.paths import conf_folder
from iin_lightning.encoders import Autoencoder, Classifier, Cut
from iin_lightning.encoders.zoo import Torchvision
from iin_lightning.factors import Factors
from iin_lightning.flows.translator import Translator
from iin_lightning.interpreter import Interpreter
from iin_lightning.report import Report
from iin_lightning.reporting.report import report
from iin_lightning.runs.folder import write_config

FEW = ("device=cpu", "response.steps=4", "response.walks=3", "response.draws=4")
SUP, UNSUP = {"residual": 4, "digit": 3, "color": 1}, {"residual": 8}


def composed(name, schema, *overrides):
    """Compose the configuration of a command as in a process of its own."""
    register()
    ConfigStore.instance().store(f"iin_lightning_{name}", schema)
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose(name, list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    return config


def ask(cache, *overrides):
    """Report in this process."""
    report(composed("report", Report, *FEW, f"paths.cache={cache}", *overrides))


def network(kind):
    """Make a network of random weights for images of 32 pixels."""
    torch.manual_seed(0)
    sizes = {"image_size": 32, "latent_dim": 8, "width": 4, "norm": "batch"}
    if kind == "torchvision":
        outside = Torchvision("shufflenet_v2_x0_5", weights=None, n_classes=10)
        return Cut(outside, f"model.{outside.default_layer}", image_size=32).eval()
    if kind.endswith("autoencoder"):
        return Autoencoder(channels=1 if kind.startswith("gray") else 3, **sizes).eval()
    return Classifier(n_classes=2 if kind.endswith("of 2") else 10, **sizes).eval()


def make(folder, kind, dims=None, outcome=None, data=("data=color_mnist",)):
    """Make a run folder of a kind of network, with factors (or none), results (or none) and chosen data."""
    encoder = network(kind)
    if dims is None:
        serialization.save(encoder, folder / "model", {"network": serialization.describe(encoder)})
    else:
        size = encoder.latent_dim
        translator = Translator(size, n_blocks=2, hidden=8)
        translator.initialize(torch.randn(64, size, generator=torch.Generator().manual_seed(3)))
        Interpreter(encoder, translator, Factors(dims, size)).save_pretrained(folder / "model")
    config = compose_train(*data)
    part = config.data
    while isinstance(part, Mapping):  # data that change other data
        part.update({"download": False} if "download" in part else {})
        part = part.get("base")
    write_config(folder / "config.yaml", config)
    if outcome is not None:
        (folder / "results.json").write_text(json.dumps(outcome))
    return folder
