import pytest
import torch

from iin_lightning.analysis.response import changed_share, explained_variance, version_response
from iin_lightning.errors import ShapeError


def evenly(versions):
    """Of versions that are all there are, and equally many."""
    return version_response(versions, torch.full(versions.shape[:1], 1 / len(versions)), versions.flatten(0, 1))


def test_a_network_that_ignores_the_change_is_invariant_and_one_that_sees_nothing_else_is_explained():
    images = torch.randn(1, 50, 3).expand(2, -1, -1).log_softmax(-1)
    assert all(value == 0 for value, *_ in evenly(images).values())
    versions = torch.randn(4, 1, 3).mul(5).expand(-1, 50, -1).log_softmax(-1)
    found = evenly(versions)
    assert found["explained_variance"].value == pytest.approx(1, abs=0.01)
    assert found["explained_variance_of_probabilities"].value == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("others", [0, 3])
def test_it_agrees_with_a_perfect_factor_that_is_drawn_from_other_items(others):
    """An image's offset plus its versions': what a translator that finds the change exactly would measure.

    With further versions, in which other concepts were changed, most items have this one unchanged. Not normalised, so
    that what a change does is the same for all items.
    """
    key = torch.Generator().manual_seed(0)
    images, change = torch.randn(400, 4, generator=key), 2 * torch.randn(3, 1, 4, generator=key)
    other = 2 * torch.randn(others, 1, 4, generator=key)
    change -= change[0].clone()  # that of the original is none
    versions = images + change
    items = torch.cat([versions, images + other]).flatten(0, 1)
    number = torch.cat([torch.arange(3), torch.zeros(others).long()]).repeat_interleave(400)
    offset = change[number, 0]
    drawn = number[torch.randint(len(number), (300,), generator=key)]
    redrawn = items - offset + change[drawn]
    shares = number.bincount() / len(number)
    found = version_response(versions, shares, items)
    for value, reference in (
        (found["explained_variance"], explained_variance(redrawn, items)),
        (found["changed_predictions"], changed_share(redrawn, items)),
    ):
        assert value.value == pytest.approx(reference.value, abs=0.05)
        assert value.low < value.value < value.high


@pytest.mark.parametrize(
    ("versions", "shares", "outputs"),
    [
        ((1, 5, 3), 1, (9, 3)),
        ((3, 1, 3), 3, (9, 3)),
        ((3, 5), 3, (9, 5)),
        ((3, 5, 3), 2, (9, 3)),
        ((3, 5, 3), 3, (1, 3)),
        ((3, 5, 3), 3, (9, 4)),
    ],
)
def test_too_little_to_compare_is_named(versions, shares, outputs):
    with pytest.raises(ShapeError, match="at least 2 versions"):
        version_response(torch.zeros(versions), torch.full((shares,), 1 / shares), torch.zeros(outputs))
