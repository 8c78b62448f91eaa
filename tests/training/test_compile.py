"""Compiling changes how a step runs, and nothing else."""

import pickle
import shutil

import pytest
import torch
from tests.training.tasks import adam, constant, interpret, latents, trainer

from iin_lightning.errors import ConfigError
from iin_lightning.training import interpret as module


def test_a_compiled_training_gives_the_same_weights_and_validates_as_written(monkeypatch, tmp_path):
    made, compile_ = [], torch.compile

    def eager(function, mode):  # torch.compile without a compiler
        made.append(mode)
        return compile_(function, backend="eager", fullgraph=True)

    torch._dynamo.reset()
    monkeypatch.setattr(module.torch, "compile", eager)
    written, compiled = (interpret(compiled=compiled) for compiled in (False, True))
    trainer(1).validate(compiled, latents(2), verbose=False)
    assert made == []
    trainer(5).fit(written, latents(5), latents(2))
    run = trainer(5)
    run.fit(compiled, latents(5), latents(2))
    assert made == ["default"]
    torch.testing.assert_close(compiled.state_dict(), written.state_dict())
    run.save_checkpoint(tmp_path / "c.ckpt")
    pickle.dumps(compiled.interpreter)  # nothing of the compiled function is left
    trainer(6).fit(interpret(), latents(6), ckpt_path=tmp_path / "c.ckpt", weights_only=True)


@pytest.mark.system
def test_a_machine_without_a_compiler_is_told(monkeypatch, tmp_path):
    torch._dynamo.reset()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # nothing that was compiled before
    translate = module.compile_translator(lambda z: (2 * z, z.sum(1)), torch.device("cpu"))
    nothing = torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)})
    text = r"model.compile=true there must .* C\+\+ compiler.* model.compile=false"
    with nothing, pytest.raises(ConfigError, match=text):
        translate(torch.randn(8, 4))


@pytest.mark.system
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_the_compiler_itself_agrees():
    torch._dynamo.reset()
    tasks = [interpret(compiled=compiled) for compiled in (False, True)]
    for task in tasks:
        trainer(3).fit(task, latents(3))
    # Not the parameters: the last rotation changes no likelihood, so that Adam follows rounding there.
    z = torch.randn(64, 6, generator=torch.Generator().manual_seed(3))
    a, b = (task.interpreter.translator.eval().log_prob(z) for task in tasks)
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_a_reversible_translator_is_not_compiled():
    task = interpret()
    task.interpreter.translator.reversible = True
    with pytest.raises(ConfigError, match=r"model.compile=true.*flow.reversible=true"):
        module.Interpret(task.interpreter, task.loss, "", adam, constant, compiled=True)
