import pytest
import torch
from scipy.stats import chisquare

from iin_lightning.data.pairs import PairIndex, shared_mask
from iin_lightning.errors import ShapeError
from iin_lightning.seeding import generator


def random_labels(n: int, cardinalities: list[int], seed: int = 0) -> torch.Tensor:
    key = generator(seed)
    return torch.stack([torch.randint(c, (n,), generator=key) for c in cardinalities], dim=1)


def allowed_partners(labels: torch.Tensor, anchor: int, concept: int) -> set[int]:
    """The same law, item by item: any other with the same label, else itself."""
    group = {i for i in range(len(labels)) if labels[i, concept] == labels[anchor, concept]}
    return group - {anchor} or {anchor}


WORLDS = {
    "one concept": random_labels(30, [4]),
    "two concepts": random_labels(40, [3, 5]),
    "labels with gaps and signs": random_labels(40, [3, 5]) * 7 - 3,
    "four concepts": random_labels(50, [2, 3, 2, 4]),
    "concepts that go together": torch.arange(12).div(3, rounding_mode="floor")[:, None].repeat(1, 2),
    "nothing shared": torch.arange(6)[:, None].repeat(1, 2),
    "a single item": torch.zeros(1, 3, dtype=torch.long),
}


@pytest.mark.parametrize("labels", WORLDS.values(), ids=WORLDS.keys())
def test_exactly_the_allowed_partners_are_drawn(labels):
    index = PairIndex(labels)
    n, n_concepts = labels.shape
    for concept in range(n_concepts):
        anchors = torch.arange(n).repeat(600)
        partners = index.draw(anchors, torch.full_like(anchors, concept), generator(concept))
        for anchor in range(n):
            assert set(partners[anchors == anchor].tolist()) == allowed_partners(labels, anchor, concept)


@pytest.mark.parametrize("concept", [0, 1])
@pytest.mark.parametrize("anchor", [0, 17, 59])
def test_partners_are_uniform(anchor, concept):
    labels = random_labels(60, [3, 4], seed=5)
    n_draws = 20_000
    drawn = PairIndex(labels).draw(
        torch.full((n_draws,), anchor), torch.full((n_draws,), concept), generator(anchor, concept)
    )
    counts = drawn.bincount(minlength=60)[sorted(allowed_partners(labels, anchor, concept))]
    assert counts.sum() == n_draws
    assert chisquare(counts.numpy()).pvalue > 1e-4


def test_each_row_may_ask_for_another_concept():
    labels = random_labels(500, [5, 6])
    anchors, concepts = torch.arange(500), torch.arange(500) % 2
    index = PairIndex(labels)
    partners = index.draw(anchors, concepts, generator(0))
    shared = shared_mask(labels[anchors], labels[partners])
    assert shared[anchors, concepts].all()
    assert shared.float().mean() == pytest.approx((1 + 1 / 5.5) / 2, abs=0.03)  # the other at chance


def test_partners_are_of_the_population_whatever_is_rare():
    """Glasses are as frequent among partners as among people, and given a smile as among those who smile."""
    smile = torch.rand(20_000, generator=generator(0)) < 0.5
    glasses = torch.rand(20_000, generator=generator(1)) < torch.where(smile, 0.05, 0.1)  # rare, and not independent
    labels = torch.stack([smile, glasses], dim=1).long()
    index, anchors = PairIndex(labels), torch.arange(20_000)
    for concept in (0, 1):
        partners = labels[index.draw(anchors, torch.full_like(anchors, concept), generator(concept, "draw"))]
        for value in (0, 1):
            group, drawn = (rows[labels[:, concept] == value].float().mean(0) for rows in (labels, partners))
            torch.testing.assert_close(drawn, group, rtol=0, atol=0.01)


def test_the_mask_is_what_the_groups_say_and_no_group_is_shared_with_nobody():
    groups = torch.tensor([[-1, 1, 5], [-1, 1, 6], [-1, 2, 6], [-1, 1, 5]])
    mask = shared_mask(groups[[0, 1, 0, 0]], groups[[1, 2, 2, 3]])
    assert mask.tolist() == [[False, True, False], [False, False, True], [False] * 3, [False, True, True]]


@pytest.mark.parametrize("shape", [(4,), (0, 2), (4, 0)])
def test_labels_of_another_shape_are_refused(shape):
    with pytest.raises(ShapeError, match="items, concepts"):
        PairIndex(torch.zeros(shape, dtype=torch.long))
