"""Concepts without labels, as a user runs them: versions of images that a transform makes."""

import json

import pytest

ARGUMENTS = (
    "data=gray",
    "data.base=color_mnist_mini",
    "data.base.limit=160",
    "data.num_workers=0",
    "model=sup",
    "trainer=smoke",
    "+evaluation.metric=[leakage]",
    "+analysis@analyses.walk=walk",
    "analyses.walk.steps=2",
    "analyses.walk.walks=6",
    "analyses.walk.draws=2",
)


@pytest.mark.commands
def test_a_change_is_a_concept_of_training_and_of_evaluation(command, small, tmp_path):
    command(*ARGUMENTS, *small, f"hydra.run.dir={tmp_path}/run", f"paths.cache={tmp_path}/cache")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    text = json.dumps(results)
    assert "leakage" in text
    assert "gray/own" in text
    assert "gray/others" in text
    changed = results["analysis"]["walk"]["images_themselves_changed"]
    assert set(changed) == {"gray"}, "whose versions there are"
    assert set(changed["gray"]) >= {"explained_variance", "explained_variance_of_probabilities", "changed_predictions"}
    structure = json.loads((tmp_path / "run" / "model" / "model.json").read_text())
    assert "gray" in json.dumps(structure)
    kept = list((tmp_path / "cache" / "versions").glob("*/pixels"))
    assert {path.stat().st_size for path in kept} == {160 * 3 * 32 * 32}
