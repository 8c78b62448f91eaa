"""Advice of Lightning that does not apply here, silenced with the reason."""

import warnings

SILENCED = (
    # Our metrics.csv lies in the run folder, beside config.yaml; an older one is kept under another name.
    "Experiment logs directory .* exists and is not empty",
    # The frozen encoder: that is the point.
    r"Found \d+ module\(s\) in eval mode",
    # Batches are drawn from memory in one vectorised call; worker processes would only copy them.
    "The '.*_dataloader' does not have many workers",
    # Lightning's own use of torch.
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",
    # last.ckpt lies there on purpose.
    "Checkpoint directory .* exists and is not empty",
)


def quiet() -> None:
    """Silence the advice, for the commands; a user's own scripts keep it."""
    for message in SILENCED:
        warnings.filterwarnings("ignore", message=f".*{message}")
