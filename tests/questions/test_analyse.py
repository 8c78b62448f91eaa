"""The command ``analyse``: dimensions of factors, as an answer and as the size of a translator's factors."""

import json
import subprocess
import sys

import pytest

STORE = "paths.models=analysed"  # its own, so that other tests find theirs empty


@pytest.mark.commands
def test_dimensions_of_networks_and_factors_sized_by_them(command, tiny, workplace, environment):
    command(*tiny(), "model=sup", "model.factors=auto", STORE, "hydra.run.dir=auto/sup")
    command(
        *tiny("+", "flow"),
        "model=classifier",
        STORE,
        "hydra.run.dir=auto/clf",
    )
    asked = ("run=auto/*", "analysis=dimensions")
    # In a locale that lacks most letters.
    plain = {**environment, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = [sys.executable, "-m", "iin_lightning.analyse", *asked]
    process = subprocess.run(words, cwd=workplace, env=plain, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert r"\xb1" in process.stdout
    results = {name: json.loads((workplace / "auto" / name / "results.json").read_text()) for name in ("sup", "clf")}
    for result in results.values():
        answer = result["analysis"]["dimensions"]
        for method in ("covariance", "correlation"):
            assert list(answer["dimensions"][method]) == ["residual", "digit", "color"]
            assert sum(answer["dimensions"][method].values()) == 8
            assert answer["scores"][method]["residual"] == {"value": 1, "error": 0}
            assert 0 < answer["scores"][method]["digit"]["error"] < 1
        assert answer["dimensions"]["nothing held"] == {"residual": 4, "digit": 2, "color": 2}
    # The factors that were trained are those that the analysis gives.
    assert results["sup"]["factors"] == results["sup"]["analysis"]["dimensions"]["dimensions"]["covariance"]
    for name in ("summary.csv", "summary.md", "dimensions.png", "dimensions.pdf"):
        assert (workplace / "outputs" / "analysis" / "dimensions" / name).stat().st_size > 0
    assert "scores/covariance/digit" in process.stdout


@pytest.mark.commands
def test_an_unknown_analysis_is_named(workplace, run_command):
    process = run_command("iin_lightning.analyse", "run=nowhere", "analysis=dimension", cwd=workplace)
    assert process.returncode == 2
    assert "did you mean dimensions?" in process.stderr
