"""What importing costs, by what is imported."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.commands

HEAVY = ("pytorch_lightning", "hydra", "omegaconf", "wandb", "matplotlib", "torch._dynamo")


@pytest.mark.parametrize("statement", ["import iin_lightning", "from iin_lightning import Interpreter, Translator"])
def test_a_notebook_loads_neither_lightning_nor_hydra_nor_wandb(statement):
    code = f"import sys, torch; {statement}; print([m for m in {HEAVY} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_process_of_a_map_loads_neither_the_page_nor_lightning():
    heavy = ("gradio", "pytorch_lightning", "hydra", "matplotlib")
    code = f"import sys, iin_lightning.explorer.computing; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_help_loads_no_torch():
    code = (
        "import sys, runpy; sys.argv = ['train', '--help'];\n"
        "try: runpy.run_module('iin_lightning.train', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print('torch loaded:', 'torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Groups (group=choice)" in out.stdout
    assert out.stdout.rstrip().endswith("torch loaded: False")
