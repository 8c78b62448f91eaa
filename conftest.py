"""Doctests are tests: each runs seeded, with torch at hand. Nothing is written into the home folder."""

import os
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch

# The key that run folders are signed with; commands that are started inherit it, and so do processes of pytest.
_KEYS = TemporaryDirectory(prefix="iin-lightning-key-")
os.environ["XDG_CONFIG_HOME"] = _KEYS.name


@pytest.fixture(autouse=True)
def _seeded_doctest(doctest_namespace: dict[str, Any]) -> None:
    torch.manual_seed(0)
    doctest_namespace["torch"] = torch
