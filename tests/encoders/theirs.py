"""The authors' numbers and state dicts. Large weights are no files: both sides drew them from the same seeds."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parents[1] / "assets" / "golden"


def close(actual, expected, rtol=1e-4, atol=2e-5):
    expected = torch.as_tensor(expected).double()
    torch.testing.assert_close(actual.detach().double(), expected.reshape(actual.shape), rtol=rtol, atol=atol)


def arrays(name):
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}


def keys(name):
    """Type and shape of every tensor, by name."""
    return json.loads((GOLDEN / f"{name}_keys.json").read_text())


def drawn(name, shape, mean=0):
    w = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    return torch.from_numpy((mean + 0.02 * w).astype(np.float32))


def state(keys, golden):
    """Their state dict."""
    given = {name: golden.get(f"sd/{name}") for name in keys}
    return {name: drawn(name, keys[name][1]) if value is None else value for name, value in given.items()}
