"""Files: whatever torch wrote them, wherever their tensors were; and those that are none."""

import argparse
import os
import re

import pytest
import torch

from iin_lightning.convert_from import kind_of, read
from iin_lightning.errors import CheckpointError


@pytest.fixture
def state(small):
    return small["autoencoder"]


@pytest.mark.parametrize("legacy", [True, False], ids=["legacy", "zip"])
@pytest.mark.parametrize("gpu", [True, False], ids=["gpu", "cpu"])
def test_every_container_is_read(write, state, monkeypatch, legacy, gpu):
    if gpu:
        monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
    path = write(state, legacy=legacy)
    if gpu and legacy:  # torch 1.4 has storages of a GPU by their own names
        content = path.read_bytes()
        path.write_bytes(re.sub(rb"ctorch\n(\w+Storage\n)", rb"ctorch.cuda\n\1", content))
    checkpoint = read(path)
    assert (checkpoint.step, checkpoint.rest) == (120000, ("loss", "optimizer"))
    assert checkpoint.tensors.keys() == state.keys()
    for name, value in checkpoint.tensors.items():
        assert value.device.type == "cpu"
        assert value.equal(state[name])


def test_a_state_dict_alone_is_read(tmp_path, state):
    torch.save(state, tmp_path / "weights.pt")
    checkpoint = read(tmp_path / "weights.pt")
    assert (checkpoint.step, checkpoint.rest) == (None, ())
    assert checkpoint.tensors.keys() == state.keys()


class Code:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize("legacy", [True, False], ids=["legacy", "zip"])
def test_a_pickle_with_code_does_not_run(tmp_path, monkeypatch, state, legacy):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": state, "config": Code()}, "model-1.ckpt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"holds posix.mkdir beside tensors.*could run code"):
        read(tmp_path / "model-1.ckpt")
    assert not (tmp_path / "pwned").exists()


def test_what_is_no_checkpoint_gets_a_sentence(tmp_path, write, state):
    path = write(state)
    with pytest.raises(CheckpointError, match=r"is no file: name a checkpoint.*has \['model-120000.ckpt'\]"):
        read(tmp_path)
    with pytest.raises(CheckpointError, match="is no file"):
        read(tmp_path / "model-2.ckpt")
    content = path.read_bytes()
    for damaged in (content[:-20], content[:300], b"", b"PK\x03\x04" + content, bytes(range(200))):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"is no file of torch.save, or damaged \("):
            read(path)
    other = tmp_path / "other.pt"
    for value, text in (
        ([1, 2], "holds a list, not a state dict"),
        ({"model": {"weight": 1}}, "no tensors are weight"),
        ({"epoch": 3, "net": {}}, "no tensors are epoch, net"),
        ({}, "it is empty"),
        (argparse.Namespace(a=1), "holds argparse.Namespace"),
    ):
        torch.save(value, other)
        with pytest.raises(CheckpointError, match=text):
            read(other)


def test_networks_are_recognised_by_their_names(published):
    kinds = {run: kind_of(keys["model"]) for run, keys in published.items()}
    assert kinds == {
        "iin": "translator",
        "ae": "autoencoder",
        "ae_spectral_norm": "autoencoder",
        "clf": "classifier",
    }
    with pytest.raises(CheckpointError, match=r"none of the authors' networks .*it has conv1.weight, fc.bias"):
        kind_of(["conv1.weight", "fc.bias"])
