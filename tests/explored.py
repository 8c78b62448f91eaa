"""Models to explore that were never trained: what is tested is the page, not what they have learned."""

import torch

from iin_lightning.data.color_mnist import ColorMNISTMini
from iin_lightning.encoders.autoencoder import Autoencoder
from iin_lightning.encoders.classifier import Classifier
from iin_lightning.explorer.explored import Explored
from iin_lightning.factors import Factors
from iin_lightning.flows.translator import Translator
from iin_lightning.interpreter import Interpreter
from iin_lightning.questions.subject import Subject

FACTORS = {"residual": 3, "digit": 3, "color": 2}


def interpreter(kind, images, seed=0):
    """An autoencoder, or a classifier, of 32x32 images with a translator, all of random weights."""
    torch.manual_seed(seed)
    sizes = {"image_size": 32, "latent_dim": 8, "width": 4, "norm": "batch"}
    network = Autoencoder(**sizes) if kind == "autoencoder" else Classifier(n_classes=10, **sizes)
    for weights in network.parameters():
        if weights.dim() > 1:
            torch.nn.init.kaiming_normal_(weights)  # else all outputs are nearly zero
    translator = Translator(8, n_blocks=2, hidden=8)
    translator(network.eval().encode(images).mean.detach())  # ActNorm looks at its first batch
    return Interpreter(network, translator, Factors(FACTORS, 8)).eval()


def make(folder, kind="autoencoder", name="mine", seed=0, gallery=12):
    """A model with 200 digits, that lies in a folder."""
    data = ColorMNISTMini(views=1, limit=200)
    model = interpreter(kind, data.source("train").draw(torch.arange(100), None), seed)
    model.save_pretrained(folder)
    return explore(folder, model, data, name, gallery)


def explore(folder, model, data, name, gallery=12):
    """A model and data that are given, as the page has them."""
    return Explored(name, Subject(folder, model, data, cache=folder / "cache"), gallery, seed=0)
