"""An encoder whose latents are easy to compute by hand."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn


@dataclass
class Gaussian:
    mean: torch.Tensor
    scale: torch.Tensor


class LinearEncoder(nn.Module):
    """z ~ N(W x, (1/2)²); counts the images that it has seen."""

    def __init__(self, in_features: int, latent_dim: int = 6) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.seen = 0
        weight = torch.randn(latent_dim, in_features, generator=torch.Generator().manual_seed(1))
        self.weight = nn.Parameter(weight / in_features**0.5)

    def encode(self, x: torch.Tensor) -> Gaussian:
        assert not self.training
        self.seen += len(x)
        mean = x.flatten(1) @ self.weight.T
        return Gaussian(mean, torch.full_like(mean, 0.5))


@pytest.fixture
def encoder():
    return LinearEncoder(3 * 32 * 32)
