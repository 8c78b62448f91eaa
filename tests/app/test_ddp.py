"""Two processes do what one does: first stage, judge, translator, tests, one set of files.

The first one starts the command again, so it must be one.
"""

import json


def test_a_supervised_run_on_two_processes(command, tiny, tmp_path):
    process = command(
        *tiny("trainer"),
        "trainer=ddp_cpu",
        "model=sup",
        f"paths.models={tmp_path}/models",
        f"hydra.run.dir={tmp_path}/run",
        own_process=True,
    )
    assert process.stdout.count("Training the encoder first") == 1, "the first process speaks for both"
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["steps"] == 6
    assert {"test/nll", "test/transfer/digit/color"} <= set(results["metrics"])
    assert len(list((tmp_path / "models").glob("*/model/model.safetensors"))) == 2
    assert len(list((tmp_path / "run").glob("metrics*.csv"))) == 1


def test_questions_after_training_on_two_processes(command, tiny, tmp_path):
    # The judge is not in the store, and who trains it alone must not wait for the other process.
    command(
        *tiny("trainer"),
        "trainer=ddp_cpu",
        "model=unsup",
        "+evaluation.metric=[likelihood,quality]",
        "+evaluation.extractor=classifier",
        "+evaluation.count=20",
        "+analysis@analyses.walk=walk",
        "analyses.walk.walks=4",
        "analyses.walk.draws=3",
        "analyses.walk.steps=3",
        f"paths.models={tmp_path}/models",
        f"hydra.run.dir={tmp_path}/run",
        own_process=True,
        timeout=150,
    )
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(results["evaluation"]) == {"likelihood", "quality"}
    assert results["analysis"]["walk"]["factors"]["residual"]


def test_the_adversarial_game_on_two_processes(command, tiny, tmp_path):
    game = (
        "model.adversarial={_target_: iin_lightning.losses.adversarial.Adversarial, _partial_: true, start: 3,"
        " discriminator: {_target_: iin_lightning.encoders.discriminator.PatchDiscriminator, _partial_: true,"
        " width: 4}}"
    )
    command(
        *tiny("+", "flow", "trainer"),
        "trainer=ddp_cpu",
        "model=autoencoder",
        game,
        f"paths.models={tmp_path}",
        f"hydra.run.dir={tmp_path}/run",
        own_process=True,
    )
    assert json.loads((tmp_path / "run" / "results.json").read_text())["steps"] == 6
