"""Learning-rate schedules that take whole steps; each scales every parameter group's own rate."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_linear(optimizer: Optimizer, steps: int, warmup: int = 0, hold: int = 0) -> LambdaLR:
    """Rise linearly for ``warmup`` steps, hold until step ``hold``, then fall linearly to 0 at ``steps``.

    Args:
        optimizer: whose rates are scaled.
        steps: the last step.
        warmup: steps until the full rate.
        hold: the step at which the fall begins; nothing falls before the warm-up is over.

    Returns:
        The schedule, to be advanced once a step.

    Example:
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> schedule = warmup_linear(optimizer, steps=4, warmup=2)
        >>> rates = []
        >>> for _ in range(4):
        ...     rates.append(schedule.get_last_lr()[0])
        ...     optimizer.step()
        ...     schedule.step()
        >>> rates
        [0.5, 1.0, 1.0, 0.5]
    """
    start = max(warmup, hold)

    def scale(step: int) -> float:
        rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
        fall = min(1.0, max(steps - step, 0) / max(steps - start, 1))
        return min(rise, fall)

    return LambdaLR(optimizer, scale)
