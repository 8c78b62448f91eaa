"""Where a run comes from: ``provenance.json`` with its command, code, packages and machine."""

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
from omegaconf import DictConfig

from iin_lightning.bounded import read_json
from iin_lightning.cli.arguments import user_folder
from iin_lightning.cli.secrets import mask
from iin_lightning.distributed import is_main_process, usable_cores
from iin_lightning.errors import CheckpointError
from iin_lightning.serialization import write_whole

FILE = "provenance.json"
PACKAGE, PROGRAM = "iin-lightning", "iin"
GIT_SECONDS = 2  # on a slow disk a run does not wait for longer


def record(config: DictConfig, folder: Path) -> None:
    """Write down how a run begins, or add how it goes on; the first process does so, others do nothing.

    The file says ``command``, ``overrides`` (of this job of a sweep), ``config_dir``, ``started``, ``git``,
    ``versions``, ``python``, ``hardware`` and ``processes``, without secrets; each time that the run goes on,
    ``resumed`` gets another entry. Nothing is added to it that names a user or a host, but arguments stand as they were
    typed: ``paths.data=/home/ada/images`` tells who ada is.

    Args:
        config: of the run.
        folder: of the run.

    Raises:
        CheckpointError: the file of the run that goes on is damaged.
    """
    if not is_main_process():
        return
    file, now = folder / FILE, mask(_session(config))
    found = read(file) if file.is_file() else {}
    content = {**found, "resumed": [*found.get("resumed", []), now]} if found else now
    write_whole(file, json.dumps(content, indent=2) + "\n")


def read(file: Path) -> dict[str, Any]:
    """What such a file holds.

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


def typed(folder: Path) -> tuple[list[str], str | None]:
    """What a run was told, when it began and each time that it went on: overrides, of each key the last, and folder.

    Args:
        folder: of the run.

    Raises:
        CheckpointError: its file is damaged.
    """
    found = read(folder / FILE)
    sessions = [found, *found.get("resumed", [])]
    overrides = {one.lstrip("+~").partition("=")[0]: one for session in sessions for one in session["overrides"]}
    return list(overrides.values()), found.get("config_dir")


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
    try:
        said = subprocess.run(
            [*git, "status", "--porcelain=v2", "--branch"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=True,
            timeout=GIT_SECONDS,
        ).stdout
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    lines = said.splitlines()
    commit = next((line.rpartition(" ")[2] for line in lines if line.startswith("# branch.oid ")), None)
    return {"commit": commit, "dirty": any(not line.startswith("#") for line in lines)}


def _versions() -> dict[str, str]:
    """Of this package and of all that it may use, as far as they are installed."""
    try:
        wanted = requires(PACKAGE) or []
    except PackageNotFoundError:
        return {}
    names = [re.split(r"[^\w.-]", entry)[0] for entry in wanted if "extra == 'dev'" not in entry.replace('"', "'")]
    return {name: said for name in dict.fromkeys([PACKAGE, *names]) if (said := _version(name)) is not None}


def _version(name: str) -> str | None:
    try:
        about = distribution(name).read_text("METADATA") or ""
    except PackageNotFoundError:  # an extra
        return None
    # metadata.version() reads all of it as an e-mail, which takes ten times as long.
    said = re.search(r"(?m)^Version: (\S+)$", about)
    return said[1] if said else None


def _hardware() -> dict[str, Any]:
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "memory_gb": _memory_gb(),
        "gpus": [{"name": gpu.name, "memory_gb": round(gpu.total_memory / 1e9, 1)} for gpu in gpus],
        "cuda": torch.version.cuda if gpus else None,
        "driver": _driver() if gpus else None,
    }


def _cpu() -> str:
    named = re.search(r"(?m)^model name\s*: (.+)$", _text("/proc/cpuinfo"))
    return named[1] if named else platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):  # not everywhere
        return None


def _driver() -> str | None:
    said = re.search(r"Kernel Module.*?(\d+(?:\.\d+)+)", _text("/proc/driver/nvidia/version"))
    return said[1] if said else None


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


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
