"""A network that stays as it is, whatever is done to the module that it is a part of."""

from typing import Self

from torch import nn


class Held(nn.Module):
    """A module that stays in evaluation mode and without gradients to its parameters: a trainer cannot wake it.

    ``parent.requires_grad_()`` and ``for m in parent.modules(): m.train()`` bypass the two methods below, so a
    subclass calls `hold` before it computes.

    Example:
        >>> class Mean(Held):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.norm = nn.BatchNorm1d(3)
        >>> held = Mean()
        >>> held.hold()
        >>> held.train().norm.training, held.requires_grad_().norm.weight.requires_grad
        (False, False)
    """

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever ``mode`` says."""
        super().train(False)
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Stay without gradients, whatever ``requires_grad`` says."""
        super().requires_grad_(False)
        return self

    def hold(self) -> None:
        """Put every part back, whoever changed it."""
        nn.Module.train(self, False)
        nn.Module.requires_grad_(self, False)
