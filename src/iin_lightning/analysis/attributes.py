"""Attributes: the questions with yes or no that the labels of a data set answer.

Symbols: labels (n, K) are whole numbers, a column a concept; the answer of an example is 1 where it has the attribute,
0 where it lacks it and -1 where nobody knows.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Attribute(NamedTuple):
    """A question with the answers yes and no.

    Attributes:
        concept: whose labels answer it.
        label: the one that means yes; all others mean no.
    """

    concept: str
    label: int


def attributes_in(classes: Mapping[str, Sequence[str]]) -> dict[str, Attribute]:
    """The attributes that concepts with classes are made of, by name.

    A concept of two classes is one attribute, named after the concept where its classes are "not X" and "X", otherwise
    after its second class; a concept of more is one attribute a class, against all the rest: ``digit=3``.

    Args:
        classes: concept -> names of its labels 0, 1, ...

    Example:
        >>> list(attributes_in({"Young": ("not Young", "Young"), "size": ("small", "tall"), "digit": "012"}))
        ['Young', 'size=tall', 'digit=0', 'digit=1', 'digit=2']
    """
    attributes: dict[str, Attribute] = {}
    for concept, names in classes.items():
        if len(names) == 2:
            answers = names[0] == f"not {names[1]}"
            attributes[concept if answers else f"{concept}={names[1]}"] = Attribute(concept, 1)
        elif len(names) > 2:
            attributes |= {f"{concept}={name}": Attribute(concept, label) for label, name in enumerate(names)}
    return attributes


def answers(labels: Tensor, concepts: Sequence[str], attributes: Mapping[str, Attribute]) -> dict[str, Tensor]:
    """What labels say of attributes: 1 has it, 0 lacks it, -1 unknown.

    Args:
        labels: whole numbers (n, K), -1 where unknown.
        concepts: the names of the K columns.
        attributes: by name, each of one of the concepts.

    Returns:
        Name -> whole numbers (n,).

    Example:
        >>> answers(torch.tensor([[3], [5], [-1]]), ["digit"], {"digit=3": Attribute("digit", 3)})
        {'digit=3': tensor([ 1,  0, -1])}
    """
    columns = {name: labels[:, concepts.index(attribute.concept)] for name, attribute in attributes.items()}
    return {
        name: torch.where(column < 0, -1, (column == attributes[name].label).long()) for name, column in columns.items()
    }


def compatible(name: str, names: Iterable[str]) -> list[str]:
    """The attributes that can be kept while another changes: not itself, and no class that excludes it.

    Who becomes a 3 ceases to be a 7. And the ten means of the digits span nine dimensions only, so that nothing of a
    digit's direction stands orthogonal to the other nine.

    Example:
        >>> compatible("digit=3", ["digit=3", "digit=7", "Smiling"])
        ['Smiling']
    """
    concept = name.partition("=")[0]
    return [other for other in names if other.partition("=")[0] != concept]


def examples(answer: Tensor) -> tuple[int, int]:
    """How many of the examples (n,) have an attribute, and how many lack it.

    Example:
        >>> examples(torch.tensor([1, 1, 0, -1]))
        (2, 1)
    """
    return int((answer == 1).sum()), int((answer == 0).sum())
