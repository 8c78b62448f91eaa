"""``python -m iin_lightning``, or ``iin``, lists the commands; ``iin train ...`` is one of them, and completes."""

import os
import re
import runpy
import sys
from typing import Any

from iin_lightning import _say_that_it_stops
from iin_lightning.errors import choices
from iin_lightning.printing import open_streams

COMMANDS = {
    "look": "a data set, or the layers of a network, before training",
    "train": "a network to be explained, or its interpretation",
    "explore": "a trained model in the browser: swap, walk, sample, draw a concept",
    "analyse": "ask it a question: dimensions, swaps, walks, directions, maps",
    "evaluate": "measure it on held-out images, and gather numbers over runs",
    "report": "a run in one HTML file, or a workspace in W&B",
    "convert": "a checkpoint of the paper's own code, or the data set AnimalFaces",
}

HEAD = "Find out what a trained network has learned, concept by concept, and edit one concept at a time."

FOOT = """\
Try first
  python -m iin_lightning.train name=first              trains on digits inside the package, in minutes
  python -m iin_lightning.explore 'run=outputs/first/*' opens what came of it

python -m iin_lightning.<command> --help says more, and iin <command> ... is the same command."""


def main() -> None:
    """Run the command that the first argument names, or list all."""
    _say_that_it_stops()
    open_streams()
    name, rest = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if name in COMMANDS:
        _run(name, rest)
    elif name in ("-h", "--help", "help"):
        rows = "\n".join(f"  {command:<10}{what}" for command, what in COMMANDS.items())
        print(f"{HEAD}\n\nCommands\n{rows}\n\n{FOOT}")
    elif name in ("-sc", "--shell-completion"):
        _complete("".join(rest))
    else:
        print(f"There is no command {name}; {choices(name, COMMANDS)}.", file=sys.stderr)
        sys.exit(2)


def _run(name: str, arguments: list[str]) -> None:
    """As ``python -m`` does, so that processes that start themselves again find what they were."""
    module = f"iin_lightning.{name}"
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _complete(asked: str) -> None:
    """What Hydra's shell completion asks of a command: install=, uninstall= or query=<shell>."""
    action, _, shell = asked.partition("=")
    if action == "query":
        # Hydra takes the first word for the command, which here is the second.
        words = re.match(r"\s*\S+\s+(?:(\S+)(\s.*)?)?$", os.environ.get("COMP_LINE", ""))
        name, rest = words.groups() if words else (None, None)
        if name in COMMANDS and rest is not None:
            os.environ["COMP_LINE"] = f"{name}{rest}"
            _run(str(name), ["-sc", asked])
        else:
            print(" ".join(COMMANDS))
        return
    from hydra.core.plugins import Plugins  # noqa: PLC0415  slow to import
    from hydra.plugins.completion_plugin import CompletionPlugin  # noqa: PLC0415

    found: list[Any] = list(Plugins.instance().discover(CompletionPlugin))
    plugins = {plugin.provides(): plugin for plugin in found}
    if shell not in plugins or action not in ("install", "uninstall"):
        print(f"There is no -sc {asked}: say -sc install=<shell>; {choices(shell, plugins)}.", file=sys.stderr)
        sys.exit(2)
    sys.argv[0] = "iin"  # the name that is completed
    getattr(plugins[shell](None), action)()


if __name__ == "__main__":
    main()
