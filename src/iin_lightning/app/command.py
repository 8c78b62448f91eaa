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
from iin_lightning.app.paths import conf_folder, register_resolvers
from iin_lightning.errors import IINError, StoppedByUser, choices


def command(job: Callable[[DictConfig], Any], config_name: str) -> None:
    """Run a job on the configuration that the command line composes, and exit.

    The process exits with 0; with 2 and one sentence for what a user can cure; with 130 if the user stopped it;
    any other error is a mistake in this project and keeps its traceback.

    Args:
        job: takes the composed configuration.
        config_name: the primary file in ``conf/``.
    """
    schema.register()
    register_resolvers()
    sys.argv[1:] = map(nested_choice, sys.argv[1:])
    # Else Hydra prints a text of its own for any error and ends the process itself.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=config_name)(job)()
    except IINError as error:
        _end(str(error), error.exit_code)
    except (HydraException, OmegaConfBaseException) as error:
        # What a constructor says of its arguments reaches us through Hydra's instantiate.
        cause: BaseException | None = error
        while cause and not isinstance(cause, IINError):
            cause = cause.__cause__
        _end(str(cause) if cause else str(error).strip() + _hint(str(error), config_name), IINError.exit_code)
    except KeyboardInterrupt:
        _end("Stopped.", StoppedByUser.exit_code)


def nested_choice(argument: str) -> str:
    """What a user types of the data set whose images are changed, in Hydra's words; any other argument as it is.

    Example:
        >>> nested_choice("data.base=celeba"), nested_choice("outside.base.base=mnist,celeba")
        ('data@data.base=celeba', 'data@outside.base.base=mnist,celeba')
        >>> nested_choice("data.base.limit=7"), nested_choice("data.base={_target_: mine.Images}")
        ('data.base.limit=7', 'data.base={_target_: mine.Images}')
    """
    return re.sub(r"^((?:data|outside)(?:\.base)+)=(?=[\w(])(?!null$)", r"data@\1=", argument)


def _end(text: str, code: int) -> None:
    print(f"\n{text}", file=sys.stderr)
    sys.exit(code)


def _hint(text: str, config_name: str) -> str:
    """The cure where Hydra says that a value is missing, or the names that exist where it says that one does not."""
    if (unknown := re.search(r"Could not find '(\w+)/(\S+)'", text)) is not None:
        group, name = unknown.groups()
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
