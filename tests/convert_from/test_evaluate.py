"""A converted checkpoint under the command ``evaluate``, as any other model folder."""

import json
import math

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore

from iin_lightning import Interpreter, serialization
from iin_lightning.cli.paths import conf_folder
from iin_lightning.convert import Convert
from iin_lightning.convert import job as convert


@pytest.fixture
def converted(tmp_path, write, autoencoding, with_factors, flow_state, monkeypatch):
    """The model folder of a translator of theirs on an autoencoder of theirs."""
    monkeypatch.chdir(tmp_path)
    ConfigStore.instance().store("iin_lightning_convert", Convert)
    write(autoencoding[1], "ae-1.ckpt")
    write(flow_state(with_factors), "T-1.ckpt")
    whole = ("first_stage=encoder", "factors={digit: 5, color: 4, residual: 7}")
    for arguments in (["source=ae-1.ckpt", "out=encoder"], ["source=T-1.ckpt", "out=whole", *whole]):
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            config = compose("convert", ["kind=checkpoint", *arguments])
        convert(config)
    return tmp_path / "whole"


def test_all_that_needs_no_recipe_is_measured(converted, mnist_root, run_command):
    asked = ("run=whole", "data=color_mnist", f"paths.data={mnist_root}")
    process = run_command("iin_lightning.evaluate", *asked, cwd=converted.parent)
    assert process.returncode == 0, process.stderr
    found = json.loads((converted / "results.json").read_text())["evaluation"]
    assert set(found) == {"likelihood", "gaussianity", "leakage", "disentanglement"}
    likelihood = found["likelihood"]
    assert math.isfinite(likelihood["nll"]["value"])
    assert likelihood["round_trip_error"] < 1e-3
    for factor in ("residual", "digit", "color"):
        assert likelihood[f"nll_of_factor/{factor}"]["value"] == pytest.approx(found["gaussianity"][f"nll/{factor}"])
    interpreter = Interpreter.from_pretrained(converted)
    assert likelihood["of"]["encoder"] == serialization.fingerprint(interpreter.encoder.encoder)
