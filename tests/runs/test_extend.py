"""A user's metric, analysis and loss: a file and a yaml each, found by ``--config-dir``; the package stays as it is."""

import json

import pytest

CODE = '''
"""What a user adds."""

import torch
from matplotlib.figure import Figure

from iin_lightning.losses.likelihood import standard_normal_nll
from iin_lightning.questions.answer import Answer


def sparsity(subject, *, threshold):
    """The share of factors' values near 0."""
    small = subject.translated.abs() < threshold
    return {name: part.float().mean().item() for name, part in subject.interpreter.factors.split(small).items()}


def spectrum(subject, *, count):
    """Variances of held-out latents along their principal axes."""
    variances = torch.linalg.eigvalsh(subject.latents("test").mean.T.cov()).flip(0)[:count]
    figure = Figure()
    figure.subplots().plot(variances)
    return Answer({"largest": variances[0].item()}, {"": figure}, {"": [{"variance": v} for v in variances.tolist()]})


class Tempered(torch.nn.Module):
    """The likelihood of single latents at another temperature."""

    batches = "singles"

    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature

    def forward(self, translator, batch):
        z_tilde, logdet = translator(batch)
        return standard_normal_nll(z_tilde / self.temperature, logdet)
'''
YAML = {
    "metric/sparsity": "# The share of factors' values near 0.\nsparsity:\n  _target_: mine.sparsity\n"
    "  _partial_: true\n  threshold: 0.5\n",
    "analysis/spectrum": "# Variances of held-out latents.\n_target_: mine.spectrum\n_partial_: true\ncount: 4\n",
    "model/tempered": "# @package _global_\ndefaults: [unsup]\nmodel:\n  loss:\n    _target_: mine.Tempered\n"
    "    temperature: 0.8\n",
}


@pytest.mark.commands
def test_one_file_and_one_yaml_add_a_metric_an_analysis_and_a_loss(command, run_command, tiny, tmp_path, workplace):
    (tmp_path / "mine.py").write_text(CODE, encoding="utf-8")
    (tmp_path / "data").symlink_to(workplace / "data")
    for name, text in YAML.items():
        file = tmp_path / "conf" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    own = ("--config-dir", "conf")
    after = ("+evaluation.metric=[sparsity]", "+analysis@analyses.spectrum=spectrum")
    command(*own, *tiny(), "model=tempered", *after, "hydra.run.dir=run", folder=tmp_path)
    results = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    share = results["evaluation"]["sparsity"]["residual"]
    assert 0 < share < 1
    assert results["analysis"]["spectrum"]["largest"] > 0

    def ask(module, *arguments):
        process = run_command(f"iin_lightning.{module}", *own, *arguments, cwd=tmp_path)
        assert process.returncode == 0, process.stderr
        return process.stdout

    ask("evaluate", "run=run", "metric=[sparsity,gaussianity]", "metric.sparsity.threshold=0.1")
    found = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))["evaluation"]
    assert found["sparsity"]["residual"] < share
    assert found["sparsity"]["of"]["latents"] == "posterior means"
    ask("analyse", "run=run", "analysis=spectrum", "analysis.count=2", "name=two")
    assert (tmp_path / "run" / "analysis" / "two.csv").read_text().count("\n") == 3
    assert "values near 0" in ask("evaluate", "--help")
    assert "Variances of held-out latents" in ask("analyse", "--help")
