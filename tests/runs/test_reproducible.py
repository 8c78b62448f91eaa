"""What a seed fixes, what a run says of where it comes from, and how it names a file of its own that is damaged."""

import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from io import BytesIO
from zipfile import ZipFile

import pytest
from omegaconf import OmegaConf

from iin_lightning.errors import CheckpointError
from iin_lightning.questions import results
from iin_lightning.runs import folder as folders
from iin_lightning.runs.folder import PROVENANCE, read_provenance, record


@pytest.fixture(scope="module")
def runs(command, tiny, tmp_path_factory):
    """Two runs that are the same, and one of another seed; each trains its encoder itself."""
    place = tmp_path_factory.mktemp("reproducible")
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        own = [
            f"paths.models={place}/{name}-models",
            f"paths.cache={place}/{name}-cache",
            f"hydra.run.dir={place}/{name}",
        ]
        command(*tiny("+judge"), *own, "model=unsup", f"seed={seed}", "deterministic=true")
    return place


@pytest.mark.commands
def test_a_seed_fixes_every_bit(runs):
    weights = {name: (runs / name / "model" / "model.safetensors").read_bytes() for name in ("first", "again", "other")}
    metrics = {name: results.read(runs / name)["metrics"] for name in weights}
    assert weights["first"] == weights["again"] != weights["other"]
    assert metrics["first"] == metrics["again"]
    assert all(value != metrics["other"][name] for name, value in metrics["first"].items() if name.endswith("nll"))


@pytest.mark.commands
def test_a_run_says_where_it_comes_from(runs):
    found = read_provenance(runs / "first" / PROVENANCE)
    assert "seed=0" in found["overrides"]
    assert datetime.fromisoformat(found["started"]).tzinfo is not None
    assert set(found["git"]) == {"code", "working_folder"}
    assert {"iin-lightning", "torch", "pytorch-lightning", "hydra-core", "numpy"} <= set(found["versions"])
    assert not {"pytest", "ruff"} & set(found["versions"])
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["hardware"]["cores"] >= 1
    assert found["hardware"]["cpu"]
    assert found["processes"] == 1
    assert "resumed" not in found
    assert "versions" not in results.read(runs / "first"), "said once"
    (encoder,) = (runs / "first-models").glob(f"*-autoencode-*/{PROVENANCE}")
    assert read_provenance(encoder)["overrides"] == found["overrides"], "what it was trained for"


CONFIG = OmegaConf.create({"trainer": {"devices": 2, "num_nodes": 3}})


def test_a_run_that_goes_on_keeps_how_it_began_and_no_secret_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(
        sys, "orig_argv", ["/home/somebody/bin/python", "-m", "iin_lightning.train", "+hub.token=abc123"]
    )
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    record(CONFIG, tmp_path)
    began = read_provenance(tmp_path / PROVENANCE)
    assert began["command"].startswith("python -m iin_lightning.train ")
    assert began["processes"] == 6
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "iin_lightning.train", "resume=here"])
    for n in (1, 2):
        record(CONFIG, tmp_path)
        found = read_provenance(tmp_path / PROVENANCE)
        assert found | {"resumed": None} == began | {"resumed": None}
        assert [one["command"] for one in found["resumed"]] == ["python -m iin_lightning.train resume=here"] * n
    text = (tmp_path / PROVENANCE).read_text()
    assert "abc123" not in text
    assert "somebody" not in text


@pytest.mark.commands
def test_the_program_iin_is_named_without_its_folder(tmp_path, environment):
    """As pip installs it: a script that the system runs by its whole path."""
    program = tmp_path / "somebody" / "bin" / "iin"
    program.parent.mkdir(parents=True)
    start = "import sys\nfrom iin_lightning.__main__ import main\nsys.exit(main())\n"
    program.write_text(f"#!{sys.executable}\n{start}")
    program.chmod(0o755)
    few = ["model=autoencoder", "trainer=smoke", "trainer.accelerator=cpu", "data.limit=24", "encoder.width=4"]
    command = [program, "train", *few, "hydra.run.dir=run"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    text = (tmp_path / "run" / PROVENANCE).read_text()
    assert json.loads(text)["command"] == " ".join(["iin", *command[1:]])
    assert "somebody" not in text


def test_other_processes_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    record(CONFIG, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("devices", "nodes", "processes"), [(1, 1, 1), ([0, 1], 2, 4), ("0,1,2", 1, 3), ("auto", 1, 1)]
)
def test_processes_are_counted_as_the_trainer_is_told(devices, nodes, processes, monkeypatch):
    for name in ("WORLD_SIZE", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    config = OmegaConf.create({"trainer": {"devices": devices, "num_nodes": nodes}})
    assert folders._processes(config) == processes


def test_where_there_is_no_git_nothing_is_said_of_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert folders._commit(tmp_path) is None
    monkeypatch.undo()
    assert folders._commit(tmp_path) is None, "no repository"


def flipped_inside(content):
    """A wrong bit in the largest tensor; between tensors there is padding, where it would change nothing."""
    with ZipFile(BytesIO(content)) as archive:
        tensor = max((archive.read(member) for member in archive.infolist()), key=len)
    at = content.index(tensor) + len(tensor) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGED = {
    "checkpoint cut": ("checkpoints/last.ckpt", lambda b: b[: len(b) // 2], "resume"),
    "checkpoint flipped": ("checkpoints/last.ckpt", flipped_inside, "resume"),
    "config": ("config.yaml", lambda b: b"a: [" + b, "resume"),
    "provenance": (PROVENANCE, lambda b: b[:-9], "resume"),
    "results": (results.FILE, lambda b: b[: len(b) // 2], "evaluate"),
    "results that are no text": (results.FILE, lambda b: b"\xff" + b, "evaluate"),
    "weights": ("model/model.safetensors", lambda b: b[:-1] + bytes([b[-1] ^ 1]), "evaluate"),
    "structure": ("model/model.json", lambda b: b[:-9], "evaluate"),
}


@pytest.mark.commands
@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_named_with_the_cure_and_stays_as_it_is(
    case, runs, command, run_command, workplace, tmp_path
):
    name, damage, does = DAMAGED[case]
    shutil.copytree(runs / "first", tmp_path / "run")
    file = tmp_path / "run" / name
    file.write_bytes(content := damage(file.read_bytes()))
    if does == "resume":
        process = command(f"resume={tmp_path}/run", "model.steps=8", ok=False)
    else:
        process = run_command("iin_lightning.evaluate", f"run={tmp_path}/run", "metric=[likelihood]", cwd=workplace)
    assert process.returncode == 2, process.stdout + process.stderr
    assert re.search(rf"{re.escape(str(file))} .*(damaged|is not json).*(again|put a copy of it back)", process.stderr)
    assert "Traceback" not in process.stderr
    assert file.read_bytes() == content


def test_results_of_analyses_that_end_at_once_all_stay(tmp_path):
    results.write({"metrics": {"test/nll": 1.0}}, tmp_path)
    with ThreadPoolExecutor(4) as jobs:
        list(jobs.map(lambda n: results.add(tmp_path, "analysis", {f"walk_{n}": n}), range(12)))
    assert results.read(tmp_path) == {"metrics": {"test/nll": 1.0}, "analysis": {f"walk_{n}": n for n in range(12)}}


def test_damaged_results_are_not_written_over(tmp_path):
    (tmp_path / results.FILE).write_text("[]")
    with pytest.raises(CheckpointError, match=r"results\.json is damaged \(it holds a list\)"):
        results.add(tmp_path, "evaluation", {"c": 3})
    assert json.loads((tmp_path / results.FILE).read_text()) == []
