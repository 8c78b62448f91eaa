"""The command ``evaluate``: numbers into the runs, a table over several, sentences for what does not fit."""

import csv
import json
import math
import re
import shutil

import pytest
import torch
from omegaconf import OmegaConf

from iin_lightning.data.color_mnist import ColorMNIST
from iin_lightning.encoders import Autoencoder
from iin_lightning.factors import Factors
from iin_lightning.flows import PaperTranslator
from iin_lightning.interpreter import Interpreter
from iin_lightning.metrics.likelihood import typicality_auroc
from iin_lightning.questions import results
from iin_lightning.questions.results import summarize
from iin_lightning.runs.folder import write_config

STORE = "paths.models=measured"  # its own, so that other tests find theirs empty


@pytest.fixture(scope="module")
def runs(command, tiny, workplace):
    """Two supervised runs of different seeds on the same encoder."""
    for seed in (0, 1):
        command(
            *tiny(),
            "model=sup",
            STORE,
            "+first_stage.seed=0",
            "+judge.seed=0",
            f"seed={seed}",
            f"hydra.run.dir=seeds/{seed}",
        )
    return workplace / "seeds"


@pytest.fixture
def evaluate(workplace, run_command):
    def run(*arguments, launcher=()):
        module = (*launcher, "iin_lightning.evaluate")
        return run_command(*module, STORE, *arguments, cwd=workplace, own_process=bool(launcher))

    return run


@pytest.mark.commands
def test_numbers_of_a_run_are_kept_with_their_provenance(runs, evaluate, tmp_path):
    folder = shutil.copytree(runs / "0", tmp_path / "run")
    before = json.loads((folder / "results.json").read_text())
    quality = ("extractor=classifier", "count=20", "priors=[standard,gaussian]", "kernel=true")
    process = evaluate(f"run={folder}", "metric=[likelihood,transfer,gaussianity,quality]", *quality)
    assert process.returncode == 0, process.stderr
    after = json.loads((folder / "results.json").read_text())
    found = after.pop("evaluation")
    assert after == before
    # What training measured, measured anew.
    for name in ("digit/digit", "digit/color", "color/color", "digit/reconstruction"):
        assert found["transfer"][name] == pytest.approx(before["metrics"][f"test/transfer/{name}"], abs=1e-5)
        # A judge that always says the same is right for one class and wrong for all others, each time.
        assert found["transfer"][name]["error"] >= 0
    assert found["transfer"]["color/color"]["error"] > 0
    assert found["transfer"]["of"]["encoder"] == before["encoder"]
    sampled = {name: record for name, record in found["quality"].items() if name != "of"}
    floors = ("reconstructions", "reconstructions_of_others")
    kinds = ("samples", "samples from standard", "samples from gaussian", *floors)
    assert set(sampled) == {f"{what}_classifier/{kind}" for what in ("frechet", "kernel") for kind in kinds}
    assert sampled["frechet_classifier/reconstructions_of_others"]["split"] == "train"  # nearly all of test is real
    record = sampled["frechet_classifier/samples"]
    assert record["protocol"]["name"] == "clean"
    assert record["real"] == record["samples"] == 20
    assert "likelihood/nll" in process.stdout


@pytest.mark.commands
def test_several_runs_give_means_and_deviations(runs, evaluate, tmp_path):
    process = evaluate(f"run={runs}/*", "metric=[likelihood]", f"out={tmp_path}")
    assert process.returncode == 0, process.stderr
    rows = {row["number"]: row for row in csv.DictReader((tmp_path / "summary.csv").open())}
    values = [
        json.loads((tmp_path / "seeds" / seed / "results.json").read_text())["evaluation"]["likelihood"]["nll"]["value"]
        for seed in "01"
    ]
    assert float(rows["likelihood/nll"]["mean"]) == pytest.approx(sum(values) / 2)
    assert float(rows["likelihood/nll"]["std"]) == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    said = re.search(r"likelihood/nll +│ +(-?[\d.]+) ± ([\d.]+)", process.stdout.partition("Difference to")[2])
    assert said, "the second run's to the first's, on the same latents"
    assert float(said[1]) == pytest.approx(values[1] - values[0], abs=0.001)
    assert "| likelihood/nll |" in (tmp_path / "summary.md").read_text()


@pytest.mark.commands
def test_what_fits_is_measured_where_nothing_is_asked_for(command, tiny, workplace, evaluate):
    command(*tiny(), STORE, "model=unsup", "hydra.run.dir=seeds_unsup/0")
    assert evaluate("run=seeds_unsup/0").returncode == 0
    found = json.loads((workplace / "seeds_unsup" / "0" / "results.json").read_text())["evaluation"]
    assert set(found) == {"likelihood", "gaussianity"}


@pytest.mark.commands
def test_standing_numbers_are_gathered_without_measuring(runs, evaluate, tmp_path):
    # Copies without models, of which nothing can be measured.
    for seed, nll in (("0", 1.5), ("1", 2.5)):
        outcome = json.loads((runs / seed / "results.json").read_text())
        outcome["evaluation"] = {
            "likelihood": {"nll": nll, "of": {"encoder": "0f3c"}},
            "typicality": {"auroc": {"value": nll / 5, "outside": "mnist"}, "nll_outside": None, "of": {}},
        }
        (tmp_path / "runs" / seed).mkdir(parents=True)
        (tmp_path / "runs" / seed / "results.json").write_text(json.dumps(outcome))
    (tmp_path / "runs" / "stopped").mkdir()
    (tmp_path / "runs" / "multirun.yaml").touch()
    process = evaluate(f"aggregate={tmp_path}/runs/*", f"out={tmp_path}/out")
    assert process.returncode == 0, process.stderr
    assert f"left out {tmp_path}/runs/stopped: it has no results.json" in process.stdout
    rows = {row["number"]: row for row in csv.DictReader((tmp_path / "out" / "summary.csv").open())}
    assert set(rows) == {*outcome["metrics"], "likelihood/nll", "typicality/auroc"}
    assert float(rows["likelihood/nll"]["mean"]) == 2
    assert float(rows["likelihood/nll"]["std"]) == pytest.approx(0.5**0.5)
    assert float(rows["typicality/auroc"][f"{tmp_path}/runs/1"]) == 0.5
    assert float(rows["test/nll"][f"{tmp_path}/runs/1"]) == outcome["metrics"]["test/nll"]["value"]
    assert "2 runs" in (tmp_path / "out" / "summary.md").read_text()


def test_a_number_that_is_not_finite_leaves_the_others_their_deviation():
    summary = summarize({"a": {"nll": math.inf, "ks": 1.0}, "b": {"nll": 1.0, "ks": 1.0}})
    assert summary["nll"][0] == math.inf
    assert math.isnan(summary["nll"][1])
    assert summary["ks"] == (1, 0, 2)


def test_what_is_not_finite_is_null_in_results_however_deep_it_lies(tmp_path):
    results.add(tmp_path, "analysis", {"walk": {"rows": [[1.0, math.nan], (math.inf, 2)], "of": "3 images"}})
    found = json.loads((tmp_path / results.FILE).read_text())
    assert found == {"analysis": {"walk": {"rows": [[1.0, None], [None, 2]], "of": "3 images"}}}


@pytest.mark.commands
def test_strangers_are_told_by_the_likelihood_of_validation_images(workplace, evaluate):
    """A deterministic encoder that is fitted to black backgrounds meets coloured ones."""
    own, other = (ColorMNIST(workplace / "data", background=name) for name in ("black", "complement"))
    torch.manual_seed(0)
    encoder = Autoencoder(image_size=32, latent_dim=8, width=4, posterior="deterministic")
    encoder.encode(own.source("train").draw(torch.arange(50), None))  # actnorm looks at its first batch
    interpreter = Interpreter(encoder, PaperTranslator(8, n_blocks=1, hidden=4), Factors({"residual": 8}, 8)).eval()
    interpreter.save_pretrained(workplace / "fitted")
    nll = {
        (data, split): -interpreter.log_prob(data.source(split).draw(torch.arange(len(data.source(split))), None))
        for data, split in ((own, "val"), (own, "test"), (other, "test"))
    }
    arguments = ("run=fitted", "data=color_mnist", "data@outside=color_mnist", "outside.background=complement")
    # Unasked: it fits as soon as there are others.
    process = evaluate(*arguments)
    assert process.returncode == 0, process.stderr
    found = json.loads((workplace / "fitted" / "results.json").read_text())["evaluation"]
    told = found["typicality"]
    expected = typicality_auroc(nll[own, "test"], nll[other, "test"], nll[own, "val"])
    assert told["auroc"]["value"] == pytest.approx(expected)
    assert abs(expected - 0.5) > 0.05
    assert told["auroc"]["outside"] == "color_mnist"
    assert told["auroc"]["images"] == {"reference": len(nll[own, "val"]), "inside": 24, "outside": 24}
    assert told["nll_inside"]["value"] == pytest.approx(nll[own, "test"].mean().item() / 8, rel=1e-5)
    assert told["nll_outside"]["value"] == pytest.approx(nll[other, "test"].mean().item() / 8, rel=1e-5)
    assert found["likelihood"]["nll"] == pytest.approx(told["nll_inside"])
    assert told["nll_inside"]["error"] > 0


@pytest.mark.commands
def test_nobody_is_told_from_himself_and_grey_needs_a_channel_each(runs, evaluate, tmp_path, write_mnist):
    folder = shutil.copytree(runs / "0", tmp_path / "run")
    asked = (f"run={folder}", "metric=[typicality]")
    process = evaluate(*asked, "data@outside=color_mnist")
    assert process.returncode == 0, process.stderr
    found = json.loads((folder / "results.json").read_text())["evaluation"]["typicality"]
    assert found["auroc"]["value"] == 0.5
    assert found["nll_inside"] == found["nll_outside"]
    write_mnist(tmp_path / "FashionMNIST" / "raw")
    fashion = ("data@outside=fashion_mnist", f"outside.root={tmp_path}", "outside.limit=20")
    process = evaluate(*asked, *fashion)
    assert process.returncode == 2
    assert "are (C, H, W) = (1, 32, 32)" in process.stderr
    process = evaluate(*asked, *fashion, "+outside.channels=3")
    assert process.returncode == 0, process.stderr
    found = json.loads((folder / "results.json").read_text())["evaluation"]["typicality"]["auroc"]
    assert (found["outside"], found["images"]["outside"]) == ("fashion_mnist", 20)


@pytest.mark.system
def test_two_processes_measure_what_one_does(runs, evaluate, tmp_path):
    folder = shutil.copytree(runs / "0", tmp_path / "run")
    # The judge's recipe asks for two processes of its own, but here the first process trains it alone.
    recipe = OmegaConf.load(folder / "config.yaml")
    write_config(folder / "config.yaml", OmegaConf.merge(recipe, {"trainer": {"devices": 2, "strategy": "ddp"}}))
    asked = (
        f"run={folder}",
        "metric=[quality,likelihood]",
        "extractor=classifier",
        "count=21",
        "priors=[gaussian]",
        "device=cpu",
        f"paths.models={tmp_path}/models",
    )
    found = {}
    for processes in (2, 1):
        launcher = ("torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m")
        process = evaluate(*asked, f"paths.cache={tmp_path}/{processes}", launcher=launcher if processes > 1 else ())
        assert process.returncode == 0, process.stdout + process.stderr
        assert process.stdout.count("quality/frechet_classifier/reconstructions ") == 1
        assert ("Training the judge" in process.stdout) == (processes == 2)
        found[processes] = json.loads((folder / "results.json").read_text())["evaluation"]
    two, one = found[2]["quality"], found[1]["quality"]
    assert set(two) == set(one)
    for name in set(one) - {"of"}:
        # A distance of nearly nothing is the difference of larger numbers, and is known to their last digits alone.
        assert two[name].pop("value") == pytest.approx(one[name].pop("value"), rel=1e-5, abs=1e-10)
        assert two[name] == one[name], "counts, protocol, extractor"
    assert one["frechet_classifier/samples"]["samples"] == 21
    assert found[2]["likelihood"] == found[1]["likelihood"]


BAD = {
    "an unknown metric": (["metric=[leakige]"], "did you mean leakage"),
    "a folder without a model": (["run=nowhere"], "run=nowhere is no finished run"),
    "a model without data": (["run=seeds/0/model"], "say data=<data set>"),
    "strangers without strangers": (["metric=[typicality]"], "say data@outside=<data set>"),
    "measure and gather": (["aggregate=seeds/*"], "run=seeds/0 would be measured, and aggregate=seeds/* only gathered"),
    "an unknown protocol": (["metric=[quality]", "extractor=classifier", "protocol=mine"], "authors2020"),
}


@pytest.mark.commands
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_a_sentence(runs, evaluate, case):
    arguments, text = BAD[case]
    process = evaluate("run=seeds/0", *arguments) if not arguments[0].startswith("run") else evaluate(*arguments)
    assert process.returncode == 2, process.stderr
    assert "Traceback" not in process.stderr
    assert text in process.stderr.replace("\n", " ")


@pytest.mark.commands
def test_nothing_to_gather_is_an_error(evaluate, tmp_path):
    (tmp_path / "stopped").mkdir()
    process = evaluate(f"aggregate={tmp_path}/*")
    assert process.returncode == 2
    assert f"aggregate={tmp_path}/* fits no folder with results.json" in process.stderr
