"""The command ``evaluate``: numbers into the runs, a table over several, sentences for what does not fit."""

import csv
import json
import shutil
import subprocess
import sys

import pytest

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
def evaluate(workplace, environment):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "iin_lightning.evaluate", STORE, *arguments],
            cwd=workplace,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


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
    assert found["transfer"]["of"]["encoder"] == before["encoder"]
    sampled = {name: record for name, record in found["quality"].items() if name != "of"}
    kinds = ("samples", "samples from standard", "samples from gaussian", "reconstructions")
    assert set(sampled) == {f"{what}_classifier/{kind}" for what in ("frechet", "kernel") for kind in kinds}
    record = sampled["frechet_classifier/samples"]
    assert record["protocol"]["name"] == "clean"
    assert record["real"] == record["samples"] == 20
    assert "likelihood/nll" in process.stdout


def test_several_runs_give_means_and_deviations(runs, evaluate, tmp_path):
    process = evaluate(f"run={runs}/*", "metric=[likelihood]", f"out={tmp_path}")
    assert process.returncode == 0, process.stderr
    rows = {row["number"]: row for row in csv.DictReader((tmp_path / "summary.csv").open())}
    values = [
        json.loads((runs / seed / "results.json").read_text())["evaluation"]["likelihood"]["nll"] for seed in "01"
    ]
    assert float(rows["likelihood/nll"]["mean"]) == pytest.approx(sum(values) / 2)
    assert float(rows["likelihood/nll"]["std"]) == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert "| likelihood/nll |" in (tmp_path / "summary.md").read_text()


def test_what_fits_is_measured_where_nothing_is_asked_for(command, tiny, workplace, evaluate):
    command(*tiny(), STORE, "model=unsup", "hydra.run.dir=seeds_unsup/0")
    assert evaluate("run=seeds_unsup/0").returncode == 0
    found = json.loads((workplace / "seeds_unsup" / "0" / "results.json").read_text())["evaluation"]
    assert set(found) == {"likelihood", "gaussianity"}


BAD = {
    "an unknown metric": (["metric=[fid]"], "no metric 'fid'; allowed are: likelihood"),
    "a folder without a model": (["run=nowhere"], "run=nowhere is no finished run"),
    "a model without data": (["run=seeds/0/model"], "say data=<data set>"),
    "an unknown protocol": (["metric=[quality]", "extractor=classifier", "protocol=mine"], "authors2020"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_a_sentence(runs, evaluate, case):
    arguments, text = BAD[case]
    process = evaluate("run=seeds/0", *arguments) if not arguments[0].startswith("run") else evaluate(*arguments)
    assert process.returncode == 2, process.stderr
    assert "Traceback" not in process.stderr
    assert text in process.stderr.replace("\n", " ")
