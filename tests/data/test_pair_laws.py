"""Laws of pairs and splits that every data set keeps; a new one adds a row."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from tests.data import fakes
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import RandomInvert

from iin_lightning.data.animal_faces import AnimalFaces
from iin_lightning.data.base import ORIGIN
from iin_lightning.data.celeba import CelebA
from iin_lightning.data.changes import ChangedImages
from iin_lightning.data.cifar10 import CIFAR10
from iin_lightning.data.color_mnist import ColorMNIST
from iin_lightning.data.deep_fashion import DeepFashion
from iin_lightning.data.image_folder import ImageFolder
from iin_lightning.data.mnist import MNIST, FashionMNIST
from iin_lightning.data.module import DataModule
from iin_lightning.data.pairs_csv import PairsCSV
from iin_lightning.data.stream import ConceptPairs, FixedPairs, Pairs, Singles
from iin_lightning.factors import Factors
from iin_lightning.seeding import generator

SPLITS = ("train", "val", "test")


class Case(NamedTuple):
    """A data set on fake files.

    Attributes:
        write: writes the files below a folder, and returns what the data set asks for.
        make: (what write returned, options) -> the data.
    """

    write: Callable[[Path], Path]
    make: Callable[..., DataModule]


def files(kind: type, **fixed) -> Callable[..., DataModule]:
    return lambda root, **options: kind(root, **{"cache": "none", "num_workers": 0, **fixed, **options})


def write_mnist(root: Path) -> Path:
    (fakes.write_fashion_mnist(root) / "FashionMNIST").rename(root / "MNIST")
    return root


CASES = {
    "mnist": Case(write_mnist, lambda root, **o: MNIST(root, **{"val_fraction": 0.3, **o})),
    "color_mnist": Case(write_mnist, lambda root, **o: ColorMNIST(root, **{"views": 2, "val_fraction": 0.3, **o})),
    "fashion_mnist": Case(
        fakes.write_fashion_mnist, lambda root, **o: FashionMNIST(root, **{"val_fraction": 0.3, **o})
    ),
    "cifar10": Case(fakes.write_cifar10_batches, files(CIFAR10, val_fraction=0.2)),
    "cifar10 in folders": Case(fakes.write_cifar10_folders, files(CIFAR10, val_fraction=0.2)),
    "celeba": Case(fakes.write_celeba, files(CelebA)),
    "celeba with people": Case(fakes.write_celeba, files(CelebA, attributes=("Male", "identity"))),
    "animal_faces": Case(fakes.write_animal_faces, files(AnimalFaces)),
    "animal_faces, official": Case(fakes.write_animal_faces, files(AnimalFaces, partition="official")),
    "deep_fashion": Case(fakes.write_deep_fashion, files(DeepFashion, val_fraction=0.2)),
    "image_folder": Case(fakes.write_image_folder, files(ImageFolder)),
    "image_folder with splits": Case(
        lambda root: fakes.write_image_folder(root, ("train", "val", "test")), files(ImageFolder)
    ),
    "pairs_csv": Case(fakes.write_pairs_csv, files(PairsCSV)),
    "pairs_csv with splits": Case(lambda root: fakes.write_pairs_csv(root, split=True), files(PairsCSV)),
    "versions of celeba": Case(
        fakes.write_celeba,
        lambda root, limit=None, **o: ChangedImages(
            CelebA(root, attributes=["Male"], cache="none", num_workers=0, limit=limit, **o),
            {"film": {"negative": RandomInvert(p=1.0)}},
            num_workers=0,
            **o,
        ),
    ),
}
SEVERAL_CONCEPTS = ["color_mnist", "celeba", "celeba with people", "pairs_csv", "pairs_csv with splits"]
VERSIONS = ["versions of celeba"]  # whose pairs are other ones, see test_changes
every_case = pytest.mark.parametrize("name", CASES)
every_labelled = pytest.mark.parametrize("name", [name for name in CASES if name not in VERSIONS])


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., DataModule]]:
    roots: dict[str, Path] = {}

    def make(name: str, **options) -> DataModule:
        if name not in roots:
            roots[name] = CASES[name].write(tmp_path_factory.mktemp("data"))
        return CASES[name].make(roots[name], **options)

    return make


def factors_of(data: DataModule) -> Factors:
    dims = dict.fromkeys(("residual", *data.concepts), 1)
    return Factors(dims, len(dims))


def pixels_of(source) -> set[bytes]:
    x = source.draw(torch.arange(len(source)), None)
    return {image.numpy().tobytes() for image in x.add(1).mul(127.5).round().byte()}


@every_case
def test_the_card_fits_the_sources(name, build):
    data = build(name)
    assert data.title
    assert data.license
    assert data.terms
    assert set(data.kinds) == set(data.concepts)
    assert (len(data.concepts) > 1) == (name in SEVERAL_CONCEPTS + VERSIONS)
    assert set(data.kinds.values()) <= {"class", "color", "identity"}
    assert set(data.classes) == {concept for concept, kind in data.kinds.items() if kind == "class"}
    for split in SPLITS:
        source = data.source(split)
        assert source.concepts == (data.concepts if name not in VERSIONS else (*data.concepts, ORIGIN))
        assert source.labels.shape == (len(source), len(source.concepts))
        assert source.labels.dtype == torch.long
        x = source.draw(torch.tensor([0, len(source) - 1]), None)
        assert x.shape == (2, *data.image_shape)
        for concept, names in data.classes.items():
            column = source.labels[:, data.concepts.index(concept)]
            assert 0 <= column.min() <= column.max() < len(names)
    assert sum(data.broken.values()) == 0


@every_labelled
def test_a_pair_shares_what_its_mask_says(name, build):
    data = build(name)
    source, factors = data.source("train"), factors_of(data)
    streams = [Pairs(source, factors, 16, 3), FixedPairs(source, factors, 16, 3)]
    for stream in streams:
        for step in range(2):
            a, b = stream.indices(step)
            mask = stream[step].shared
            assert not mask[:, 0].any()
            assert torch.equal(mask[:, 1:], source.labels[a] == source.labels[b])
            assert (a != b).all()


@every_labelled
def test_every_partner_shares_a_concept_where_there_is_one_to_share(name, build):
    data = build(name)
    source = data.source("train")
    pairs = ConceptPairs(source, factors_of(data))
    anchors = torch.arange(len(source)).repeat(20)
    partners = pairs.partners(anchors, generator(0))
    can_share = torch.stack([(column[:, None] == column).sum(1) > 1 for column in source.labels.T]).any(0)[anchors]
    shares = (source.labels[anchors] == source.labels[partners]).any(1)
    assert torch.equal(shares, can_share)


@pytest.mark.parametrize("name", SEVERAL_CONCEPTS)
def test_a_concept_that_is_not_asked_for_is_shared_at_chance_level(name, build):
    """Of partners for concept k, the others agree as often as among all other items that share k."""
    source = build(name).source("train")
    n, n_concepts = source.labels.shape
    anchors = torch.arange(n).repeat(300)
    pairs = ConceptPairs(source, factors_of(build(name)))
    agree = source.labels[:, None] == source.labels  # (n, n, K)
    other = ~torch.eye(n, dtype=torch.bool)
    asked = 0
    for k in range(n_concepts):
        candidates = agree[:, :, k] & other
        has_other = candidates.any(1)
        if not has_other.any():  # no two of the images share k alone, as the material of the fake table
            continue
        expected = (candidates[:, :, None] & agree).sum(1)[has_other] / candidates.sum(1)[has_other, None]
        partners = pairs.index.draw(anchors, torch.full_like(anchors, k), generator(k))
        drawn = agree[anchors, partners][has_other[anchors]]
        torch.testing.assert_close(drawn.float().mean(0), expected.mean(0), rtol=0, atol=0.02)
        asked += 1
    assert asked


@every_case
def test_no_held_out_image_is_trained_on(name, build):
    data = build(name)
    train, val, test = (pixels_of(data.source(split)) for split in SPLITS)
    assert train
    assert val
    assert test
    assert not train & test
    assert not train & val
    assert not val & test


@pytest.mark.parametrize("name", ["celeba", "pairs_csv", "versions of celeba"])
def test_the_same_seed_gives_the_same_pairs_and_another_seed_others(name, build):
    data, again = build(name), build(name)
    streams = [Pairs(data.source("train"), factors_of(data), 16, seed) for seed in (3, 4)]
    repeated = Pairs(again.source("train"), factors_of(again), 16, 3)
    for left, right in zip(streams[0][5], repeated[5]):
        assert torch.equal(left, right)
    assert not torch.equal(torch.stack(streams[0].indices(5)), torch.stack(streams[1].indices(5)))


@every_case
def test_the_splits_do_not_depend_on_the_seed_of_a_run(name, build):
    if name == "color_mnist":
        pytest.skip("its colours are drawn by the seed, its digits are those of mnist")
    for split in SPLITS:
        assert pixels_of(build(name, seed=1).source(split)) == pixels_of(build(name, seed=2).source(split))


@pytest.mark.parametrize("name", ["color_mnist", "image_folder"])
def test_two_workers_never_give_the_same_noise(name, build):
    source = build(name).source("train")
    stream = Singles(source, len(source), 0)  # every batch has every image
    exact = source.draw(torch.arange(len(source)), None)
    inside = (exact.abs() < 1).all(0)  # the noise of black and white is clamped, so it depends on the image
    assert inside.sum() > 100
    noise = []
    for step, batch in enumerate(DataLoader(stream, sampler=range(4), batch_size=None, num_workers=2)):
        # In 256ths of a level and rounded, so that the same noise on other images is the same to the bit.
        noise.append((batch.x - exact[stream.indices(step)])[:, inside].mul(127.5 * 256).round())
    assert len(torch.cat(noise).unique(dim=0)) == 4 * len(source)


@every_case
def test_a_limit_leaves_some_images_of_each_split(name, build):
    whole, part, again = build(name), build(name, limit=6, seed=5), build(name, limit=6, seed=5)
    for split in SPLITS:
        source = part.source(split)
        assert 0 < len(source) <= 6 * (2 if name in VERSIONS else 1)
        assert torch.equal(source.labels, again.source(split).labels)
        if name != "color_mnist":  # a view more or less changes no split, but which digit has which colour
            assert pixels_of(source) <= pixels_of(whole.source(split))


def test_a_limit_keeps_the_views_of_an_appearance_together(build):
    for seed in range(5):
        labels = build("deep_fashion", limit=7, seed=seed).source("train").labels
        assert labels.unique(return_counts=True)[1].min() >= 3
