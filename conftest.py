"""Doctests are tests: each runs seeded, with torch at hand."""

from typing import Any

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded_doctest(doctest_namespace: dict[str, Any]) -> None:
    torch.manual_seed(0)
    doctest_namespace["torch"] = torch
