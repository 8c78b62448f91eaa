"""A notebook asks what commands ask, and knows nothing of configurations."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.commands
def test_a_subject_is_built_and_asked_without_hydra(tmp_path, environment):
    script = Path(__file__).with_name("notebook.py")
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "swap walk leakage, without hydra"
