"""Train a network to be explained, or its translator: ``python -m iin_lightning.train data=celeba model=unsup``."""

from omegaconf import DictConfig

from iin_lightning.command import command


def job(config: DictConfig) -> float | None:
    """Train; imported late, so that ``--help`` answers at once."""
    from iin_lightning.runs.train import train  # noqa: PLC0415

    return train(config)


def main() -> None:
    """The command."""
    command(job, "train")


if __name__ == "__main__":
    main()
