"""Versions of images as a data set: pairs with a known answer, in a world whose images say which one they are."""

from itertools import product

import pytest
import torch
from torchvision.transforms import v2

from iin_lightning.data.base import ORIGIN
from iin_lightning.data.changes import ChangedImages
from iin_lightning.data.images import ImageTensor, to_levels
from iin_lightning.data.latents import LatentCache
from iin_lightning.data.module import DataModule
from iin_lightning.data.pairs import sharing_pairs
from iin_lightning.data.stream import ConceptPairs, FixedPairs, FixedSingles, Pairs
from iin_lightning.data.swaps import FixedSwaps, differing_partners
from iin_lightning.errors import ConfigError, FactorError
from iin_lightning.factors import Factors
from iin_lightning.seeding import Noise, generator

N = 12


class Numbered(DataModule):
    """Image i has the grey level i everywhere, the digit i mod 3 and the colour i mod 4."""

    title, license, terms = "Numbers", "none", "none"
    concepts = ("digit", "color")
    kinds = {"digit": "class", "color": "color"}  # noqa: RUF012
    classes = {"digit": "012"}  # noqa: RUF012
    image_shape = (3, 2, 2)

    def load(self, split):
        number = torch.arange(N)
        pixels = number.byte()[:, None, None, None].expand(-1, 3, 2, 2).contiguous()
        return ImageTensor(pixels, torch.stack([number % 3, number % 4], 1), self.concepts)


class Plus:
    """Adds to every grey level."""

    def __init__(self, amount: int) -> None:
        self.amount = amount

    def __call__(self, pixels):
        return pixels + self.amount

    def __repr__(self):
        return f"Plus({self.amount})"


TONE = {"tone": {"mid": Plus(50), "high": Plus(100)}}
BOTH = {**TONE, "far": {"far": Plus(150)}}


def numbers(changes=None, **options) -> ChangedImages:
    return ChangedImages(Numbered(), TONE if changes is None else changes, **options)


def factors(*names: str) -> Factors:
    return Factors(dict.fromkeys(("residual", *names), 1), 1 + len(names))


def test_concepts_are_the_classes_that_are_kept_and_the_changes():
    data = numbers(BOTH)
    assert data.concepts == ("digit", "tone", "far")
    assert data.classes == {"digit": "012", "tone": ("original", "mid", "high"), "far": ("original", "far")}
    assert data.kinds == dict.fromkeys(data.concepts, "class")
    assert data.image_shape == (3, 2, 2)
    assert "3 versions" in data.notes()[-1]
    assert numbers(keep=[]).concepts == ("tone",)
    assert numbers(keep=["color"]).kinds == {"color": "color", "tone": "class"}


def test_an_item_is_the_version_that_its_labels_say():
    source = numbers(BOTH).source("train")
    assert source.concepts == ("digit", "tone", "far", ORIGIN)
    assert len(source) == 4 * N
    level = to_levels(source.draw(torch.arange(len(source)), None))
    assert torch.equal(level, level[:, :1, :1, :1].expand_as(level))
    digit, tone, far, image = source.labels.T
    assert torch.equal(level[:, 0, 0, 0].long(), image + 50 * tone + 150 * far)
    assert torch.equal(digit, image % 3)
    assert len(source.labels.unique(dim=0)) == 4 * N
    assert ((tone > 0) & (far > 0)).sum() == 0


@pytest.mark.parametrize("names", [("digit", "tone", "far"), ("far", "digit"), ("tone",), ("digit",)])
def test_the_mask_of_every_pair_of_items(names):
    source = numbers(BOTH).source("train")
    a, b = torch.cartesian_prod(torch.arange(len(source)), torch.arange(len(source))).T
    mask = ConceptPairs(source, factors(*names)).batch(a, b, None).shared
    rows = [dict(zip(source.concepts, row)) for row in source.labels.tolist()]
    for (one, other), shared in zip(product(rows, rows), mask.tolist()):
        same_image = one[ORIGIN] == other[ORIGIN]
        expected = [same_image and all(one[name] == other[name] for name in BOTH if name not in names)]
        expected += [one[name] == other[name] and (same_image or name == "digit") for name in names]
        assert shared == expected


def test_each_pair_of_versions_is_as_likely():
    source = numbers(keep=[]).source("train")
    anchors = torch.arange(len(source)).repeat(500)
    partners = ConceptPairs(source, factors("tone")).partners(anchors, generator(0))
    (tone_a, image_a), (tone_b, image_b) = source.labels[anchors].T, source.labels[partners].T
    assert torch.equal(image_a, image_b)
    pair = torch.stack([tone_a, tone_b]).sort(0).values
    counts = (3 * pair[0] + pair[1]).bincount(minlength=9)
    expected = len(anchors) / 3
    assert set(counts.nonzero()[:, 0].tolist()) == {1, 2, 5}
    assert (counts[[1, 2, 5]] - expected).abs().max() < 5 * (expected * 2 / 3) ** 0.5


def test_a_partner_for_a_change_differs_in_it_alone_and_one_for_a_label_is_of_another_image():
    source = numbers(BOTH).source("train")
    names = ("digit", "tone", "far")
    pairs = ConceptPairs(source, factors(*names))
    anchors = torch.arange(len(source)).repeat(50)
    possible = pairs.index.has_partner(anchors)
    for k, name in enumerate(names):
        asked = anchors[possible[:, k]]
        partners = pairs.index.draw(asked, torch.full_like(asked, k), generator(k))
        equal = source.labels[asked] == source.labels[partners]
        if name == "digit":
            assert equal[:, 0].all()
            assert equal[:, -1].float().mean() < 0.4  # versions of one image share a digit, too
        else:
            assert equal.tolist() == [[column != k for column in range(4)]] * len(asked)
    # A version in which another concept was changed has none that differs in this one alone.
    _, tone, far, _ = source.labels[anchors].T
    assert torch.equal(possible[:, 1], far == 0)
    assert torch.equal(possible[:, 2], tone == 0)


def test_beside_a_label_both_kinds_of_pairs_are_drawn_as_often():
    source = numbers().source("train")
    anchors = torch.arange(len(source)).repeat(300)
    pairs = ConceptPairs(source, factors("digit", "tone"))
    partners = pairs.partners(anchors, generator(1))
    same_image = source.labels[anchors, -1] == source.labels[partners, -1]
    digit = source.labels[:, 0]
    # Of those that share a digit the two other versions of the image are two.
    by_chance = (2 / (digit[:, None] == digit).sum(1).sub(1)).mean()
    assert same_image.float().mean() == pytest.approx((1 + by_chance.item()) / 2, abs=0.02)
    assert torch.equal(digit[anchors], digit[partners])


def test_training_pairs_are_versions_of_one_image_and_say_so():
    data = numbers(keep=[])
    streams = [
        Pairs(data.source("train"), factors("tone"), 16, 3),
        FixedPairs(data.source("test"), factors("tone"), 16, 3),
    ]
    for stream in streams:
        for step in range(2):
            a, b, shared = stream[step]
            level_a, level_b = (to_levels(x)[:, 0, 0, 0].long() for x in (a, b))
            assert torch.equal(level_a % 50, level_b % 50)
            assert (level_a != level_b).all()
            assert shared.tolist() == [[True, False]] * len(a)


def test_held_out_batches_say_of_which_images_they_are():
    source = numbers(keep=[]).source("test")
    singles, swaps = FixedSingles(source, 16), FixedSwaps(source, 16, 3)
    pairs = FixedPairs(source, factors("tone"), 16, 3)
    for step in range(2):
        number = [to_levels(x)[:, 0, 0, 0].long() % 50 for x in (singles[step].x, *pairs[step][:2])]
        assert torch.equal(singles.images(step), number[0])
        assert torch.equal(pairs.images(step), torch.stack(number[1:], 1))
        target, giver, images = swaps[step]
        assert torch.equal(images, torch.stack([to_levels(x)[:, 0, 0, 0].long() % 50 for x in (target.x, giver.x)], 1))


def test_a_factor_cannot_be_called_after_the_number_of_an_image():
    source = numbers().source("train")
    with pytest.raises(FactorError, match="no concept 'image'; allowed are: digit, tone"):
        ConceptPairs(source, factors(ORIGIN))


def test_dimensions_are_estimated_from_pairs_of_different_images():
    source = numbers(BOTH).source("train")
    items = torch.arange(len(source)).float()[:, None]
    pairs = sharing_pairs(LatentCache(items, torch.zeros_like(items), source.labels, source.concepts))
    assert set(pairs) == {"digit", "tone", "far"}
    for name, latents in pairs.items():
        a, b = (source.labels[z[:, 0].long()] for z in latents)
        column = source.concepts.index(name)
        assert torch.equal(a[:, column], b[:, column])
        assert (a[:, -1] != b[:, -1]).all()
        assert len(a[:, column].unique()) == len(source.labels[:, column].unique())


def test_a_swap_takes_its_factor_from_another_image_that_differs_in_every_concept():
    labels = numbers().source("test").labels
    assert (labels != labels[differing_partners(labels, seed=0)]).all()


def test_a_limit_counts_images_and_keeps_all_their_versions():
    data = numbers(limit=5)
    for split in ("train", "val", "test"):
        source = data.source(split)
        assert len(source) == 15
        assert source.labels[:, -1].bincount().tolist() == [3] * 5
        assert source is data.source(split)


def test_changes_of_changed_images_join():
    inner = numbers({"far": {"far": Plus(150)}}, keep=["color"], limit=7)
    data = ChangedImages(inner, TONE, limit=9)
    assert data.concepts == ("color", "far", "tone")
    assert isinstance(data.base, Numbered)
    assert len(data.source("train")) == 7 * 4
    with pytest.raises(ConfigError, match=r"far is a change of data\.base already"):
        ChangedImages(inner, {"far": {"away": Plus(1)}})


class Images(Numbered):
    concepts = ("image", "color")


MISTAKES = {
    "no change": (lambda: numbers({}), "There is no change"),
    "an unknown concept is kept": (lambda: numbers(keep=["diigt"]), "did you mean digit"),
    "a change with the name of a concept": (lambda: numbers({"digit": TONE["tone"]}), "called 'digit'"),
    "a change with the reserved name": (lambda: numbers({"image": TONE["tone"]}), "'image' is kept for"),
    "no versions": (lambda: numbers({"tone": {}}), "the versions none"),
    "two versions that are the same": (lambda: numbers({"tone": {"a": Plus(1), "b": Plus(1)}}), "by the same change"),
    "a version called original": (lambda: numbers({"tone": {"original": Plus(1)}}), "none of them 'original'"),
    "a data set with the reserved name": (
        lambda: ChangedImages(Images(), TONE, keep=[]),
        "A concept of Images is called",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_said_when_the_data_are_first_used(case):
    make, text = MISTAKES[case]
    data = make()
    with pytest.raises(ConfigError, match=text):
        data.source("train")


def test_a_cache_needs_a_folder_and_images_that_stay():
    with pytest.raises(ConfigError, match="cache_dir is not set"):
        numbers(cache="disk")
    with pytest.raises(ConfigError, match="did you mean disk"):
        numbers(cache="dosk")
    base = Numbered()
    base.cache = "none"  # as that of a data set of files
    with pytest.raises(ConfigError, match=r"data\.base\.cache"):
        ChangedImages(base, TONE, cache="ram")


def test_the_content_is_that_of_the_images_and_of_the_changes_wherever_they_are_kept(tmp_path):
    contents = [numbers(cache=cache, cache_dir=tmp_path).source("train").content() for cache in ("none", "ram", "disk")]
    assert len(set(contents)) == 1
    other = numbers({"tone": {"mid": Plus(50), "high": Plus(101)}}).source("train").content()
    assert other != contents[0]
    assert numbers(limit=4).source("train").content() != contents[0]


@pytest.mark.parametrize(("cache", "workers"), [("none", 2), ("ram", 0), ("disk", 2)])
def test_versions_do_not_depend_on_where_and_by_whom_they_are_made(cache, workers, tmp_path, monkeypatch):
    monkeypatch.setattr("iin_lightning.data.pixels.CHUNK", 5)
    random = {"noise": {"one": v2.GaussianNoise(sigma=0.2), "turned": v2.RandomRotation([0, 180])}}
    made = numbers({**random, **TONE}, cache=cache, cache_dir=tmp_path, num_workers=workers).source("train")
    plain = numbers({**random, **TONE}).source("train")
    items = torch.randperm(len(made), generator=generator(3))
    for key in (None, 1):
        a, b = (source.draw(items, key and Noise(key)) for source in (made, plain))
        assert torch.equal(a, b)
    assert torch.equal(made.labels, plain.labels)
    noise = to_levels(made.draw(torch.arange(N, 2 * N), None)).float()
    assert len(noise.sub(torch.arange(N)[:, None, None, None]).unique(dim=0)) == N, "each image has noise of its own"


def test_where_no_partner_differs_in_all_the_one_that_agrees_in_the_fewest_is_taken():
    """An original cannot differ in two changes at once, since no version has both."""
    key = torch.Generator().manual_seed(0)
    versions = torch.tensor([[0, 0], [1, 0], [0, 1], [0, 2]])
    digits = torch.randint(3, (50,), generator=key)
    labels = torch.cat([torch.cat([digits[:, None], version.expand(50, -1)], dim=1) for version in versions])
    agreements = (labels == labels[differing_partners(labels, seed=0)]).sum(1)
    fewest = (labels[:, None] == labels[None]).sum(2).amin(1)
    assert fewest[:50].tolist() == [1] * 50
    assert torch.equal(agreements, fewest)
