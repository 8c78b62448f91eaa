"""What a notebook does with a model folder and a data set; run as a script by test_notebook."""

import sys
from pathlib import Path

import torch

from iin_lightning.data.color_mnist import ColorMNISTMini
from iin_lightning.encoders import Autoencoder, Classifier
from iin_lightning.factors import Factors
from iin_lightning.flows import Translator
from iin_lightning.interpreter import Interpreter
from iin_lightning.questions.measures import leakage
from iin_lightning.questions.subject import Subject, load_model
from iin_lightning.questions.swap import swap
from iin_lightning.questions.walk import walk


def main():
    sizes = {"image_size": 32, "latent_dim": 8, "width": 4, "norm": "batch"}
    data = ColorMNISTMini(views=1, limit=60)
    translator = Translator(8, n_blocks=1, hidden=8)
    translator.initialize(torch.randn(64, 8))
    model = Interpreter(Autoencoder(**sizes), translator, Factors({"residual": 4, "digit": 3, "color": 1}, 8))
    model.save_pretrained(Path("model"))

    judge = Classifier(n_classes=10, **sizes)
    subject = Subject(Path("model"), load_model(Path("model")).eval(), data, lambda concept: judge)
    assert swap(subject, targets=2, sources=2, factors=None, pairs=4, seed=0).figures
    assert walk(subject, steps=2, r=0.9, walks=3, draws=2, law="prior", concept=None, seed=0).numbers["factors"]
    assert "digit/own" in leakage(subject, probe="linear")
    loaded = {"hydra", "omegaconf"} & set(sys.modules)
    print("swap walk leakage, without hydra" if not loaded else f"loaded: {loaded}")


if __name__ == "__main__":
    main()
