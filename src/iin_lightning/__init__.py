"""iin-lightning: find out what a trained network has learned, concept by concept, and edit one concept at a time.

Implements Esser, Rombach, Ommer, "A Disentangling Invertible Interpretation Network for Explaining Latent
Representations", CVPR 2020, arXiv 2004.13166.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iin_lightning.factors import Factors, PairBatch
    from iin_lightning.flows.translator import Translator
    from iin_lightning.interpreter import Interpreter

__all__ = ["Factors", "Interpreter", "PairBatch", "Translator"]

_HOME = {
    "Factors": "iin_lightning.factors",
    "Interpreter": "iin_lightning.interpreter",
    "PairBatch": "iin_lightning.factors",
    "Translator": "iin_lightning.flows.translator",
}


def __getattr__(name: str) -> Any:
    # Loaded when asked for, so that the commands answer --help without torch.
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _say_that_it_stops() -> None:
    """Have Ctrl-C end this process with a line, also while a command is still being imported."""
    usual = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if issubclass(kind, KeyboardInterrupt):
            print("\nStopped.", file=sys.stderr)
            sys.exit(130)  # as a shell says of Ctrl-C
        usual(kind, error, trace)

    sys.excepthook = hook


if sys.argv[:1] == ["-m"]:  # python -m is looking for a command within this package
    _say_that_it_stops()
