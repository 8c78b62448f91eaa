"""The command ``convert``: what it writes, and what it says of what it cannot convert."""

import json
import math
import multiprocessing
import subprocess
import sys

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from PIL import Image
from tests.encoders.theirs import close

from iin_lightning import Interpreter, serialization
from iin_lightning.cli.paths import conf_folder
from iin_lightning.convert import Convert, job
from iin_lightning.convert_from.command import convert
from iin_lightning.errors import IINError
from iin_lightning.progress import Bar

FACTORS = {"digit": 5, "color": 4, "residual": 7}
PHOTO = "n02085620/n02085620_{}.JPEG"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def imagenet(tmp_path):
    """Three images, and a table of four crops."""
    for i in range(3):
        path = tmp_path / "imagenet" / PHOTO.format(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (50, 40), (90, 60, 30 * i)).save(path)
    table = tmp_path / "imagenet" / "animalface_coordinates.txt"
    table.write_text("".join(f"{PHOTO.format(i)} 5 6 40 30\n" for i in range(4)))
    return tmp_path / "imagenet"


def command(*arguments):
    """Run the command in this process."""
    ConfigStore.instance().store("iin_lightning_convert", Convert)
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        job(compose("convert", list(arguments)))


def test_crops_are_cut_once_and_what_failed_is_listed(imagenet, tmp_path, capsys):
    (imagenet / PHOTO.format(2)).write_bytes(b"no image")
    arguments = ("kind=animal_faces", "source=imagenet", "out=faces", "workers=1")
    command(*arguments)
    printed = capsys.readouterr().out
    assert "2 cut, 0 were there" in printed
    assert "1 images, and 1 are broken: faces/missing.txt" in printed
    crops = {path.name for path in (tmp_path / "faces" / "n02085620").iterdir()}
    assert crops == {f"n02085620_{i}.JPEG_5_6_40_30.jpg" for i in range(2)}
    broken, missing = (tmp_path / "faces" / "missing.txt").read_text().splitlines()
    assert broken.startswith(PHOTO.format(2) + " 5 6 40 30\tUnidentifiedImageError")
    assert missing == PHOTO.format(3) + " 5 6 40 30\tmissing"
    # Once the images are there, nothing is listed any more.
    for i in (2, 3):
        Image.new("RGB", (50, 40)).save(imagenet / PHOTO.format(i))
    command(*arguments)
    assert "2 cut, 2 were there" in capsys.readouterr().out
    assert not (tmp_path / "faces" / "missing.txt").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"imagenet", "faces"}, "nothing else is written"


@pytest.mark.usefixtures("imagenet")
def test_workers_are_there_before_the_bar_starts_its_thread(monkeypatch):
    started = []
    monkeypatch.setattr(Bar, "start", lambda _: started.append(len(multiprocessing.active_children())))
    convert("animal_faces", "imagenet", "faces", workers=2)
    assert started[0] > 0


def test_it_is_an_error_if_no_image_can_be_read(imagenet, tmp_path):
    for path in (imagenet / "n02085620").iterdir():
        path.unlink()
    with pytest.raises(IINError, match=r"4 are missing and 0 broken, see faces/missing\.txt"):
        convert("animal_faces", "imagenet", "faces", workers=1)
    assert len((tmp_path / "faces" / "missing.txt").read_text().splitlines()) == 4


def test_autoencoder_and_translator_make_an_interpreter(write, autoencoding, with_factors, tmp_path, capsys):
    golden, state = autoencoding
    write(state, "model-105600.ckpt")
    command("kind=checkpoint", "source=model-105600.ckpt", "out=encoder")
    printed = capsys.readouterr().out
    assert "autoencoder: images 3x32x32, latents of 16, width 64, 4 layers, actnorm" in printed
    assert "step     105,600\nleft out loss, optimizer\nfolder   encoder" in printed
    write(with_factors[1], "model-7.ckpt")
    factors = "factors={digit: 5, color: 4, residual: 7}"
    command("kind=checkpoint", "source=model-7.ckpt", "out=whole", "first_stage=encoder", factors)
    assert "3 blocks, hidden 32, depth 2, Factors(residual=7, digit=5, color=4)" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"model-105600.ckpt", "model-7.ckpt", "encoder", "whole"}

    interpreter = Interpreter.from_pretrained(tmp_path / "whole")
    close(interpreter.encode(golden["images"]), golden["posterior_mean"])
    close(interpreter.decode(golden["posterior_mean"].flatten(1)), golden["decode_mean"])
    parts = interpreter.factors.split(interpreter.translate(with_factors[0]["z1"]))
    close(parts["digit"], with_factors[0]["out1/0"])
    close(parts["residual"], with_factors[0]["out1/2"])
    torch.testing.assert_close(interpreter.reconstruct(golden["images"]), golden["decode_mean"], rtol=1e-3, atol=1e-4)
    origin = json.loads((tmp_path / "whole" / "model.json").read_text())["origin"]
    assert (origin["kind"], origin["file"], origin["step"]) == ("translator", "model-7.ckpt", 7)
    assert len(origin["sha256"]) == 64


def test_a_translator_alone_waits_for_an_encoder(write, small, with_factors, tmp_path, capsys):
    write(small["translator"])
    convert("checkpoint", "model-120000.ckpt", "T", factors=FACTORS)
    assert "or first_stage=<folder> for a whole one" in capsys.readouterr().out
    network = serialization.load(tmp_path / "T")
    close(network(with_factors[0]["z1"])[0][:, 7:12], with_factors[0]["out1/0"])
    structure = serialization.read_structure(tmp_path / "T")
    assert structure["factors"] == {"residual": 7, "digit": 5, "color": 4}


def test_a_classifier_and_how_it_is_used(write, small, tmp_path, capsys):
    write(small["classifier"])
    convert("checkpoint", "model-120000.ckpt", "C")
    printed = capsys.readouterr().out
    assert "classifier: images 1x8x8, latents of 4, width 2, 2 layers, actnorm" in printed
    assert "model=sup first_stage.path=C encoder.latent_dim=4" in printed
    assert serialization.load(tmp_path / "C").n_classes == 3


def test_what_cannot_be_converted_gets_a_sentence(imagenet, write, small, tmp_path):
    write(small["autoencoder"], "ae-1.ckpt")
    write(small["translator"], "T-1.ckpt")
    convert("checkpoint", "ae-1.ckpt", "E")
    convert("checkpoint", "T-1.ckpt", "T")
    faces, ae, flow = ("animal_faces", "imagenet"), ("checkpoint", "ae-1.ckpt"), ("checkpoint", "T-1.ckpt")
    table = str(imagenet / "animalface_coordinates.txt")
    bad = [
        (("animal_face", "imagenet", "O"), {}, "no kind=animal_face; allowed are: animal_faces"),
        (("animal_faces", None, "O"), {}, "source is missing: name the folder, source=<folder>"),
        (("checkpoint", None, "O"), {}, "source is missing: name the file, source=<file>"),
        ((*ae, None), {}, "out is missing: name the folder, out=<folder>"),
        ((*faces, "O"), {"workers": 0}, "workers=0 must be at least 1"),
        (("animal_faces", "imagenet/n02085620", "O"), {}, "animalface_coordinates.txt lies neither in"),
        (
            ("animal_faces", ".", "O"),
            {"coordinates": table},
            r"\. has none of the 1 class folders n02085620.*imagenet/",
        ),
        (("checkpoint", "ae-2.ckpt", "O"), {}, "ae-2.ckpt is no file"),
        ((*ae, "O"), {"workers": 2}, "workers=2 is for kind=animal_faces"),
        ((*ae, "O"), {"factors": FACTORS}, "autoencoder, for which factors=.*no meaning"),
        ((*ae, "O"), {"posterior": "dirac"}, "no posterior 'dirac'; allowed are"),
        ((*ae, "E"), {}, "E holds a model: say another out="),
        ((*flow, "O"), {"factors": [5, 4, 7]}, "must be names and dimensions"),
        ((*flow, "O"), {"posterior": "gaussian"}, "translator, for which posterior="),
        ((*flow, "O"), {"first_stage": "E", "factors": FACTORS}, "latent has 4 dimensions"),
        ((*flow, "O"), {"first_stage": ".", "factors": FACTORS}, "is no model folder"),
        ((*flow, "O"), {"first_stage": "T", "factors": FACTORS}, "holds a PaperTranslator, which encodes no"),
        ((*flow, "O"), {"factors": {"digit": 5, "residual": 7}}, "sum to 12"),
    ]
    for arguments, options, text in bad:
        with pytest.raises(IINError, match=text):
            convert(*arguments, **options)
    assert not (tmp_path / "O").exists()


@pytest.mark.commands
def test_help_says_what_goes_where_without_torch():
    code = (
        "import sys, runpy; sys.argv = ['convert', '--help'];\n"
        "try: runpy.run_module('iin_lightning.convert', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print('torch loaded:', 'torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "out/<synset>/<file>.JPEG_x1_y1_x2_y2.jpg" in out
    assert out.rstrip().endswith("torch loaded: False")


@pytest.mark.commands
def test_a_converted_checkpoint_is_evaluated_like_any_other(
    write, autoencoding, with_factors, mnist_root, run_command, tmp_path
):
    write(autoencoding[1], "ae-1.ckpt")
    write(with_factors[1], "T-1.ckpt")
    convert("checkpoint", "ae-1.ckpt", "encoder")
    convert("checkpoint", "T-1.ckpt", "whole", first_stage="encoder", factors=FACTORS)
    asked = ("run=whole", "data=color_mnist", f"paths.data={mnist_root}")
    process = run_command("iin_lightning.evaluate", *asked, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    measured = json.loads((tmp_path / "whole" / "results.json").read_text())["evaluation"]
    assert set(measured) == {"likelihood", "gaussianity", "leakage", "disentanglement"}
    likelihood = measured["likelihood"]
    assert math.isfinite(likelihood["nll"]["value"])
    assert likelihood["round_trip_error"] < 1e-3
    for factor in ("residual", "digit", "color"):
        assert likelihood[f"nll_of_factor/{factor}"]["value"] == pytest.approx(measured["gaussianity"][f"nll/{factor}"])
    interpreter = Interpreter.from_pretrained(tmp_path / "whole")
    assert likelihood["of"]["encoder"] == serialization.fingerprint(interpreter.encoder.encoder)
