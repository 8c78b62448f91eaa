"""How a command starts and how it fails: Hydra around a function, errors as sentences."""

import os
import sys
from collections.abc import Callable
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from iin_lightning.cli import help
from iin_lightning.cli.arguments import flags_first, from_home, nested_choice
from iin_lightning.cli.compose import register
from iin_lightning.cli.paths import conf_folder
from iin_lightning.cli.refusals import check_arguments, refused, sentence, suggestion
from iin_lightning.cli.secrets import refuse
from iin_lightning.errors import IINError, StoppedByUser
from iin_lightning.printing import open_streams
from iin_lightning.progress import printable
from iin_lightning.sweeps.guard import Guard, SweepStopped, Watch


def command(job: Callable[[DictConfig], Any], config_name: str, keys: type | None = None) -> None:
    """Run a job on the configuration that the command line composes of ``conf/<config_name>.yaml``, and exit.

    The process exits with 0; with 2 and one sentence for what a user can cure; with 130 if the user stopped it, with 75
    if the machine was wanted back; any other error is a mistake in this project and keeps its traceback. A sweep goes
    on when a job of it fails, ends in a table, and exits with 2 if there are failures.
    The yaml begins with ``iin_lightning_<config_name>``, the dataclass of all keys of the command.
    """
    open_streams()
    register()
    if keys is not None:
        ConfigStore.instance().store(f"iin_lightning_{config_name}", keys)
    sys.argv[1:] = (nested_choice(from_home(argument)) for argument in sys.argv[1:])
    # Else Hydra prints a text of its own for any error and ends the process itself.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    code = 0
    try:
        code = _run(Guard(job), config_name)
    finally:
        if Watch.folder is not None:
            from iin_lightning.sweeps.table import report  # noqa: PLC0415  imports torch

            code = report(Watch.folder, code)
    if code:
        sys.exit(code)


def _run(guard: Guard, config_name: str) -> int:
    """Let Hydra run the job, or its sweep; the exit code, once the reason of a failure has been said."""
    try:
        refuse(sys.argv[1:])
        check_arguments(config_name)
        sys.argv[1:] = flags_first(sys.argv[1:])
        if help.is_asked():
            help.show(config_name)
        elif config_name == "train" and help.asks_for_recipe():
            from iin_lightning.runs import recipe  # noqa: PLC0415  torch is slow to import

            recipe.show()
        else:
            hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=config_name)(guard)()
        if guard.error is not None:
            raise guard.error
    except SweepStopped as stop:
        return _say(str(stop.reason), stop.reason.exit_code)
    except IINError as error:
        return _say(str(error), error.exit_code)
    except (HydraException, OmegaConfBaseException) as error:
        cause = sentence(error)
        return _say(str(cause) if cause else suggestion(_text(error), config_name), IINError.exit_code)
    except KeyboardInterrupt:
        return _say("Stopped.", StoppedByUser.exit_code)
    except Exception as error:
        said = refused(error, {}) or (None if Watch.folder is None else _ended(error))
        if said is None:
            raise
        return _say(str(said), IINError.exit_code)
    return 0


def _text(error: Exception) -> str:
    """What Hydra says, with the reason why a value is none of its key."""
    why = str(error.__cause__).partition("\n")[0] if str(error).startswith("Error merging override") else ""
    return ": ".join(filter(None, (str(error).strip(), why)))


def _ended(error: Exception) -> str | None:
    """What ended a whole sweep, where its launcher or sweeper says it in an error of its own."""
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


def _say(text: str, code: int) -> int:
    print(f"\n{printable(text)}", file=sys.stderr)
    return code
