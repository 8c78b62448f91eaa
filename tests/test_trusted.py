"""Model folders and checkpoints from elsewhere: nothing runs that is not trusted, and what is damaged is named."""

import hashlib
import io
import json
import os
import pickle
import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

import iin_lightning
from iin_lightning import serialization, trusted
from iin_lightning.bounded import read_torch
from iin_lightning.encoders.autoencoder import Autoencoder
from iin_lightning.encoders.user_network import UserNetwork
from iin_lightning.errors import CheckpointError
from iin_lightning.factors import Factors
from iin_lightning.flows.translator import Translator
from iin_lightning.interpreter import Interpreter


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A package that leaves a file behind when it is imported; gives that file."""
    trace = tmp_path / "was here"
    (tmp_path / "stranger.py").write_text(
        "from pathlib import Path\nfrom torch import nn\n"
        f"Path({str(trace)!r}).touch()\nclass Net(nn.Module):\n    pass\ndef build():\n    return Net()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(trusted, "_trusted", set())
    monkeypatch.delenv(trusted.VARIABLE, raising=False)
    yield trace
    sys.modules.pop("stranger", None)


@pytest.fixture
def folder(tmp_path):
    """A model folder; its network is a part of another, so that there is something below the top."""
    network = UserNetwork("torchvision.ops:MLP", {"in_channels": 8, "hidden_channels": [4, 2]})
    serialization.save(network, tmp_path / "model", {"network": serialization.describe(network)})
    return tmp_path / "model"


def rewrite(folder, change):
    structure = json.loads((folder / "model.json").read_text())
    change(structure)
    (folder / "model.json").write_text(json.dumps(structure))


FOREIGN = {
    "a module": ("stranger:Net", "names stranger:Net, and stranger is not among"),
    "torch but no layers": ("torch.hub:load", "torch is not among"),
    "what a module of layers has imported": (
        "torch.nn.modules.module:functools.partial",
        r"which is functools.partial, and functools is not among",
    ),
    "what a module of ours has imported": (
        "iin_lightning.metrics.extractors:FeatureExtractorInceptionV3",
        "and torch_fidelity.* is not among",
    ),
    "a module within ours": ("iin_lightning.serialization:json.loads", "which is json.loads"),
    "no network": ("iin_lightning.trusted:trust", r"is no torch\.nn\.Module"),
    "no name": ("torch.nn:", "names|cannot build|no torch"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_description_names_known_packages_only(case, folder, stranger):
    name, text = FOREIGN[case]
    rewrite(folder, lambda structure: structure["network"].update({"class": name}))
    with pytest.raises(CheckpointError, match=text) as caught:
        serialization.load(folder)
    assert str(folder / "model.json") in str(caught.value)
    assert not stranger.exists()


def test_so_does_what_a_network_within_imports_by_name(folder, stranger):
    inner = {"class": "iin_lightning.encoders.user_network:UserNetwork", "arguments": {"target": "stranger.Net"}}
    for change in (
        lambda structure: structure["network"]["arguments"].update(target="stranger:Net"),
        lambda structure: structure["network"]["arguments"].update(n_classes=inner),  # looked at before all is built
    ):
        rewrite(folder, change)
        with pytest.raises(CheckpointError, match=r"stranger[:.]Net, and stranger is not among"):
            serialization.load(folder)
    assert not stranger.exists()


@pytest.mark.parametrize("how", ["said", "of a part", "environment"])
def test_what_is_trusted_is_built(how, stranger, monkeypatch):
    description = {"class": "stranger:Net", "arguments": {}}
    with pytest.raises(CheckpointError, match=r"add 'trust=\[stranger\]'.*serialization.trust\('stranger'\)"):
        serialization.build(description)
    if how == "environment":
        monkeypatch.setenv("IIN_LIGHTNING_TRUST", "other, stranger")
    else:
        serialization.trust("stranger" if how == "said" else "stranger.Net")
    assert type(serialization.build(description)).__name__ == "Net"
    assert stranger.exists()


class Malicious:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("container", ["zip", "legacy", "pickle"])
def test_a_checkpoint_with_code_does_not_run(container, tmp_path):
    content = {"state_dict": {"weight": torch.zeros(2)}, "callbacks": Malicious(tmp_path / "was here")}
    path = tmp_path / "last.ckpt"
    if container == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=container == "zip")
    with pytest.raises(CheckpointError, match=r"last\.ckpt holds \S+ beside tensors.*so it is not read"):
        read_torch(path)
    assert not (tmp_path / "was here").exists()


def test_nothing_here_reads_pickles():
    """Of pickled files there are CIFAR-10's, whose reader knows arrays alone, and torch's, whose reader does so too."""
    unsafe = re.compile(
        r"pickle\.loads?\(|[^y]Unpickler\(|allow_pickle|joblib\.load|np\.load\(|weights_only=False|yaml\.(load|unsafe)|"
        r"torch\.load\((?!.*weights_only=True)"
    )
    found = {
        f"{path.name}:{number}"
        for path in Path(iin_lightning.__file__).parent.rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if unsafe.search(line) and "class ArrayUnpickler(" not in line
    }
    assert not found


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


@pytest.mark.parametrize("how", ["cut", "empty", "flipped"])
def test_damaged_weights_are_named(how, folder):
    damage(folder / "model.safetensors", how)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged.*Copy the folder again"):
        serialization.load(folder)


@pytest.mark.parametrize("content", [b"", b'{"format": 1, "net', b"\xff\xfe\x00{}", b"[]", b'{"format": 1}', b"{}"])
def test_a_damaged_structure_is_named(content, folder):
    (folder / "model.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(str(folder))):
        serialization.load(folder)
    with pytest.raises(CheckpointError, match=re.escape(str(folder))):
        Interpreter.from_pretrained(folder)


@pytest.mark.parametrize("key", ["factors", "latent_dim", "parts"])
def test_an_interpreter_that_lacks_something_is_named(key, tmp_path):
    network = Autoencoder(image_size=16, latent_dim=8, width=4, norm="batch")
    interpreter = Interpreter(network, Translator(8, n_blocks=1, hidden=4), Factors({"residual": 8}, 8))
    interpreter.save_pretrained(tmp_path)
    rewrite(tmp_path, lambda structure: structure.pop(key))
    with pytest.raises(CheckpointError, match=rf"{re.escape(str(tmp_path))}.*(lacks '{key}'|holds no interpreter)"):
        Interpreter.from_pretrained(tmp_path)


@pytest.mark.parametrize("how", ["cut", "empty", "flipped"])
def test_a_damaged_checkpoint_is_named(how, tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"weight": torch.arange(5000.0)}, path)
    damage(path, how)
    with pytest.raises(CheckpointError, match=r"last\.ckpt is .*damaged.*again\."):
        read_torch(path)


@pytest.mark.parametrize("at", ["weights", "checksum", "structure"])
def test_an_interrupted_save_leaves_no_model_of_two(at, folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def interrupted(*args, **kwargs):
        if at == "weights":
            Path(args[1]).write_bytes(b"half")
        raise KeyboardInterrupt

    name = {"weights": "save_model", "checksum": "_checksum", "structure": "write_whole"}[at]
    monkeypatch.setattr(serialization, name, interrupted)
    network = UserNetwork("torchvision.ops:MLP", {"in_channels": 8, "hidden_channels": [4, 2]})
    with pytest.raises(KeyboardInterrupt):
        serialization.save(network, folder, {"network": serialization.describe(network)})
    left = {path.name: path.read_bytes() for path in folder.iterdir()}
    if at == "structure":
        assert list(left) == ["model.safetensors"], "without structure it is no model"
    else:
        assert left == before


def test_a_full_disk_is_said_as_python_says_it(folder, monkeypatch):
    def full(module, path):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(serialization, "save_model", full)
    with pytest.raises(OSError, match=r"No space left on device: .*model\.safetensors") as caught:
        serialization.save(nn.Identity(), folder, {})
    assert caught.value.errno == 28
    monkeypatch.undo()
    assert isinstance(serialization.load(folder), UserNetwork), "what was there is there"


def test_a_text_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    serialization.write_whole(path, "old")

    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda *args, **kwargs: Full())
        with pytest.raises(OSError, match="No space"):
            serialization.write_whole(path, "new")
    assert path.read_text() == "old"
    serialization.write_whole(path, "new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("results.json", "new")]


def linear(size):
    return {"class": "torch.nn:Linear", "arguments": {"in_features": size, "out_features": size}}


def deep(folder):
    (folder / "model.json").write_text('{"format": 1, "network": ' + "[" * 100_000, encoding="utf-8")


def pipe(name):
    def put(folder):
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return put


def not_a_number(folder):
    network = nn.Linear(2, 2)
    network.weight.data[0, 0] = torch.nan
    structure = {"network": serialization.describe(Linear(2))}
    serialization.save(network, folder, structure)


class Linear(nn.Linear):
    def __init__(self, size):
        super().__init__(size, size)
        self.size = size


HOSTILE = {
    "parts that are none": (
        lambda folder: rewrite(folder, lambda s: s.update(parts=[1], network=3)),
        "cannot build|lacks",
    ),
    "a class that is none": (
        lambda folder: rewrite(folder, lambda s: s["network"].update({"class": 3})),
        "no name of a",
    ),
    "arguments that are none": (
        lambda folder: rewrite(folder, lambda s: s.update(network=linear("a"))),
        "cannot build",
    ),
    "a name with codes": (
        lambda folder: rewrite(folder, lambda s: s["network"].update({"class": "torch.nn:\x1b[2J\nAll is well"})),
        r"'torch\.nn:\\x1b\[2J\\nAll is well' is no name of a class",
    ),
    "deep": (deep, "is not json"),
    "too large to build": (lambda folder: rewrite(folder, lambda s: s.update(network=linear(10_000_000))), "far fewer"),
    "too large in sum": (
        lambda folder: rewrite(
            folder,
            lambda s: s.update(
                network={
                    "class": "iin_lightning.flows.translator:Translator",
                    "arguments": {"dim": 4096, "n_blocks": 1000, "hidden": 1024},
                }
            ),
        ),
        "far fewer",
    ),
    "too large to read": (lambda folder: os.truncate(folder / "model.json", 180_000_000), "has 180.0 MB, and at most"),
    "weights that are a pipe": (pipe("model.safetensors"), "no regular file"),
    "a structure that is a pipe": (pipe("model.json"), r"lacks model\.json"),
    "no numbers": (not_a_number, "has values in weight that are not finite"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_model_folder_is_refused_in_a_sentence(case, folder):
    change, said = HOSTILE[case]
    change(folder)
    with pytest.raises(CheckpointError, match=said) as caught:
        serialization.load(folder)
    assert str(folder) in str(caught.value)
    assert str(caught.value).isprintable()
    if case == "parts that are none":
        with pytest.raises(CheckpointError, match=re.escape(str(folder))):
            Interpreter.from_pretrained(folder)


def test_what_this_user_has_made_is_known_wherever_it_lies(folder, stranger, monkeypatch):
    rewrite(folder, lambda structure: structure["network"].update({"class": "stranger:Net", "arguments": {}}))
    text = (folder / "model.json").read_text(encoding="utf-8").replace(", ", ",\n")
    unsigned = re.sub(r'(?<="signature": ")[0-9a-f]+', trusted.UNSIGNED, text)
    signed = trusted.sign(unsigned)
    assert trusted.is_own(signed)
    for other in (unsigned, signed.replace("stranger", "strangers"), signed.replace("\n", "\n\n", 1)):
        assert not trusted.is_own(other)
    (folder / "model.json").write_text(signed, encoding="utf-8")
    serialization.save(nn.Identity(), folder.with_name("none"), {})
    (folder.with_name("none") / "model.safetensors").rename(folder / "model.safetensors")
    checksum = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    rewritten = trusted.sign(re.sub(r'(?<="weights_sha256": ")[0-9a-f]+', checksum, unsigned))
    (folder / "model.json").write_text(rewritten, encoding="utf-8")
    copy = folder.rename(folder.with_name("moved"))
    assert type(serialization.load(copy)).__name__ == "Net"
    monkeypatch.setattr(trusted, "_key", lambda: bytes(32))
    with pytest.raises(CheckpointError, match="stranger is not among"):
        serialization.load(copy)
