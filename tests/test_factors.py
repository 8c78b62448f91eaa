"""Laws of factors: what is split can be merged, and what does not fit is named."""

import pytest
import torch

from iin_lightning.errors import FactorError, ShapeError
from iin_lightning.factors import Factors

FACTORS = Factors({"digit": 2, "residual": 3, "color": 1}, latent_dim=6)


def test_merge_is_the_inverse_of_split_in_any_order():
    z_tilde = torch.randn(4, 6)
    parts = FACTORS.split(z_tilde)
    assert torch.equal(FACTORS.merge(dict(reversed(parts.items()))), z_tilde)


def test_the_residual_comes_first_whatever_order_it_was_given_in():
    assert FACTORS.names == ("residual", "digit", "color")
    assert FACTORS.concepts == ("digit", "color")
    assert torch.equal(FACTORS.split(torch.arange(6.0)[None])["residual"], torch.tensor([[0.0, 1.0, 2.0]]))


def test_a_mask_over_factors_expands_to_their_dimensions():
    expanded = FACTORS.expand(torch.stack([FACTORS.mask(["digit"]), FACTORS.mask(["residual", "color"])]))
    assert expanded.long().tolist() == [[0, 0, 0, 1, 1, 0], [1, 1, 1, 0, 0, 1]]


@pytest.mark.parametrize(
    ("dims", "text"),
    [
        ({"digit": 6}, "no 'residual'"),
        ({"residual": 3, "digit": 2}, r"residual 3 \+ digit 2 sum to 5, but the latent has 6.*\+1"),
        ({"residual": 6, "digit": 0}, "at least 1, but got {'digit': 0}"),
        ({"residual": 5.0, "digit": 1}, "whole dimension"),
    ],
)
def test_dimensions_that_do_not_fit_are_named(dims, text):
    with pytest.raises(FactorError, match=text):
        Factors(dims, latent_dim=6)


def test_an_unknown_factor_is_named_with_the_nearest_known_one():
    with pytest.raises(FactorError, match=r"'digits'.*did you mean digit"):
        FACTORS.mask(["digits"])


def test_parts_and_tensors_of_another_size_are_refused():
    with pytest.raises(ShapeError, match="6 dimensions"):
        FACTORS.split(torch.zeros(1, 5))
    with pytest.raises(FactorError, match="exactly the parts"):
        FACTORS.merge({"residual": torch.zeros(1, 3)})
    with pytest.raises(ShapeError, match="'digit' has 2"):
        FACTORS.merge(FACTORS.split(torch.zeros(1, 6)) | {"digit": torch.zeros(1, 3)})
