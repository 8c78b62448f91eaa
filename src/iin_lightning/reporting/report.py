"""The command ``report``: results laid out for others."""

from omegaconf import DictConfig

from iin_lightning.errors import ConfigError, choices
from iin_lightning.reporting.to_html import to_html
from iin_lightning.reporting.wandb_workspace import to_wandb

TO = {"html": to_html, "wandb": to_wandb}
"""What reports can be made to."""


def report(config: DictConfig) -> None:
    """Report to where the configuration says.

    Raises:
        ConfigError: there is no such place, or it cannot be reached.
    """
    if config.to not in TO:
        raise ConfigError(f"There is no report to={config.to}; {choices(config.to, TO)}.")
    TO[config.to](config)
