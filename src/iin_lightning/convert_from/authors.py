"""Which of the authors' networks a state dict is of."""

from collections.abc import Iterable
from typing import Literal

from iin_lightning.errors import CheckpointError, listed

Kind = Literal["autoencoder", "classifier", "translator"]

# How tensors begin that the others do not have.
MARKS: dict[Kind, tuple[str, ...]] = {
    "translator": ("realnvp.",),
    "classifier": ("classifier.",),
    "autoencoder": ("dense_decode.", "decoder_layers.", "image_layer."),
}


def kind_of(names: Iterable[str]) -> Kind:
    """Which network the tensors of these names make.

    An autoencoder is one with or without spectral norm, which is its discriminator's; a translator is one with or
    without factors, whose tensors are the same.

    Args:
        names: of the state dict.

    Raises:
        CheckpointError: none of the authors'.

    Example:
        >>> kind_of(["feature_layers.0.sub_layers.0.weight", "classifier.weight"])
        'classifier'
    """
    names = list(names)
    for kind, marks in MARKS.items():
        if any(name.startswith(marks) for name in names):
            return kind
    raise CheckpointError(
        f"The checkpoint is of none of the authors' networks ({', '.join(MARKS)}): it has {listed(names)}. "
        "A network of your own needs no conversion: wrap it as an Encoder, and give it to Interpreter."
    )
