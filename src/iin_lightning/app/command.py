"""How a command starts and how it fails: Hydra around a function, errors as sentences."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from iin_lightning.app import schema
from iin_lightning.app.guard import Guard, SweepStopped, sentence
from iin_lightning.app.paths import conf_folder, register_resolvers
from iin_lightning.app.secrets import refuse
from iin_lightning.app.watch import Watch
from iin_lightning.errors import IINError, MissingExtraError, StoppedByUser, choices

# Choices of Hydra's own groups that come with a package.
PLUGINS = {
    "launcher/joblib": "hydra-joblib-launcher",
    "launcher/submitit_local": "hydra-submitit-launcher",
    "launcher/submitit_slurm": "hydra-submitit-launcher",
    "sweeper/optuna": "hydra-optuna-sweeper",
}


def command(job: Callable[[DictConfig], Any], config_name: str) -> None:
    """Run a job on the configuration that the command line composes, and exit.

    The process exits with 0; with 2 and one sentence for what a user can cure; with 130 if the user stopped it, with 75
    if the machine was wanted back; any other error is a mistake in this project and keeps its traceback. A sweep goes
    on when a job of it fails, ends in a table, and exits with 2 if there are failures.

    Args:
        job: takes the composed configuration.
        config_name: the primary file in ``conf/``.
    """
    schema.register()
    register_resolvers()
    sys.argv[1:] = map(nested_choice, sys.argv[1:])
    # Else Hydra prints a text of its own for any error and ends the process itself.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    code = 0
    try:
        code = _run(Guard(job), config_name)
    finally:
        if Watch.folder is not None:
            from iin_lightning.app.sweep import report  # noqa: PLC0415  draws: slow to import

            code = report(Watch.folder, code)
    if code:
        sys.exit(code)


def _run(guard: Guard, config_name: str) -> int:
    """Let Hydra run the job, or its sweep; the exit code, once the reason of a failure has been said."""
    try:
        refuse(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=config_name)(guard)()
        if guard.error is not None:
            raise guard.error
    except SweepStopped as stop:
        return _say(str(stop.reason), stop.reason.exit_code)
    except IINError as error:
        return _say(str(error), error.exit_code)
    except (HydraException, OmegaConfBaseException) as error:
        cause = sentence(error)
        return _say(str(cause) if cause else str(error).strip() + _hint(str(error), config_name), IINError.exit_code)
    except KeyboardInterrupt:
        return _say("Stopped.", StoppedByUser.exit_code)
    except Exception as error:
        if Watch.folder is None or (said := _ended(error)) is None:
            raise
        return _say(said, IINError.exit_code)
    return 0


def _ended(error: Exception) -> str | None:
    """What ends a whole sweep, in words; None for what does not know."""
    if type(error).__name__ == "TerminatedWorkerError":
        return (
            "A process with jobs of the sweep was ended, most often because memory ran out: take fewer at once "
            "(hydra.launcher.n_jobs)."
        )
    # Optuna asks for the best trial at its end; the second text is that of a study in a data base.
    if any(text in str(error) for text in ("No trials are completed", "Record does not exist")):
        return "No job of the search has succeeded."
    # So ends its plugin a grid whose last job failed.
    return "The last job of the grid has failed." if "`Study.stop` is supposed" in str(error) else None


def nested_choice(argument: str) -> str:
    """What a user types of the data set whose images are changed, in Hydra's words; any other argument as it is.

    Example:
        >>> nested_choice("data.base=celeba"), nested_choice("outside.base.base=mnist,celeba")
        ('data@data.base=celeba', 'data@outside.base.base=mnist,celeba')
        >>> nested_choice("data.base.limit=7"), nested_choice("data.base={_target_: mine.Images}")
        ('data.base.limit=7', 'data.base={_target_: mine.Images}')
    """
    return re.sub(r"^((?:data|outside)(?:\.base)+)=(?=[\w(])(?!null$)", r"data@\1=", argument)


def _say(text: str, code: int) -> int:
    print(f"\n{text}", file=sys.stderr)
    return code


def _hint(text: str, config_name: str) -> str:
    """The cure where Hydra says that a value is missing, or the names that exist where it says that one does not."""
    if (unknown := re.search(r"Could not find '(\w+)/(\S+)'", text)) is not None:
        group, name = unknown.groups()
        if group == "hydra" and name in PLUGINS:
            return f"\n{MissingExtraError(PLUGINS[name], 'sweeps', f'hydra/{name}'.rpartition('/')[0])}"
        known = sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))
        return f"\nThere is no {group}={name}; {choices(name, known)}." if known else ""
    if (missing := re.match(r"Missing mandatory value: (\S+)", text)) is not None:
        return f"\nOnly you know it, so there is no default: add {missing[1]}=<value>."
    if "Could not override '" not in text:
        return ""
    if (nested := re.search(r"Could not override 'data@(\S+)\.base'", text)) is not None:
        where = nested[1]
        return f"\n{where} changes no images of another data set, as {where}=gray does: leave out {where}.base."
    parent, _, key = text.split("'")[1].rpartition(".")
    # Groups (data=celeba) decide which keys there are; values (data.seed=1) do not.
    # One that a sweep goes through is left out, as Hydra does when it reads the values.
    said = [a for a in sys.argv[1:] if "=" in a and "," not in a]
    groups = [a for a in said if (conf_folder() / re.split("[@=]", a)[0]).is_dir()]
    tree = _compose(config_name, groups)
    node = OmegaConf.select(tree, parent) if parent else tree
    return f"\nIn {parent or 'the configuration'} {choices(key, map(str, node))}." if node else ""


def compose_train(*overrides: str) -> DictConfig:
    """Compose ``conf/train.yaml`` with overrides, without running anything."""
    schema.register()
    register_resolvers()
    return _compose("train", overrides)


def _compose(config_name: str, overrides: Sequence[str]) -> DictConfig:
    if GlobalHydra.instance().is_initialized():
        return compose(config_name, list(overrides))
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return compose(config_name, list(overrides))
