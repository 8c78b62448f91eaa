"""Concepts from sketches, as a user runs them, with a network of one's own for a stylizer."""

import json

import pytest

STYLIZER = """
import torch

class Toy(torch.nn.Module):
    def __init__(self, strength):
        super().__init__()
        self.strength = strength

    def forward(self, content, style):
        style = torch.nn.functional.interpolate(style, content.shape[-2:], mode="area")
        return torch.lerp(content, style, self.strength)

    def extra_repr(self):
        return f"strength={self.strength}"
"""
ARGUMENTS = (
    "data=sketch",
    "data.base=color_mnist_mini",
    "data.base.limit=120",
    "data/stylizer=module",
    "data.stylizer._target_=own_stylizer.Toy",
    "+data.stylizer.strength=0.7",
    "data.num_workers=0",
    "model=sup",
    "trainer=smoke",
)


@pytest.mark.commands
def test_sketches_are_concepts_of_training(command, small, tmp_path):
    (tmp_path / "own_stylizer.py").write_text(STYLIZER)
    command(*ARGUMENTS, *small, f"hydra.run.dir={tmp_path}/run", f"paths.cache={tmp_path}/cache", folder=tmp_path)
    assert json.loads((tmp_path / "run" / "results.json").read_text())
    structure = json.loads((tmp_path / "run" / "model" / "model.json").read_text())
    assert "roundness" in json.dumps(structure)
    kept = list((tmp_path / "cache" / "versions").glob("*/pixels"))
    assert len(kept) % 2 == 0
    assert {path.stat().st_size for path in kept} == {120 * 3 * 32 * 32}


@pytest.mark.commands
def test_a_sketch_that_is_not_there_ends_a_command_with_one_sentence(command, tmp_path):
    process = command(
        *ARGUMENTS[:3],
        *("data/stylizer=module", "data.stylizer._target_=torch.nn.Identity", "data.sketch_a=nowhere.png"),
        *(f"hydra.run.dir={tmp_path}/run", "model=sup", "trainer=smoke"),
        ok=False,
    )
    assert process.returncode == 2
    assert "nowhere.png is no file" in process.stderr
    assert "allowed are: round, angular" in process.stderr
    assert "Traceback" not in process.stderr
