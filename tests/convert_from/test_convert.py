"""The command ``convert``, as a user runs it."""

import multiprocessing
import re
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from PIL import Image

from iin_lightning.cli.paths import conf_folder
from iin_lightning.convert import Convert
from iin_lightning.convert import job as run_here
from iin_lightning.errors import IINError
from iin_lightning.progress import Bar

PHOTO = "n02085620/n02085620_{}.JPEG"


@pytest.fixture
def convert(tmp_path, run_command):
    """Run the command in a folder with a fake ImageNet, and give back the finished process."""
    for i in range(3):
        path = tmp_path / "imagenet" / PHOTO.format(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (50, 40), (90, 60, 30 * i)).save(path)
    table = tmp_path / "imagenet" / "animalface_coordinates.txt"
    table.write_text("".join(f"{PHOTO.format(i)} 5 6 40 30\n" for i in range(4)))

    def run(*arguments):
        return run_command("iin_lightning.convert", *arguments, cwd=tmp_path)

    return run


def composed(*arguments):
    ConfigStore.instance().store("iin_lightning_convert", Convert)
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return compose("convert", list(arguments))


def test_crops_are_cut_once_and_what_failed_is_listed(convert, tmp_path):
    (tmp_path / "imagenet" / PHOTO.format(2)).write_bytes(b"no image")
    arguments = ("kind=animal_faces", "source=imagenet", "out=faces", "workers=1")
    first = convert(*arguments)
    assert first.returncode == 0, first.stderr
    assert "2 cut, 0 were there" in first.stdout
    assert "1 images, and 1 are broken: faces/missing.txt" in first.stdout
    crops = {path.name for path in (tmp_path / "faces" / "n02085620").iterdir()}
    assert crops == {f"n02085620_{i}.JPEG_5_6_40_30.jpg" for i in range(2)}
    broken, missing = (tmp_path / "faces" / "missing.txt").read_text().splitlines()
    assert broken.startswith(PHOTO.format(2) + " 5 6 40 30\tUnidentifiedImageError")
    assert missing == PHOTO.format(3) + " 5 6 40 30\tmissing"
    # Once the images are there, nothing is listed any more.
    for i in (2, 3):
        Image.new("RGB", (50, 40)).save(tmp_path / "imagenet" / PHOTO.format(i))
    second = convert(*arguments)
    assert "2 cut, 2 were there" in second.stdout
    assert not (tmp_path / "faces" / "missing.txt").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"imagenet", "faces"}, "nothing else is written"


@pytest.mark.usefixtures("convert")
def test_workers_are_there_before_the_bar_starts_its_thread(tmp_path, monkeypatch):
    started = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Bar, "start", lambda _: started.append(len(multiprocessing.active_children())))
    run_here(composed("source=imagenet", "out=faces", "workers=2"))
    assert started[0] > 0


BAD = {
    "no source": (["out=faces"], "Say which folder: source=<folder>"),
    "no out": (["source=imagenet"], "Say which folder: out=<folder>"),
    "an unknown kind": (["kind=animal_face"], "no kind=animal_face; allowed are: animal_faces"),
    "no workers": (["source=imagenet", "out=faces", "workers=0"], "workers=0 must be at least 1"),
    "no table": (["source=imagenet/n02085620", "out=faces"], "animalface_coordinates.txt lies neither in"),
    "another ImageNet": (
        ["source=.", "out=faces", "coordinates=imagenet/animalface_coordinates.txt"],
        r"\. has none of the 1 class folders n02085620.*imagenet/",
    ),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.usefixtures("convert")
def test_bad_input_gets_a_sentence(tmp_path, monkeypatch, case):
    arguments, text = BAD[case]
    monkeypatch.chdir(tmp_path)
    config = composed(*arguments)
    with pytest.raises(IINError, match=text):
        run_here(config)
    assert not (tmp_path / "faces").exists()


def test_a_misspelt_key_ends_the_command_with_those_that_exist(convert):
    process = convert("sorce=imagenet", "out=faces")
    assert process.returncode == 2, process.stderr
    assert "Traceback" not in process.stderr
    assert re.search("allowed are: kind, source, out.*did you mean source", process.stderr), process.stderr


def test_it_is_an_error_if_no_image_can_be_read(convert, tmp_path):
    for path in (tmp_path / "imagenet" / "n02085620").iterdir():
        path.unlink()
    process = convert("source=imagenet", "out=faces", "workers=1")
    assert process.returncode == 2
    assert "4 are missing and 0 broken, see faces/missing.txt" in process.stderr
    assert len((tmp_path / "faces" / "missing.txt").read_text().splitlines()) == 4


def test_help_says_what_goes_where_without_torch(convert, tmp_path):
    code = (
        "import sys, runpy; sys.argv = ['convert', '--help'];\n"
        "try: runpy.run_module('iin_lightning.convert', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print('torch loaded:', 'torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "out/<synset>/<file>.JPEG_x1_y1_x2_y2.jpg" in out
    assert out.rstrip().endswith("torch loaded: False")
