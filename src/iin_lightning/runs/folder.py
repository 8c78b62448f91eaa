"""What stands in a run folder of how it was made: ``config.yaml``, and ``provenance.json`` with code and machine."""

import json
import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import datetime
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from iin_lightning.bounded import read_json, read_torch
from iin_lightning.cli import trust
from iin_lightning.cli.arguments import user_folder
from iin_lightning.cli.compose import compose_train
from iin_lightning.cli.paths import conf_folder, last_checkpoint
from iin_lightning.cli.secrets import mask
from iin_lightning.distributed import is_main_process, usable_cores
from iin_lightning.errors import CheckpointError, ConfigError
from iin_lightning.serialization import write_whole
from iin_lightning.trusted import UNSIGNED, sign

CONFIG, CONFIG_RESUMED = "config.yaml", "config.resumed.yaml"
"""What a run began with, and what it was last continued with."""

PROVENANCE = "provenance.json"
PACKAGE, PROGRAM = "iin-lightning", "iin"
GIT_SECONDS = 2  # on a slow disk a run does not wait for longer


def write_config(path: Path, config: DictConfig) -> None:
    """Write the configuration of a run, signed by this user."""
    write_whole(path, sign(f"# signature: {UNSIGNED}\n{OmegaConf.to_yaml(config)}"))


def read_config(path: Path) -> DictConfig:
    """The configuration of a run; of one from elsewhere what was trained, with the paths, loggers, ... of ``conf/``.

    Raises:
        CheckpointError: it is damaged, or names code that is not trusted.
    """
    config, own = trust.load(path)
    return config if own else trust.adopted(config, compose_train(), path)


def resumed(config: DictConfig) -> tuple[DictConfig, DictConfig]:
    """The configuration that the run ``resume=<folder>`` began with, and the one to go on with: typed values on top.

    Raises:
        CheckpointError: the folder holds no run, or one from elsewhere that is not trusted.
        ConfigError: the command line asks for another group, for a new key, or for fewer steps than were done.
    """
    folder = Path(config.resume)
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"resume={folder} is no run folder: it holds no {CONFIG}. Name outputs/<name>/<time>.")
    last = folder / CONFIG_RESUMED
    files = (folder / CONFIG, last if last.is_file() else folder / CONFIG)
    (origin, begun_here), (saved, saved_here) = map(trust.load, files)
    if not (own := begun_here and saved_here):
        if not trust.trusts(config, folder):
            raise CheckpointError(
                f"{folder} was not made by you on this machine, or its {CONFIG} was changed by hand since. If you "
                f"trust whoever made it, add 'trust=[{folder}/]': its data, networks and settings of training are then "
                "taken; paths, loggers, callbacks and trainer are those of your command line. You are asked once."
            )
        origin, saved = (trust.adopted(theirs, config, file) for theirs, file in zip((origin, saved), files))
        origin.resume = None
    OmegaConf.set_struct(saved, True)
    for override in OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task)):
        key = override.key_or_group
        if key in ("resume", "trust"):  # what is trusted is so for this command
            continue
        if not own and re.split(r"[./@]", key)[0] not in trust.WHAT:
            continue
        if override.is_add() or override.is_delete() or (conf_folder() / key).is_dir():
            raise ConfigError(
                f"A resumed run keeps its groups, so {override.input_line} cannot be changed: leave it out, or start a "
                "new run. Values such as model.steps=5000 may change."
            )
        # As it was typed: what comes from the environment is not written down.
        parent, _, name = key.rpartition(".")
        typed = OmegaConf.to_container(OmegaConf.select(config, parent) if parent else config)
        assert isinstance(typed, dict)
        OmegaConf.update(saved, key, typed[name])
    saved.resume = str(folder)
    _check_steps(saved, last_checkpoint(folder))
    return origin, saved


def _check_steps(config: DictConfig, checkpoint: Path) -> None:
    """Refuse to go on to where a run has been already: nothing would be trained, and its numbers be of more steps."""
    asked = config.trainer.max_steps
    done = read_torch(checkpoint)["global_step"] if checkpoint.is_file() else 0
    if 0 <= asked < done:
        key = "model.steps" if OmegaConf.is_interpolation(config.trainer, "max_steps") else "trainer.max_steps"
        raise ConfigError(
            f"This run has done {done} steps already, and {key}={asked} asks for fewer: name a larger number to train "
            "on, or leave it out."
        )


def record(config: DictConfig, folder: Path) -> None:
    """Write down how a run begins, or, under ``resumed``, how it goes on; only the first process does.

    Nothing is added that names a user or a host, and secrets are masked; but arguments stand as they were typed:
    ``paths.data=/home/ada/images`` tells who ada is.

    Raises:
        CheckpointError: the file of the run that goes on is damaged.
    """
    if not is_main_process():
        return
    file, now = folder / PROVENANCE, mask(_session(config))
    found = read_provenance(file) if file.is_file() else {}
    content = {**found, "resumed": [*found.get("resumed", []), now]} if found else now
    write_whole(file, json.dumps(content, indent=2) + "\n")


def read_provenance(file: Path) -> dict[str, Any]:
    """What ``provenance.json`` holds.

    Raises:
        CheckpointError: it is damaged.
    """
    try:
        found = read_json(file)
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}")
    except CheckpointError:
        raise
    except ValueError as error:  # no json, or no text at all
        raise CheckpointError(
            f"{file} is damaged ({error}), and is left as it is: put a copy of it back, or move it away; the run then "
            "goes on, and a new file says how."
        ) from error
    return found


def typed(folder: Path) -> tuple[list[str], str | None]:
    """The overrides that a run was told, of each key the last, and the folder of ``--config-dir``."""
    found = read_provenance(folder / PROVENANCE)
    sessions = [found, *found.get("resumed", [])]
    overrides = {said.lstrip("+~").partition("=")[0]: said for session in sessions for said in session["overrides"]}
    return list(overrides.values()), found.get("config_dir")


def _session(config: DictConfig) -> dict[str, Any]:
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    return {
        "command": _command(),
        "overrides": list(hydra.overrides.task) if hydra is not None else [],
        "config_dir": user_folder(),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "git": _git(),
        "versions": _versions(),
        "python": platform.python_version(),
        "hardware": _hardware(),
        "processes": _processes(config),
    }


def _command() -> str:
    """As it was typed, without where Python and our program lie, which may tell who runs them."""
    program, *arguments = sys.orig_argv
    # The system runs `iin train` as `/home/ada/bin/python /home/ada/bin/iin train`.
    script = next((i for i, argument in enumerate(arguments) if not argument.startswith("-")), None)
    if script is not None and Path(arguments[script]).stem == PROGRAM:
        program, arguments = PROGRAM, arguments[script + 1 :]
    return shlex.join([Path(program).name, *arguments])


def _git() -> dict[str, dict[str, Any] | None]:
    """The commit of this code, if it is a checkout, and that of the working folder, if it is in another one."""
    package = Path(__file__).resolve().parents[1]
    source = next((top for top in package.parents if top / "src" / "iin_lightning" == package), None)
    code = None if source is None or not (source / ".git").exists() else source
    working = next((top for top in (Path.cwd(), *Path.cwd().parents) if (top / ".git").exists()), None)
    return {
        "code": None if code is None else _commit(code),
        "working_folder": None if working is None or working == code else _commit(working),
    }


def _commit(top: Path) -> dict[str, Any] | None:
    """Commit and whether files differ from it; nothing where git cannot say."""
    # A repository from elsewhere could name a program as its monitor of files.
    git = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(top)]
    options: dict[str, Any] = {"capture_output": True, "encoding": "utf-8", "errors": "replace", "timeout": GIT_SECONDS}
    try:
        status = subprocess.run([*git, "status", "--porcelain=v2", "--branch"], check=True, **options)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    lines = status.stdout.splitlines()
    commit = next((line.rpartition(" ")[2] for line in lines if line.startswith("# branch.oid ")), None)
    return {"commit": commit, "dirty": any(not line.startswith("#") for line in lines)}


def _versions() -> dict[str, str]:
    """Of this package and of all that it may use, as far as they are installed."""
    try:
        required = requires(PACKAGE) or []
    except PackageNotFoundError:
        return {}
    names = [re.split(r"[^\w.-]", entry)[0] for entry in required if "extra == 'dev'" not in entry.replace('"', "'")]
    found = {name: _version(name) for name in dict.fromkeys([PACKAGE, *names])}
    return {name: version for name, version in found.items() if version is not None}


def _version(name: str) -> str | None:
    try:
        about = distribution(name).read_text("METADATA") or ""
    except PackageNotFoundError:  # an extra
        return None
    # metadata.version() reads all of it as an e-mail, which takes ten times as long.
    version = re.search(r"(?m)^Version: (\S+)$", about)
    return version[1] if version else None


def _hardware() -> dict[str, Any]:
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    cpu = _search(r"(?m)^model name\s*: (.+)$", "/proc/cpuinfo")
    return {
        "platform": platform.platform(),
        "cpu": cpu or platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "memory_gb": _memory_gb(),
        "gpus": [{"name": gpu.name, "memory_gb": round(gpu.total_memory / 1e9, 1)} for gpu in gpus],
        "cuda": torch.version.cuda if gpus else None,
        "driver": _search(r"Kernel Module.*?(\d+(?:\.\d+)+)", "/proc/driver/nvidia/version") if gpus else None,
    }


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):  # not everywhere
        return None


def _search(pattern: str, file: str) -> str | None:
    """The group of a pattern in a file of the system; None where there is no such file."""
    try:
        found = re.search(pattern, Path(file).read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return found[1] if found else None


def _processes(config: DictConfig) -> int:
    """How many train together: as their launcher says, or as the trainer is told."""
    for name in ("WORLD_SIZE", "SLURM_NTASKS"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    devices = config.trainer.devices
    if not isinstance(devices, int) or devices < 0:  # auto, -1, or a list of GPUs
        chosen = re.findall(r"\d+", str(devices)) if devices != -1 else []
        devices = len(chosen) or max(1, torch.cuda.device_count())
    return int(devices) * int(config.trainer.num_nodes)
