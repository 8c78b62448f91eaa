"""Fake data sets of real names and layouts, which all tests share: noise in a random colour, a few images each.

Every function writes below an empty folder and returns it as the ``root`` (or ``table``) that the data set asks for.
No two images have the same pixels, whatever their data set.
"""

import io
import pickle
import tarfile
from pathlib import Path
from typing import ClassVar

import torch
from PIL import Image

from iin_lightning.data.celeba import ATTRIBUTES
from iin_lightning.data.cifar10 import CLASSES
from iin_lightning.seeding import generator


def pixels(name: str, width: int, height: int) -> torch.Tensor:
    """A colour of its own and coarse noise, uint8 (height, width, 3); a function of the name."""
    key = generator("fake", name)
    color = torch.randint(60, 196, (3,), generator=key)
    noise = torch.randint(-60, 60, (-(-height // 8), -(-width // 8), 3), generator=key)
    return (color + noise.repeat_interleave(8, 0).repeat_interleave(8, 1)[:height, :width]).byte()


def write_image(path: Path, width: int = 24, height: int = 24) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels("/".join(path.parts[-3:]), width, height).numpy()).save(path)


def write_idx(path: Path, values: torch.Tensor) -> None:
    header = bytes([0, 0, 8, values.dim()]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    path.write_bytes(header + values.numpy().tobytes())


def write_fashion_mnist(root: Path, n_train: int = 60, n_test: int = 20) -> Path:
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for part, n in (("train", n_train), ("t10k", n_test)):
        images = torch.stack([pixels(f"{part}{i}", 28, 28)[:, :, 0] for i in range(n)])
        images[:, :4] = 0
        write_idx(folder / f"{part}-images-idx3-ubyte", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte", (torch.arange(n) % 10).byte())
    return root


class Python2Pickler(pickle._Pickler):  # the one in C cannot be changed
    """Writes text and bytes as the strings of Python 2, in which CIFAR-10's batches are."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, value: str | bytes) -> None:
        data = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(pickle.BINSTRING + len(data).to_bytes(4, "little") + data)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string


def cifar10_batches(n: int = 20) -> dict[str, bytes]:
    """File name -> content of the six batches, each of n images."""
    files = {}
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        images = torch.stack([pixels(f"{name}{i}", 32, 32).permute(2, 0, 1).flatten() for i in range(n)])
        content = {
            "batch_label": f"{name} of a fake",
            "labels": [i % 10 for i in range(n)],
            "data": images.numpy(),
            "filenames": [f"{i}.png" for i in range(n)],
        }
        file = io.BytesIO()
        Python2Pickler(file, protocol=2).dump(content)
        files[name] = file.getvalue()
    return files


def write_cifar10_batches(root: Path) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name, content in cifar10_batches().items():
        (folder / name).write_bytes(content)
    return root


def write_cifar10_archive(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    with tarfile.open(root / "cifar-10-python.tar.gz", "w:gz") as archive:
        for name, content in reversed(cifar10_batches().items()):
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return root


def write_cifar10_folders(root: Path, n_train: int = 8, n_test: int = 3) -> Path:
    for side, n in (("train", n_train), ("test", n_test)):
        for name in CLASSES:
            for i in range(n):
                write_image(root / "cifar10" / side / name / f"{i:04d}.png", 32, 32)
    return root


def write_celeba(root: Path, layout: str = "torchvision", n: int = 40, newline: str = "\n") -> Path:
    """CelebA as torchvision has it (celeba/), flat, as the official drive has it (Img/, Anno/, Eval/), or as Kaggle."""
    base = root / "celeba" if layout == "torchvision" else root
    images, anno, evaluation = {
        "torchvision": ("img_align_celeba", "", ""),
        "flat": ("img_align_celeba", "", ""),
        "official": ("Img/img_align_celeba", "Anno", "Eval"),
        "kaggle": ("img_align_celeba/img_align_celeba", "", ""),
    }[layout]
    names = [f"{i:06d}.jpg" for i in range(1, n + 1)]
    for name in names:
        write_image(base / images / name, 178, 218)
    attributes = torch.randint(2, (n, 40), generator=generator("celeba")) * 2 - 1
    identities = torch.arange(n) // 2 + 7
    split = [0 if i < n // 2 else 1 if i < 3 * n // 4 else 2 for i in range(n)]
    if layout == "kaggle":
        suffix, separator = ".csv", ","
        tables = {
            "list_attr_celeba": [",".join(("image_id", *ATTRIBUTES))],
            "list_eval_partition": ["image_id,partition"],
        }
    else:
        suffix, separator = ".txt", " "
        # With a blank at the end of the names, and two before a positive number.
        tables = {"list_attr_celeba": [str(n), " ".join(ATTRIBUTES) + " "], "list_eval_partition": []}
    width = 2 if separator == " " else 1
    rows = [separator.join(f"{value:{width}d}" for value in row) for row in attributes.tolist()]
    tables["list_attr_celeba"] += [f"{name}{separator}{row}" for name, row in zip(names, rows)]
    tables["list_eval_partition"] += [f"{name}{separator}{number}" for name, number in zip(names, split)]
    tables["identity_CelebA"] = [f"{name} {number}" for name, number in zip(names, identities.tolist())]
    for name, lines in tables.items():
        folder = base / (evaluation if name == "list_eval_partition" else anno)
        folder.mkdir(parents=True, exist_ok=True)
        end = ".txt" if name == "identity_CelebA" else suffix
        (folder / f"{name}{end}").write_bytes("".join(line + newline for line in lines).encode())
    return root


SYNSETS = ("n02085620", "n02099601", "n02123045", "n02129165", "n02509815")
ANIMALS = ("Chihuahua", "golden retriever", "tabby", "lion", "n02509815")  # a panda is none of AnimalFaces'


def write_animal_faces(root: Path, n: int = 12, lists: bool = True, folder: str = "animal_faces") -> Path:
    """Crops as FUNIT lays them out; the lists have the first three classes for training and the others for test."""
    files = []
    for synset in SYNSETS:
        for i in range(n):
            width, height = 20 + i % 5, 24 - i % 3
            name = f"{synset}_{17 * i + 3}.JPEG_{i}_{2 * i}_{i + width}_{2 * i + height}.jpg"
            write_image(root / folder / synset / name, width, height)
            files.append(f"{synset}/{name}")
    if lists:
        for side, synsets in (("train", SYNSETS[:3]), ("test", SYNSETS[3:])):
            listed = [file for file in files if file.split("/")[0] in synsets]
            (root / folder / f"animals_list_{side}.txt").write_text("\n".join(listed) + "\n")
    return root


def write_deep_fashion(root: Path, folder: str = "Img/img", table: str = "Eval/list_eval_partition.txt") -> Path:
    """In-shop: 24 items of one or two looks with three views each; every third item has a look with a single view."""
    rows = []
    for item in range(24):
        group = ("WOMEN/Dresses", "MEN/Denim", "WOMEN/Tees_Tanks")[item % 3]
        files = [
            f"{look:02d}_{view + 1}_{pose}.jpg"
            for look in range(1, 2 + item % 2)
            for view, pose in enumerate(("front", "side", "back"))
        ]
        if item % 3 == 0:
            files.append("04_1_front.jpg")
        for number, file in enumerate(files):
            name = f"img/{group}/id_{item:08d}/{file}"
            status = "train" if item < 16 else ("query", "gallery")[number % 2]
            size = (48, 48) if folder.endswith("img") else (30, 44)
            write_image(root / folder / name.removeprefix("img/"), *size)
            rows.append(f"{name:<70} id_{item:08d}    {status}")
    path = root / table
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([str(len(rows)), "image_name item_id evaluation_status", *rows]) + "\n")
    return root


def write_image_folder(root: Path, splits: tuple[str, ...] = ("",), n: int = 12) -> Path:
    """Three classes, PNG and JPEG, of which one has a sub-folder; without class folders see ``write_flat_folder``."""
    for split in splits:
        for name in ("cat", "dog", "owl"):
            for i in range(n):
                inside = "indoors" if name == "cat" and i % 2 else ""
                write_image(root / split / name / inside / f"{split}{i}.{('png', 'JPG')[i % 2]}", 20 + i, 24)
    (root / "README.txt").write_text("no image")
    return root


def write_flat_folder(root: Path, n: int = 24) -> Path:
    for i in range(n):
        write_image(root / f"{i}.png")
    return root


def write_pairs_csv(root: Path, n: int = 30, split: bool = False) -> Path:
    """A table of n pairs over 2n images, with the concepts shape and material; every second pair shares a shape."""
    lines = ["path_a,path_b,shape,material" + ",split" * split]
    for i in range(n):
        for side in "ab":
            write_image(root / "images" / f"{i}{side}.png")
        cells = ("same" if i % 2 == 0 else "Different", ("1", "0", "unknown", "")[i % 4])
        side = ("train", "val", "test")[(i % 6 == 4) + 2 * (i % 6 == 5)]
        lines.append(",".join((f"images/{i}a.png", f"images/{i}b.png", *cells, *((side,) if split else ()))))
    table = root / "pairs.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def damage(path: Path) -> None:
    """Cut an image file in half, as a full disk would."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
