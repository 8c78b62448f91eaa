"""The command ``convert kind=checkpoint``, as a user runs it, and what it writes."""

import json

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore

from iin_lightning import Interpreter, serialization
from iin_lightning.cli.paths import conf_folder
from iin_lightning.convert import Convert
from iin_lightning.convert import job as convert
from iin_lightning.errors import IINError

FACTORS = "factors={digit: 5, color: 4, residual: 7}"


@pytest.fixture
def run_here(tmp_path, monkeypatch):
    """Run the command in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    ConfigStore.instance().store("iin_lightning_convert", Convert)

    def run(*arguments):
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            config = compose("convert", ["kind=checkpoint", *arguments])
        convert(config)

    return run


def test_autoencoder_and_translator_make_an_interpreter(
    run_here, run_command, write, close, autoencoding, with_factors, flow_state, tmp_path, capsys
):
    golden, state = autoencoding
    write(state, "model-105600.ckpt")
    run_here("source=model-105600.ckpt", "out=encoder")
    said = capsys.readouterr().out
    assert "autoencoder: images 3x32x32, latents of 16, width 64, 4 layers, actnorm" in said
    assert "step     105,600\nleft out loss, optimizer\nfolder   encoder" in said
    write(flow_state(with_factors), "model-7.ckpt")
    command = ["kind=checkpoint", "source=model-7.ckpt", "out=whole", "first_stage=encoder", FACTORS]
    process = run_command("iin_lightning.convert", *command, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "3 blocks, hidden 32, depth 2, Factors(residual=7, digit=5, color=4)" in process.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"model-105600.ckpt", "model-7.ckpt", "encoder", "whole"}

    interpreter = Interpreter.from_pretrained(tmp_path / "whole")
    close(interpreter.encode(golden["images"]), golden["posterior_mean"])
    close(interpreter.decode(golden["posterior_mean"].flatten(1)), golden["decode_mean"])
    parts = interpreter.factors.split(interpreter.translate(with_factors["z1"]))
    close(parts["digit"], with_factors["out1/0"])
    close(parts["residual"], with_factors["out1/2"])
    torch.testing.assert_close(interpreter.reconstruct(golden["images"]), golden["decode_mean"], rtol=1e-3, atol=1e-4)
    origin = json.loads((tmp_path / "whole" / "model.json").read_text())["origin"]
    assert (origin["kind"], origin["file"], origin["step"]) == ("translator", "model-7.ckpt", 7)
    assert len(origin["sha256"]) == 64


def test_a_translator_alone_waits_for_an_encoder(run_here, write, close, small, with_factors, tmp_path, capsys):
    write(small["translator"])
    run_here("source=model-120000.ckpt", "out=T", FACTORS)
    assert "or first_stage=<folder> for a whole one" in capsys.readouterr().out
    network = serialization.load(tmp_path / "T")
    close(network(with_factors["z1"])[0][:, 7:12], with_factors["out1/0"])
    structure = serialization.read_structure(tmp_path / "T")
    assert structure["factors"] == {"residual": 7, "digit": 5, "color": 4}


def test_a_classifier_and_how_it_is_used(run_here, write, small, tmp_path, capsys):
    write(small["classifier"])
    run_here("source=model-120000.ckpt", "out=C")
    said = capsys.readouterr().out
    assert "classifier: images 1x8x8, latents of 4, width 2, 2 layers, actnorm" in said
    assert "model=sup first_stage.path=C encoder.latent_dim=4" in said
    assert serialization.load(tmp_path / "C").n_classes == 3


BAD = {
    "no source": (["out=O"], "Say which file: source=<file>"),
    "no out": (["source=ae-1.ckpt"], "Say which folder: out=<folder>"),
    "no such file": (["source=ae-2.ckpt", "out=O"], "ae-2.ckpt is no file"),
    "a key of another kind": (["source=ae-1.ckpt", "out=O", "workers=2"], "workers=2 is for kind=animal_faces"),
    "factors of an autoencoder": (
        ["source=ae-1.ckpt", "out=O", FACTORS],
        "autoencoder, for which factors=.*no meaning",
    ),
    "factors without names": (["source=T-1.ckpt", "out=O", "factors=[5,4,7]"], "must be names and dimensions"),
    "a posterior of a flow": (["source=T-1.ckpt", "out=O", "posterior=gaussian"], "translator, for which posterior="),
    "an unknown posterior": (["source=ae-1.ckpt", "out=O", "posterior=dirac"], "no posterior 'dirac'; allowed are"),
    "a model is there": (["source=ae-1.ckpt", "out=E"], "E holds a model: say another out="),
    "another latent": (["source=T-1.ckpt", "out=O", "first_stage=E", FACTORS], "latent has 4 dimensions"),
    "no encoder there": (["source=T-1.ckpt", "out=O", "first_stage=.", FACTORS], "is no model folder"),
    "no encoder in there": (
        ["source=T-1.ckpt", "out=O", "first_stage=T"],
        "holds a PaperTranslator, which encodes no",
    ),
    "factors of another latent": (["source=T-1.ckpt", "out=O", "factors={digit: 5, residual: 7}"], "sum to 12"),
}


@pytest.fixture
def folders(run_here, write, small):
    write(small["autoencoder"], "ae-1.ckpt")
    write(small["translator"], "T-1.ckpt")
    run_here("source=ae-1.ckpt", "out=E")
    run_here("source=T-1.ckpt", "out=T")


@pytest.mark.parametrize("case", BAD)
@pytest.mark.usefixtures("folders")
def test_bad_input_gets_a_sentence(run_here, tmp_path, case):
    arguments, text = BAD[case]
    with pytest.raises(IINError, match=text):
        run_here(*arguments)
    assert not (tmp_path / "O").exists()
