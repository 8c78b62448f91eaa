"""Composes the commands that it reads, a JSON list a line, and answers each with null or what is wrong with it.

In one process, as importing Hydra takes longer than composing.
"""

import contextlib
import io
import json
import runpy
import sys
import traceback

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from hydra.errors import HydraException


def single(arguments: list[str]) -> list[str]:
    """Arguments of a sweep as those of its first job.

    Example:
        >>> single(["-m", "seed=3,4", "model.lr=tag(log,interval(1e-3,1e-1))", "trainer=smoke"])
        ['seed=3', 'model.lr=0.001', 'trainer=smoke']
        >>> single(["seed=3"])
        ['seed=3']
    """
    if not {"-m", "--multirun"} & set(arguments):
        return arguments
    result = []
    for argument in arguments:
        if argument.startswith("-"):
            continue
        (override,) = OverridesParser.create().parse_overrides([argument])
        key = argument.partition("=")[0]
        if not override.is_sweep_override():
            result.append(argument)
        elif isinstance(interval := override.value(), IntervalSweep):
            result.append(f"{key}={interval.start}")
        else:
            result.append(f"{key}={next(override.sweep_string_iterator())}")
    return result


def compose(module: str, arguments: list[str]) -> str | None:
    """None if the command's configuration composes, else what it said."""
    from iin_lightning.cli.arguments import nested_choice  # noqa: PLC0415  not for the doctests above

    said = io.StringIO()
    GlobalHydra.instance().clear()
    code: object = 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            what = ["--help"] if "--help" in arguments else ["--cfg", "job"]
            sys.argv = [
                module,
                *single([nested_choice(argument) for argument in arguments if argument not in what]),
                *what,
            ]
            runpy.run_module(module, run_name="__main__")
        except SystemExit as end:
            code = end.code
        except HydraException as error:  # the arguments are no overrides
            code = str(error)
        except Exception:
            code = traceback.format_exc()
    return None if code in (0, None) else f"{said.getvalue()}\n{code if isinstance(code, str) else ''}".strip()


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(compose(*json.loads(line))), flush=True)
