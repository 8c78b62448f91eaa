"""Measure trained models: ``python -m iin_lightning.evaluate run=outputs/<name>/<time> 'metric=[leakage,quality]'``."""

from omegaconf import DictConfig

from iin_lightning.command import command


def job(config: DictConfig) -> None:
    """Evaluate; imported late, so that ``--help`` answers at once."""
    from iin_lightning.runs.commands import evaluate  # noqa: PLC0415

    evaluate(config)


def main() -> None:
    """The command."""
    command(job, "evaluate")


if __name__ == "__main__":
    main()
