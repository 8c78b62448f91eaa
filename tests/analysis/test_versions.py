import pytest
import torch

from iin_lightning.analysis.response import changed_share, explained_variance
from iin_lightning.analysis.versions import version_response
from iin_lightning.errors import ShapeError


def test_a_network_that_ignores_the_change_is_invariant_and_one_that_sees_nothing_else_is_explained():
    images = torch.randn(1, 50, 3).expand(2, -1, -1).log_softmax(-1)
    assert all(value == 0 for value, *_ in version_response(images).values())
    versions = torch.randn(4, 1, 3).mul(5).expand(-1, 50, -1).log_softmax(-1)
    found = version_response(versions)
    assert found["explained_variance"].value == pytest.approx(1)
    assert found["explained_variance_of_probabilities"].value == pytest.approx(1)


def test_it_agrees_with_a_perfect_factor_that_is_drawn_from_other_items():
    """An image's offset plus its version's: what a translator that finds the change exactly would measure."""
    key = torch.Generator().manual_seed(0)
    images, versions = torch.randn(400, 4, generator=key), 2 * torch.randn(3, 1, 4, generator=key)
    y = (images + versions).log_softmax(-1)
    drawn = torch.randint(3, (300,), generator=key)
    items = y.flatten(0, 1)
    redrawn = y[drawn].repeat(1, 3, 1)  # item (v, i) with the version of a draw in place of v
    found = version_response(y)
    for value, reference in (
        (found["explained_variance"], explained_variance(redrawn, items)),
        (found["changed_predictions"], changed_share(redrawn, items)),
    ):
        assert value.value == pytest.approx(reference.value, abs=0.05)
        assert value.low < value.value < value.high


@pytest.mark.parametrize("shape", [(1, 5, 3), (3, 1, 3), (3, 5)])
def test_too_little_to_compare_is_named(shape):
    with pytest.raises(ShapeError, match="at least 2 versions"):
        version_response(torch.zeros(shape))
