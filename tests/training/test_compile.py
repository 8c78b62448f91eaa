"""Compiling changes how a step runs, and nothing else."""

import pickle
import shutil

import pytest
import torch

from iin_lightning.errors import ConfigError
from iin_lightning.training import interpret as module


@pytest.fixture
def as_written(monkeypatch):
    """torch.compile without a compiler; what it is given and how often that runs is kept."""
    made, compile_ = [], torch.compile

    def eager(function, mode):
        made.append(mode)
        return compile_(function, backend="eager", fullgraph=True)

    torch._dynamo.reset()
    monkeypatch.setattr(module.torch, "compile", eager)
    return made


def test_a_compiled_training_gives_the_same_weights(interpret, latents, trainer, as_written):
    tasks = [interpret(compiled=compiled) for compiled in (False, True)]
    for task in tasks:
        trainer(5).fit(task, latents(5), latents(2))
    assert as_written == ["default"]
    written, compiled = (task.state_dict() for task in tasks)
    assert written.keys() == compiled.keys()
    for name, value in written.items():
        torch.testing.assert_close(compiled[name], value)


def test_a_compiled_task_can_be_pickled_and_its_checkpoint_read_by_any(
    interpret, latents, trainer, as_written, tmp_path
):
    task, run = interpret(compiled=True), trainer(3)
    run.fit(task, latents(3))
    run.save_checkpoint(tmp_path / "c.ckpt")
    pickle.dumps(task.interpreter)
    assert task._translate is None
    trainer(4).fit(interpret(), latents(4), ckpt_path=tmp_path / "c.ckpt", weights_only=True)


def test_validation_runs_as_written(interpret, latents, trainer, as_written):
    trainer(1).validate(interpret(compiled=True), latents(2), verbose=False)
    assert as_written == []


def test_a_machine_without_a_compiler_is_told(interpret, latents, trainer, monkeypatch, tmp_path):
    torch._dynamo.reset()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # nothing that was compiled before
    nothing = torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)})
    with (
        nothing,
        pytest.raises(ConfigError, match=r"model.compile=true there must .* C\+\+ compiler.* model.compile=false"),
    ):
        trainer(3).fit(interpret(compiled=True), latents(3))


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_the_compiler_itself_agrees(interpret, latents, trainer):
    torch._dynamo.reset()
    tasks = [interpret(compiled=compiled) for compiled in (False, True)]
    for task in tasks:
        trainer(3).fit(task, latents(3))
    # Not the parameters: the last rotation changes no likelihood, so that Adam follows rounding there.
    z = torch.randn(64, 6, generator=torch.Generator().manual_seed(3))
    a, b = (task.interpreter.translator.eval().log_prob(z) for task in tasks)
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_a_reversible_translator_is_not_compiled(interpret):
    task = interpret()
    task.interpreter.translator.reversible = True
    with pytest.raises(ConfigError, match=r"model.compile=true.*flow.reversible=true"):
        module.Interpret(task.interpreter, task.loss, "", task.make_optimizer, task.make_scheduler, compiled=True)
